// Package pacing decides how many generations a server should receive at a time, and when it
// should receive none.
package pacing

import (
	"time"
)

// A Class groups requests of similar duration: those of one stage that ask for the same number of
// choices.
type Class struct {
	Stage string
	N     int // choices in a request
}

// A Pace finds how many generations one server should have in flight. It is not safe for
// concurrent use.
type Pace struct {
	limit float64
	// fixed is true when the limit was configured: nothing changes it.
	fixed    bool
	starting bool
	// congestedElsewhere is true when most requests in flight have not reached the server, and a
	// quarter more of them brought no more answers. The bottleneck is then this process or the
	// network. The other two fields are the rate and the permits in flight before that attempt.
	congestedElsewhere           bool
	attemptRate, attemptInFlight float64
	// ceiling is the highest limit that rejections allow. aimFactor scales the aim after rejections.
	ceiling, aimFactor float64
	rejections         rejections

	classes map[Class]*latencies
	// rate is in answered generations a second. service is the mean time that a choice occupies a
	// slot, in seconds.
	rate, service float64
	// share is waiting choices per running choice, smoothed; shareAt is when it was last observed.
	share   float64
	shareAt time.Time
	// busy is the number of running choices while more were wanted, slots the number while some
	// waited; both are smoothed. running is the number at the last look, -1 if unknown.
	busy, slots, running float64

	round      round
	experiment experiment
}

const (
	initialLimit = 16
	// minLimit is the lowest limit that any signal may set.
	minLimit     = 2
	minAimFactor = 0.33 // a waiting choice for each by which the running ones vary
	maxLimit     = 1 << 16
	// maxShareAge is how long an observed share of waiting choices stays valid.
	maxShareAge = 5 * time.Second
)

// New returns a Pace with a fixed limit, or with one that adapts to the server if fixed is 0.
func New(fixed int) *Pace {
	p := &Pace{limit: initialLimit, starting: true, running: -1, ceiling: maxLimit, aimFactor: 1, classes: map[Class]*latencies{}}
	if fixed > 0 {
		p.limit, p.fixed, p.starting = float64(fixed), true, false
	}
	return p
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
		need = min(need, p.limit/4+1)
	}
	if inFlight > 0 && inFlight+need > p.limit {
		p.round.limited = true
		return false
	}
	return true
}

// Answered records an answer: its latency, and how many permits were in flight when its request
// was sent, itself included.
func (p *Pace) Answered(now time.Time, c Class, latency time.Duration, inFlight float64) {
	if p.fixed {
		return
	}
	l := p.classes[c]
	if l == nil {
		l = &latencies{}
		p.classes[c] = l
	}
	l.sum += latency.Seconds()
	l.count++
	p.round.requests++
	p.round.generations += c.N
	p.rejections.add(inFlight, false)
	p.endRound(now)
}

// Rejected records an answer that reports a full server. InFlight is as for Answered.
func (p *Pace) Rejected(now time.Time, inFlight float64) {
	if p.fixed {
		return
	}
	p.rejections.add(inFlight, true)
	p.endRound(now)
}

func (p *Pace) raise(by float64) {
	if by > 0 && p.congestedElsewhere {
		return
	}
	p.limit = min(max(p.limit+by, minLimit), p.ceiling, maxLimit)
}
