package pacing

import (
	"math"
	"time"
)

const (
	// maxReadingInterval bounds the delay until the growth of a server's queue shows. It is also the largest
	// age of the numbers in the status line.
	maxReadingInterval = 2 * time.Second
	// maxShareAge is how long an observed share stays valid: two readings in a row may fail.
	maxShareAge = 5 * time.Second
)

// ReadingInterval returns how long to wait before the next reading of the server's queue.
func (p *Pace) ReadingInterval() time.Duration {
	if p.starting {
		return p.tuning.MinReadingInterval
	}
	return min(max(time.Duration(p.service*1e9*p.tuning.ReadingPart), p.tuning.MinReadingInterval), maxReadingInterval)
}

// ObserveQueue records how many choices run and wait at the server according to its metrics. It
// returns false if the reading gives no evidence of a queue: requests are in flight and the server
// reports none, so it is faster than the readings.
func (p *Pace) ObserveQueue(now time.Time, running, waiting, inFlight float64) bool {
	p.noteArrivals(running+waiting, inFlight)
	p.running = running
	if waiting > 0 {
		p.slots = running
	}
	if p.round.limited {
		p.busy = running
	}
	if running+waiting == 0 {
		return false
	}
	p.observeShare(now, waiting/max(running, 1))
	return true
}

// ForgetQueue discards the metrics' figures about slots. Call it when the metrics disappear.
func (p *Pace) ForgetQueue() {
	p.noteArrivals(0, 0)
	p.busy, p.slots, p.running = 0, 0, -1
}

// ObserveWait records the wait of a request whose own time is negligible.
func (p *Pace) ObserveWait(now time.Time, wait time.Duration) {
	switch {
	case p.service > 0:
		p.observeShare(now, wait.Seconds()/p.service)
	case wait > 0:
		p.starting = false
	case p.starting && p.round.limited:
		p.raise(p.limit * p.tuning.StartGrowth)
		p.round.limited = false
	}
}

func (p *Pace) observeShare(now time.Time, share float64) {
	if p.fixed {
		return
	}
	p.share, p.shareAt, p.experiment = share, now, experiment{}
	switch {
	case !p.starting:
		p.steer()
	case share > 0:
		p.starting = false
	case p.round.limited:
		p.raise(p.limit * p.tuning.StartGrowth)
		p.round.limited = false
	}
}

// noteArrivals compares the choices that the server reports with the permits in flight, and sets
// congestedElsewhere. A server behind a balancer reports only its part: so the decisive question is
// whether more in flight increased the rate.
func (p *Pace) noteArrivals(atServer, inFlight float64) {
	switch {
	case atServer == 0 || inFlight <= p.tuning.Arrivals*atServer+p.tuning.InitialLimit:
		p.congestedElsewhere, p.attemptRate = false, 0
	case p.rate > p.attemptRate:
		p.congestedElsewhere, p.attemptRate, p.attemptInFlight = false, p.rate, inFlight
	default:
		p.congestedElsewhere = inFlight > p.attemptInFlight
	}
}

// aim returns the wanted number of waiting choices per running choice.
func (p *Pace) aim(running float64) float64 {
	maxAim := p.tuning.MaxAim
	if p.slots > 0 {
		running = min(running, p.slots)
		maxAim += p.tuning.IdleGain * max(1-p.busy/p.slots, 0)
	}
	return min(maxAim, p.tuning.AimRoot/math.Sqrt(running))
}

// steer moves the limit towards the wanted share.
func (p *Pace) steer() {
	running := max(p.rate*p.service, 1)
	by := p.tuning.Gain * running * (p.aimFactor*p.aim(running) - p.share)
	if by > 0 && !p.round.limited {
		return // no request waits for a permit
	}
	p.raise(max(by, -p.limit*p.tuning.MaxFall))
}

func (p *Pace) shareKnown(now time.Time) bool { return now.Sub(p.shareAt) < maxShareAge }
