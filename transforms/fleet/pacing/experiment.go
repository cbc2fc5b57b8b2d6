package pacing

// An experiment compares the rate of answers at another limit with the rates before and after.
type experiment struct {
	less bool // the other limit is lower
	// phase is 0 before the other limit is set, 1 while it is, and 2 when the limit is base again.
	phase int
	base  float64
	rates [3]float64 // by phase
	// rounds, answers and seconds are those of the current phase.
	rounds           int
	answers, seconds float64
}

const (
	// phaseRounds and phaseSeconds are the least that a phase of an experiment lasts.
	phaseRounds  = 2
	phaseSeconds = 0.5
)

// explore searches for a better limit when the rate of answers is the only evidence.
func (p *Pace) explore(before, age float64) {
	if p.starting && p.rate > 1.15*before {
		p.raise(p.limit)
		return
	}
	p.starting = false
	switch {
	case p.aimFactor == 1:
		p.compare(age)
	case p.round.limited: // rejections bound the limit
		p.raise(p.limit / 16)
	}
}

// compare continues the experiment, and adopts the other limit if it improves on the present one.
func (p *Pace) compare(age float64) {
	x := &p.experiment
	if x.phase == 0 && !p.round.limited {
		*x = experiment{less: x.less} // no request waits for a permit
		return
	}
	x.rounds++
	x.answers += float64(p.round.generations)
	if x.seconds += age; x.rounds < phaseRounds || x.seconds < phaseSeconds {
		return
	}
	x.rates[x.phase] = x.answers / x.seconds
	x.rounds, x.answers, x.seconds = 0, 0, 0
	switch x.phase {
	case 0:
		x.phase, x.base = 1, p.limit
		p.raise(x.other() - p.limit)
	case 1:
		x.phase = 2
		p.raise(x.base - p.limit)
	default:
		improves := x.improves()
		if improves {
			p.raise(x.other() - p.limit)
		}
		*x = experiment{less: x.less == improves}
	}
}

func (x *experiment) other() float64 {
	if x.less {
		return 0.8 * x.base
	}
	return 1.25 * x.base
}

// improves reports whether the other limit is the better one.
func (x *experiment) improves() bool {
	than := max(x.rates[0], x.rates[2])
	if x.less {
		return x.rates[1] > 0.97*than
	}
	return x.rates[1] > 1.05*than
}
