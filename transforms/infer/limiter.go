package infer

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"
)

// limiter shares the endpoints' permits among all calls of the process. One permit is one
// generation in flight. A request takes its permits at once, on one endpoint, as taking them
// one by one deadlocks. Later stages go first, so that dossiers finish and memory stays flat.
//
// Requests wait here and not at an endpoint: whichever endpoint has room next takes the first
// of those that it can serve, so none stands idle while something waits for it.
type limiter struct {
	mu     sync.Mutex
	queues []*queue // later stages first, then the order in which they were met
	// draining grants nothing any more.
	draining bool
}

// queue is the requests of one priority that the same endpoints can serve, first come first.
type queue struct {
	priority  int
	endpoints []*endpoint
	waiting   []*waiter
}

// waiter is requests of one prompt that stand in line one behind the other: hundreds wait with
// no goroutine of their own.
type waiter struct {
	sizes []int // permits that each wants
	next  int   // index of the first that has none yet
	// spread is the prompt's: its calls prefer one endpoint, whose cache serves them all.
	spread uint64
	// got has the endpoints of those before next, in their order.
	got chan *endpoint
}

// line is a place in a queue. It is for one goroutine.
type line struct {
	limiter *limiter
	queue   *queue
	waiter  *waiter
	taken   int
}

// stand puts requests of these sizes in line. Who stands must take all or leave.
func (l *limiter) stand(endpoints []*endpoint, priority int, promptID string, sizes []int) *line {
	w := &waiter{sizes: sizes, spread: spread(promptID), got: make(chan *endpoint, len(sizes))}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue(endpoints, priority)
	q.waiting = append(q.waiting, w)
	l.grant()
	return &line{limiter: l, queue: q, waiter: w}
}

// take waits until the next request of the line has its permits, and returns where.
func (n *line) take(ctx context.Context) (*endpoint, error) {
	select {
	case e := <-n.waiter.got:
		n.taken++
		return e, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leave gives up the place and what was granted but not taken.
func (n *line) leave() {
	l := n.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := n.taken; i < n.waiter.next; i++ {
		e := <-n.waiter.got
		e.inFlight -= n.waiter.sizes[i]
	}
	if i := slices.Index(n.queue.waiting, n.waiter); i >= 0 {
		n.queue.waiting = slices.Delete(n.queue.waiting, i, i+1)
	}
	l.grant()
}

// acquire waits until one of the endpoints has room for n generations and takes it.
func (l *limiter) acquire(ctx context.Context, endpoints []*endpoint, priority, n int, promptID string) (*endpoint, error) {
	place := l.stand(endpoints, priority, promptID, []int{n})
	e, err := place.take(ctx)
	if err != nil {
		place.leave()
	}
	return e, err
}

// faultsInRow are how many requests in a row fail at an endpoint before it is set aside, for a
// second at first and for maxAside at most.
const (
	faultsInRow = 3
	maxAside    = 30 * time.Second
)

// release gives n permits back, and takes note of what became of the request.
func (l *limiter) release(e *endpoint, n int, flt *fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.inFlight -= n
	switch {
	case flt == nil || flt.treatment != retry:
		e.faults = 0
	default:
		if e.faults++; e.faults >= faultsInRow {
			e.aside = time.Now().Add(min(time.Second<<min(e.faults-faultsInRow, 5), maxAside))
		}
	}
	l.grant()
}

// drain stops all granting; what is in flight goes on.
func (l *limiter) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
}

func (l *limiter) queue(endpoints []*endpoint, priority int) *queue {
	at := len(l.queues)
	for i, q := range l.queues {
		if q.priority == priority && slices.Equal(q.endpoints, endpoints) {
			return q
		}
		if q.priority < priority && i < at {
			at = i
		}
	}
	q := &queue{priority: priority, endpoints: endpoints}
	l.queues = append(l.queues, nil)
	copy(l.queues[at+1:], l.queues[at:])
	l.queues[at] = q
	return q
}

// grant gives permits to the first of each queue until none fits. The first is not passed by
// the others of its queue, nor by those of earlier stages: a request of many permits would starve.
func (l *limiter) grant() {
	if l.draining {
		return
	}
	var awaited []*endpoint // by the first of a queue that went before
	for _, q := range l.queues {
		for len(q.waiting) > 0 {
			w := q.waiting[0]
			e := q.place(w, awaited)
			if e == nil {
				awaited = append(awaited, q.endpoints...)
				break
			}
			e.inFlight += w.sizes[w.next]
			w.next++
			w.got <- e
			if w.next == len(w.sizes) {
				q.waiting[0] = nil
				q.waiting = q.waiting[1:]
			}
		}
	}
}

// place returns the endpoint for w's next request by rendezvous hashing among those that have
// room and that nobody awaits, or nil. Endpoints that were set aside come last.
func (q *queue) place(w *waiter, awaited []*endpoint) *endpoint {
	var best *endpoint
	var bestRank uint64
	bestAside := true
	now := time.Now()
	for _, e := range q.endpoints {
		if e.inFlight > 0 && e.inFlight+w.sizes[w.next] > e.limit || slices.Contains(awaited, e) {
			continue
		}
		rank, aside := mix(e.spread^w.spread), e.aside.After(now)
		if best == nil || bestAside && !aside || aside == bestAside && rank > bestRank {
			best, bestRank, bestAside = e, rank, aside
		}
	}
	if bestAside && q.healthy(now) {
		return nil // it is full, and better than one that fails
	}
	return best
}

// healthy says whether some endpoint of the queue is not set aside.
func (q *queue) healthy(now time.Time) bool {
	return slices.ContainsFunc(q.endpoints, func(e *endpoint) bool { return !e.aside.After(now) })
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
