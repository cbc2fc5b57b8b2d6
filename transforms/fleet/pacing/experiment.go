package pacing

import "math"

// An experiment compares the rate of answers at another limit with the rates before and after.
type experiment struct {
	less bool // the other limit is lower
	// phase is 0 before the other limit is set, 1 while it is, and 2 when the limit is base again.
	phase int
	base  float64
	rates [3]float64 // by phase
	sized bool       // the rates are of answers of known size
	// rounds, answers and seconds count in the current phase.
	rounds           int
	answers, seconds float64
}

// A cut is a limit that was lowered because most requests seem to wait.
type cut struct {
	from, rate float64 // limit and rate before; 0 while there is no cut
	rounds     int     // since
	// tokens and seconds count in the rounds after the first.
	tokens, seconds float64
}

// explore searches for a better limit when answers are the only evidence. Age is the round's, in
// seconds.
func (p *Pace) explore(before, age float64) {
	rate, stretch, sized := float64(p.round.generations)/age, 0.0, p.sized()
	if sized {
		rate, stretch = p.round.throughput(), p.stretch()
	}
	blend(&p.tokenRate, p.round.tokens/age, p.tuning.RateBlend)
	switch {
	case p.cut.from > 0:
		p.checkCut(age)
	case stretch > p.maxStretch && p.limit > minLimit:
		p.starting = false
		p.cut = cut{from: p.limit, rate: p.tokenRate}
		p.experiment = experiment{}
		p.raise(p.limit*p.tuning.CutTo/stretch - p.limit)
	case p.starting:
		p.startUp(before, rate, sized)
	case p.aimFactor == 1:
		p.compare(rate, age, sized)
	case p.round.limited: // rejections bound the limit
		p.raise(p.limit * p.tuning.RejectedGrowth)
	}
}

// startUp doubles the limit while the throughput grows by more than half as much as it would if all
// choices in flight ran.
func (p *Pace) startUp(before, rate float64, sized bool) {
	level := p.round.level()
	if !sized {
		if p.rate > p.tuning.StartGain*before {
			p.raise(p.limit)
			return
		}
		p.starting = false
		return
	}
	if !p.round.limited || level < p.limit*p.tuning.StartLevel {
		return // no request waits for a permit, or the answers are of before the last doubling
	}
	if p.startRate == 0 {
		p.startLevel, p.startRate = 1, 1/p.perToken // of a choice alone
	}
	if rate > p.startRate*math.Sqrt(level/p.startLevel) {
		p.startRate, p.startLevel = rate, level
		p.raise(p.limit)
		return
	}
	p.starting = false
}

// sized reports whether the round's answers are evidence of the time of a token. A group's permits fall
// while the server answers it, so only many groups together give a steady number in flight.
func (p *Pace) sized() bool {
	if p.round.sized == 0 {
		return false
	}
	blend(&p.groupSize, p.round.choices/p.round.sized, p.tuning.RateBlend)
	blend(&p.longest, p.round.longestTokens/p.round.sized, p.tuning.RateBlend)
	return p.longest*p.perToken >= p.tuning.MinSized && p.limit >= p.tuning.MinGroups*p.groupSize
}

// throughput returns the rate of answers by Little's law: choices in flight by the time of a token. It
// varies less than counts of answers do, which come in waves.
func (r *round) throughput() float64 { return r.level() * r.longestTokens / r.seconds }

// level returns the mean number of permits in flight with the round's answers of known size.
func (r *round) level() float64 { return r.levels / max(r.sized, 1) }

// stretch returns the time of the round's answers, in multiples of the shortest time for their tokens.
// Without a queue it is near 1. With two waiting choices for each running one it is near 3.
func (p *Pace) stretch() float64 { return p.round.seconds / (p.round.longestTokens * p.perToken) }

// checkCut undoes a cut that lowered the rate. The answers then took long for another reason than a
// queue. For example, a large batch makes each token slower. So checkCut raises the stretch above which
// there is a queue.
func (p *Pace) checkCut(age float64) {
	if p.cut.rounds++; p.cut.rounds < p.tuning.CutRounds {
		return // requests sent before the cut are still in flight
	}
	p.cut.tokens += p.round.tokens
	if p.cut.seconds += age; p.cut.seconds < p.tuning.CutSeconds {
		return
	}
	if p.round.limited && p.cut.tokens/p.cut.seconds < p.tuning.CutLoss*p.cut.rate {
		p.maxStretch *= 2 // doubling finds the right bound in a few cuts
		p.perToken = 0
		p.raise(p.cut.from - p.limit)
	}
	p.cut = cut{}
}

// compare continues the experiment, and adopts the other limit if it improves on the present one.
func (p *Pace) compare(rate, age float64, sized bool) {
	x := &p.experiment
	if x.phase == 0 && !p.round.limited {
		*x = experiment{less: x.less, sized: sized} // no request waits for a permit
		return
	}
	if x.sized != sized { // rates of two kinds can't be compared
		if x.phase == 1 {
			p.raise(x.base - p.limit)
		}
		*x = experiment{less: x.less, sized: sized}
	}
	x.rounds++
	x.answers += rate * age
	if x.seconds += age; x.rounds < p.tuning.PhaseRounds || x.seconds < p.tuning.PhaseSeconds {
		return
	}
	x.rates[x.phase] = x.answers / x.seconds
	x.rounds, x.answers, x.seconds = 0, 0, 0
	switch x.phase {
	case 0:
		x.phase, x.base = 1, p.limit
		p.raise(x.other(&p.tuning) - p.limit)
	case 1:
		x.phase = 2
		p.raise(x.base - p.limit)
	default:
		improves := x.improves(&p.tuning)
		if improves {
			p.raise(x.other(&p.tuning) - p.limit)
		}
		*x = experiment{less: x.less == improves, sized: sized}
	}
}

func (x *experiment) other(t *Tuning) float64 {
	if x.less {
		return x.base / t.Step
	}
	return t.Step * x.base
}

// improves reports whether the other limit is the better one.
func (x *experiment) improves(t *Tuning) bool {
	than := max(x.rates[0], x.rates[2])
	more, less := t.Better, t.Worse
	if x.sized { // and rates vary less
		more, less = t.SizedBetter, t.SizedWorse
	}
	if x.less {
		return x.rates[1] > less*than
	}
	return x.rates[1] > more*than
}
