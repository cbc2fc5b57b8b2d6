// Package pacing limits the generations in flight at a server. It also reads from answers how long the
// client must pause. It is pure: it reads no clock, opens no connection and takes no lock.
//
// # The goal
//
// A server has slots: choices that it works on at the same time. Choices beyond that wait in its queue.
// With too few in flight, slots idle. With too many, requests wait at this server although another could
// serve them, and a kill or a time-out loses more. So a Pace aims at a short queue at the server.
//
// For example, a server with 256 slots should have about 256 choices running and 50 waiting. When its
// metrics report 256 running and 90 waiting, the share of waiting choices is 0.35. The aim is 0.19 (see the
// control law), and Tuning.Gain is 0.3. So the limit falls by 0.3 · 256 · (0.35 − 0.19) = 12 permits, and by
// less at the next reading.
//
// # The measurements
//
// One permit is one choice in flight. A request of n choices takes n permits. A server sends its answer
// when the slowest choice is done. The slots of the other choices are free before that.
// [Pace.ExpectedPermits] estimates the permits that a request still needs.
//
// A Pace controls the number of waiting choices for each running choice. The text below calls this number the
// share. It uses the first of these sources that the server offers. The first two give the share, the third
// gives only the throughput.
//
//  1. Its metrics ([Pace.ObserveQueue]).
//  2. The wait of a request for one token ([Pace.ObserveWait]), divided by the mean time of a choice.
//  3. Only its answers. The limit doubles while the throughput grows. After that, experiments try a quarter
//     more or a fifth less, and compare the throughput before and after. If answers report their tokens, the
//     throughput is computed by Little's law: the choices in flight divided by the time per token. Otherwise it
//     is the number of finished choices per second. The shortest time per token so far shows how long a round's
//     answers need without a queue. If they take on average more than Tuning.MaxStretch times that long, the
//     queue is long and the limit falls at once. If throughput falls after that, the limit rises again.
//
// # The control law
//
// For r running choices of this process, the Pace aims at min(3/√r, MaxAim) waiting choices for each running
// one. The number of running choices varies by about √r, so a queue of a few times √r keeps the slots busy.
// Processes that share a server converge to equal numbers of slots, because a process with fewer running
// choices aims for more waiting choices per running one. If slots are idle while requests wait for permits, the
// formula uses a bound higher than MaxAim. This happens at fast or distant servers: they get requests in
// bursts, so one reading shows many waiting choices and the next none.
//
// Rejections (429, 503, 408, 529) lower the limit and the aim only if the rate of rejections, per request,
// grows with the permits in flight. A rate that does not depend on the limit has another cause, and a lower
// limit would only leave slots idle. As long as the Pace does not know the rate of rejections with fewer
// permits in flight, a rate above Tuning.RejectedAlone also lowers the limit and the aim. After cuts the aim
// recovers slowly. It recovers at once if the cuts were in vain: rejections were about as frequent at every
// lower limit that was tried. The Pace decides this only after it has also tried a single request in flight.
// Without the immediate recovery, a server that refused half of all requests at random used only 5 % of its
// slots. In a test with 92,000 requests and a queue of 32 choices, lowering only the limit caused 19,000 to
// 79,000 rejections. Lowering the aim too caused 4,000 to 7,000.
//
// # Related methods
//
// The law for metrics is an integral controller on the queue. PIE, a control law for routers (RFC 8033), adds a
// proportional term. As in TCP (Chiu and Jain, 1989), rejections divide the limit and the aim at once, and both
// recover in small steps. TCP adds a constant in each step; most steps of a Pace multiply. The search without
// metrics looks for the smallest number in flight with full throughput, as BBR does (Cardwell et al., 2016).
// Vegas (Brakmo and Peterson, 1995) compares latencies with their minimum. Pacing compares times per token,
// because the mix of stages changes latencies more than queues do. In a test with 16 slots, plain Vegas had 20
// to 170 waiting choices for each running one.
package pacing

import (
	"time"
)

// A Class groups requests of similar duration: requests of one stage for the same number of choices.
type Class struct {
	Stage string
	N     int // choices in a request
}

// A Pace finds how many generations one server should have in flight. It is not safe for
// concurrent use.
type Pace struct {
	tuning Tuning
	limit  float64
	// fixed is true when the limit was configured: nothing changes it.
	fixed    bool
	starting bool
	// congestedElsewhere is true when most requests in flight have not reached the server, and more of
	// them brought no more answers. The bottleneck is then this process or the
	// network. The other two fields are the rate and the permits in flight before that increase.
	congestedElsewhere           bool
	attemptRate, attemptInFlight float64
	// ceiling is the highest limit that rejections allow. aimFactor scales the aim after rejections.
	ceiling, aimFactor float64
	rejections         rejections

	classes []*latencies
	// rate is in answered generations a second. service is the mean time that a choice occupies a
	// slot, in seconds.
	rate, service float64
	// share is waiting choices per running choice; shareAt is when it was last observed.
	share   float64
	shareAt time.Time
	// busy is the number of running choices at the last reading while more were wanted, slots at the last
	// one while some waited. running is the number at the last reading, -1 if unknown.
	busy, slots, running float64

	round      round
	experiment experiment
	// startRate is the rate before the last doubling of the start, 0 before the first.
	startRate, startLevel float64
	// perToken is the shortest time of a token, in seconds, 0 if unknown. maxStretch is the stretch above
	// which there is a queue.
	perToken, maxStretch, tokenRate, groupSize, longest float64
	cut                                                 cut
}

const (
	// minLimit is the lowest limit that any signal may set: one choice runs and one waits, so that the slot
	// of a server with a single one does not idle between two answers.
	minLimit = 2
	// maxLimit ends a growth that no signal ends. It exceeds the slots of any server, and is about the
	// number of ports of one address.
	maxLimit = 1 << 16
)

// New returns a Pace with a fixed limit, or with one that adapts to the server if fixed is 0.
func New(fixed int) *Pace {
	p := NewTuned(Defaults)
	if fixed > 0 {
		p.limit, p.fixed, p.starting = float64(fixed), true, false
	}
	return p
}

// NewTuned returns a Pace that adapts to the server with other constants.
func NewTuned(t Tuning) *Pace {
	return &Pace{tuning: t, limit: t.InitialLimit, starting: true, running: -1, ceiling: maxLimit, aimFactor: 1, maxStretch: t.MaxStretch}
}

// Limit returns how many permits may be in flight now.
func (p *Pace) Limit() float64 { return p.limit }

// Fixed reports whether the limit was configured.
func (p *Pace) Fixed() bool { return p.fixed }

// Rate returns the answered generations a second, 0 if none has been measured.
func (p *Pace) Rate() float64 { return p.rate }

// Service returns how many seconds a choice occupies a slot on average, 0 if unknown.
func (p *Pace) Service() float64 { return p.service }

// Share returns the last known number of waiting choices per running choice.
func (p *Pace) Share() float64 { return p.share }

// Running returns how many choices the server works on while some are in flight: all of them if
// its metrics report the number, otherwise an estimate for this process. It returns -1 if unknown.
func (p *Pace) Running() float64 {
	switch {
	case p.running >= 0:
		return p.running
	case p.fixed:
		return -1
	}
	return p.rate * p.service
}

// Admits reports whether a request of n choices may be sent while this many permits are in
// flight. On a small server a group may exceed the limit: otherwise it would have to wait until
// nothing is in flight.
func (p *Pace) Admits(inFlight float64, n int) bool {
	need := float64(n)
	if !p.fixed {
		need = min(need, p.limit*p.tuning.Admission+1)
	}
	if inFlight > 0 && inFlight+need > p.limit {
		p.round.limited = true
		return false
	}
	return true
}

// Answered records an answer: its latency, and how many permits were in flight when its request
// was sent, itself included.
func (p *Pace) Answered(now time.Time, c Class, latency time.Duration, inFlight float64, tokens int) {
	if p.fixed {
		return
	}
	l := p.class(c)
	if l == nil {
		l = &latencies{class: c}
		p.classes = append(p.classes, l)
	}
	l.sum += latency.Seconds()
	l.count++
	p.round.requests++
	p.round.generations += c.N
	if tokens > 0 && latency > 0 {
		// The slowest choice of a group decides, and only the sum of the tokens is known: the time of a
		// token is rather over- than underestimated.
		mean := float64(tokens) / float64(c.N)
		if perToken := latency.Seconds() / mean; p.perToken == 0 || perToken < p.perToken {
			p.perToken = perToken
		}
		longest := mean * p.slowestFactor(c.N)
		p.round.seconds += latency.Seconds()
		p.round.longestTokens += longest
		p.round.sized++
		p.round.choices += float64(c.N)
		p.round.levels += inFlight
		p.round.tokens += float64(tokens)
	}
	p.rejections.add(inFlight, inFlight <= float64(c.N), false)
	p.endRound(now)
}

// Rejected records an answer that reports a full server. InFlight is as for Answered.
func (p *Pace) Rejected(now time.Time, c Class, inFlight float64) {
	if p.fixed {
		return
	}
	p.rejections.add(inFlight, inFlight <= float64(c.N), true)
	p.endRound(now)
}

// Bound lowers the limit to a former one.
func (p *Pace) Bound(limit float64) { p.limit = min(p.limit, limit) }

// class returns the latencies of a class, nil if there are none.
func (p *Pace) class(c Class) *latencies {
	for _, l := range p.classes {
		if l.class == c {
			return l
		}
	}
	return nil
}

func (p *Pace) raise(by float64) {
	if by > 0 && p.congestedElsewhere {
		return
	}
	p.limit = min(max(p.limit+by, p.lowestLimit()), p.ceiling, maxLimit)
}

// lowestLimit returns the lowest limit. After rejections it is one, until it is known whether requests that are alone
// at the server are rejected too.
func (p *Pace) lowestLimit() float64 {
	if p.aimFactor < 1 && p.rejections.bins[0].requests < p.tuning.MinBelow {
		return 1
	}
	return minLimit
}
