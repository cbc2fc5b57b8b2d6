package simulator

import (
	"bytes"
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

const ms = time.Millisecond

// A bubble asks a server in simulated time: nothing waits for real.
type bubble struct {
	t      *testing.T
	server *Server
	start  time.Time
	all    sync.WaitGroup
	mu     sync.Mutex
	// ends are the times at which requests ended, by their name, negative when refused.
	ends map[string]time.Duration
}

func inBubble(t *testing.T, o Options, f func(b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		b := &bubble{t: t, server: s, start: time.Now(), ends: map[string]time.Duration{}}
		f(b)
		b.all.Wait()
	})
}

// ask asks for n choices, and goes on when the request has been taken in.
func (b *bubble) ask(ctx context.Context, name string, n int) {
	b.all.Go(func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions", bytes.NewReader(body(name, map[string]any{"n": n})))
		b.server.ServeHTTP(w, r)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ends[name] = time.Since(b.start)
		if w.Code != http.StatusOK {
			b.ends[name] = -time.Duration(w.Code)
		}
	})
	synctest.Wait()
}

// until waits for a time after the start.
func (b *bubble) until(d time.Duration) {
	<-time.After(d - time.Since(b.start))
	synctest.Wait()
}

// Two slots, every choice 100 ms. At 0 ms three choices come: two run to 100, the third from
// 100 to 200. At 50 one more comes: the slot that is free first after those is free at 100, so it
// runs from 100 to 200. So the slots are busy for 4·100 of 2·200 ms; the third choice waited
// 100 ms, the other 50: 150/200 wait on average.
func TestQueueArithmetic(t *testing.T) {
	inBubble(t, Options{Slots: 2, Latency: 100 * ms, Sigma: -1}, func(b *bubble) {
		b.ask(b.t.Context(), "three", 3)
		b.until(50 * ms)
		b.ask(b.t.Context(), "one", 1)
		b.until(60 * ms)
		st := b.server.Stats()
		if st.Running != 2 || st.Waiting != 2 || st.InFlight != (Load{2, 4}) {
			t.Errorf("at 60 ms stats are %+v", st)
		}
		// Up to 60 ms: slots busy all the time, waiting 60 + 10 ms.
		if math.Abs(st.SlotUse-1) > 1e-9 || math.Abs(st.MeanWaiting-70.0/60) > 1e-9 || math.Abs(st.BusySeconds-0.12) > 1e-9 {
			t.Errorf("at 60 ms stats are %+v", st)
		}
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, line := range []string{`running{model_name="simulated"} 2`, `waiting{model_name="simulated"} 2`} {
			if !strings.Contains(w.Body.String(), line) {
				t.Errorf("no %s in\n%s", line, w.Body)
			}
		}
		b.all.Wait()
		if diff := cmp.Diff(map[string]time.Duration{"three": 200 * ms, "one": 200 * ms}, b.ends); diff != "" {
			t.Errorf("want- got+\n%s", diff)
		}
		b.until(time.Second) // idle time after the last end doesn't count
		want := Stats{
			Slots: 2, Requests: 2, Generations: 4, MaxInFlight: Load{2, 4}, MaxWaiting: 2, MeanWaiting: 0.75,
			WallSeconds: 0.2, BusySeconds: 0.4, DeliveredSeconds: 0.4, SlotUse: 1, DeliveredSlotUse: 1,
		}
		ignored := cmpopts.IgnoreFields(Stats{}, "Roles", "Rejected", "Faults", "FirstRequest", "LastEnd", "PromptTokens", "CompletionTokens")
		if diff := cmp.Diff(want, b.server.Stats(), ignored, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("want- got+\n%s", diff)
		}
	})
}

// One slot and a queue of one, every choice 100 ms: the first request runs, the second waits and
// ends at 200, the third is refused. A request is taken in whole while there is room.
func TestFullQueueRefuses(t *testing.T) {
	for _, status := range []int{0, 503, 429} {
		inBubble(t, Options{Slots: 1, Latency: 100 * ms, Sigma: -1, MaxQueue: 1, FullStatus: status, RetryAfter: time.Second}, func(b *bubble) {
			for _, name := range []string{"first", "second", "third"} {
				b.ask(b.t.Context(), name, 1)
			}
			b.until(300 * ms)
			b.ask(b.t.Context(), "many", 4)
			b.all.Wait()
			refused := status
			if status == 0 {
				refused = 503
			}
			want := map[string]time.Duration{"first": 100 * ms, "second": 200 * ms, "third": -time.Duration(refused), "many": 700 * ms}
			if diff := cmp.Diff(want, b.ends); diff != "" {
				t.Errorf("want- got+\n%s", diff)
			}
			if st := b.server.Stats(); st.Rejected[refused] != 1 || st.MaxWaiting != 3 || st.AskedTwice != 0 {
				t.Errorf("stats are %+v", st)
			}
		})
	}
}

// The slot of a client that goes away at 50 ms stays held until 100, so that the next choice
// runs from 100 to 200: 200 ms busy of 200, half of it delivered.
func TestAbandonedWorkHoldsItsSlot(t *testing.T) {
	inBubble(t, Options{Slots: 1, Latency: 100 * ms, Sigma: -1}, func(b *bubble) {
		ctx, cancel := context.WithCancel(b.t.Context())
		b.ask(ctx, "gone", 1)
		b.until(50 * ms)
		cancel()
		b.until(60 * ms)
		b.ask(b.t.Context(), "next", 1)
		b.all.Wait()
		if b.ends["gone"] != 50*ms || b.ends["next"] != 200*ms {
			t.Errorf("ends are %v", b.ends)
		}
		st := b.server.Stats()
		if st.Abandoned != 1 || st.Generations != 1 || math.Abs(st.SlotUse-1) > 1e-9 || math.Abs(st.DeliveredSlotUse-0.5) > 1e-9 {
			t.Errorf("stats are %+v", st)
		}
	})
}

// At a reset at 50 ms the choice in flight has 50 ms left, which are all that counts.
func TestResetInFlight(t *testing.T) {
	inBubble(t, Options{Slots: 2, Latency: 100 * ms, Sigma: -1}, func(b *bubble) {
		b.ask(b.t.Context(), "old", 1)
		b.until(50 * ms)
		b.server.Reset()
		b.ask(b.t.Context(), "new", 1) // from 50 to 150
		b.all.Wait()
		// Busy 50 + 100 ms of two slots for 100 ms.
		if st := b.server.Stats(); st.Requests != 1 || math.Abs(st.BusySeconds-0.15) > 1e-9 || math.Abs(st.SlotUse-0.75) > 1e-9 {
			t.Errorf("stats are %+v", st)
		}
	})
}

// A slow answer takes SlowFactor times as long, a judge's with a scale of 3 three times.
func TestScaledTimes(t *testing.T) {
	inBubble(t, Options{Latency: 100 * ms, Sigma: -1, Faults: Faults{FaultSlow: 1}, SlowFactor: 4}, func(b *bubble) {
		b.ask(b.t.Context(), "slow", 1)
		b.all.Wait()
		if b.ends["slow"] != 400*ms {
			t.Errorf("ends are %v", b.ends)
		}
	})
	inBubble(t, Options{Latency: 100 * ms, Sigma: -1, RoleScale: map[string]float64{schemas.RoleJudge: 3}}, func(b *bubble) {
		judged := someResponse()
		b.ask(b.t.Context(), judged, 1)
		b.ask(b.t.Context(), "q", 1)
		b.all.Wait()
		if b.ends["q"] != 100*ms || b.ends[judged] != 300*ms {
			t.Errorf("ends are %v", b.ends)
		}
	})
}

// Ten tokens of prompt at 100 a second and the completion's at 50.
func TestRates(t *testing.T) {
	var w world.World
	name := strings.Repeat("q", 24) // 6 tokens, and 4 for the message
	completion := w.Answer(user(name), "m", 1, 0).Tokens
	inBubble(t, Options{World: &w, PrefillRate: 100, DecodeRate: 50}, func(b *bubble) {
		b.ask(b.t.Context(), name, 1)
		b.all.Wait()
		if want := 100*ms + time.Duration(completion)*20*ms; b.ends[name] != want {
			t.Errorf("ended after %v, want %v", b.ends[name], want)
		}
	})
}

// Times depend on the request and its seed alone, and have the mean that was asked for: with
// sigma 0.8 the standard deviation is sqrt(e^0.64 − 1) = 0.95 of the mean, over 20,000 draws 0.0067.
func TestLatencyIsReproducible(t *testing.T) {
	const n = 20000
	var durations [2][]time.Duration
	for i, fresh := range []bool{false, true} {
		s, err := New(Options{Latency: 100 * ms, FreshTexts: fresh})
		if err != nil {
			t.Fatal(err)
		}
		q := s.world.Read(user("q"), "m")
		for seed := range n {
			durations[i] = append(durations[i], s.duration(&ask{req: &request{}, q: &q}, int64(seed), &world.Choice{Tokens: 100}))
		}
	}
	if diff := cmp.Diff(durations[0], durations[1]); diff != "" {
		t.Errorf("times differ with fresh texts:\n%s", diff)
	}
	sum := time.Duration(0)
	for _, d := range durations[0] {
		sum += d
	}
	if mean := sum.Seconds() / n; math.Abs(mean-0.1) > 4*0.00067 {
		t.Errorf("mean is %.5f s, want 0.1 ± 0.0027", mean)
	}
}

// A queue of many slots agrees with a plain simulation that looks at every slot.
func TestQueueAgainstPlainSearch(t *testing.T) {
	const slots = 7
	q := newQueue(slots)
	var free [slots]time.Duration
	r := world.Rand(1)
	now, busy, waited := time.Duration(0), time.Duration(0), time.Duration(0)
	for range 2000 {
		now += time.Duration(r.Uint64() % 40)
		durations := make([]time.Duration, 1+r.Uint64()%5)
		want := time.Duration(0)
		for i := range durations {
			durations[i] = time.Duration(r.Uint64() % 100)
			first := 0
			for k := range free {
				if free[k] < free[first] {
					first = k
				}
			}
			started := max(now, free[first])
			free[first] = started + durations[i]
			want = max(want, free[first])
			busy, waited = busy+durations[i], waited+started-now
		}
		if got := q.admit(now, durations); got != want {
			t.Fatalf("ends at %d, want %d", got, want)
		}
		running, _ := q.counts(now)
		taken := 0
		for k := range free {
			if free[k] > now {
				taken++
			}
		}
		if running != taken {
			t.Fatalf("%d are running, want %d", running, taken)
		}
	}
	if q.busy != busy || q.waited != waited {
		t.Errorf("busy %d waited %d, want %d %d", q.busy, q.waited, busy, waited)
	}
}
