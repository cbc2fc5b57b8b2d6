package infer

import (
	"context"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"
)

// limiter shares the endpoints' permits among all calls of the process. One permit is one
// generation in flight. A request takes its permits at once, on one endpoint, as taking them
// one by one deadlocks. Later stages go first, so that dossiers finish and memory stays flat.
//
// Requests wait here and not at an endpoint, each in the line of its prompt's home: the endpoint
// whose cache holds what the prompt's calls have in common. An endpoint with room takes from its
// own lines first, and else from the longest of another, so none stands idle while something
// waits that it can serve.
type limiter struct {
	mu     sync.Mutex
	queues []*queue // in the order of their turn, then that in which they were met
	pools  []*pool
	// feeders are the bundles that may still get prompts; ending says that there are none any more.
	feeders int
	ending  bool
	// endpoints are those of all pools, each once.
	endpoints []*endpoint
	// draining grants nothing any more.
	draining bool
	// grouped is told when there are requests that give permits back before their answer.
	grouped chan struct{}
	watch   *watch // nil in tests
}

// pool is endpoints that serve the same roles, with the homes of the prompts under way.
type pool struct {
	endpoints []*endpoint
	homes     map[string]*endpoint
}

// queue is the requests of one priority that the same endpoints can serve, first come first.
type queue struct {
	priority int
	pool     *pool
	lines    map[*endpoint][]*waiter // by home
}

// waiter is requests of one prompt that stand in line one behind the other: hundreds wait with
// no goroutine of their own.
type waiter struct {
	stage, promptID string
	sizes           []int // permits that each wants
	next            int   // index of the first that has none yet
	// avoid are the endpoints that failed it: they don't get it while another can.
	avoid []*endpoint
	// got has the grants of those before next, in their order.
	got chan *grant
}

// grant is the permits of one request in flight.
type grant struct {
	endpoint *endpoint
	class    class
	since    time.Time
	// held are the permits that it still holds, level those in flight when it got them.
	held, level float64
}

// traffic is what the limiter keeps of an endpoint.
type traffic struct {
	pace *pace
	// inFlight are permits, outstanding generations that were asked for.
	inFlight    float64
	outstanding int
	groups      map[*grant]struct{} // requests that give permits back before their answer
	homes       int                 // prompts under way whose home it is
	// shown are the permits that people were told of, shownHeld those held.
	shown     int
	shownHeld float64
	// faults in a row, when the last answer came, and how long answers take, smoothed.
	faults  int
	answer  time.Time
	typical float64 // seconds
	// delivered is when the last answer came that wasn't that it is full.
	delivered time.Time
	// fulls are answers since then that it is full, held until when it therefore gets nothing.
	fulls int
	held  time.Time
	// aside is until when nothing is sent there while others can be asked, and zero when the
	// endpoint is well; asides is how often in a row it was set aside. After that trial is the
	// one request that finds out whether it is back.
	aside  time.Time
	asides int
	trial  *grant
	// paused is until when the server wants nothing at all; metered says that it allows a
	// number of requests in a time.
	paused  time.Time
	metered bool
	// quota is nil where none is configured.
	quota *quota
	// observed says that somebody listens to it, and watches its queue where that is of use.
	observed bool
}

// line is a place in a queue. It is for one goroutine.
type line struct {
	limiter *limiter
	queue   *queue
	waiter  *waiter
	taken   int
}

// stand puts requests of these sizes in line. Who stands must take all or leave.
func (l *limiter) stand(endpoints []*endpoint, stage, promptID string, sizes []int) *line {
	return l.enter(endpoints, sizes, false, &waiter{stage: stage, promptID: promptID})
}

func (l *limiter) enter(endpoints []*endpoint, sizes []int, atHead bool, w *waiter) *line {
	w.sizes, w.got = sizes, make(chan *grant, len(sizes))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	q := l.queue(endpoints, priorities[w.stage])
	home := q.pool.home(w.promptID, now)
	if w.avoids(home, q.pool, now) {
		home = q.elsewhere(w, now)
	}
	if atHead {
		q.lines[home] = slices.Insert(q.lines[home], 0, w)
	} else {
		q.lines[home] = append(q.lines[home], w)
	}
	l.fill(home, now)
	for _, e := range endpoints {
		l.fill(e, now)
	}
	return &line{limiter: l, queue: q, waiter: w}
}

// take waits until the next request of the line has its permits.
func (n *line) take(ctx context.Context) (*grant, error) {
	select {
	case g := <-n.waiter.got:
		n.taken++
		return g, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// widen stands what has no permits yet in line for these endpoints, before those that came later.
func (n *line) widen(endpoints []*endpoint) {
	l := n.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if !n.queue.remove(n.waiter) {
		return // all have theirs
	}
	now := time.Now()
	n.queue = l.queue(endpoints, n.queue.priority)
	home := n.queue.pool.home(n.waiter.promptID, now)
	n.queue.lines[home] = slices.Insert(n.queue.lines[home], 0, n.waiter)
	for _, e := range endpoints {
		l.fill(e, now)
	}
}

// remove takes a waiter out of its line, and returns false when it stood in none.
func (q *queue) remove(w *waiter) bool {
	for home, line := range q.lines {
		if i := slices.Index(line, w); i >= 0 {
			q.lines[home] = slices.Delete(line, i, i+1)
			return true
		}
	}
	return false
}

// leave gives up the place and what was granted but not taken.
func (n *line) leave() {
	l := n.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := n.taken; i < n.waiter.next; i++ {
		(<-n.waiter.got).giveBack()
	}
	n.queue.remove(n.waiter)
	for _, e := range n.queue.pool.endpoints {
		l.fill(e, time.Now())
	}
}

// avoids says that an endpoint is not to have the request, since another can.
func (w *waiter) avoids(e *endpoint, p *pool, now time.Time) bool {
	return slices.Contains(w.avoid, e) && p.canAvoid(w.avoid, now)
}

// canAvoid says whether an endpoint that is well is not among these.
func (p *pool) canAvoid(avoid []*endpoint, now time.Time) bool {
	return slices.ContainsFunc(p.endpoints, func(e *endpoint) bool { return e.takes(now) && !slices.Contains(avoid, e) })
}

// takes says that requests may be sent there now, if there is room.
func (e *endpoint) takes(now time.Time) bool {
	return !e.aside.After(now) && !e.paused.After(now) && !e.held.After(now)
}

// elsewhere returns the well endpoint with the shortest line that the request doesn't avoid.
func (q *queue) elsewhere(w *waiter, now time.Time) *endpoint {
	var best *endpoint
	for _, e := range q.pool.endpoints {
		if e.takes(now) && !slices.Contains(w.avoid, e) && (best == nil || len(q.lines[e]) < len(q.lines[best])) {
			best = e
		}
	}
	return best
}

// canAvoid says whether a request can do without these endpoints now.
func (l *limiter) canAvoid(endpoints, avoid []*endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (&pool{endpoints: endpoints}).canAvoid(avoid, time.Now())
}

// forget is for when a prompt is done.
func (l *limiter) forget(promptID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pools {
		if home := p.homes[promptID]; home != nil {
			home.homes--
			delete(p.homes, promptID)
		}
	}
}

// An endpoint is set aside after faultsInRow requests that failed one after the other, without
// an answer for two mean latencies, minSilence at least and maxSilence at most, or none of which
// found a connection; and after as many that were told that it is full when nothing of ours was
// there and nothing had come for as long. It is set aside for a second at first and for maxAside at
// most, or as long as it asks for. Then one request at a time finds out whether it is back.
const (
	faultsInRow = 3
	// fullsInRow are answers of full, with no other between, after which it is asked one at a time.
	fullsInRow = 3
	minSilence = 250 * time.Millisecond
	maxSilence = 2 * time.Second
	maxAside   = 30 * time.Second
	// maxUnheard is for those that make no connection: to try that costs nobody anything.
	maxUnheard = 2 * time.Second
)

// release gives a grant back, and takes note of what became of the request.
func (l *limiter) release(g *grant, flt *fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	e := g.endpoint
	level := g.level
	g.giveBack()
	switch {
	case flt == nil || flt.treatment == refuse:
		e.well(now)
		e.delivered, e.fulls, e.held = now, 0, time.Time{}
		if g.class.stage == stageProbe {
			break
		}
		blend(&e.typical, now.Sub(g.since).Seconds(), 0.05)
		if flt == nil {
			e.pace.answered(now, g.class, now.Sub(g.since), level)
		}
	case flt.treatment == full:
		e.pace.refused(now, level)
		e.fulls++
		if e.outstanding > 0 || e.fulls < faultsInRow || !e.silentSince(e.delivered, now) {
			e.well(now)
		} else if !e.aside.After(now) {
			l.setAside(e, now, maxAside, flt.after)
		}
		if e.fulls >= fullsInRow {
			l.hold(e, now)
			for _, o := range l.endpoints {
				if o != e { // what avoids another must not wait for this one
					l.fill(o, now)
				}
			}
		}
	default:
		e.faults++
		if e.faults >= faultsInRow && !e.aside.After(now) && (flt.dial || e.silentSince(e.answer, now)) {
			most := maxAside
			if flt.dial {
				most = maxUnheard
			}
			l.setAside(e, now, most, 0)
		}
	}
	l.fill(e, now)
}

// silentSince says that a time is longer ago than answers may take here.
func (e *endpoint) silentSince(last, now time.Time) bool {
	return last.IsZero() || now.Sub(last) > min(max(minSilence, time.Duration(2e9*e.typical)), maxSilence)
}

// setAside leaves an endpoint alone for longer each time, up to most, or as long as it asked for.
func (l *limiter) setAside(e *endpoint, now time.Time, most, asked time.Duration) {
	wait := max(min(time.Second<<min(e.asides, 5), most), min(asked, maxRetryAfter))
	e.aside = now.Add(wait)
	e.asides++
	time.AfterFunc(wait+time.Millisecond, l.wake)
	for _, p := range l.pools {
		for id, home := range p.homes {
			if home == e && len(p.endpoints) > 1 {
				home.homes--
				delete(p.homes, id)
			}
		}
	}
	for _, q := range l.queues { // those in its lines find new homes
		waiting := q.lines[e]
		if len(q.pool.endpoints) < 2 || len(waiting) == 0 {
			continue
		}
		q.lines[e] = nil
		for _, w := range waiting {
			home := q.pool.home(w.promptID, now)
			q.lines[home] = append(q.lines[home], w)
		}
	}
	for _, o := range l.endpoints {
		if o != e {
			l.fill(o, now)
		}
	}
}

// well is for an endpoint that answers.
func (e *endpoint) well(now time.Time) {
	e.faults, e.answer, e.asides, e.aside = 0, now, 0, time.Time{}
}

// pause sends nothing to an endpoint until then.
func (l *limiter) pause(e *endpoint, until time.Time) {
	if until.After(e.paused) {
		e.paused = until
		time.AfterFunc(time.Until(until)+time.Millisecond, l.wake)
		if len(l.endpoints) > 1 {
			go l.wake() // what avoids another must not wait for this one
		}
	}
}

// hold sends nothing for a while to an endpoint that says that it is full and delivers nothing: for
// half as long as that has gone on. Its next delivery ends it.
func (l *limiter) hold(e *endpoint, now time.Time) {
	wait := min(max(now.Sub(e.delivered)/2, leastHold), mostHold)
	if until := now.Add(wait); until.After(e.held) {
		e.held = until
		time.AfterFunc(wait+time.Millisecond, l.wake)
	}
}

const (
	leastHold = 10 * time.Millisecond
	mostHold  = time.Second
)

func (g *grant) giveBack() {
	e := g.endpoint
	e.inFlight -= g.held
	e.outstanding -= g.class.n
	if e.outstanding == 0 {
		e.inFlight = 0 // no rest of rounding
	}
	delete(e.groups, g)
	if e.trial == g {
		e.trial = nil
	}
}

// drain stops all granting; what is in flight goes on.
func (l *limiter) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
}

// retire drains for good: permits that are still out are nobody's any more.
func (l *limiter) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	if l.watch == nil {
		return
	}
	for _, e := range l.endpoints {
		l.watch.permitted(-e.shown, -e.shownHeld)
		e.shown, e.shownHeld = 0, 0
	}
	l.watch = nil
}

// out says that some permits are held: by requests in flight, or by ones that are to be sent now.
func (l *limiter) out() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.endpoints, func(e *endpoint) bool { return e.outstanding > 0 })
}

// wake fills all endpoints, since time alone may have changed what is possible.
func (l *limiter) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, e := range l.endpoints {
		l.fill(e, now)
	}
}

// ebb lets requests give back the permits of choices that are probably done, and returns when to
// do that again: 0 while no request does.
func (l *limiter) ebb() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, next := time.Now(), time.Duration(0)
	for _, e := range l.endpoints {
		if len(e.groups) == 0 {
			continue
		}
		if wait := e.pace.betweenEbbs(); next == 0 || wait < next {
			next = wait
		}
		for g := range e.groups {
			held := e.pace.held(g.class, now.Sub(g.since))
			e.inFlight += held - g.held
			g.held = held
		}
		l.fill(e, now)
	}
	return next
}

// permits are those of all endpoints together.
func (l *limiter) permits() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := 0
	for _, e := range l.endpoints {
		sum += int(e.pace.limit)
	}
	return sum
}

func (l *limiter) queue(endpoints []*endpoint, priority int) *queue {
	for _, q := range l.queues {
		if q.priority == priority && slices.Equal(q.pool.endpoints, endpoints) {
			return q
		}
	}
	l.prune()
	q := &queue{priority: priority, pool: l.pool(endpoints), lines: map[*endpoint][]*waiter{}}
	l.queues = append(l.queues, q)
	l.sortQueues()
	return q
}

// prune forgets queues in which nobody stands and pools that nobody uses: while endpoints are met
// one by one, requests stand for ever more of them.
func (l *limiter) prune() {
	l.queues = slices.DeleteFunc(l.queues, func(q *queue) bool {
		for _, line := range q.lines {
			if len(line) > 0 {
				return false
			}
		}
		return true
	})
	l.pools = slices.DeleteFunc(l.pools, func(p *pool) bool {
		return len(p.homes) == 0 && !slices.ContainsFunc(l.queues, func(q *queue) bool { return q.pool == p })
	})
}

func (l *limiter) sortQueues() {
	slices.SortStableFunc(l.queues, func(a, b *queue) int {
		if a.priority == b.priority || a.priority == probePriority || b.priority == probePriority || !l.ending {
			return b.priority - a.priority
		}
		return a.priority - b.priority
	})
}

// feed changes how many bundles may still get prompts.
func (l *limiter) feed(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.feeders += by
	if ending := l.feeders == 0; ending != l.ending {
		l.ending = ending
		l.sortQueues()
	}
}

func (l *limiter) pool(endpoints []*endpoint) *pool {
	for _, p := range l.pools {
		if slices.Equal(p.endpoints, endpoints) {
			return p
		}
	}
	p := &pool{endpoints: endpoints, homes: map[string]*endpoint{}}
	l.pools = append(l.pools, p)
	for _, e := range endpoints {
		if !slices.Contains(l.endpoints, e) {
			l.endpoints = append(l.endpoints, e)
		}
	}
	return p
}

// boundedLoad is how much more than its part of the prompts an endpoint may be home of.
const boundedLoad = 1.25

// home returns the endpoint that a prompt's calls prefer: the first by rendezvous hashing,
// weighted by what each can do, that isn't home of too many.
func (p *pool) home(promptID string, now time.Time) *endpoint {
	if len(p.endpoints) == 1 {
		return p.endpoints[0]
	}
	if home := p.homes[promptID]; home != nil {
		return home
	}
	homes, limits := 1.0, 0.0
	for _, e := range p.endpoints {
		homes += float64(e.homes)
		limits += e.pace.limit
	}
	var best *endpoint
	bestScore := math.Inf(-1)
	of := spread(promptID)
	for _, e := range p.endpoints {
		// The highest of −limit/ln(u), u in (0, 1), falls on each as often as its limit says.
		u := (float64(mix(e.spread^of)>>11) + 0.5) / (1 << 53)
		score := -e.pace.limit / math.Log(u)
		if float64(e.homes+1) > max(boundedLoad*homes*e.pace.limit/limits, 1) {
			score -= 1e9
		}
		if e.aside.After(now) {
			score -= 1e12
		}
		if score > bestScore {
			best, bestScore = e, score
		}
	}
	best.homes++
	p.homes[promptID] = best
	return best
}

// fill grants what has room at an endpoint. The first of a stage is not passed by others of its
// line, nor by those of stages whose turn is later: a request of many permits would starve.
func (l *limiter) fill(e *endpoint, now time.Time) {
	if l.draining || e.paused.After(now) {
		return
	}
	for !e.held.After(now) {
		q, home, at := l.next(e, now)
		if q == nil {
			break
		}
		w := q.lines[home][at]
		n := w.sizes[w.next]
		if !e.admits(n) {
			break
		}
		if e.quota != nil {
			if wait := e.quota.take(now, class{w.stage, n}); wait > 0 {
				l.pause(e, now.Add(wait))
				break
			}
		}
		e.inFlight += float64(n)
		e.outstanding += n
		g := &grant{endpoint: e, class: class{w.stage, n}, since: now, held: float64(n), level: e.inFlight}
		if n > 1 && !e.pace.fixed {
			if e.groups == nil {
				e.groups = map[*grant]struct{}{}
			}
			e.groups[g] = struct{}{}
			select {
			case l.grouped <- struct{}{}:
			default: // it is told already, or nobody listens
			}
		}
		if !e.aside.IsZero() {
			e.trial = g
		}
		if e.fulls >= fullsInRow {
			l.hold(e, now) // one finds out whether it still is
		}
		w.next++
		w.got <- g
		if w.next == len(w.sizes) {
			if at == 0 {
				q.lines[home][0] = nil
				q.lines[home] = q.lines[home][1:]
			} else {
				q.lines[home] = slices.Delete(q.lines[home], at, at+1)
			}
		}
	}
	if l.watch != nil {
		limit := int(e.pace.limit)
		l.watch.permitted(limit-e.shown, e.inFlight-e.shownHeld)
		e.shown, e.shownHeld = limit, e.inFlight
	}
}

// mostOutstanding bounds the generations asked for, in permits: requests that hang hold few.
const mostOutstanding = 4

func (e *endpoint) admits(n int) bool {
	if !e.aside.IsZero() {
		return e.trial == nil // one finds out whether it is back
	}
	if !e.pace.fixed && e.outstanding > 0 && float64(e.outstanding+n) > mostOutstanding*e.pace.limit {
		return false
	}
	return e.pace.admits(e.inFlight, n)
}

// next returns the queue, the home of its line and the place in it of what an endpoint with
// room serves next: of its own lines that of the stage whose turn it is, else the longest of that
// stage.
func (l *limiter) next(e *endpoint, now time.Time) (*queue, *endpoint, int) {
	for _, q := range l.queues {
		if len(q.lines[e]) > 0 && !q.spares(e, now) {
			if at := q.first(e, e, now, l.late(e, q.pool, now)); at >= 0 {
				return q, e, at
			}
		}
	}
	for _, q := range l.queues {
		if q.spares(e, now) || !slices.Contains(q.pool.endpoints, e) {
			continue
		}
		late := l.late(e, q.pool, now)
		var longest *endpoint
		from := 0
		for home, line := range q.lines {
			if len(line) > 0 && (longest == nil || len(line) > len(q.lines[longest])) {
				if at := q.first(home, e, now, late); at >= 0 {
					longest, from = home, at
				}
			}
		}
		if longest != nil {
			return q, longest, from
		}
	}
	return nil, nil, 0
}

// first returns the place of the first in a line that doesn't avoid an endpoint, -1 if all do. One
// that is late only gets what another failed at.
func (q *queue) first(home, e *endpoint, now time.Time, late bool) int {
	return slices.IndexFunc(q.lines[home], func(w *waiter) bool { return !w.avoids(e, q.pool, now) && (!late || len(w.avoid) > 0) })
}

// lastChoices is how many times the mean the slowest of the last choices may take.
const lastChoices = 3

// late says that an endpoint would still work on what it got now when the others of a pool were
// done with all that waits for it, at the end of a run: a slow one then only keeps the others waiting.
func (l *limiter) late(e *endpoint, p *pool, now time.Time) bool {
	if !l.ending || len(p.endpoints) < 2 {
		return false
	}
	rate, fastest := 0.0, math.Inf(1)
	for _, o := range p.endpoints {
		if o != e && o.takes(now) && o.pace.rate > 0 && o.pace.service > 0 {
			rate += o.pace.rate
			fastest = min(fastest, o.pace.service)
		}
	}
	longer := lastChoices * (e.pace.service - fastest)
	return longer > 0 && !l.waits(e, p, rate*longer)
}

// waits says whether at least so many generations wait for permits of a pool's other endpoints.
func (l *limiter) waits(e *endpoint, p *pool, least float64) bool {
	sum := 0
	for _, q := range l.queues {
		if !slices.ContainsFunc(q.pool.endpoints, func(o *endpoint) bool { return o != e && slices.Contains(p.endpoints, o) }) {
			continue
		}
		for _, line := range q.lines {
			for _, w := range line {
				for _, n := range w.sizes[w.next:] {
					if sum += n; float64(sum) >= least {
						return true
					}
				}
			}
		}
	}
	return false
}

// spares says that an endpoint was set aside while others are well.
func (q *queue) spares(e *endpoint, now time.Time) bool {
	return e.aside.After(now) && slices.ContainsFunc(q.pool.endpoints, func(e *endpoint) bool { return !e.aside.After(now) })
}

func spread(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s)) // never fails
	return mix(h.Sum64())
}

// mix is the finalizer of MurmurHash3: every bit of x decides every bit of the result.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
