package schedule

import (
	"context"
	"hash/fnv"
	"math"
	"slices"
	"time"
)

// A Request describes one or more requests of a prompt's stage.
type Request struct {
	Stage, PromptID string
	// Priority is the order of stages: the higher goes first while more prompts come, the lower
	// after that.
	Priority int
	// Probe requests go before all others, and are no measurement of the server.
	Probe bool
	// Sizes are the generations that each request asks for.
	Sizes []int
	// Avoid contains servers that failed the request. They don't receive it while another server can.
	Avoid []*Server
	// First puts the request before the requests that already wait at its home.
	First bool
}

// A pool is the servers of the same roles, with the homes of the prompts in progress. A prompt's home
// is the server whose cache contains the common part of the prompt's requests.
type pool struct {
	servers []*Server
	homes   map[string]*Server
}

// A queue contains the requests of one priority that the same servers can serve, first come first.
type queue struct {
	priority int
	probe    bool
	pool     *pool
	waiters  map[*Server][]*waiter // by home
}

// A waiter is a sequence of requests of one prompt. Hundreds of requests can wait without a goroutine
// each.
type waiter struct {
	Request
	granted int         // how many of the requests have permits
	grants  chan *Grant // of those requests, in their order
}

// A Ticket is the place of requests in a queue. It is for one goroutine.
type Ticket struct {
	limiter  *Limiter
	queue    *queue
	waiter   *waiter
	received int
}

// Enqueue lets requests wait for permits of these servers. The caller must receive all grants from
// the ticket, or cancel it.
func (l *Limiter) Enqueue(servers []*Server, r Request) *Ticket {
	w := &waiter{Request: r, grants: make(chan *Grant, len(r.Sizes))}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enqueue(servers, w)
}

func (l *Limiter) enqueue(servers []*Server, w *waiter) *Ticket {
	now := l.options.Now()
	q := l.queueOf(servers, w.Priority, w.Probe)
	home := q.pool.home(w.PromptID, now)
	if w.avoids(home, q.pool, now) {
		home = q.elsewhere(w, now)
	}
	if w.First {
		q.waiters[home] = slices.Insert(q.waiters[home], 0, w)
	} else {
		q.waiters[home] = append(q.waiters[home], w)
	}
	l.dispatch(home, now)
	for _, s := range servers {
		l.dispatch(s, now)
	}
	return &Ticket{limiter: l, queue: q, waiter: w}
}

// Receive waits until the next request has its permits.
func (t *Ticket) Receive(ctx context.Context) (*Grant, error) {
	select {
	case g := <-t.waiter.grants:
		t.received++
		return g, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SetServers lets the requests that have no permits yet wait for these servers instead, before
// requests that came later.
func (t *Ticket) SetServers(servers []*Server) {
	l := t.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if !t.queue.remove(t.waiter) {
		return // all have permits
	}
	now := l.options.Now()
	t.queue = l.queueOf(servers, t.queue.priority, t.queue.probe)
	home := t.queue.pool.home(t.waiter.PromptID, now)
	t.queue.waiters[home] = slices.Insert(t.queue.waiters[home], 0, t.waiter)
	for _, s := range servers {
		l.dispatch(s, now)
	}
}

// Cancel leaves the queue, and releases grants that were not received.
func (t *Ticket) Cancel() {
	l := t.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := t.received; i < t.waiter.granted; i++ {
		(<-t.waiter.grants).giveBack()
	}
	t.queue.remove(t.waiter)
	for _, s := range t.queue.pool.servers {
		l.dispatch(s, l.options.Now())
	}
}

// remove takes a waiter out of the queue, and reports whether it was there.
func (q *queue) remove(w *waiter) bool {
	for home, waiters := range q.waiters {
		if i := slices.Index(waiters, w); i >= 0 {
			q.waiters[home] = slices.Delete(waiters, i, i+1)
			return true
		}
	}
	return false
}

// avoids reports whether a server must not receive the request, because another can.
func (w *waiter) avoids(s *Server, p *pool, now time.Time) bool {
	return slices.Contains(w.Avoid, s) && p.canAvoid(w.Avoid, now)
}

// canAvoid reports whether another server than these is available.
func (p *pool) canAvoid(avoid []*Server, now time.Time) bool {
	return slices.ContainsFunc(p.servers, func(s *Server) bool { return s.available(now) && !slices.Contains(avoid, s) })
}

// elsewhere returns the available server with the fewest waiting requests that the request doesn't avoid.
func (q *queue) elsewhere(w *waiter, now time.Time) *Server {
	var best *Server
	for _, s := range q.pool.servers {
		if s.available(now) && !slices.Contains(w.Avoid, s) && (best == nil || len(q.waiters[s]) < len(q.waiters[best])) {
			best = s
		}
	}
	return best
}

// CanAvoid reports whether another of the servers than these is available now.
func (l *Limiter) CanAvoid(servers, avoid []*Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (&pool{servers: servers}).canAvoid(avoid, l.options.Now())
}

// ForgetPrompt must be called when a prompt is done.
func (l *Limiter) ForgetPrompt(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pools {
		if home := p.homes[id]; home != nil {
			home.homes--
			delete(p.homes, id)
		}
	}
}

func (l *Limiter) queueOf(servers []*Server, priority int, probe bool) *queue {
	for _, q := range l.queues {
		if q.priority == priority && q.probe == probe && slices.Equal(q.pool.servers, servers) {
			return q
		}
	}
	l.prune()
	q := &queue{priority: priority, probe: probe, pool: l.poolOf(servers), waiters: map[*Server][]*waiter{}}
	l.queues = append(l.queues, q)
	l.sortQueues()
	return q
}

// prune removes empty queues and unused pools. While servers are discovered one by one, requests wait
// for more and more sets of them.
func (l *Limiter) prune() {
	l.queues = slices.DeleteFunc(l.queues, func(q *queue) bool {
		for _, waiters := range q.waiters {
			if len(waiters) > 0 {
				return false
			}
		}
		return true
	})
	l.pools = slices.DeleteFunc(l.pools, func(p *pool) bool {
		return len(p.homes) == 0 && !slices.ContainsFunc(l.queues, func(q *queue) bool { return q.pool == p })
	})
}

func (l *Limiter) sortQueues() {
	slices.SortStableFunc(l.queues, func(a, b *queue) int {
		switch {
		case a.probe != b.probe && a.probe:
			return -1
		case a.probe != b.probe:
			return 1
		case l.ending:
			return a.priority - b.priority
		}
		return b.priority - a.priority
	})
}

func (l *Limiter) poolOf(servers []*Server) *pool {
	for _, p := range l.pools {
		if slices.Equal(p.servers, servers) {
			return p
		}
	}
	p := &pool{servers: servers, homes: map[string]*Server{}}
	l.pools = append(l.pools, p)
	for _, s := range servers {
		if !slices.Contains(l.servers, s) {
			l.servers = append(l.servers, s)
		}
	}
	return p
}

// boundedLoad is how much more than its part of the prompts a server may be home of. By the theorem of
// Mirrokni, Thorup and Zadimoghaddam, a prompt that comes or goes moves about 1/ε² others at a load of
// 1 + ε: here at most 16. A server may then have a quarter more prompts than its part. Servers without
// work of their own even that out, since they serve the queues of other homes.
const boundedLoad = 1.25

// home returns the server that a prompt's requests prefer: the first by rendezvous hashing, weighted
// by the limits, that isn't home of too many prompts.
func (p *pool) home(promptID string, now time.Time) *Server {
	if len(p.servers) == 1 {
		return p.servers[0]
	}
	if home := p.homes[promptID]; home != nil {
		return home
	}
	homes, limits := 1.0, 0.0
	for _, s := range p.servers {
		homes += float64(s.homes)
		limits += s.pace.Limit()
	}
	var best *Server
	bestScore := math.Inf(-1)
	hash := hashOf(promptID)
	for _, s := range p.servers {
		// The highest of −limit/ln(u), u in (0, 1), is each server's with a probability in
		// proportion to its limit.
		u := (float64(mix(s.hash^hash)>>11) + 0.5) / (1 << 53)
		score := -s.pace.Limit() / math.Log(u)
		if float64(s.homes+1) > max(boundedLoad*homes*s.pace.Limit()/limits, 1) {
			score -= 1e9
		}
		if s.quarantinedUntil.After(now) {
			score -= 1e12
		}
		if score > bestScore {
			best, bestScore = s, score
		}
	}
	best.homes++
	p.homes[promptID] = best
	return best
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s)) // never fails
	return mix(h.Sum64())
}

// mix is the finalizer of MurmurHash3: every bit of x influences every bit of the result.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
