// Package window runs a DoFn's work beside the bundle's goroutine, a bounded number of pieces
// at a time, and hands the results back to it: only there may a DoFn emit. A piece begins as
// soon as there is room, whatever became of the others; there are no batches in lock step.
//
// It promises that work is never given up silently: each piece's result is handed on, or the
// first error is. It does not promise an order.
package window

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// Window is what one bundle has under way. Its methods are for the bundle's goroutine alone.
type Window[T any] struct {
	ctx      context.Context
	cancel   context.CancelFunc
	stops    []func() bool // each leaves a parent alone
	results  chan result[T]
	inFlight int
	limit    func() int
}

type result[T any] struct {
	value T
	err   error
}

// New returns a window whose work ends with any of the parents, or when the window is closed.
// Limit is how many pieces it may have under way, at least 1; it is asked when one is to begin.
func New[T any](limit func() int, parents ...context.Context) *Window[T] {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Window[T]{ctx: ctx, cancel: cancel, results: make(chan result[T]), limit: limit}
	for _, parent := range parents {
		w.stops = append(w.stops, context.AfterFunc(parent, cancel))
	}
	return w
}

// Context is done when the window's work has to end.
func (w *Window[T]) Context() context.Context { return w.ctx }

// Start runs work, which must end soon after its context does. Where the window is full it
// first waits for a result and gives it to emit.
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

// Drain waits for all results, gives them to emit and closes the window.
func (w *Window[T]) Drain(emit func(T)) error {
	for w.inFlight > 0 {
		if err := w.next(emit); err != nil {
			return err
		}
	}
	w.Close()
	return nil
}

// recheck is how soon a limit that rises is noticed.
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

// CloseAfter is to be deferred: it closes the window when the bundle fails, by an error or by a
// panic of what comes after it in the graph, and calls what is given for that case once no
// work is under way any more. A bundle that fails gets no FinishBundle.
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

// Close ends all work and waits for it. Nothing of the window stays with its parents.
func (w *Window[T]) Close() {
	w.cancel()
	for _, stop := range w.stops {
		stop()
	}
	for ; w.inFlight > 0; w.inFlight-- {
		<-w.results
	}
}
