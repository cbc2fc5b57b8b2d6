package pacing

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"coeval/schemas"
)

// The tests of pace run in virtual time: a server of slots that queues first come, first
// served, and clients that work on dossiers as the stages do, later stages first.

type vServer struct {
	slots    int
	mean     float64 // seconds that a choice holds a slot
	maxQueue int     // choices; 0 for no bound
	refuse   float64 // share refused at random
	slowdown float64 // how much longer a choice takes when all slots are busy
	stalls   float64 // mean of the seconds between two in which nothing happens for a tenth
	told     string  // metrics, waits or nothing
	rtt      float64 // seconds that a request and its answer are under way
	after    float64 // seconds after which a refused request is to come again; 0 leaves it to the client

	free                  []float64 // when each slot is free, as a heap
	starts                []float64 // of the choices that wait, in order
	busy                  float64
	waits                 [][2]float64 // from, to
	stall                 float64      // when the next is
	refusals              int
	randomness, durations *rand.Rand
}

func (s *vServer) Len() int           { return len(s.free) }
func (s *vServer) Less(i, j int) bool { return s.free[i] < s.free[j] }
func (s *vServer) Swap(i, j int)      { s.free[i], s.free[j] = s.free[j], s.free[i] }
func (s *vServer) Push(any)           { panic("never") }
func (s *vServer) Pop() any           { panic("never") }

func (s *vServer) counts(now float64) (running, waiting int) {
	for len(s.starts) > 0 && s.starts[0] <= now {
		s.starts = s.starts[1:]
	}
	for _, f := range s.free {
		if f > now {
			running++
		}
	}
	return running, len(s.starts)
}

// serve returns when the last of n choices is done, or false when the server is full.
func (s *vServer) serve(now float64, n int) (float64, bool) {
	running, waiting := 0, 0
	if s.maxQueue > 0 || s.slowdown > 0 {
		running, waiting = s.counts(now)
	}
	if s.maxQueue > 0 && waiting >= s.maxQueue || s.randomness.Float64() < s.refuse {
		s.refusals++
		return 0, false
	}
	now += s.rtt / 2
	if s.stalls > 0 && now > s.stall {
		for i := range s.free {
			s.free[i] = max(s.free[i], now) + 0.1
		}
		heap.Init(s)
		s.stall = now + s.stalls*s.randomness.ExpFloat64()
	}
	end := 0.0
	for range n {
		const sigma = 0.8
		d := s.mean * math.Exp(sigma*s.durations.NormFloat64()-sigma*sigma/2)
		d *= 1 + s.slowdown*float64(running)/float64(s.slots)
		start := max(now, s.free[0])
		s.free[0] = start + d
		heap.Fix(s, 0)
		s.busy += d
		if start > now {
			s.starts = append(s.starts, start)
			s.waits = append(s.waits, [2]float64{now, start})
		}
		end = max(end, start+d)
	}
	return end + s.rtt/2, true
}

// again is in how many seconds a refused request comes again, as pause decides.
func (s *vServer) again() float64 {
	if s.after > 0 {
		return s.after + 0.25*s.randomness.Float64()
	}
	return 0.25 * (0.5 + s.randomness.Float64()/2)
}

type vRequest struct {
	client  *vClient
	dossier *vDossier
	stage   int
	sent    float64
	held    float64
	level   float64
	full    bool
	retry   bool
	short   bool // asks for one token
	wait    float64
}

type vDossier struct{ open int }

type vClient struct {
	pace     *Pace
	prompts  int // not begun
	begun    int
	done     int
	inFlight float64
	groups   map[*vRequest]struct{}
	lines    [3][]*vRequest // waiting, by stage
	answered int            // generations

	// As the limiter does with an endpoint that says that it is full: answers of that in a row,
	// until when it therefore gets nothing, and when it delivered last.
	fulls           int
	held, delivered float64
}

var vStages = [3]struct {
	name        string
	requests, n int
}{{schemas.StageGenerate, 1, 7}, {schemas.StageJudge, 7, 11}, {schemas.StageMeta, 110, 1}}

type vEvent struct {
	at      float64
	request *vRequest // nil for a look at the gauges
}

type vEvents []vEvent

func (e vEvents) Len() int           { return len(e) }
func (e vEvents) Less(i, j int) bool { return e[i].at < e[j].at }
func (e vEvents) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *vEvents) Push(x any)        { *e = append(*e, x.(vEvent)) }
func (e *vEvents) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

type vRun struct {
	server  *vServer
	clients []*vClient
	events  vEvents
	now     float64
	looked  float64 // until when nobody looks at the server
	trace   func(now float64)
}

func newRun(s *vServer, seed uint64, prompts ...int) *vRun {
	s.free = make([]float64, s.slots)
	s.randomness, s.durations = rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	r := &vRun{server: s}
	for _, n := range prompts {
		r.clients = append(r.clients, &vClient{pace: New(0), prompts: n, groups: map[*vRequest]struct{}{}})
	}
	return r
}

var epoch = time.Unix(1e9, 0)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * 1e9)) }

func (r *vRun) send(c *vClient) {
	for c.begun-c.done < max(32, int(c.pace.limit/2)) && c.prompts > 0 {
		c.prompts--
		c.begun++
		c.begin(&vDossier{}, 0)
	}
	for _, stage := range c.order() {
		for len(c.lines[stage]) > 0 {
			n := vStages[stage].n
			if c.held > r.now || !c.pace.Admits(c.inFlight, n) {
				return
			}
			q := c.lines[stage][0]
			c.lines[stage] = c.lines[stage][1:]
			q.held = float64(n)
			c.inFlight += q.held
			if n > 1 {
				c.groups[q] = struct{}{}
			}
			q.sent, q.level = r.now, c.inFlight
			end, ok := r.server.serve(r.now, n)
			c.hold(r.now)
			q.full = !ok
			if q.full {
				end = r.now + r.server.rtt
			}
			heap.Push(&r.events, vEvent{end, q})
		}
	}
}

// hold does as limiter.hold.
func (c *vClient) hold(now float64) {
	if c.fulls >= 3 {
		wait := min(max((now-c.delivered)/2, 0.01), 1)
		c.held = max(c.held, now+wait)
	}
}

// order is that of the stages at the limiter: the later first, and the earlier when no more
// prompts come.
func (c *vClient) order() [3]int {
	if c.prompts == 0 {
		return [3]int{0, 1, 2}
	}
	return [3]int{2, 1, 0}
}

func (c *vClient) begin(d *vDossier, stage int) {
	d.open = vStages[stage].requests
	for range d.open {
		c.lines[stage] = append(c.lines[stage], &vRequest{client: c, dossier: d, stage: stage})
	}
}

func (r *vRun) run() {
	for _, c := range r.clients {
		r.send(c)
	}
	heap.Push(&r.events, vEvent{0, nil})
	for !r.over() {
		e := heap.Pop(&r.events).(vEvent)
		r.now = e.at
		if e.request == nil {
			r.tick()
		} else {
			r.arrive(e.request)
		}
	}
}

func (r *vRun) over() bool {
	for _, c := range r.clients {
		if c.prompts > 0 || c.done < c.begun {
			return false
		}
	}
	return true
}

// tick gives permits of groups back, and looks at the server when it is time for that.
func (r *vRun) tick() {
	for _, c := range r.clients {
		for q := range c.groups {
			held := c.pace.ExpectedPermits(Class{vStages[q.stage].name, vStages[q.stage].n}, time.Duration((r.now-q.sent)*1e9))
			c.inFlight += held - q.held
			q.held = held
		}
		r.send(c)
	}
	p := r.clients[0].pace
	heap.Push(&r.events, vEvent{r.now + p.ReleaseInterval().Seconds(), nil})
	if r.now < r.looked {
		return
	}
	r.looked = r.now + p.LookInterval().Seconds()
	running, waiting := r.server.counts(r.now)
	for _, c := range r.clients {
		switch r.server.told {
		case "metrics":
			c.pace.ObserveQueue(at(r.now), float64(running), float64(waiting), c.inFlight)
		case "waits":
			wait := max(r.server.free[0]-r.now, 0)
			r.looked = max(r.looked, r.now+wait)
			heap.Push(&r.events, vEvent{r.now + wait, &vRequest{client: c, wait: wait, short: true}})
		}
		r.send(c)
	}
}

// arrive is the end of a request: of one that measures the wait, of a pause, or its answer.
func (r *vRun) arrive(q *vRequest) {
	c, n := q.client, vStages[q.stage].n
	switch {
	case q.short:
		c.pace.ObserveWait(at(r.now), time.Duration(q.wait*1e9))
	case q.retry:
		q.retry = false
		c.lines[q.stage] = append(c.lines[q.stage], q)
	default:
		c.inFlight -= q.held
		delete(c.groups, q)
		if q.full {
			c.pace.Rejected(at(r.now), q.level)
			c.fulls++
			c.hold(r.now)
			q.retry = true
			heap.Push(&r.events, vEvent{r.now + r.server.again(), q})
			break
		}
		c.answered += n
		c.fulls, c.held, c.delivered = 0, 0, r.now
		c.pace.Answered(at(r.now), Class{vStages[q.stage].name, n}, time.Duration((r.now-q.sent)*1e9), q.level)
		if q.dossier.open--; q.dossier.open == 0 {
			if q.stage < 2 {
				c.begin(q.dossier, q.stage+1)
			} else {
				c.done++
			}
		}
		if r.trace != nil {
			defer r.trace(r.now)
		}
	}
	r.send(c)
}

// use is the share of the slots' time that was held, until the last answer.
func (r *vRun) use() float64 {
	return r.server.busy / r.now / float64(r.server.slots)
}

// waiting is the mean number of waiting choices after the first tenth of the run, in slots.
func (r *vRun) waiting() float64 {
	from, sum := r.now/10, 0.0
	for _, w := range r.server.waits {
		sum += max(0, w[1]-max(w[0], from))
	}
	return sum / (r.now - from) / float64(r.server.slots)
}

// A cold start with nothing configured: slots stay taken, and few requests wait at the server. The
// servers are those of make chaos, the bounds what is wanted of it. That the last requests leave
// slots idle is part of it: among a thousand lognormal latencies one is 8 to 16 times the mean.
func TestPace(t *testing.T) {
	watched := []string{"metrics", "waits"}
	tests := []struct {
		name   string
		server vServer
		told   []string
		// use and waiting are bounds, waiting in slots and after the first tenth; refused is the
		// most refusals for each request that was answered.
		use, waiting, refused float64
		latencies             int // that each slot has work for
	}{
		// A group of 7 or 11 is as much as a small server's slots and half as many again.
		{"4 slots", vServer{slots: 4, mean: 0.1}, watched, 0.86, 0.6, 0, 1500},
		{"16 slots", vServer{slots: 16, mean: 0.016}, watched, 0.95, 0.5, 0, 2400},
		{"64 slots", vServer{slots: 64, mean: 0.064}, watched, 0.97, 0.5, 0, 1200},
		// 1,552 latencies are 2,048 prompts.
		{"256 slots", vServer{slots: 256, mean: 0.1}, watched, 0.97, 0.5, 0, 1552},
		{"1024 slots", vServer{slots: 1024, mean: 0.8}, watched, 0.96, 0.5, 0, 600},
		{"503 beyond a queue of 32", vServer{slots: 256, mean: 0.2, maxQueue: 32}, watched, 0.96, 0.5, 0.15, 600},
		{"429 beyond a queue of 32, and again after 1 s", vServer{slots: 256, mean: 0.2, maxQueue: 32, after: 1}, watched, 0.96, 0.5, 0.15, 600},
		{"503 beyond a queue of 32, and nothing more", vServer{slots: 256, mean: 0.2, maxQueue: 32}, []string{"nothing"}, 0.9, 0.5, 0.5, 600},
		// A fifth comes to a quarter for each that is answered.
		{"a fifth is refused at random", vServer{slots: 256, mean: 0.2, refuse: 0.2}, watched, 0.94, 0.5, 0.26, 600},
		{"choices take twice as long in a full batch", vServer{slots: 256, mean: 0.1, slowdown: 1}, watched, 0.95, 0.5, 0, 1000},
		// Nothing but the answers tells of the queue: slots come first.
		{"a server that tells nothing", vServer{slots: 256, mean: 0.1}, []string{"nothing"}, 0.95, 6, 0, 1000},
	}
	for _, tt := range tests {
		for _, told := range tt.told {
			t.Run(tt.name+", told "+told, func(t *testing.T) {
				t.Parallel()
				s := tt.server
				s.rtt, s.told = 0.002, told
				prompts := tt.latencies * s.slots / 194 // choices of a prompt
				r := newRun(&s, 1, prompts)
				r.run()
				refused := float64(s.refusals) / float64(118*prompts) // requests of a prompt
				t.Logf("use %.3f, waiting %.3f slots, limit %.0f, %.3f refused", r.use(), r.waiting(), r.clients[0].pace.limit, refused)
				if r.use() < tt.use || r.waiting() > tt.waiting || refused > tt.refused {
					t.Errorf("use %.3f, %.3f slots waiting, %.3f refused; want at least %.2f, at most %.2f and %.2f",
						r.use(), r.waiting(), refused, tt.use, tt.waiting, tt.refused)
				}
			})
		}
	}
}

// Two processes on one server share it about evenly and keep it full.
func TestPaceShares(t *testing.T) {
	for _, told := range []string{"metrics", "waits"} {
		s := vServer{slots: 256, mean: 0.1, told: told}
		r := newRun(&s, 1, 700, 700)
		half := 0
		r.trace = func(float64) {
			if half == 0 && r.clients[0].prompts+r.clients[1].prompts == 0 {
				half = r.clients[0].answered
				all := float64(half + r.clients[1].answered)
				if part := float64(half) / all; part < 0.4 || part > 0.6 {
					t.Errorf("%s: one process had %.2f of the answers", told, part)
				}
			}
		}
		r.run()
		if r.use() < 0.95 {
			t.Errorf("%s: use %.3f, want at least 0.95", told, r.use())
		}
	}
}

// A process that is done with a small share leaves its part of the server to the other. If it were
// left idle, the 800 prompts more would be worked on by half of the slots, and the slots be busy for
// (1,100 + 300) / (600 + 2·800) = 64 % of the time.
func TestPaceLeavesItsPart(t *testing.T) {
	for _, told := range []string{"metrics", "waits"} {
		s := vServer{slots: 256, mean: 0.1, told: told}
		r := newRun(&s, 1, 300, 1100)
		r.run()
		if r.use() < 0.95 {
			t.Errorf("%s: use %.3f, want at least 0.95", told, r.use())
		}
	}
}

// Where what is in flight brings nothing, since the client or its machine is what bounds the answers,
// and these come unevenly, the limit stays where it is.
func TestPaceWithoutUse(t *testing.T) {
	for seed := range uint64(5) {
		s := vServer{slots: 4, mean: 0.001, rtt: 0.002, stalls: 0.5, told: "nothing"}
		r := newRun(&s, seed, 5000)
		most := 0.0
		r.trace = func(float64) { most = max(most, r.clients[0].pace.limit) }
		r.run()
		t.Logf("seed %d: use %.3f in %.0f s, limit %.0f, %.0f at most", seed, r.use(), r.now, r.clients[0].pace.limit, most)
		if most > 200 {
			t.Errorf("seed %d: the limit was %.0f; the server has 4 slots", seed, most)
		}
	}
}

// A server whose answers are long under way against the time of a choice, or that is quicker than
// the looks at it, shows bursts: the limit doesn't take one for a queue and fall to its least. With
// the aim of 0.3 alone, use was 0.70, 0.87, 0.07 and 0.23.
func TestPaceFar(t *testing.T) {
	tests := []struct {
		server vServer
		use    float64
	}{
		{vServer{slots: 4, mean: 0.1, rtt: 0.1}, 0.78},
		{vServer{slots: 16, mean: 0.1, rtt: 0.1}, 0.86},
		{vServer{slots: 4, mean: 0.001, rtt: 0.02}, 0.14},
		{vServer{slots: 4, mean: 0.001, rtt: 0.002, stalls: 0.5}, 0.35},
	}
	for _, tt := range tests {
		s := tt.server
		s.told = "metrics"
		r := newRun(&s, 1, 1500)
		answers, low := 0, 0
		r.trace = func(float64) {
			if answers++; r.clients[0].pace.limit < 2*minLimit {
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

// Whatever a server says and however late, permits stay within bounds.
func TestPaceBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		p := New(0)
		now := 0.0
		for range 500 {
			now += r.ExpFloat64() * math.Pow(10, float64(r.IntN(6)-4))
			switch r.IntN(5) {
			case 0:
				p.Rejected(at(now), r.Float64()*2000)
			case 1:
				p.ObserveQueue(at(now), float64(r.IntN(3)*r.IntN(300)), float64(r.IntN(3)*r.IntN(300)), r.Float64()*2000)
			case 2:
				p.ObserveWait(at(now), time.Duration(r.Int64N(1e11)))
			default:
				p.Answered(at(now), Class{vStages[r.IntN(3)].name, 1 + r.IntN(11)}, time.Duration(r.Int64N(1e11)), r.Float64()*2000)
			}
			p.Admits(r.Float64()*100, 1+r.IntN(11))
			c := Class{vStages[r.IntN(3)].name, 1 + r.IntN(11)}
			if h := p.ExpectedPermits(c, time.Duration(r.Int64N(1e12))); !(h > 0 && h <= float64(c.N)) {
				t.Fatalf("%v holds %g permits", c, h)
			}
			if !(p.limit >= minLimit && p.limit <= maxLimit) {
				t.Fatalf("the limit is %g", p.limit)
			}
		}
	}
}

// Permits beyond twice what a server knows of don't reach it: the limit stays. (Against a server
// without latency it once rose to 11,000, with 35,000 goroutines that waited for this process's
// processors.)
func TestCongestedElsewhere(t *testing.T) {
	p, now := New(0), 0.0
	look := func(running, inFlight float64) {
		now += minLook.Seconds()
		p.Admits(p.limit, 1) // a request waits for a permit
		p.ObserveQueue(at(now), running, 0, inFlight)
	}
	for range 100 {
		look(8, p.limit)
	}
	// 2·8 + 16 may be in flight; the last raise was by half.
	if p.limit > 1.5*(2*8+initialLimit) {
		t.Errorf("the limit is %g with 8 running", p.limit)
	}
	// A balancer's metrics tell of a part: the limit rises while that brings more answers.
	for _, rate := range []float64{100, 150, 220} {
		before := p.limit
		p.rate = rate
		look(8, p.limit)
		if p.limit <= before {
			t.Errorf("the limit stays at %g though answers are %g a second", before, rate)
		}
		raised := p.limit
		if look(8, p.limit); p.limit > raised {
			t.Errorf("the limit rises from %g to %g and nothing says that it helps", raised, p.limit)
		}
	}
	// Nor do metrics that are there no more hold it.
	before := p.limit
	if p.ForgetQueue(); p.congestedElsewhere {
		t.Error("metrics that tell nothing hold the limit")
	}
	look(p.limit, p.limit)
	if p.limit <= before {
		t.Errorf("the limit stays at %g though all of it runs", before)
	}
}
