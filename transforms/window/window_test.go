package window

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// after returns work that takes some time and gives a number.
func after(d time.Duration, n int) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		select {
		case <-time.After(d):
			return n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func fixed(n int) func() int { return func() int { return n } }

// Every result is handed on once, as work ends, whatever the limit.
func TestAllResultsAreHandedOn(t *testing.T) {
	for _, limit := range []int{1, 3, 100} {
		synctest.Test(t, func(t *testing.T) {
			w := New[int](fixed(limit))
			var got []int
			emit := func(n int) { got = append(got, n) }
			for i := range 20 {
				// Later pieces are quicker, so that they overtake.
				if err := w.Start(after(time.Duration(20-i)*time.Second, i), emit); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Drain(emit); err != nil {
				t.Fatal(err)
			}
			if limit == 1 && !slices.IsSorted(got) || limit == 100 && slices.IsSorted(got) {
				t.Errorf("limit %d hands on in the order %v", limit, got)
			}
			slices.Sort(got)
			if diff := cmp.Diff(slices.Collect(upTo(20)), got); diff != "" {
				t.Errorf("limit %d: %s", limit, diff)
			}
		})
	}
}

func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i); i++ {
		}
	}
}

// A piece begins as soon as one before it ends: 2 places and pieces of 3, 1, 1 and 1 seconds
// take 3 seconds, where batches of 2 would take 4.
func TestNoBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := New[int](fixed(2))
		for i, seconds := range []int{3, 1, 1, 1} {
			if err := w.Start(after(time.Duration(seconds)*time.Second, i), func(int) {}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Drain(func(int) {}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %s, want 3s", took)
		}
	})
}

// The number of running pieces is the limit while there is work.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 4
		var now, most atomic.Int64
		w := New[int](fixed(limit))
		for i := range 50 {
			err := w.Start(func(ctx context.Context) (int, error) {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
				return after(time.Second, i)(ctx)
			}, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Drain(func(int) {}); err != nil {
			t.Fatal(err)
		}
		if most.Load() != limit {
			t.Errorf("%d pieces were under way at a time, want %d", most.Load(), limit)
		}
	})
}

// Results are handed on by the caller's goroutine alone: it is the only one that may emit.
func TestEmitsOnTheCallersGoroutine(t *testing.T) {
	w := New[int](fixed(8))
	n := 0 // no lock: the race detector reports a race
	emit := func(int) { n++ }
	for i := range 1000 {
		if err := w.Start(func(context.Context) (int, error) { return i, nil }, emit); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Drain(emit); err != nil || n != 1000 {
		t.Errorf("%d results, %v", n, err)
	}
}

// Start or Drain returns the first error, and Close cancels the running pieces.
func TestFirstErrorWins(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	fail := func(d time.Duration, err error) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			_, ended := after(d, 0)(ctx)
			if ended != nil {
				return 0, ended
			}
			return 0, err
		}
	}
	for _, limit := range []int{3, 10} { // the third Start waits for a result, or Drain does
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			w := New[int](fixed(limit))
			works := []func(context.Context) (int, error){
				after(time.Hour, 1), fail(2*time.Second, second), fail(time.Second, first), after(time.Hour, 2),
			}
			var err error
			for _, work := range works {
				if err = w.Start(work, func(int) {}); err != nil {
					break
				}
			}
			if err == nil {
				err = w.Drain(func(int) {})
			}
			if !errors.Is(err, first) {
				t.Errorf("limit %d: got %v, want the first error", limit, err)
			}
			w.Close()
			if took := time.Since(began); took != time.Second {
				t.Errorf("limit %d: closed after %s, want 1s: running pieces end with the window", limit, took)
			}
			// synctest fails the test if a goroutine is left.
		})
	}
}

// Results that came before an error are handed on.
func TestResultsBeforeAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New[int](fixed(10))
		var got []int
		emit := func(n int) { got = append(got, n) }
		works := []func(context.Context) (int, error){
			after(time.Second, 1), after(2*time.Second, 2),
			func(ctx context.Context) (int, error) {
				n, _ := after(3*time.Second, 3)(ctx)
				return n, errors.New("third")
			},
			after(4*time.Second, 4),
		}
		for _, work := range works {
			if err := w.Start(work, emit); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Drain(emit); err == nil {
			t.Error("no error")
		}
		w.Close()
		if diff := cmp.Diff([]int{1, 2}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPanicBecomesAnError(t *testing.T) {
	w := New[int](fixed(1))
	if err := w.Start(func(context.Context) (int, error) { panic("spilled milk") }, func(int) {}); err != nil {
		t.Fatal(err)
	}
	err := w.Drain(func(int) {})
	if err == nil || !strings.Contains(err.Error(), "spilled milk") || !strings.Contains(err.Error(), "window_test.go") {
		t.Errorf("got %v, want an error with the panic and its place", err)
	}
	w.Close()
}

// Close cancels the work and waits for it, also for work that takes its time to end.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New[int](fixed(5))
		var ended atomic.Int64
		for range 5 {
			err := w.Start(func(ctx context.Context) (int, error) {
				<-ctx.Done()
				<-time.After(time.Second) // it has to clean up
				ended.Add(1)
				return 0, ctx.Err()
			}, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if ended.Load() != 5 || w.Context().Err() == nil {
			t.Errorf("%d of 5 pieces have ended, context %v", ended.Load(), w.Context().Err())
		}
		w.Close() // again is nothing
	})
}

// The window's work ends with any of the parents.
func TestParents(t *testing.T) {
	for which := range 2 {
		synctest.Test(t, func(t *testing.T) {
			var parents [2]context.Context
			var cancels [2]context.CancelFunc
			parents[0], cancels[0] = context.WithCancel(t.Context())
			defer cancels[0]()
			parents[1], cancels[1] = context.WithCancel(t.Context())
			defer cancels[1]()
			w := New[int](fixed(1), parents[0], parents[1])
			if err := w.Start(after(time.Hour, 1), func(int) {}); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			cancels[which]()
			if err := w.Drain(func(int) {}); !errors.Is(err, context.Canceled) {
				t.Errorf("parent %d: got %v", which, err)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("parent %d: the work went on for %s", which, took)
			}
			w.Close()
		})
	}
}

// counted is a context that counts the functions to call when it ends.
type counted struct {
	context.Context

	done    chan struct{}
	waiting int
}

func (c *counted) Done() <-chan struct{} { return c.done }

func (c *counted) AfterFunc(func()) func() bool {
	c.waiting++
	return func() bool { c.waiting--; return true }
}

// A parent context that outlives many windows keeps no reference to them.
func TestCloseLeavesParents(t *testing.T) {
	parent := &counted{Context: t.Context(), done: make(chan struct{})}
	for _, end := range []func(*Window[int]) error{
		func(w *Window[int]) error { return w.Drain(func(int) {}) },
		func(w *Window[int]) error { w.Close(); return nil },
	} {
		w := New[int](fixed(1), parent, t.Context())
		if parent.waiting != 1 {
			t.Fatalf("an open window has %d calls with its parent, want 1", parent.waiting)
		}
		if err := end(w); err != nil {
			t.Fatal(err)
		}
		if parent.waiting != 0 {
			t.Errorf("%d calls are left with the parent", parent.waiting)
		}
	}
}

// CloseAfter closes the window of a bundle that fails, by an error or a panic, and of no other.
func TestCloseAfter(t *testing.T) {
	for _, how := range []string{"", "error", "panic"} {
		t.Run(how, func(t *testing.T) {
			w := New[int](fixed(1))
			process := func() (err error) {
				defer w.CloseAfter(&err)
				switch how {
				case "error":
					return errors.New("failed")
				case "panic":
					panic("failed")
				}
				return nil
			}
			var got any
			func() {
				defer func() {
					if p := recover(); p != nil {
						got = p
					}
				}()
				if err := process(); err != nil {
					got = err
				}
			}()
			if (got != nil) != (how != "") || how != "" && fmt.Sprint(got) != "failed" {
				t.Errorf("the caller gets %v", got)
			}
			if closed := w.Context().Err() != nil; closed != (how != "") {
				t.Errorf("closed: %t", closed)
			}
			w.Close()
		})
	}
}
