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

	"coeval/schemas"
)

func testEndpoints(limits ...int) []*endpoint {
	var out []*endpoint
	for i, limit := range limits {
		out = append(out, &endpoint{name: fmt.Sprint(i), spread: spread(fmt.Sprint(i)), traffic: traffic{pace: newPace(limit)}})
	}
	return out
}

// acquire waits until one of the endpoints has room for n generations and takes it.
func (l *limiter) acquire(ctx context.Context, endpoints []*endpoint, stage string, n int, promptID string) (*grant, error) {
	place := l.stand(endpoints, stage, promptID, []int{n})
	g, err := place.take(ctx)
	if err != nil {
		place.leave()
	}
	return g, err
}

// stageOf has each stage's priority for an index.
var stageOf = []string{schemas.StageGenerate, schemas.StageJudge, schemas.StageMeta}

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
				g, err := l.acquire(t.Context(), endpoints, stageOf[i%3], n, fmt.Sprint("prompt", i))
				if err != nil {
					t.Error(err)
					return
				}
				e := g.endpoint
				mu.Lock()
				inFlight[e] += n
				granted += n
				if limit := int(e.pace.limit); inFlight[e] > limit {
					t.Errorf("endpoint %s has %d in flight, its limit is %d", e.name, inFlight[e], limit)
				}
				mu.Unlock()
				<-time.After(time.Second) // synctest's clock: takes no time
				mu.Lock()
				inFlight[e] -= n
				mu.Unlock()
				l.release(g, nil)
			})
		}
		wg.Wait()
		if granted != 600 { // 100 requests each of 1, 2 and 3
			t.Errorf("%d permits were granted, want 600", granted)
		}
		for _, e := range endpoints {
			if e.inFlight != 0 {
				t.Errorf("endpoint %s still has %g in flight", e.name, e.inFlight)
			}
		}
	})
}

// A request that is larger than the limit gets the endpoint for itself.
func TestLimiterServesWhatIsLargerThanTheLimit(t *testing.T) {
	var l limiter
	endpoints := testEndpoints(4)
	g, err := l.acquire(t.Context(), endpoints, stageOf[0], 11, "p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.acquire(ctx, endpoints, stageOf[0], 1, "p"); !errors.Is(err, context.Canceled) {
		t.Errorf("a full endpoint gave a permit: %v", err)
	}
	l.release(g, nil)
	if _, err := l.acquire(t.Context(), endpoints, stageOf[0], 4, "p"); err != nil {
		t.Error(err)
	}
}

// Later stages go first, and earlier ones when no more prompts come; within a stage those who
// came first.
func TestLimiterOrder(t *testing.T) {
	later := []string{"3 of priority 2", "1 of priority 1", "4 of priority 1", "0 of priority 0", "2 of priority 0"}
	earlier := []string{"0 of priority 0", "2 of priority 0", "1 of priority 1", "4 of priority 1", "3 of priority 2"}
	t.Run("prompts come", func(t *testing.T) { testOrder(t, func(*limiter) {}, later) })
	t.Run("no more come", func(t *testing.T) {
		testOrder(t, func(l *limiter) {
			l.feed(1)
			l.feed(-1)
		}, earlier)
	})
	t.Run("some come after all", func(t *testing.T) {
		testOrder(t, func(l *limiter) {
			l.feed(2)
			l.feed(-2)
			l.feed(1)
		}, later)
	})
}

func testOrder(t *testing.T, then func(*limiter), want []string) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		endpoints := testEndpoints(1)
		held, err := l.acquire(t.Context(), endpoints, stageOf[0], 1, "holder")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		for i, priority := range []int{0, 1, 0, 2, 1} {
			name := fmt.Sprintf("%d of priority %d", i, priority)
			wg.Go(func() {
				g, err := l.acquire(t.Context(), endpoints, stageOf[priority], 1, name)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				l.release(g, nil)
			})
			synctest.Wait() // it waits for a permit before the next comes
		}
		then(&l)
		l.release(held, nil)
		wg.Wait()
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
		g, err := l.acquire(t.Context(), endpoints, stageOf[0], 1, "one prompt")
		if err != nil {
			t.Fatal(err)
		}
		e := g.endpoint
		if home == nil {
			home = e
		}
		if e != home {
			t.Fatalf("a call went to endpoint %s while %s had room", e.name, home.name)
		}
	}
	for range 20 {
		g, err := l.acquire(t.Context(), endpoints, stageOf[0], 1, "one prompt")
		if err != nil {
			t.Fatal(err)
		}
		e := g.endpoint
		if e == home {
			t.Fatal("a full endpoint was chosen")
		}
	}
	for i := range 3 {
		if endpoints[i].inFlight != 10 {
			t.Errorf("endpoint %d has %g in flight", i, endpoints[i].inFlight)
		}
	}
}

// A role with endpoints of its own does not wait behind another role's full ones.
func TestLimiterQueuesDoNotBlockEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(1, 1)
		if _, err := l.acquire(t.Context(), e[:1], stageOf[2], 1, "p"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go l.acquire(ctx, e[:1], stageOf[2], 1, "p") //nolint:errcheck // waits until the end
		synctest.Wait()
		got, err := l.acquire(t.Context(), e[1:], stageOf[0], 1, "p")
		if err != nil || got.endpoint != e[1] {
			t.Errorf("got %v, %v", got, err)
		}
		cancel()
	})
}

func TestLimiterGivesBackWhatIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(2)
		held, err := l.acquire(t.Context(), e, stageOf[0], 2, "p")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 5 {
			go l.acquire(ctx, e, stageOf[0], 2, "p") //nolint:errcheck // is abandoned
		}
		synctest.Wait()
		cancel()
		l.release(held, nil) // races with the abandoning
		synctest.Wait()
		if _, err := l.acquire(t.Context(), e, stageOf[0], 2, "p"); err != nil {
			t.Fatal(err)
		}
		if e[0].inFlight != 2 {
			t.Errorf("%g in flight, want 2", e[0].inFlight)
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
		if _, err := l.acquire(ctx, e, stageOf[0], 1, "p"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a drained limiter gave a permit: %v", err)
		}
	})
}

// Under more work than the endpoints can do, a prompt's calls stay on one endpoint, and no
// endpoint has much more than its part, unlike ones in proportion to their limits.
func TestLimiterKeepsPromptsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		limits := []int{64, 64, 16, 32}
		endpoints := testEndpoints(limits...)
		var mu sync.Mutex
		served := map[*endpoint]int{}
		together, all := 0, 0
		var prompts sync.WaitGroup
		for i := range 400 {
			name := fmt.Sprint("prompt ", i)
			prompts.Go(func() {
				by := map[*endpoint]int{}
				for range 3 { // stages of 20 calls at a time
					var calls sync.WaitGroup
					for range 20 {
						calls.Go(func() {
							g, err := l.acquire(t.Context(), endpoints, schemas.StageMeta, 1, name)
							if err != nil {
								t.Error(err)
								return
							}
							<-time.After(time.Second)
							mu.Lock()
							by[g.endpoint]++
							served[g.endpoint]++
							mu.Unlock()
							l.release(g, nil)
						})
					}
					calls.Wait()
				}
				l.forget(name)
				most := 0
				for _, n := range by {
					most = max(most, n)
				}
				mu.Lock()
				together += most
				all += 60
				mu.Unlock()
			})
		}
		prompts.Wait()
		if part := float64(together) / float64(all); part < 0.9 {
			t.Errorf("%.2f of the calls were where most of their prompt's were, want 0.9", part)
		}
		for i, e := range endpoints {
			// 24,000 calls over 176 permits.
			part := float64(served[e]) / (24000 * float64(limits[i]) / 176)
			if part > 1.25 {
				t.Errorf("endpoint %d served %.2f times its part", i, part)
			}
			if e.homes != 0 {
				t.Errorf("endpoint %d is still home of %d prompts", i, e.homes)
			}
		}
	})
}

// A request that avoids one endpoint for another goes there after all when the other wants a pause.
func TestLimiterPauseOfTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(1, 1)
		held, err := l.acquire(t.Context(), e[:1], schemas.StageJudge, 1, "p")
		if err != nil {
			t.Fatal(err)
		}
		defer l.release(held, nil)
		n := l.enter(e, []int{1}, true, &waiter{stage: schemas.StageJudge, promptID: "q", avoid: e[1:]})
		l.mu.Lock()
		l.pause(e[0], time.Now().Add(time.Minute))
		l.mu.Unlock()
		began := time.Now()
		g, err := n.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); g.endpoint != e[1] || waited > time.Second {
			t.Errorf("it went to endpoint %v after %s", g.endpoint.name, waited)
		}
		l.release(g, nil)
	})
}

// An endpoint that fails for everyone is set aside, and one request at a time finds out whether
// it is back; with an answer all may go there again.
func TestLimiterSetsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		endpoints := testEndpoints(8, 8)
		broken := &fault{treatment: retry, code: CodeConnection}
		take := func() *grant {
			t.Helper()
			g, err := l.acquire(t.Context(), endpoints, schemas.StageJudge, 1, "p")
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		first := take()
		home := first.endpoint
		l.release(first, broken)
		for range 2 {
			l.release(take(), broken)
		}
		for range 8 {
			if g := take(); g.endpoint == home {
				t.Fatal("a request went to an endpoint that fails for all")
			}
		}
		<-time.After(2 * time.Second)
		// The other is full now, and one may try whether this one is back.
		trial := take()
		if trial.endpoint != home {
			t.Fatal("a full endpoint took more")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.acquire(ctx, endpoints, schemas.StageJudge, 1, "p"); err == nil {
			t.Fatal("a second request went to an endpoint of which nobody knows whether it is back")
		}
		l.release(trial, nil)
		for range 8 {
			if g := take(); g.endpoint != home {
				t.Fatal("an endpoint that is back was left out")
			}
		}
	})
}

// More permits than what a server knows of twice over don't come to it: the limit stays. (Against a
// server without latency it once rose to 11,000, with 35,000 goroutines that waited for this
// process's processors.)
func TestLimiterSeesWhatIsNotAtTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		endpoints := testEndpoints(0)
		e := endpoints[0]
		place := l.stand(endpoints, schemas.StageMeta, "p", slices.Repeat([]int{1}, 5000))
		defer place.leave()
		for range 100 {
			<-time.After(quickLook)
			l.queued(e, 8, 0)
		}
		// 2·8 + 16 may be in flight; the last raise was by half.
		if e.pace.limit > 1.5*(2*8+firstPermits) {
			t.Errorf("the limit is %g with 8 running", e.pace.limit)
		}
		// A balancer's metrics tell of a part: the limit rises while that brings more answers.
		for _, rate := range []float64{100, 150, 220} {
			before := e.pace.limit
			e.pace.rate = rate
			l.queued(e, 8, 0)
			if e.pace.limit <= before {
				t.Errorf("the limit stays at %g though answers are %g a second", before, rate)
			}
			at := e.pace.limit
			if l.queued(e, 8, 0); e.pace.limit > at {
				t.Errorf("the limit rises from %g to %g and nothing says that it helps", at, e.pace.limit)
			}
		}
		// Nor do metrics that are there no more hold it.
		before := e.pace.limit
		if l.untold(e); e.pace.away {
			t.Error("metrics that tell nothing hold the limit")
		}
		l.queued(e, e.inFlight, 0)
		if e.pace.limit <= before {
			t.Errorf("the limit stays at %g though all of it runs", before)
		}
	})
}

// An endpoint that no connection can be made to is tried every two seconds at least, however long
// that has gone on.
func TestLimiterTriesTheUnheardSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		endpoints := testEndpoints(8)
		for range 20 {
			began := time.Now()
			g, err := l.acquire(t.Context(), endpoints, schemas.StageJudge, 1, "p")
			if err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > maxUnheard+10*time.Millisecond {
				t.Fatalf("it was left alone for %s", waited)
			}
			l.release(g, &fault{treatment: retry, code: CodeConnection, dial: true})
		}
	})
}

// At the end of a run a slow endpoint gets nothing that would keep the run waiting for it alone,
// but what another failed at.
func TestLimiterSparesTheLate(t *testing.T) {
	var l limiter
	endpoints := testEndpoints(0, 0)
	quick, slow := endpoints[0], endpoints[1]
	for i, e := range endpoints {
		e.pace.limit, e.pace.starting = 4, false
		e.pace.service = []float64{1, 4}[i]
		e.pace.rate = 4 / e.pace.service
	}
	take := func(avoid ...*endpoint) *endpoint {
		t.Helper()
		place := l.enter(endpoints, []int{1}, false, &waiter{stage: schemas.StageMeta, promptID: "p", avoid: avoid})
		if place.waiter.next == 0 {
			place.leave()
			return nil
		}
		return (<-place.waiter.got).endpoint
	}
	// The slowest of the last choices takes 3·(4-1) = 9 s longer there, in which the quick one does
	// 36. So it gets some of 60 while more than 36 wait, and nothing at the end.
	l.feed(2)
	l.feed(-1) // another bundle may get prompts yet
	if l.ending {
		t.Error("it ends while a bundle may get prompts")
	}
	l.feed(-1)
	sizes := make([]int, 60)
	for i := range sizes {
		sizes[i] = 1
	}
	place := l.stand(endpoints, schemas.StageMeta, "p", sizes)
	if slow.outstanding == 0 || quick.outstanding == 0 {
		t.Errorf("%d and %d of 60 are in flight", quick.outstanding, slow.outstanding)
	}
	place.leave()
	for range 4 {
		if e := take(); e != quick {
			t.Fatal("a slow endpoint got what a quick one has room for")
		}
	}
	if e := take(); e != nil {
		t.Error("a slow endpoint got one of the last requests")
	}
	if e := take(quick); e != slow {
		t.Error("what the quick one failed at found no endpoint")
	}
	l.feed(1)
	if e := take(); e != slow {
		t.Error("a slow endpoint stood idle though more prompts come")
	}
}

// A group gives permits back before its answer, and never more than it took.
func TestLimiterEbbs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := &endpoint{name: "e", traffic: traffic{pace: newPace(0)}}
		e.pace.classes[class{schemas.StageJudge, 11}] = &latencies{mean: 3}
		g, err := l.acquire(t.Context(), []*endpoint{e}, schemas.StageJudge, 11, "p")
		if err != nil {
			t.Fatal(err)
		}
		before := e.inFlight
		for range 20 {
			<-time.After(500 * time.Millisecond)
			l.ebb()
			if e.inFlight > before {
				t.Errorf("%g permits are held after %g", e.inFlight, before)
			}
			before = e.inFlight
		}
		if before >= 3 || before <= 0 {
			t.Errorf("%g permits are held after three times the usual time", before)
		}
		l.release(g, nil)
		if e.inFlight != 0 || e.outstanding != 0 {
			t.Errorf("%g permits and %d generations are left", e.inFlight, e.outstanding)
		}
	})
}
