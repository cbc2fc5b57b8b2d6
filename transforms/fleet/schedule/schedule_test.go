package schedule

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
	"coeval/transforms/fleet/pacing"
)

func testServers(limits ...int) []*Server {
	var out []*Server
	for i, limit := range limits {
		out = append(out, NewServer(fmt.Sprint(i), pacing.New(limit), nil))
	}
	return out
}

// acquire waits until one of the servers has room for n generations and takes it.
func (l *Limiter) acquire(ctx context.Context, servers []*Server, stage string, n int, promptID string) (*Grant, error) {
	ticket := l.Enqueue(servers, request(stage, promptID, n))
	g, err := ticket.Receive(ctx)
	if err != nil {
		ticket.Cancel()
	}
	return g, err
}

func request(stage, promptID string, sizes ...int) Request {
	return Request{Stage: stage, PromptID: promptID, Priority: slices.Index(stageOf, stage), Sizes: sizes}
}

// stageOf has each stage's priority for an index.
var stageOf = []string{schemas.StageGenerate, schemas.StageJudge, schemas.StageMeta}

func TestLimiterNeverExceedsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		endpoints := testServers(8, 3)
		var mu sync.Mutex
		inFlight := map[*Server]int{}
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
				e := g.server
				mu.Lock()
				inFlight[e] += n
				granted += n
				if limit := int(e.pace.Limit()); inFlight[e] > limit {
					t.Errorf("endpoint %s has %d in flight, its limit is %d", e.name, inFlight[e], limit)
				}
				mu.Unlock()
				<-time.After(time.Second) // synctest's clock: takes no time
				mu.Lock()
				inFlight[e] -= n
				mu.Unlock()
				l.Release(g, Result{})
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
	l := New(Options{})
	endpoints := testServers(4)
	g, err := l.acquire(t.Context(), endpoints, stageOf[0], 11, "p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.acquire(ctx, endpoints, stageOf[0], 1, "p"); !errors.Is(err, context.Canceled) {
		t.Errorf("a full endpoint gave a permit: %v", err)
	}
	l.Release(g, Result{})
	if _, err := l.acquire(t.Context(), endpoints, stageOf[0], 4, "p"); err != nil {
		t.Error(err)
	}
}

// Later stages go first, and earlier stages once no more prompts come. Within a stage the first to come
// goes first.
func TestLimiterOrder(t *testing.T) {
	later := []string{"3 of priority 2", "1 of priority 1", "4 of priority 1", "0 of priority 0", "2 of priority 0"}
	earlier := []string{"0 of priority 0", "2 of priority 0", "1 of priority 1", "4 of priority 1", "3 of priority 2"}
	t.Run("prompts come", func(t *testing.T) { testOrder(t, func(*Limiter) {}, later) })
	t.Run("no more come", func(t *testing.T) {
		testOrder(t, func(l *Limiter) {
			l.Feed(1)
			l.Feed(-1)
		}, earlier)
	})
	t.Run("some come after all", func(t *testing.T) {
		testOrder(t, func(l *Limiter) {
			l.Feed(2)
			l.Feed(-2)
			l.Feed(1)
		}, later)
	})
}

func testOrder(t *testing.T, then func(*Limiter), want []string) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		endpoints := testServers(1)
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
				l.Release(g, Result{})
			})
			synctest.Wait() // it waits for a permit before the next comes
		}
		then(l)
		l.Release(held, Result{})
		wg.Wait()
		if !slices.Equal(order, want) {
			t.Errorf("order %q, want %q", order, want)
		}
	})
}

// No endpoint stands idle while a request waits that it can serve; the calls of one prompt
// stay on one endpoint while it has room.
func TestLimiterPlaces(t *testing.T) {
	l := New(Options{})
	endpoints := testServers(10, 10, 10)
	var home *Server
	for range 10 {
		g, err := l.acquire(t.Context(), endpoints, stageOf[0], 1, "one prompt")
		if err != nil {
			t.Fatal(err)
		}
		e := g.server
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
		e := g.server
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
		l := New(Options{})
		e := testServers(1, 1)
		if _, err := l.acquire(t.Context(), e[:1], stageOf[2], 1, "p"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go l.acquire(ctx, e[:1], stageOf[2], 1, "p") //nolint:errcheck // waits until the end
		synctest.Wait()
		got, err := l.acquire(t.Context(), e[1:], stageOf[0], 1, "p")
		if err != nil || got.server != e[1] {
			t.Errorf("got %v, %v", got, err)
		}
		cancel()
	})
}

func TestLimiterGivesBackWhatIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		e := testServers(2)
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
		l.Release(held, Result{}) // races with the abandoning
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
		l := New(Options{})
		e := testServers(2)
		l.Drain()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := l.acquire(ctx, e, stageOf[0], 1, "p"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a drained limiter gave a permit: %v", err)
		}
	})
}

// Under more work than the endpoints can do, a prompt's calls stay on one endpoint. No endpoint has
// much more than its part, also with unequal limits.
func TestLimiterKeepsPromptsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		limits := []int{64, 64, 16, 32}
		endpoints := testServers(limits...)
		var mu sync.Mutex
		served := map[*Server]int{}
		together, all := 0, 0
		var prompts sync.WaitGroup
		for i := range 400 {
			name := fmt.Sprint("prompt ", i)
			prompts.Go(func() {
				by := map[*Server]int{}
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
							by[g.server]++
							served[g.server]++
							mu.Unlock()
							l.Release(g, Result{})
						})
					}
					calls.Wait()
				}
				l.ForgetPrompt(name)
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
		l := New(Options{})
		e := testServers(1, 1)
		held, err := l.acquire(t.Context(), e[:1], schemas.StageJudge, 1, "p")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release(held, Result{})
		n := l.Enqueue(e, Request{Stage: schemas.StageJudge, PromptID: "q", Sizes: []int{1}, Avoid: e[1:], First: true})
		l.mu.Lock()
		l.pause(e[0], time.Now(), time.Minute)
		l.mu.Unlock()
		began := time.Now()
		g, err := n.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); g.server != e[1] || waited > time.Second {
			t.Errorf("it went to endpoint %v after %s", g.server.name, waited)
		}
		l.Release(g, Result{})
	})
}

// An endpoint that fails for everyone is set aside, and one request at a time finds out whether
// it is back; with an answer all may go there again.
func TestLimiterSetsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		endpoints := testServers(8, 8)
		broken := Result{Outcome: Failed}
		take := func() *Grant {
			t.Helper()
			g, err := l.acquire(t.Context(), endpoints, schemas.StageJudge, 1, "p")
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		first := take()
		home := first.server
		l.Release(first, broken)
		for range 2 {
			l.Release(take(), broken)
		}
		for range 8 {
			if g := take(); g.server == home {
				t.Fatal("a request went to an endpoint that fails for all")
			}
		}
		<-time.After(2 * time.Second)
		// The other is full now, and one may try whether this one is back.
		trial := take()
		if trial.server != home {
			t.Fatal("a full endpoint took more")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.acquire(ctx, endpoints, schemas.StageJudge, 1, "p"); err == nil {
			t.Fatal("a second request went to an endpoint of which nobody knows whether it is back")
		}
		l.Release(trial, Result{})
		for range 8 {
			if g := take(); g.server != home {
				t.Fatal("an endpoint that is back was left out")
			}
		}
	})
}

// An endpoint without a connection is tried at least every two seconds, however long that lasts.
func TestLimiterTriesTheUnheardSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		endpoints := testServers(8)
		for range 20 {
			began := time.Now()
			g, err := l.acquire(t.Context(), endpoints, schemas.StageJudge, 1, "p")
			if err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > maxUnreachable+10*time.Millisecond {
				t.Fatalf("it was left alone for %s", waited)
			}
			l.Release(g, Result{Outcome: Unreachable})
		}
	})
}

// measure lets a server look as if 4 choices took that long each, one beside the other.
func (s *Server) measure(class pacing.Class, each time.Duration) {
	s.measureAt(time.Unix(1e9, 0), class, each)
}

func (s *Server) measureAt(began time.Time, class pacing.Class, each time.Duration) {
	for i := range 4 {
		s.pace.Answered(began.Add(time.Duration(min(i, 1))*each), class, each, 4, 0)
	}
}

// At the end of a run a slow server receives no new request that the run would wait for alone. It
// receives only requests that another server failed.
func TestTooSlowForTail(t *testing.T) {
	l := New(Options{})
	servers := testServers(0, 0)
	quick, slow := servers[0], servers[1]
	for i, s := range servers {
		s.measure(pacing.Class{Stage: schemas.StageMeta, N: 1}, time.Duration(1+3*i)*time.Second)
	}
	take := func(avoid ...*Server) *Server {
		t.Helper()
		r := request(schemas.StageMeta, "p", 1)
		r.Avoid = avoid
		ticket := l.Enqueue(servers, r)
		if ticket.waiter.granted == 0 {
			ticket.Cancel()
			return nil
		}
		return (<-ticket.waiter.grants).server
	}
	// The slowest of the last choices takes 3·(4-1) = 9 s longer there, in which the quick one does
	// 36. So it gets some of 120 while more than 36 wait, and nothing at the end.
	l.Feed(2)
	l.Feed(-1) // another bundle may get prompts yet
	if l.ending {
		t.Error("it ends while a bundle may get prompts")
	}
	l.Feed(-1)
	ticket := l.Enqueue(servers, request(schemas.StageMeta, "p", slices.Repeat([]int{1}, 120)...))
	if slow.outstanding == 0 || quick.outstanding == 0 {
		t.Errorf("%d and %d of 120 are in flight", quick.outstanding, slow.outstanding)
	}
	ticket.Cancel()
	for range int(quick.pace.Limit()) {
		if s := take(); s != quick {
			t.Fatal("a slow server got what a quick one has room for")
		}
	}
	if s := take(); s != nil {
		t.Error("a slow server got one of the last requests")
	}
	if s := take(quick); s != slow {
		t.Error("what the quick one failed at found no server")
	}
	l.Feed(1)
	if s := take(); s != slow {
		t.Error("a slow server stood idle though more prompts come")
	}
}

// A request that a server left to a quicker one is not left alone when that one turns out to be slow.
func TestTailIsNotStranded(t *testing.T) {
	l := New(Options{})
	servers := testServers(0, 0)
	other, quick := servers[0], servers[1]
	one := pacing.Class{Stage: schemas.StageMeta, N: 1}
	other.measure(one, 1200*time.Millisecond)
	quick.measure(one, time.Second)
	l.Feed(1)
	l.Feed(-1)
	// The quick server takes as many requests as it may. The other would need 3·0.2 s longer, and leaves
	// it the rest.
	ticket := l.Enqueue(servers, request(schemas.StageMeta, "p", slices.Repeat([]int{1}, int(quick.pace.Limit())+1)...))
	if quick.outstanding != ticket.waiter.granted || other.outstanding != 0 {
		t.Fatalf("%d requests are at the quick server and %d at the other", quick.outstanding, other.outstanding)
	}
	for range 40 { // rounds
		quick.measureAt(time.Now(), one, time.Hour)
	}
	l.Release(<-ticket.waiter.grants, Result{Outcome: Answered})
	if ticket.waiter.granted < len(ticket.waiter.Sizes) && other.admits(1) {
		t.Errorf("a request waits though a server has room: services are %v and %v s", other.pace.Service(), quick.pace.Service())
	}
}

// A group gives permits back before its answer, and never more than it took.
func TestReleaseExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		servers := testServers(0)
		s := servers[0]
		s.measure(pacing.Class{Stage: schemas.StageJudge, N: 11}, 3*time.Second)
		g, err := l.acquire(t.Context(), servers, schemas.StageJudge, 11, "p")
		if err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		before := s.inFlight
		l.mu.Unlock()
		for range 20 {
			<-time.After(500 * time.Millisecond)
			synctest.Wait()
			l.mu.Lock()
			if s.inFlight > before {
				t.Errorf("%g permits are in flight after %g", s.inFlight, before)
			}
			before = s.inFlight
			l.mu.Unlock()
		}
		if before >= 3 || before <= 0 {
			t.Errorf("%g permits are in flight after three times the usual time", before)
		}
		l.Release(g, Result{})
		if s.inFlight != 0 || s.outstanding != 0 {
			t.Errorf("%g permits and %d generations are left", s.inFlight, s.outstanding)
		}
	})
}

// A configured quota is kept to, and used up.
func TestQuota(t *testing.T) {
	for _, tt := range []struct {
		name  string
		quota *pacing.Quota
		most  int // requests in a minute
		all   int // in ten minutes at least
	}{
		{"requests", pacing.NewQuota(60, 0), 60, 10 * 58},
		// 4 choices of 25 tokens and a prompt of 100 are 200 tokens: 30 a minute. The first
		// are taken for 2,000, which is more than may go at once.
		{"tokens", pacing.NewQuota(0, 6000), 30, 10 * 28},
		// A request is worth more than a second: 200 of 600 tokens, one every 20 s. The first is
		// taken for 2,000, of which 10 are there and the others take 202 s: that leaves 398 s.
		{"large requests", pacing.NewQuota(0, 600), 3, 1 + 540/21},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(Options{})
				e := []*Server{NewServer("e", pacing.New(100), tt.quota)}
				end := time.Now().Add(10 * time.Minute)
				var mu sync.Mutex
				var sent []time.Time
				var askers sync.WaitGroup
				for i := range 20 {
					askers.Go(func() {
						for {
							g, err := l.acquire(t.Context(), e, schemas.StageJudge, 4, fmt.Sprint(i))
							if err != nil {
								t.Error(err)
							}
							if time.Now().After(end) {
								l.Release(g, Result{})
								return
							}
							mu.Lock()
							sent = append(sent, time.Now())
							mu.Unlock()
							<-time.After(time.Second)
							l.Release(g, Result{Tokens: 200})
						}
					})
				}
				askers.Wait()
				for i := range sent {
					n := 0
					for n < len(sent)-i && sent[i+n].Sub(sent[i]) < time.Minute {
						n++
					}
					if n > tt.most {
						t.Fatalf("%d requests were sent in a minute, want at most %d", n, tt.most)
					}
				}
				if len(sent) < tt.all {
					t.Errorf("%d requests were sent in ten minutes, want at least %d", len(sent), tt.all)
				}
			})
		})
	}
}

// A large request goes although small ones, whose turn is first, come now and then.
func TestQuotaOfTwoKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		// 983 tokens come back in a second, of which a small request each 5 s takes 60.
		e := []*Server{NewServer("e", pacing.New(100), pacing.NewQuota(0, 60_000))}
		const large, small = 7000, 300
		e[0].quota.Used(pacing.Class{Stage: schemas.StageGenerate, N: 1}, large)
		e[0].quota.Used(pacing.Class{Stage: schemas.StageMeta, N: 1}, small)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		sent := map[string]int{}
		var mu sync.Mutex
		var askers sync.WaitGroup
		ask := func(stage string, tokens int, between time.Duration) {
			askers.Go(func() {
				for ; ; <-time.After(between) {
					g, err := l.acquire(ctx, e, stage, 1, stage)
					if err != nil {
						return
					}
					mu.Lock()
					sent[stage]++
					mu.Unlock()
					l.Release(g, Result{Tokens: tokens})
				}
			})
		}
		ask(schemas.StageGenerate, large, 0)
		ask(schemas.StageMeta, small, 5*time.Second)
		askers.Wait()
		// In 600 s 590,000 tokens come; up to 120 small ones take 36,000 of them.
		if n := sent[schemas.StageGenerate]; n < 70 || n > 85 {
			t.Errorf("%d large requests went, want about 79", n)
		}
		if n := sent[schemas.StageMeta]; n < 50 {
			t.Errorf("%d small requests went", n)
		}
	})
}

// The number of choices that a server works on is reported once it is known.
func TestSlotsBusy(t *testing.T) {
	e := testServers(0, 8)
	l := New(Options{})
	l.servers = e
	running := func(i int) float64 {
		states, _ := l.States()
		return states[i].Running
	}
	for _, tt := range []struct {
		what  string
		so    func()
		first float64 // of the endpoint whose limit is found
		given float64 // of that with a given one
	}{
		{"nothing is out", func() {}, 0, 0},
		{"some are, of which nothing is known", func() { e[0].outstanding, e[1].outstanding = 3, 3 }, 0, -1},
		{"they come at 40 a second and take 0.1 s", func() { e[0].measure(pacing.Class{N: 1}, 100*time.Millisecond) }, 4, -1},
		{"its metrics tell", func() { e[0].pace.ObserveQueue(time.Now(), 7, 1, 8) }, 7, -1},
		{"they tell no more", func() { e[0].pace.ForgetQueue() }, 4, -1},
		{"it is quarantined", func() { e[0].quarantinedUntil = time.Now() }, 0, -1},
	} {
		tt.so()
		if got, given := running(0), running(1); got != tt.first || given != tt.given {
			t.Errorf("%s: %g and %g, want %g and %g", tt.what, got, given, tt.first, tt.given)
		}
	}
}
