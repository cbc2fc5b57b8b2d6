package schedule

import (
	"time"

	"coeval/transforms/fleet/pacing"
)

// health is the evidence of answers about a server's state.
type health struct {
	// faults is the number in a row. answeredAt is when the last answer came, of any kind.
	faults     int
	answeredAt time.Time
	// latency is the mean of answers, in seconds, smoothed.
	latency float64
	// deliveredAt is when the last answer came that wasn't a rejection. rejections is the number since
	// then; fullUntil is until when the server receives nothing because of them.
	deliveredAt time.Time
	rejections  int
	fullUntil   time.Time
	// quarantinedUntil is the end of the quarantine, during which other servers get the requests. It is
	// zero for a healthy server. quarantines is the number in a row. After it, recoveryProbe is the one
	// request that finds out whether the server is back.
	quarantinedUntil time.Time
	quarantines      int
	recoveryProbe    *Grant
	// notBefore is the end of the pause by Retry-After, rate-limit headers or the quota. rejectedUntil is the end
	// of the pause by Retry-After alone.
	notBefore, rejectedUntil time.Time
	// crowdedAt is the time at which the server last became crowded, crowdedUntil the end of the pause that it
	// asked for. Until then, requests are granted only up to room permits in flight.
	crowdedAt, crowdedUntil time.Time
	room                    float64
}

// A server is quarantined after faultsInRow faults in a row, if no request reached it or it has not
// answered for the quiet time. The same number of rejections counts too, if no request is in flight and
// the server has delivered nothing for the quiet time. After the quarantine, one request at a time
// tests the server.
const (
	// faultsInRow makes faults by chance rare: with a share p of faults, p³ of the requests complete three
	// in a row. At 5 % that is one in 8,000, and an answer between them starts the count anew.
	faultsInRow = 3
	// After maxRejectedInRow rejections in a row, a server receives one request at a time. The number has the same
	// reason as faultsInRow.
	maxRejectedInRow = 3
	// The quiet time is quietLatencies mean latencies, within bounds. A server with two requests in flight
	// delivers every half latency in the mean. So two latencies without an answer happen by chance in e⁻⁴
	// = 2 % of cases. minQuiet ignores pauses of a garbage collector or a network. maxQuiet bounds the
	// loss at a dead server to the requests of two seconds.
	quietLatencies = 2
	minQuiet       = 250 * time.Millisecond
	maxQuiet       = 2 * time.Second
	// latencyWeight is the weight of one answer in the smoothed latency, a mean of about the last 20
	// answers.
	latencyWeight = 0.05
	// A quarantine lasts firstQuarantine, and twice as long each time, up to maxQuarantine or the time
	// that the server asks for. So a server that is down for an hour fails 5 + 3,600/30 requests. It gets
	// requests again at most half a minute after its start.
	firstQuarantine = time.Second
	maxQuarantine   = 30 * time.Second
	// maxUnreachable is the longest quarantine without a connection, because a try costs
	// nothing.
	maxUnreachable = 2 * time.Second

	// shortPause is the shortest pause above zero that Retry-After can express in whole seconds. A server that
	// delivers answers and asks for no more is crowded: its queue was full for a moment. A whole second without
	// requests would idle its slots if choices are shorter than that.
	shortPause = time.Second
	// roomAfter is the load of a crowded server, as a share of the load without the rejected request. Permits of
	// groups are estimates, which are a few per cent wrong. A rejection below this load is about something else
	// than the load, such as a quota.
	roomAfter = 0.9

	// A full server receives nothing for half as long as it has delivered nothing, between minFull and
	// maxFull. Each refusal then makes that time half as long again: from 10 ms to a second in
	// ln(100)/ln(1.5) = 11 requests, and one a second later.
	minFull = 10 * time.Millisecond
	maxFull = time.Second
)

// An Outcome is the outcome of a request.
type Outcome int

const (
	// Answered requests have their generations.
	Answered Outcome = iota
	// Refused requests can't succeed, but their server is healthy.
	Refused
	// Overloaded means that the server has no room.
	Overloaded
	// Failed means that the server did not answer as it should.
	Failed
	// Unreachable means that there was no connection.
	Unreachable
)

// A Result is the outcome of a request with the figures in its answer.
type Result struct {
	Outcome Outcome
	// RetryAfter is the pause that an overloaded server asks for. Zero means that it names none.
	RetryAfter time.Duration
	// Denied reports whether the server denies all requests during the pause, whatever its load is.
	Denied bool
	// Tokens counts prompt and choices together, Completion the choices alone. Zero means unknown.
	Tokens, Completion int
}

// Return returns the permits of a grant whose request was not sent.
func (l *Limiter) Return(g *Grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g.giveBack()
	l.dispatch(g.server, l.options.Now())
}

// Release returns a grant's permits and records the result of its request.
func (l *Limiter) Release(g *Grant, r Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	s := g.server
	g.giveBack()
	switch r.Outcome {
	case Answered, Refused:
		s.recordAnswer(g, r, now)
	case Overloaded:
		l.recordRejection(g, r, now)
	default:
		s.faults++
		unreachable := r.Outcome == Unreachable
		if s.faults >= faultsInRow && !s.quarantinedUntil.After(now) && (unreachable || s.quietSince(s.answeredAt, now)) {
			longest := maxQuarantine
			if unreachable {
				longest = maxUnreachable
			}
			l.quarantine(s, now, longest, 0)
		}
	}
	l.dispatch(s, now)
}

func (s *Server) recordAnswer(g *Grant, r Result, now time.Time) {
	s.recovered(now)
	s.deliveredAt, s.rejections, s.fullUntil = now, 0, time.Time{}
	if r.Tokens > 0 && s.quota != nil {
		s.quota.Used(g.class, r.Tokens)
	}
	if g.probe {
		return
	}
	latency := now.Sub(g.since)
	if s.latency == 0 {
		s.latency = latency.Seconds()
	}
	s.latency += latencyWeight * (latency.Seconds() - s.latency)
	if r.Outcome == Answered {
		s.pace.Answered(now, g.class, latency, g.level, r.Completion)
	}
}

func (l *Limiter) recordRejection(g *Grant, r Result, now time.Time) {
	s := g.server
	s.pace.Rejected(now, g.class, g.level)
	s.rejections++
	if s.outstanding > 0 || s.rejections < faultsInRow || !s.quietSince(s.deliveredAt, now) {
		s.recovered(now)
	} else if !s.quarantinedUntil.After(now) {
		l.quarantine(s, now, maxQuarantine, r.RetryAfter)
	}
	switch {
	case r.RetryAfter <= 0:
	case !r.Denied && s.isCrowded(g, r.RetryAfter, now):
		l.makeRoom(s, now, r.RetryAfter)
	default:
		wait := min(r.RetryAfter, pacing.MaxWait)
		s.rejectedUntil = later(s.rejectedUntil, now.Add(wait))
		l.pause(s, now, wait)
	}
	if s.rejections >= maxRejectedInRow {
		l.pauseFull(s, now)
		l.dispatchOthers(s, now)
	}
}

// isCrowded reports whether a rejection with a pause shows a queue that is full for a moment. Otherwise the
// server must get nothing during the pause: it counts requests, works on none, has asked for a longer pause, or
// delivers nothing.
func (s *Server) isCrowded(g *Grant, pause time.Duration, now time.Time) bool {
	if s.metered || s.outstanding == 0 || pause > shortPause || now.Sub(s.deliveredAt) > pause {
		return false
	}
	return !s.crowdedUntil.After(now) || !g.since.After(s.crowdedAt) // else it rejects a lower load, too
}

// makeRoom bounds the load of a crowded server during the pause that it asks for.
func (l *Limiter) makeRoom(s *Server, now time.Time, pause time.Duration) {
	room := roomAfter * s.inFlight
	if s.crowdedUntil.After(now) { // more of the requests that were sent before the first rejection
		room = min(room, s.room)
	} else {
		s.crowdedAt = now
	}
	s.room, s.crowdedUntil = room, later(s.crowdedUntil, now.Add(pause))
	l.options.AfterFunc(pause+time.Millisecond, l.wake)
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// hasRoom reports whether a crowded server may get a request of n choices. One that works on nothing always
// may.
func (s *Server) hasRoom(n int, now time.Time) bool {
	return !s.crowdedUntil.After(now) || s.inFlight == 0 || s.inFlight+float64(n) <= s.room
}

// dispatchOthers dispatches on the other servers: requests that avoid one of them must not wait for s.
func (l *Limiter) dispatchOthers(s *Server, now time.Time) {
	for _, o := range l.servers {
		if o != s {
			l.dispatch(o, now)
		}
	}
}

// quietSince reports whether a moment is longer ago than answers may take.
func (s *Server) quietSince(last, now time.Time) bool {
	return last.IsZero() || now.Sub(last) > min(max(minQuiet, time.Duration(quietLatencies*1e9*s.latency)), maxQuiet)
}

// available reports whether requests may be sent now, if there is room.
func (s *Server) available(now time.Time) bool {
	return !s.quarantinedUntil.After(now) && !s.notBefore.After(now) && !s.fullUntil.After(now)
}

// recovered ends a quarantine: the server answers.
func (s *Server) recovered(now time.Time) {
	s.faults, s.answeredAt, s.quarantines, s.quarantinedUntil = 0, now, 0, time.Time{}
}

// quarantine sends nothing to a server for a time that doubles with each quarantine, up to longest. A
// server that asked for a longer pause gets it.
func (l *Limiter) quarantine(s *Server, now time.Time, longest, asked time.Duration) {
	wait := max(min(firstQuarantine<<min(s.quarantines, 5), longest), min(asked, pacing.MaxWait))
	s.quarantinedUntil = now.Add(wait)
	s.quarantines++
	l.options.AfterFunc(wait+time.Millisecond, l.wake)
	for _, p := range l.pools {
		for id, home := range p.homes {
			if home == s && len(p.servers) > 1 {
				home.homes--
				delete(p.homes, id)
			}
		}
	}
	for _, q := range l.queues { // requests that wait for it find new homes
		waiting := q.waiters[s]
		if len(q.pool.servers) < 2 || len(waiting) == 0 {
			continue
		}
		q.waiters[s] = nil
		for _, w := range waiting {
			home := q.pool.home(w.PromptID, now)
			q.waiters[home] = append(q.waiters[home], w)
		}
	}
	l.dispatchOthers(s, now)
}

// pause sends nothing to a server for some time.
func (l *Limiter) pause(s *Server, now time.Time, wait time.Duration) {
	until := now.Add(wait)
	if !until.After(s.notBefore) {
		return
	}
	s.notBefore = until
	l.options.AfterFunc(wait+time.Millisecond, l.wake)
	if len(l.servers) > 1 {
		l.options.AfterFunc(0, l.wake) // requests that avoid another must not wait for this one
	}
}

// pauseFull pauses a server that rejects and delivers nothing: for half as long as that has gone on. Its
// next delivery ends the pause.
func (l *Limiter) pauseFull(s *Server, now time.Time) {
	wait := min(max(now.Sub(s.deliveredAt)/2, minFull), maxFull)
	if until := now.Add(wait); until.After(s.fullUntil) {
		s.fullUntil = until
		l.options.AfterFunc(wait+time.Millisecond, l.wake)
	}
}

// ApplyRateLimit records that a server reports an allowance of requests or tokens, and pauses the
// server until there is room.
func (l *Limiter) ApplyRateLimit(s *Server, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.metered = true
	if wait > 0 {
		l.pause(s, l.options.Now(), wait)
	}
}

// Metered reports whether a server allows a number of requests in a time.
func (l *Limiter) Metered(s *Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.metered
}

// Latency returns the mean latency of a server's answers, 0 if there were none.
func (l *Limiter) Latency(s *Server) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(s.latency * float64(time.Second))
}

// Idle reports whether a server has no requests in flight, or is quarantined.
func (l *Limiter) Idle(s *Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.outstanding == 0 || !s.quarantinedUntil.IsZero()
}

// Paused reports whether a server receives nothing for some time, because it asked for a pause or its quota is
// used up.
func (l *Limiter) Paused(s *Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.notBefore.After(l.options.Now())
}

// ReadingInterval returns how long to wait before the next reading of a server's queue.
func (l *Limiter) ReadingInterval(s *Server) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.pace.ReadingInterval()
}

// ObserveQueue records how many choices run and wait at a server according to its metrics.
func (l *Limiter) ObserveQueue(s *Server, running, waiting float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, limit := l.options.Now(), s.pace.Limit()
	useful := s.pace.ObserveQueue(now, running, waiting, s.inFlight)
	if s.rejectedUntil.After(now) {
		s.pace.Bound(limit) // slots idle because of the pause
	}
	if useful {
		l.dispatch(s, now)
	}
}

// ForgetQueue must be called when a server's metrics disappear.
func (l *Limiter) ForgetQueue(s *Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.pace.ForgetQueue()
}

// ObserveWait records the time of a request for one token. Shortest is the shortest time of any of
// them. It returns false if the time is no evidence of a queue, because the server is slow even for one
// token. The limit is a third of a choice's time, since the aim is a queue of at most 0.3 of that time.
func (l *Limiter) ObserveWait(s *Server, took, shortest time.Duration) bool {
	// Half of the shortest time, and noise, do not count as waiting: they are the jitter of the network,
	// and of this process when many answers arrive. For choices of a few milliseconds, noise is the delay
	// of the operating system's scheduler.
	const noise = 2 * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	if service := s.pace.Service(); service > 0 && shortest.Seconds() > service/3 {
		return false
	}
	s.pace.ObserveWait(now, max(0, took-shortest-shortest/2-noise))
	l.dispatch(s, now)
	return true
}
