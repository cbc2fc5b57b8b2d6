package schedule

import (
	"math"
	"slices"
	"time"

	"coeval/transforms/fleet/pacing"
)

// dispatch grants permits of a server while it has room. Later requests of its queue, and requests of
// stages with a lower priority, do not overtake the first request of a stage. Otherwise a request of
// many permits would starve.
func (l *Limiter) dispatch(s *Server, now time.Time) {
	l.dispatchTo(s, now)
	if !l.ending {
		return
	}
	// The change at s may make another server no longer too slow for the tail. Dispatch there too, since
	// nothing else would wake it.
	for _, o := range l.servers {
		if o != s && o.admits(1) && l.anyWaiting() {
			l.dispatchTo(o, now)
		}
	}
}

func (l *Limiter) anyWaiting() bool {
	for _, q := range l.queues {
		for _, waiters := range q.waiters {
			if len(waiters) > 0 {
				return true
			}
		}
	}
	return false
}

func (l *Limiter) dispatchTo(s *Server, now time.Time) {
	if l.draining || s.notBefore.After(now) {
		return
	}
	for !s.fullUntil.After(now) {
		q, home, at := l.pickNext(s, now)
		if q == nil {
			break
		}
		w := q.waiters[home][at]
		n := w.Sizes[w.granted]
		if !s.admits(n) || !s.hasRoom(n, now) {
			break
		}
		class := pacing.Class{Stage: w.Stage, N: n}
		if s.quota != nil {
			if wait := s.quota.Take(now, class); wait > 0 {
				l.pause(s, now, wait)
				break
			}
		}
		l.grant(s, w, class, now)
		if w.granted == len(w.Sizes) {
			if at == 0 {
				q.waiters[home][0] = nil
				q.waiters[home] = q.waiters[home][1:]
			} else {
				q.waiters[home] = slices.Delete(q.waiters[home], at, at+1)
			}
		}
	}
	permits := int(s.pace.Limit())
	l.options.Changed(permits-s.reportedPermits, s.inFlight-s.reportedInFlight)
	s.reportedPermits, s.reportedInFlight = permits, s.inFlight
}

// grant gives the next request of a waiter its permits.
func (l *Limiter) grant(s *Server, w *waiter, class pacing.Class, now time.Time) {
	s.inFlight += float64(class.N)
	s.outstanding += class.N
	g := &Grant{server: s, class: class, probe: w.Probe, since: now, permits: float64(class.N), level: s.inFlight}
	if class.N > 1 && !s.pace.Fixed() {
		s.groups = append(s.groups, g)
		l.releaseLater()
	}
	if !s.quarantinedUntil.IsZero() {
		s.recoveryProbe = g
	}
	if s.rejections >= maxRejectedInRow {
		l.pauseFull(s, now) // this request finds out whether it still is
	}
	w.granted++
	w.grants <- g
}

func (s *Server) admits(n int) bool {
	if !s.quarantinedUntil.IsZero() {
		return s.recoveryProbe == nil // one request finds out whether it is back
	}
	return s.pace.Admits(s.inFlight, n)
}

// giveBack returns the permits of a grant.
func (g *Grant) giveBack() {
	s := g.server
	s.inFlight -= g.permits
	s.outstanding -= g.class.N
	if s.outstanding == 0 {
		s.inFlight = 0 // no rest of rounding
	}
	if i := slices.Index(s.groups, g); i >= 0 {
		s.groups = slices.Delete(s.groups, i, i+1)
	}
	if s.recoveryProbe == g {
		s.recoveryProbe = nil
	}
}

// releaseLater starts the timer that releases the permits of finished choices, if none runs.
func (l *Limiter) releaseLater() {
	if l.releasing || l.draining {
		return
	}
	interval := time.Duration(0)
	for _, s := range l.servers {
		if len(s.groups) == 0 {
			continue
		}
		if wait := s.pace.ReleaseInterval(); interval == 0 || wait < interval {
			interval = wait
		}
	}
	if interval == 0 {
		return
	}
	l.releasing = true
	l.options.AfterFunc(interval, l.releaseExpected)
}

// releaseExpected lets requests in flight give back the permits of choices that are probably done.
func (l *Limiter) releaseExpected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releasing = false
	now := l.options.Now()
	for _, s := range l.servers {
		if len(s.groups) == 0 {
			continue
		}
		for _, g := range s.groups {
			permits := s.pace.ExpectedPermits(g.class, now.Sub(g.since))
			s.inFlight += permits - g.permits
			g.permits = permits
		}
		l.dispatch(s, now)
	}
	l.releaseLater()
}

// wake dispatches on all servers, because some restrictions end with time.
func (l *Limiter) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	for _, s := range l.servers {
		l.dispatch(s, now)
	}
}

// pickNext returns the request that a server with room serves next: its queue, its home, and its place
// among the home's requests. It is the server's own first request in the queue that goes first. Without
// one it is the first request of the server with most waiting requests.
func (l *Limiter) pickNext(s *Server, now time.Time) (*queue, *Server, int) {
	for _, q := range l.queues {
		if len(q.waiters[s]) > 0 && !q.isSparingQuarantined(s, now) {
			if at := q.firstEligible(s, s, now, l.tooSlowForTail(s, q.pool, now)); at >= 0 {
				return q, s, at
			}
		}
	}
	for _, q := range l.queues {
		if q.isSparingQuarantined(s, now) || !slices.Contains(q.pool.servers, s) {
			continue
		}
		tooSlow := l.tooSlowForTail(s, q.pool, now)
		var longest *Server
		from := 0
		for _, home := range q.pool.servers {
			if waiting := len(q.waiters[home]); waiting > 0 && (longest == nil || waiting > len(q.waiters[longest])) {
				if at := q.firstEligible(home, s, now, tooSlow); at >= 0 {
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

// firstEligible returns the place of the first request in a home's queue that doesn't avoid a server,
// -1 if all do. A server that is too slow for the tail receives only requests that another failed.
func (q *queue) firstEligible(home, s *Server, now time.Time, tooSlow bool) int {
	return slices.IndexFunc(q.waiters[home], func(w *waiter) bool { return !w.avoids(s, q.pool, now) && (!tooSlow || len(w.Avoid) > 0) })
}

// slowestOfTail is the assumed time of the slowest of the last choices, in multiples of the mean. Of
// lognormal times with σ = 0.8, as of language models, 4 % take longer than three times the mean: P(Z >
// (ln 3 + σ²/2)/σ).
const slowestOfTail = 3

// tooSlowForTail is about the end of a run. It reports whether a slow server would finish new work
// after the rest of the pool has drained the queue: it would only keep the run waiting.
func (l *Limiter) tooSlowForTail(s *Server, p *pool, now time.Time) bool {
	if !l.ending || len(p.servers) < 2 {
		return false
	}
	rate, fastest := 0.0, math.Inf(1)
	for _, o := range p.servers {
		if o != s && o.available(now) && o.pace.Rate() > 0 && o.pace.Service() > 0 {
			rate += o.pace.Rate()
			fastest = min(fastest, o.pace.Service())
		}
	}
	longer := slowestOfTail * (s.pace.Service() - fastest)
	return longer > 0 && !l.othersHaveWork(s, p, rate*longer)
}

// othersHaveWork reports whether at least a minimum of generations waits for permits of a pool's other
// servers.
func (l *Limiter) othersHaveWork(s *Server, p *pool, minimum float64) bool {
	sum := 0
	for _, q := range l.queues {
		if !slices.ContainsFunc(q.pool.servers, func(o *Server) bool { return o != s && slices.Contains(p.servers, o) }) {
			continue
		}
		for _, waiters := range q.waiters {
			for _, w := range waiters {
				for _, n := range w.Sizes[w.granted:] {
					if sum += n; float64(sum) >= minimum {
						return true
					}
				}
			}
		}
	}
	return false
}

// isSparingQuarantined reports whether a server is quarantined while others are not.
func (q *queue) isSparingQuarantined(s *Server, now time.Time) bool {
	return s.quarantinedUntil.After(now) && slices.ContainsFunc(q.pool.servers, func(o *Server) bool { return !o.quarantinedUntil.After(now) })
}
