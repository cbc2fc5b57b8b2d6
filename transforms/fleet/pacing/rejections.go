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

func bin(level float64) int { return min(int(4*math.Log2(max(level, 1))), 63) }

func (r *rejections) add(level float64, rejected bool) {
	b := &r.bins[bin(level)]
	b.requests++
	if rejected {
		b.rejected++
		r.fresh++
		r.levels += level
	}
	if b.requests > 2000 { // older requests count less
		b.requests, b.rejected = b.requests/2, b.rejected/2
	}
}

// level returns the mean number of permits in flight over this round's rejections.
func (r *rejections) level() float64 { return r.levels / float64(max(r.fresh, 1)) }

// growWith reports whether the share of rejections is larger at this level than at lower ones.
func (r *rejections) growWith(level float64) bool {
	here := r.bins[bin(level)]
	if r.fresh == 0 || here.rejected < 3 {
		return false
	}
	share, least, known := here.rejected/here.requests, 1.0, false
	for i := range max(bin(level)-1, 0) {
		if below := r.bins[i]; below.requests >= 20 {
			base := below.rejected / below.requests
			noise := math.Sqrt(base*(1-base)*(1/below.requests+1/here.requests)) + 1/below.requests
			least, known = min(least, base+0.01+2.5*noise), true
		}
	}
	if !known {
		return share > 0.35 // lower levels are tried if it is as bad as that
	}
	return share > least
}
