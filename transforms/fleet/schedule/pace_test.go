package schedule

import (
	"testing"

	"coeval/transforms/fleet/pacing"
)

// A paceTest is a server, and the figures that a process must reach on it.
type paceTest struct {
	name    string
	server  virtualServer
	reports []string
	// use and waiting are bounds, waiting in slots and after the first tenth; refused is the most
	// refusals for each request that was answered.
	use, waiting, refused float64
	latencies             int // that each slot has work for
}

// figures returns the means over some seeds.
func figures(tt paceTest, reports string, tuning pacing.Tuning, seeds int) (use, waiting, refused, limit float64) {
	for seed := range seeds {
		s := tt.server
		s.rtt, s.reports = 0.002, reports
		prompts := max(tt.latencies*s.slots/194, 1) // choices of a prompt
		r := newRun([]*virtualServer{&s}, uint64(1+seed), tuning, prompts)
		r.run()
		n := float64(seeds)
		use, waiting, limit = use+r.use()/n, waiting+r.waiting()/n, limit+r.limit()/n
		refused += float64(r.refusals()) / float64(118*prompts) / n // requests of a prompt
	}
	return use, waiting, refused, limit
}

var watched = []string{"metrics", "waits"}

var paceTests = []paceTest{
	// A group of 7 or 11 is as much as a small server's slots and half as many again.
	{"4 slots", virtualServer{slots: 4, mean: 0.1}, watched, 0.83, 3, 0, 1500},
	{"16 slots", virtualServer{slots: 16, mean: 0.016}, watched, 0.95, 0.5, 0, 2400},
	{"64 slots", virtualServer{slots: 64, mean: 0.064}, watched, 0.97, 0.5, 0, 1200},
	// 1,552 latencies are 2,048 prompts.
	{"256 slots", virtualServer{slots: 256, mean: 0.1}, watched, 0.97, 0.5, 0, 1552},
	{"1024 slots", virtualServer{slots: 1024, mean: 0.8}, watched, 0.96, 0.5, 0, 600},
	{"503 beyond a queue of 32", virtualServer{slots: 256, mean: 0.2, maxQueue: 32}, watched, 0.96, 0.5, 0.4, 600},
	// When the server asks for a second, it gets fewer requests, and none if it rejects again.
	{"429 beyond a queue of 32, and again after 1 s, short choices", virtualServer{slots: 256, mean: 0.2, maxQueue: 32, after: 1}, watched, 0.87, 0.5, 0.1, 600},
	{"429 beyond a queue of 32, and again after 1 s", virtualServer{slots: 256, mean: 8, maxQueue: 32, after: 1}, watched, 0.95, 0.5, 0.6, 600},
	{"503 beyond a queue of 32, and nothing more", virtualServer{slots: 256, mean: 0.2, maxQueue: 32}, []string{"nothing"}, 0.9, 0.5, 0.5, 600},
	// A fifth comes to a quarter for each that is answered.
	{"a fifth is refused at random", virtualServer{slots: 256, mean: 0.2, refuse: 0.2}, watched, 0.94, 0.5, 0.26, 600},
	// In the first 15 s the limit falls to one, where the share is the same.
	{"half is refused at random", virtualServer{slots: 64, mean: 0.2, refuse: 0.5}, watched, 0.7, 0.5, 1.1, 300},
	{"choices take twice as long in a full batch", virtualServer{slots: 256, mean: 0.1, slowdown: 1}, watched, 0.95, 0.5, 0, 1000},
	// Only the answers show the queue: slots come first.
	{"a server that reports nothing", virtualServer{slots: 256, mean: 0.1}, []string{"nothing"}, 0.95, 6, 0, 1000},
}

// A cold start with nothing configured: slots stay taken, and few requests wait at the server. The
// servers are the servers of make chaos, with the same bounds. The idle slots of the last requests
// count: among a thousand lognormal latencies one is 8 to 16 times the mean.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, tt := range paceTests {
		for _, reports := range tt.reports {
			t.Run(tt.name+", reports "+reports, func(t *testing.T) {
				t.Parallel()
				use, waiting, refused, limit := figures(tt, reports, pacing.Defaults, 1)
				t.Logf("use %.3f, waiting %.3f slots, limit %.0f, %.3f refused", use, waiting, limit, refused)
				if use < tt.use || waiting > tt.waiting || refused > tt.refused {
					t.Errorf("use %.3f, %.3f slots waiting, %.3f refused; want at least %.2f, at most %.2f and %.2f",
						use, waiting, refused, tt.use, tt.waiting, tt.refused)
				}
			})
		}
	}
}

// Two processes on one server share it about evenly and keep it full.
func TestPaceShares(t *testing.T) {
	t.Parallel()
	for _, reports := range []string{"metrics", "waits"} {
		s := virtualServer{slots: 256, mean: 0.1, reports: reports}
		r := newRun([]*virtualServer{&s}, 1, pacing.Defaults, 700, 700)
		half := 0
		r.trace = func() {
			if half == 0 && r.clients[0].prompts+r.clients[1].prompts == 0 {
				half = r.clients[0].answered
				all := float64(half + r.clients[1].answered)
				if part := float64(half) / all; part < 0.4 || part > 0.6 {
					t.Errorf("%s: one process had %.2f of the answers", reports, part)
				}
			}
		}
		r.run()
		if r.use() < 0.95 {
			t.Errorf("%s: use %.3f, want at least 0.95", reports, r.use())
		}
	}
}

// A process that is done with a small share leaves its part of the server to the other. If it were
// left idle, the 800 prompts more would be worked on by half of the slots, and the slots be busy for
// (1,100 + 300) / (600 + 2·800) = 64 % of the time.
func TestPaceLeavesItsPart(t *testing.T) {
	t.Parallel()
	for _, reports := range []string{"metrics", "waits"} {
		s := virtualServer{slots: 256, mean: 0.1, reports: reports}
		r := newRun([]*virtualServer{&s}, 1, pacing.Defaults, 300, 1100)
		r.run()
		if r.use() < 0.95 {
			t.Errorf("%s: use %.3f, want at least 0.95", reports, r.use())
		}
	}
}

// If the client or its machine limits the answers, and these come unevenly, more permits bring no more
// answers. The limit then stays.
func TestPaceWithoutUse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		s := virtualServer{slots: 4, mean: 0.001, rtt: 0.002, stalls: 0.5, reports: "nothing"}
		r := newRun([]*virtualServer{&s}, seed, pacing.Defaults, 2000)
		most := 0.0
		r.trace = func() { most = max(most, r.limit()) }
		r.run()
		t.Logf("seed %d: use %.3f in %.0f s, limit %.0f, %.0f at most", seed, r.use(), r.now, r.limit(), most)
		if most > 1000 {
			t.Errorf("seed %d: the limit was %.0f; the server has 4 slots", seed, most)
		}
	}
}

// A server whose answers are long under way against the time of a choice, or that is quicker than
// its readings, shows bursts: the limit doesn't take one for a queue and fall to its least. With
// the aim of 0.3 alone, use was 0.70, 0.87, 0.07 and 0.23.
func TestPaceFar(t *testing.T) {
	t.Parallel()
	tests := []struct {
		server virtualServer
		use    float64
	}{
		{virtualServer{slots: 4, mean: 0.1, rtt: 0.1}, 0.7},
		{virtualServer{slots: 16, mean: 0.1, rtt: 0.1}, 0.86},
		{virtualServer{slots: 4, mean: 0.001, rtt: 0.02}, 0.14},
		{virtualServer{slots: 4, mean: 0.001, rtt: 0.002, stalls: 0.5}, 0.35},
	}
	for _, tt := range tests {
		s := tt.server
		s.reports = "metrics"
		r := newRun([]*virtualServer{&s}, 1, pacing.Defaults, 1500)
		answers, low := 0, 0
		r.trace = func() {
			if r.clients[0].answered == answers {
				return
			}
			answers = r.clients[0].answered
			if r.limit() < 4 {
				low++
			}
		}
		r.run()
		t.Logf("%d slots of %g s, %g s away: use %.3f, %.2f waiting, %d of %d answers at the least limit", s.slots, s.mean, s.rtt, r.use(), r.waiting(), low, answers)
		if r.use() < tt.use || low > answers/4 {
			t.Errorf("%d slots of %g s, %g s away: use %.3f, want at least %.2f; %d of %d answers came at the least limit",
				s.slots, s.mean, s.rtt, r.use(), tt.use, low, answers)
		}
	}
}

// Forty servers of one role all have their part: equal servers answer between a third of the mean and twice it.
func TestFortyServers(t *testing.T) {
	t.Parallel()
	var servers []*virtualServer
	for range 40 {
		servers = append(servers, &virtualServer{slots: 4, mean: 0.05, rtt: 0.002, reports: "metrics"})
	}
	const prompts = 160
	newRun(servers, 1, pacing.Defaults, prompts).run()
	mean := float64(prompts*194) / 40
	for i, s := range servers {
		if part := float64(s.served) / mean; part < 1.0/3 || part > 2 {
			t.Errorf("server %d answered %.2f of the mean of %g choices", i, part, mean)
		}
	}
}

// A slow server without metrics, as Ollama is by default, has few generations in flight soon: a kill or
// a time-out costs little. At first the limit is 16; it was 32 to 40 for a whole run.
func TestPaceSlowServer(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{1, 2, 4} {
		for seed := range uint64(4) {
			use, most, mean := slowServer(slots, seed, pacing.Defaults)
			t.Logf("%d slots, seed %d: use %.3f, at most %d in flight, after 100 answers %.1f for each slot", slots, seed, use, most, mean)
			if use < 0.95 || most > 32 || mean > 9 {
				t.Errorf("%d slots: use %.3f, at most %d in flight, after 100 answers %.1f for each slot; want 0.95, 32 and 9", slots, use, most, mean)
			}
		}
	}
}

// slowServer returns the use of a slow server, the most choices in flight, and their mean for each slot after
// 100 answers.
func slowServer(slots int, seed uint64, tuning pacing.Tuning) (use float64, most int, mean float64) {
	s := virtualServer{slots: slots, mean: 10, rtt: 0.002, reports: "nothing"}
	r := newRun([]*virtualServer{&s}, seed, tuning, 6)
	c := r.clients[0]
	c.withoutN = true
	area, from, last := 0.0, 0.0, 0.0
	r.trace = func() {
		n := c.servers[0].outstanding
		most = max(most, n)
		if c.answered < 100 {
			from, last = r.now, r.now
			return
		}
		area += float64(n) * (r.now - last)
		last = r.now
	}
	r.run()
	return r.use(), most, area / (last - from) / float64(slots)
}
