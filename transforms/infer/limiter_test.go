package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testEndpoints(limits ...int) []*endpoint {
	var out []*endpoint
	for i, limit := range limits {
		out = append(out, &endpoint{name: fmt.Sprint(i), spread: spread(fmt.Sprint(i)), limit: limit})
	}
	return out
}

func TestLimiterNeverExceedsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		endpoints := testEndpoints(8, 3)
		var mu sync.Mutex
		inFlight := map[*endpoint]int{}
		granted := 0
		var wg sync.WaitGroup
		for i := range 300 {
			n := 1 + i%3
			wg.Go(func() {
				e, err := l.acquire(t.Context(), endpoints, i%3, n, fmt.Sprint("prompt", i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inFlight[e] += n
				granted += n
				if inFlight[e] > e.limit {
					t.Errorf("endpoint %s has %d in flight, its limit is %d", e.name, inFlight[e], e.limit)
				}
				mu.Unlock()
				<-time.After(time.Second) // synctest's clock: takes no time
				mu.Lock()
				inFlight[e] -= n
				mu.Unlock()
				l.release(e, n, nil)
			})
		}
		wg.Wait()
		if granted != 600 { // 100 requests each of 1, 2 and 3
			t.Errorf("%d permits were granted, want 600", granted)
		}
		for _, e := range endpoints {
			if e.inFlight != 0 {
				t.Errorf("endpoint %s still has %d in flight", e.name, e.inFlight)
			}
		}
	})
}

// A request that is larger than the limit gets the endpoint for itself.
func TestLimiterServesWhatIsLargerThanTheLimit(t *testing.T) {
	var l limiter
	endpoints := testEndpoints(4)
	e, err := l.acquire(t.Context(), endpoints, 0, 11, "p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.acquire(ctx, endpoints, 0, 1, "p"); !errors.Is(err, context.Canceled) {
		t.Errorf("a full endpoint gave a permit: %v", err)
	}
	l.release(e, 11, nil)
	if _, err := l.acquire(t.Context(), endpoints, 0, 4, "p"); err != nil {
		t.Error(err)
	}
}

// Later stages go first, and within a stage those who came first.
func TestLimiterOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		endpoints := testEndpoints(1)
		held, err := l.acquire(t.Context(), endpoints, 0, 1, "holder")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		for i, priority := range []int{0, 1, 0, 2, 1} {
			name := fmt.Sprintf("%d of priority %d", i, priority)
			wg.Go(func() {
				e, err := l.acquire(t.Context(), endpoints, priority, 1, name)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				l.release(e, 1, nil)
			})
			synctest.Wait() // it waits for a permit before the next comes
		}
		l.release(held, 1, nil)
		wg.Wait()
		want := []string{"3 of priority 2", "1 of priority 1", "4 of priority 1", "0 of priority 0", "2 of priority 0"}
		if !slices.Equal(order, want) {
			t.Errorf("order %q, want %q", order, want)
		}
	})
}

// No endpoint stands idle while a request waits that it can serve; the calls of one prompt
// stay on one endpoint while it has room.
func TestLimiterPlaces(t *testing.T) {
	var l limiter
	endpoints := testEndpoints(10, 10, 10)
	var home *endpoint
	for range 10 {
		e, err := l.acquire(t.Context(), endpoints, 0, 1, "one prompt")
		if err != nil {
			t.Fatal(err)
		}
		if home == nil {
			home = e
		}
		if e != home {
			t.Fatalf("a call went to endpoint %s while %s had room", e.name, home.name)
		}
	}
	for range 20 {
		e, err := l.acquire(t.Context(), endpoints, 0, 1, "one prompt")
		if err != nil {
			t.Fatal(err)
		}
		if e == home {
			t.Fatal("a full endpoint was chosen")
		}
	}
	for i := range 3 {
		if endpoints[i].inFlight != 10 {
			t.Errorf("endpoint %d has %d in flight", i, endpoints[i].inFlight)
		}
	}
}

// A role with endpoints of its own does not wait behind another role's full ones.
func TestLimiterQueuesDoNotBlockEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(1, 1)
		if _, err := l.acquire(t.Context(), e[:1], 2, 1, "p"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go l.acquire(ctx, e[:1], 2, 1, "p") //nolint:errcheck // waits until the end
		synctest.Wait()
		got, err := l.acquire(t.Context(), e[1:], 0, 1, "p")
		if err != nil || got != e[1] {
			t.Errorf("got %v, %v", got, err)
		}
		cancel()
	})
}

func TestLimiterGivesBackWhatIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(2)
		held, err := l.acquire(t.Context(), e, 0, 2, "p")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 5 {
			go l.acquire(ctx, e, 0, 2, "p") //nolint:errcheck // is abandoned
		}
		synctest.Wait()
		cancel()
		l.release(held, 2, nil) // races with the abandoning
		synctest.Wait()
		if _, err := l.acquire(t.Context(), e, 0, 2, "p"); err != nil {
			t.Fatal(err)
		}
		if e[0].inFlight != 2 {
			t.Errorf("%d in flight, want 2", e[0].inFlight)
		}
	})
}

func TestDrainGrantsNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(2)
		l.drain()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := l.acquire(ctx, e, 0, 1, "p"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a drained limiter gave a permit: %v", err)
		}
	})
}
