package pacing

import "math"

// rejections count how many requests the server rejected, by the permits in flight when they were
// sent.
type rejections struct {
	bins [64]levelCount // by the logarithm of the permits in flight
	// fresh is the number in this round, levels the sum of the permits in flight with them.
	fresh  int
	levels float64
}

type levelCount struct{ requests, rejected float64 }

// rejectionMemory is how many requests of a level count. A share p of n requests has a standard error of
// √(p(1−p)/n), which for n = 2,000 is 0.5 to 1 %: more of them would add nothing to the noise that growWith
// allows, and delay the discovery of a change.
const rejectionMemory = 2000

// bin returns the number of a level: four for each doubling, since a step of an experiment, a quarter, must
// leave its bin. 4·log₂(maxLimit) is 64.
func bin(level float64) int { return min(int(4*math.Log2(max(level, 1))), 63) }

// add counts a request. One that was alone at the server counts at the lowest level too, however many choices
// it asks for.
func (r *rejections) add(level float64, alone, rejected bool) {
	if rejected {
		r.fresh++
		r.levels += level
	}
	r.bins[bin(level)].add(rejected)
	if alone && bin(level) > 0 {
		r.bins[0].add(rejected)
	}
}

func (b *levelCount) add(rejected bool) {
	b.requests++
	if rejected {
		b.rejected++
	}
	if b.requests > rejectionMemory { // older requests count less
		b.requests, b.rejected = b.requests/2, b.rejected/2
	}
}

// sameBelow reports whether the share of rejections at each lower level is at least RejectedSame of
// this level's share. A lower limit then avoids few rejections. As long as it is not known how often a
// request alone at the server is rejected, sameBelow returns false.
func (r *rejections) sameBelow(t *Tuning) bool {
	at := bin(r.level())
	here := r.bins[at]
	if r.bins[0].requests < t.MinBelow {
		return false
	}
	lowest := 1.0
	for i := range max(at-1, 0) {
		if below := r.bins[i]; below.requests >= t.MinBelow {
			lowest = min(lowest, below.rejected/below.requests)
		}
	}
	return here.rejected >= t.MinRejected && lowest > t.RejectedSame*here.rejected/here.requests
}

// level returns the mean number of permits in flight over this round's rejections.
func (r *rejections) level() float64 { return r.levels / float64(max(r.fresh, 1)) }

// growWith reports whether the share of rejections is larger at this level than at lower ones. As long as
// no lower level is known, a large share makes lower levels worth a try.
func (r *rejections) growWith(level float64, t *Tuning) bool {
	here := r.bins[bin(level)]
	if r.fresh == 0 || here.rejected < t.MinRejected {
		return false
	}
	share, bound, known := here.rejected/here.requests, 1.0, false
	for i := range max(bin(level)-1, 0) {
		if below := r.bins[i]; below.requests >= t.MinBelow {
			base := below.rejected / below.requests
			noise := math.Sqrt(base*(1-base)*(1/below.requests+1/here.requests)) + 1/below.requests
			bound, known = min(bound, base+t.RejectedNoise*noise), true
		}
	}
	if !known {
		return share > t.RejectedAlone
	}
	return share > bound
}
