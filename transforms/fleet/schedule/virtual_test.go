package schedule

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/pacing"
)

// The types of this file simulate servers and processes in virtual time: no test that uses them
// sleeps or reads a clock. A virtualServer has slots and a queue, first come, first served. A
// virtualClient is a process: it works on dossiers as the stages do, through a Limiter of its own.

// A world is the virtual time with its events.
type world struct {
	now    float64 // seconds
	events []event
	count  int
}

type event struct {
	at  float64
	nth int // orders events of the same time
	do  func()
}

// before orders the events of a heap, in which no two are equal.
func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.nth < o.nth }

// at adds an event. The heap is written out, as that of package container allocates each event twice.
func (w *world) at(seconds float64, do func()) {
	w.count++
	w.events = append(w.events, event{seconds, w.count, do})
	for i := len(w.events) - 1; i > 0; {
		parent := (i - 1) / 2
		if !w.events[i].before(&w.events[parent]) {
			break
		}
		w.events[i], w.events[parent] = w.events[parent], w.events[i]
		i = parent
	}
}

// next removes the first event and returns it.
func (w *world) next() event {
	first, last := w.events[0], len(w.events)-1
	w.events[0], w.events[last] = w.events[last], event{}
	w.events = w.events[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if w.events[child].before(&w.events[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		w.events[i], w.events[least] = w.events[least], w.events[i]
		i = least
	}
}

func (w *world) after(seconds float64, do func()) { w.at(w.now+seconds, do) }

func (w *world) time() time.Time { return time.Unix(1e9, int64(w.now*1e9)) }

// A virtualServer has slots and a queue.
type virtualServer struct {
	slots    int
	mean     float64 // seconds that a choice occupies a slot
	maxQueue int     // choices that may wait; 0 for no bound
	refuse   float64 // share refused at random
	slowdown float64 // how much longer a choice takes when all slots are busy
	stalls   float64 // mean of the seconds between two in which nothing happens for a tenth
	reports  string  // metrics, waits or nothing
	rtt      float64 // seconds that a request and its answer are under way
	after    float64 // Retry-After of a refusal; 0 for none
	until    float64 // when the bound of the queue ends; 0 for never
	part     float64 // share of its choices that the metrics report, as behind a balancer; 0 for all
	door     float64 // seconds that this process needs to send a request, one after the other
	noUsage  bool    // answers report no tokens
	fails    func(now float64) bool

	free                  slotHeap     // when each slot is free
	starts                []float64    // of the choices that wait, in order
	busy                  float64      // seconds of slots
	waits                 [][2]float64 // from, to
	stall, doorFree       float64      // when the next is, and when the door is free
	refusals, tooEarly    int          // tooEarly came while a Retry-After held
	served                int          // choices
	notBefore             float64
	randomness, durations *rand.Rand
}

// slotHeap is a heap of the times when slots are free.
type slotHeap []float64

// replace gives the first slot another time.
func (s slotHeap) replace(free float64) {
	i := 0
	for {
		child := 2*i + 1
		if child+1 < len(s) && s[child+1] < s[child] {
			child++
		}
		if child >= len(s) || free <= s[child] {
			s[i] = free
			return
		}
		s[i] = s[child]
		i = child
	}
}

func (s *virtualServer) start(seed uint64) {
	s.free = make(slotHeap, s.slots)
	s.randomness, s.durations = rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
}

func (s *virtualServer) counts(now float64) (running, waiting int) {
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

// tokensPerMean is how many tokens a choice of mean duration has.
const tokensPerMean = 300

// serve returns when the last of n choices is done and how many tokens they have, or false when the
// server refuses.
func (s *virtualServer) serve(now float64, n int) (end float64, tokens int, ok bool) {
	now += s.rtt / 2
	running, waiting := 0, 0
	if s.maxQueue > 0 || s.slowdown > 0 {
		running, waiting = s.counts(now)
	}
	if now < s.notBefore {
		s.tooEarly++
	}
	if s.maxQueue > 0 && waiting >= s.maxQueue && (s.until == 0 || now < s.until) || s.randomness.Float64() < s.refuse {
		s.refusals++
		s.notBefore = max(s.notBefore, now+s.after)
		return now + s.rtt/2, 0, false
	}
	if s.stalls > 0 && now > s.stall {
		for i := range s.free {
			s.free[i] = max(s.free[i], now) + 0.1
		}
		slices.Sort(s.free) // sorted times are a heap
		s.stall = now + s.stalls*s.randomness.ExpFloat64()
	}
	s.served += n
	for range n {
		const sigma = 0.8
		size := math.Exp(sigma*s.durations.NormFloat64() - sigma*sigma/2)
		tokens += 1 + int(size*tokensPerMean)
		d := s.mean * size * (1 + s.slowdown*float64(running)/float64(s.slots))
		begin := max(now, s.free[0])
		s.free.replace(begin + d)
		s.busy += d
		if begin > now {
			s.starts = append(s.starts, begin)
			s.waits = append(s.waits, [2]float64{now, begin})
		}
		end = max(end, begin+d)
	}
	return end + s.rtt/2, tokens, true
}

var virtualStages = [3]struct {
	name        string
	requests, n int
}{{schemas.StageGenerate, 1, 7}, {schemas.StageJudge, 7, 11}, {schemas.StageMeta, 110, 1}}

type virtualDossier struct {
	id          string
	stage, open int // open requests of the stage
}

// A virtualClient is one process.
type virtualClient struct {
	world   *world
	limiter *Limiter
	servers []*Server
	behind  map[*Server]*virtualServer
	// prompts have not begun. Without n every choice is a request of its own.
	prompts, begun, done, answered int
	withoutN, fed                  bool // fed is true once no more prompts come
	tickets                        []virtualTicket
	inFlight                       int // choices
}

type virtualTicket struct {
	*Ticket
	dossier *virtualDossier
	waits   int // how often the request was refused
}

func (c *virtualClient) start() {
	c.limiter.Feed(1)
	for _, s := range c.servers {
		c.read(s, 1e9)
	}
	c.pump()
}

func (c *virtualClient) over() bool { return c.prompts == 0 && c.done == c.begun }

// pump begins prompts, and sends the requests that have permits.
func (c *virtualClient) pump() {
	for c.begun-c.done < max(32, c.limiter.Permits()/2) && c.prompts > 0 {
		c.prompts--
		c.begun++
		c.begin(&virtualDossier{id: "prompt " + string(rune('A'+c.begun%26)) + time.Duration(c.begun).String()})
	}
	if c.prompts == 0 && !c.fed {
		c.fed = true
		c.limiter.Feed(-1)
	}
	for c.hasGrants() {
		for i := 0; i < len(c.tickets); i++ {
			t := &c.tickets[i]
			for t.received < t.waiter.granted {
				t.received++
				g := <-t.waiter.grants
				c.inFlight += g.class.N
				c.send(g, t.dossier, t.waits)
			}
			if t.received == len(t.waiter.Sizes) {
				c.tickets = append(c.tickets[:i], c.tickets[i+1:]...)
				i--
			}
		}
	}
}

// hasGrants reports whether the limiter has granted choices that are not sent yet.
func (c *virtualClient) hasGrants() bool {
	granted := 0
	for _, s := range c.servers {
		granted += s.outstanding
	}
	return granted > c.inFlight
}

// release ends a request.
func (c *virtualClient) release(g *Grant, r Result) {
	c.inFlight -= g.class.N
	c.limiter.Release(g, r)
}

// begin lets the requests of a dossier's stage wait.
func (c *virtualClient) begin(d *virtualDossier) {
	st := virtualStages[d.stage]
	requests, n := st.requests, st.n
	if c.withoutN {
		requests, n = requests*n, 1
	}
	d.open = requests
	sizes := make([]int, requests)
	for i := range sizes {
		sizes[i] = n
	}
	c.enqueue(d, Request{Sizes: sizes}, 0)
}

func (c *virtualClient) enqueue(d *virtualDossier, r Request, waits int) {
	r.Stage, r.PromptID, r.Priority = virtualStages[d.stage].name, d.id, d.stage
	c.tickets = append(c.tickets, virtualTicket{c.limiter.Enqueue(c.servers, r), d, waits})
}

func (c *virtualClient) send(g *Grant, d *virtualDossier, waits int) {
	s := c.behind[g.server]
	if s.fails != nil && s.fails(c.world.now) {
		c.world.after(s.rtt, func() {
			c.release(g, Result{Outcome: Failed})
			c.again(d, g, 0, waits+1)
		})
		return
	}
	if s.door > 0 {
		s.doorFree = max(s.doorFree, c.world.now) + s.door
		c.world.at(s.doorFree, func() { c.deliver(g, d, waits) })
		return
	}
	c.deliver(g, d, waits)
}

// deliver lets a request arrive at its server.
func (c *virtualClient) deliver(g *Grant, d *virtualDossier, waits int) {
	s := c.behind[g.server]
	end, tokens, ok := s.serve(c.world.now, g.class.N)
	c.world.at(end, func() {
		if !ok {
			c.release(g, Result{Outcome: Overloaded, RetryAfter: time.Duration(s.after * 1e9)})
			c.again(d, g, s.after, waits+1)
			return
		}
		if s.noUsage {
			tokens = 0
		}
		c.release(g, Result{Tokens: tokens, Completion: tokens})
		c.answered += g.class.N
		if d.open--; d.open > 0 {
			return
		}
		if d.stage++; d.stage < len(virtualStages) {
			c.begin(d)
			return
		}
		c.limiter.ForgetPrompt(d.id)
		c.done++
	})
}

// again sends a request once more, after the pause that the server asked for or that the fleet makes.
func (c *virtualClient) again(d *virtualDossier, g *Grant, after float64, waits int) {
	random := c.behind[g.server].randomness.Float64()
	pause := 0.25 * float64(int(1)<<min(waits-1, 2)) * (0.5 + random/2)
	if after > 0 {
		pause = after + 0.25*random
	}
	c.world.after(pause, func() {
		c.enqueue(d, Request{Sizes: []int{g.class.N}, First: true, Avoid: []*Server{g.server}}, waits)
	})
}

// read observes a server's queue as the fleet does. Shortest is the shortest time that a request for
// one token took.
func (c *virtualClient) read(s *Server, shortest float64) {
	v := c.behind[s]
	c.world.after(c.limiter.ReadingInterval(s).Seconds(), func() {
		switch v.reports {
		case "metrics":
			running, waiting := v.counts(c.world.now)
			part := v.part
			if part == 0 {
				part = 1
			}
			c.limiter.ObserveQueue(s, math.Round(part*float64(running)), math.Round(part*float64(waiting)))
		case "waits":
			if c.limiter.Paused(s) {
				break
			}
			took := max(v.free[0]-c.world.now, 0) + v.rtt
			shortest = min(shortest, took)
			c.world.after(took, func() {
				c.limiter.ObserveWait(s, time.Duration(took*1e9), time.Duration(shortest*1e9))
				c.read(s, shortest)
			})
			return
		}
		c.read(s, shortest)
	})
}

// A virtualRun is some clients on some servers.
type virtualRun struct {
	world
	servers []*virtualServer
	clients []*virtualClient
	trace   func()
}

// newRun returns a run of one client with each number of prompts.
func newRun(servers []*virtualServer, seed uint64, tuning pacing.Tuning, prompts ...int) *virtualRun {
	r := &virtualRun{servers: servers}
	for i, s := range servers {
		s.start(seed + uint64(i)<<32)
	}
	for _, n := range prompts {
		c := &virtualClient{world: &r.world, prompts: n, behind: map[*Server]*virtualServer{}}
		c.limiter = New(Options{
			Now:       r.time,
			AfterFunc: func(d time.Duration, f func()) { r.after(d.Seconds(), f) },
		})
		for i, v := range servers {
			s := NewServer("server "+string(rune('A'+i)), pacing.NewTuned(tuning), nil)
			c.servers = append(c.servers, s)
			c.behind[s] = v
		}
		r.clients = append(r.clients, c)
	}
	return r
}

func (r *virtualRun) over() bool {
	for _, c := range r.clients {
		if !c.over() {
			return false
		}
	}
	return true
}

func (r *virtualRun) run() {
	for _, c := range r.clients {
		c.start()
	}
	for !r.over() {
		e := r.next()
		r.now = e.at
		e.do()
		for _, c := range r.clients {
			c.pump()
		}
		if r.trace != nil {
			r.trace()
		}
	}
}

// use returns the share of the slots' time that was occupied, until the last answer.
func (r *virtualRun) use() float64 {
	busy, slots := 0.0, 0
	for _, s := range r.servers {
		busy, slots = busy+s.busy, slots+s.slots
	}
	return busy / r.now / float64(slots)
}

// waiting returns the mean number of waiting choices after the first tenth of the run, in slots.
func (r *virtualRun) waiting() float64 {
	from, sum, slots := r.now/10, 0.0, 0
	for _, s := range r.servers {
		slots += s.slots
		for _, w := range s.waits {
			sum += max(0, w[1]-max(w[0], from))
		}
	}
	return sum / (r.now - from) / float64(slots)
}

func (r *virtualRun) limit() float64 { return r.clients[0].servers[0].pace.Limit() }

func (r *virtualRun) refusals() (n int) {
	for _, s := range r.servers {
		n += s.refusals
	}
	return n
}
