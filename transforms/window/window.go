// Package window runs a DoFn's work in additional goroutines, a bounded number of pieces of work at a time. It
// returns the results to the bundle's goroutine, because a DoFn may emit only there.
//
// A piece starts as soon as the window has room; there are no batches. Every result is emitted, in any
// order. If a piece fails, the first error is returned.
//
//	f.window = window.New[Result](limit, ctx)                  // StartBundle
//	defer f.window.CloseAfter(&err)                            // ProcessElement and FinishBundle
//	return f.window.Start(work, emit)                          // ProcessElement
//	return f.window.Drain(emit)                                // FinishBundle
package window

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// A Window contains the pieces of work that one bundle has in progress. Its methods may be called by the
// bundle's goroutine only.
type Window[T any] struct {
	ctx      context.Context
	cancel   context.CancelFunc
	stops    []func() bool // stop watching the parents
	results  chan result[T]
	inFlight int
	limit    func() int
}

type result[T any] struct {
	value T
	err   error
}

// New returns a window. Its work is cancelled when any of the parents ends or the window is closed.
// Limit returns the most pieces in progress; values below 1 count as 1. Start calls it for each piece, so
// that it may change.
func New[T any](limit func() int, parents ...context.Context) *Window[T] {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Window[T]{ctx: ctx, cancel: cancel, results: make(chan result[T]), limit: limit}
	for _, parent := range parents {
		w.stops = append(w.stops, context.AfterFunc(parent, cancel))
	}
	return w
}

// Context returns the context of the work. It ends when the work must stop.
func (w *Window[T]) Context() context.Context { return w.ctx }

// Start runs work in a goroutine. Work must return soon after its context ends. While the window is full,
// Start waits for results and passes them to emit. It returns the first error of any work.
func (w *Window[T]) Start(work func(context.Context) (T, error), emit func(T)) error {
	for w.inFlight >= max(w.limit(), 1) {
		// The limit may rise before a piece ends.
		select {
		case r := <-w.results:
			if err := w.take(r, emit); err != nil {
				return err
			}
		case <-time.After(recheck):
		}
	}
	w.inFlight++
	go w.run(work)
	return nil
}

func (w *Window[T]) run(work func(context.Context) (T, error)) {
	var r result[T]
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		w.results <- r
	}()
	r.value, r.err = work(w.ctx)
}

// Drain waits for all results, passes them to emit, and closes the window.
func (w *Window[T]) Drain(emit func(T)) error {
	for w.inFlight > 0 {
		if err := w.next(emit); err != nil {
			return err
		}
	}
	w.Close()
	return nil
}

// recheck is the longest time until Start uses a raised limit.
const recheck = 50 * time.Millisecond

func (w *Window[T]) next(emit func(T)) error { return w.take(<-w.results, emit) }

func (w *Window[T]) take(r result[T], emit func(T)) error {
	w.inFlight--
	if r.err != nil {
		return r.err
	}
	emit(r.value)
	return nil
}

// CloseAfter must be deferred by the DoFn's methods. When the method returns an error, or a DoFn further
// down the graph panics, it closes the window and then calls the given functions. Beam does not call
// FinishBundle for a bundle that fails.
func (w *Window[T]) CloseAfter(err *error, then ...func()) {
	p := recover()
	if p == nil && *err == nil {
		return
	}
	w.Close()
	for _, f := range then {
		f()
	}
	if p != nil {
		panic(p)
	}
}

// Close cancels all work, waits for it, and stops watching the parents.
func (w *Window[T]) Close() {
	w.cancel()
	for _, stop := range w.stops {
		stop()
	}
	for ; w.inFlight > 0; w.inFlight-- {
		<-w.results
	}
}
