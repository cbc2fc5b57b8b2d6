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
	// quarantinedUntil is until when the server receives nothing while others can be asked, and zero
	// if it is healthy. quarantines is the number in a row. After it, recoveryProbe is the one request
	// that finds out whether the server is back.
	quarantinedUntil time.Time
	quarantines      int
	recoveryProbe    *Grant
	// notBefore is until when the server asked to receive nothing at all.
	notBefore time.Time
}

// A server is quarantined after faultsInRow faults in a row if none of them reached it, or if it has
// answered nothing for the quiet time. As many rejections count too, if none of our requests is in flight and
// the server has delivered nothing for as long. After the quarantine, one request at a time tests the server.
const (
	// faultsInRow makes faults by chance rare: with a share p of faults, p³ of the requests complete three
	// in a row. At 5 % that is one in 8,000, and an answer between them starts the count anew.
	faultsInRow = 3
	// maxRejections is how many rejections in a row make a server receive one request at a time. The
	// reason is that of faultsInRow.
	maxRejections = 3
	// The quiet time is quietLatencies mean latencies, within bounds. A server with two requests in flight
	// delivers every half latency in the mean, so two latencies without an answer happen by chance in e⁻⁴ =
	// 2 % of cases. minQuiet leaves out pauses of a garbage collector or a network; maxQuiet bounds what
	// a dead server costs: the requests of two seconds.
	quietLatencies = 2
	minQuiet       = 250 * time.Millisecond
	maxQuiet       = 2 * time.Second
	// latencyWeight is that of an answer in the smoothed latency, which then is of the last 20 or so.
	latencyWeight = 0.05
	// A quarantine lasts firstQuarantine, and twice as long each time, up to maxQuarantine or the time
	// that the server asks for. So a server that is down for an hour fails 5 + 3,600/30 requests, and is back
	// half a minute after it has started at the latest.
	firstQuarantine = time.Second
	maxQuarantine   = 30 * time.Second
	// maxUnreachable is the longest quarantine without a connection: an attempt costs nobody
	// anything.
	maxUnreachable = 2 * time.Second

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
	// RetryAfter is how long an overloaded server asks to receive nothing. Zero means that it does
	// not say.
	RetryAfter time.Duration
	// Tokens are those of prompt and choices together, Completion those of the choices. Zero means
	// unknown.
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
			most := maxQuarantine
			if unreachable {
				most = maxUnreachable
			}
			l.quarantine(s, now, most, 0)
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
	s.pace.Rejected(now, g.level)
	s.rejections++
	if s.outstanding > 0 || s.rejections < faultsInRow || !s.quietSince(s.deliveredAt, now) {
		s.recovered(now)
	} else if !s.quarantinedUntil.After(now) {
		l.quarantine(s, now, maxQuarantine, r.RetryAfter)
	}
	if r.RetryAfter > 0 { // of a second as well: a server that counts requests would count these
		l.pause(s, now, min(r.RetryAfter, pacing.MaxWait))
	}
	if s.rejections >= maxRejections {
		l.holdFull(s, now)
		l.dispatchOthers(s, now)
	}
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

// quarantine sends nothing to a server for longer each time, up to most, or as long as it asked for.
func (l *Limiter) quarantine(s *Server, now time.Time, most, asked time.Duration) {
	wait := max(min(firstQuarantine<<min(s.quarantines, 5), most), min(asked, pacing.MaxWait))
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
	for _, q := range l.queues { // requests in its lines find new homes
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

// holdFull sends nothing for a while to a server that rejects and delivers nothing: for half as long
// as that has gone on. Its next delivery ends the hold.
func (l *Limiter) holdFull(s *Server, now time.Time) {
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

// LookInterval returns how long to wait before the next look at a server's queue.
func (l *Limiter) LookInterval(s *Server) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.pace.LookInterval()
}

// ObserveQueue records how many choices run and wait at a server according to its metrics.
func (l *Limiter) ObserveQueue(s *Server, running, waiting float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	if s.pace.ObserveQueue(now, running, waiting, s.inFlight) {
		l.dispatch(s, now)
	}
}

// ForgetQueue must be called when a server's metrics disappear.
func (l *Limiter) ForgetQueue(s *Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.pace.ForgetQueue()
}

// ObserveWait records how long a request for one token took, and the least that one ever took. It
// returns false if that is no evidence of a queue: the server takes its time even for one token. A third of
// a choice's time is the limit, since the aim is a queue of 0.3 of it at most.
func (l *Limiter) ObserveWait(s *Server, took, least time.Duration) bool {
	// A half of the least time and noise are no wait: the jitter of a network, and of this process when many
	// answers arrive. On the shortest choices of a few milliseconds noise is what a scheduler adds.
	const noise = 2 * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	if service := s.pace.Service(); service > 0 && least.Seconds() > service/3 {
		return false
	}
	s.pace.ObserveWait(now, max(0, took-least-least/2-noise))
	l.dispatch(s, now)
	return true
}
