package infer

import (
	"context"
	"hash/fnv"
	"sync"
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

// waiter is a request that wants n permits.
type waiter struct {
	n      int
	spread uint64 // of the prompt: its calls prefer one endpoint, whose cache serves them all
	got    chan *endpoint
}

// acquire waits until one of the endpoints has room for n generations and takes it.
func (l *limiter) acquire(ctx context.Context, endpoints []*endpoint, priority, n int, promptID string) (*endpoint, error) {
	w := &waiter{n: n, spread: spread(promptID), got: make(chan *endpoint, 1)}
	l.mu.Lock()
	q := l.queue(endpoints, priority)
	q.waiting = append(q.waiting, w)
	l.grant()
	l.mu.Unlock()
	select {
	case e := <-w.got:
		return e, nil
	case <-ctx.Done():
		l.abandon(q, w)
		return nil, ctx.Err()
	}
}

// release gives n permits back.
func (l *limiter) release(e *endpoint, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.inFlight -= n
	l.grant()
}

// abandon takes back what w waits for, or was given just now.
func (l *limiter) abandon(q *queue, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case e := <-w.got:
		e.inFlight -= w.n
		l.grant()
		return
	default:
	}
	for i := range q.waiting {
		if q.waiting[i] == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return
		}
	}
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
		if q.priority == priority && sameEndpoints(q.endpoints, endpoints) {
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

func sameEndpoints(a, b []*endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// grant gives permits to the first of each queue until none fits. The first is not passed by
// the others of its queue: a request of many permits would starve.
func (l *limiter) grant() {
	if l.draining {
		return
	}
	for _, q := range l.queues {
		for len(q.waiting) > 0 {
			w := q.waiting[0]
			e := q.place(w)
			if e == nil {
				break
			}
			e.inFlight += w.n
			q.waiting[0] = nil
			q.waiting = q.waiting[1:]
			w.got <- e
		}
	}
}

// place returns the endpoint for w by rendezvous hashing among those that have room, or nil.
func (q *queue) place(w *waiter) *endpoint {
	var best *endpoint
	var bestRank uint64
	for _, e := range q.endpoints {
		if e.inFlight > 0 && e.inFlight+w.n > e.limit {
			continue
		}
		if rank := mix(e.spread ^ w.spread); best == nil || rank > bestRank {
			best, bestRank = e, rank
		}
	}
	return best
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
