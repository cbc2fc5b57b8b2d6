package pacing

import (
	"math"
	"time"
)

// A round is the interval over which rates and latencies are averaged.
type round struct {
	began time.Time
	// requests and generations were answered in it.
	requests, generations int
	// seconds is the time of answers of known size, longestTokens the tokens of their longest choices.
	seconds, longestTokens float64
	// sized is the number of those answers, levels the sum of the permits in flight with them.
	sized, choices, levels, tokens float64
	// limited is true if a request had to wait for a permit.
	limited bool
}

// latencies are the latencies of one class, in seconds.
type latencies struct {
	class      Class
	sum, count float64 // in this round
	// mean excludes the wait in the server's queue. Both are smoothed over rounds.
	mean, wait float64
}

// minRound keeps the rates of a round finite, in seconds.
const minRound = 0.01

// ReleaseInterval returns how long to wait before ExpectedPermits is evaluated again.
func (p *Pace) ReleaseInterval() time.Duration {
	if p.service == 0 {
		return p.tuning.MaxRelease
	}
	return min(max(time.Duration(p.service*1e9*p.tuning.ReleasePart), p.tuning.MinRelease), p.tuning.MaxRelease)
}

// ExpectedPermits returns how many permits a request of this age needs: all N at first, later one for
// each choice that is probably unfinished. It assumes that the times of choices are distributed
// exponentially, and that at least one choice is unfinished. A request keeps at least half of its mean
// permits. Otherwise hanging requests would admit more and more others.
func (p *Pace) ExpectedPermits(c Class, age time.Duration) float64 {
	l, n := p.class(c), float64(c.N)
	if p.fixed || c.N == 1 || l == nil || l.mean == 0 {
		return n
	}
	h := p.slowestFactor(c.N)
	unfinished := math.Exp(-max(age.Seconds()-l.wait, 0) * h / l.mean)
	if unfinished < 1e-6 {
		return n / h * p.tuning.Kept
	}
	return max(n*unfinished/(1-math.Pow(1-unfinished, n)), n/h*p.tuning.Kept)
}

// slowestFactor estimates how much longer the slowest of n choices takes than the mean: a little less than
// the harmonic number, which is the factor of exponentially distributed times.
func (p *Pace) slowestFactor(n int) float64 {
	h := 0.0
	for i := 1; i <= n; i++ {
		h += 1 / float64(i)
	}
	return max(p.tuning.Slowest*h, 1)
}

// endRound closes a round that is a latency old and has enough answers.
func (p *Pace) endRound(now time.Time) {
	if p.round.began.IsZero() {
		p.round.began = now
		return
	}
	age := now.Sub(p.round.began).Seconds()
	needed := max(int(p.limit*p.tuning.RoundPart), p.tuning.RoundMin)
	if p.round.requests+p.rejections.fresh < needed || age < max(p.latency(), minRound) {
		return
	}
	before := p.rate
	p.measure(age, p.shareKnown(now))
	if level := min(p.limit, p.rejections.level()); p.rejections.growWith(level, &p.tuning) {
		p.starting = false
		p.aimFactor *= p.tuning.AimDecrease
		p.ceiling = max(p.tuning.CeilingAfter*level, p.lowestLimit())
		p.experiment = experiment{}
		p.raise(0)
	} else {
		switch {
		case p.rejections.fresh == 0:
			p.aimFactor = min(p.tuning.AimIncrease*p.aimFactor, 1)
		case p.aimFactor < 1 && p.rejections.sameBelow(&p.tuning):
			p.aimFactor, p.ceiling, p.starting = 1, maxLimit, true // the cuts were in vain
		}
		// The ceiling is twice as high after ln(2)/ln(1.01) = 70 rounds at most. If the server then rejects
		// requests, a round's rejections lower it.
		p.ceiling = min(1.01*p.ceiling+1, maxLimit)
		if !p.shareKnown(now) {
			p.explore(before, age)
		}
	}
	p.round = round{began: now}
	p.rejections.fresh, p.rejections.levels = 0, 0
	for _, l := range p.classes {
		l.sum, l.count = 0, 0
	}
}

// latency returns the mean over the round's requests, in seconds.
func (p *Pace) latency() float64 {
	var sum, count float64
	for _, l := range p.classes {
		sum, count = sum+l.sum, count+l.count
	}
	return sum / max(count, 1)
}

// measure updates rates and times from a round of this age in seconds.
func (p *Pace) measure(age float64, shareKnown bool) {
	wait := 0.0
	if shareKnown {
		wait = p.share * p.service
	}
	var generations, busy float64
	for _, l := range p.classes {
		if l.count == 0 {
			continue
		}
		// A wait is an estimate, and may exceed the latency: a tenth of it keeps the mean positive.
		blend(&l.mean, max(l.sum/l.count-wait, 0.1*l.sum/l.count), l.count/(l.count+p.tuning.MeanAnswers))
		l.wait = wait
		generations += l.count * float64(l.class.N)
		busy += l.count * float64(l.class.N) * l.mean / p.slowestFactor(l.class.N)
	}
	if generations > 0 {
		blend(&p.service, busy/generations, p.tuning.RateBlend)
	}
	blend(&p.rate, float64(p.round.generations)/age, p.tuning.RateBlend)
}

// blend moves x towards y by a share of the difference, and to y when x is not known yet.
func blend(x *float64, y, share float64) {
	if *x == 0 {
		share = 1
	}
	*x += share * (y - *x)
}
