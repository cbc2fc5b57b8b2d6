package reference

import (
	"math/big"

	"coeval/schemas"
)

// Rounds is the rule by which the contested response of reads is judged: First judgments, then 6 more in each
// round while no score is at least Distance standard deviations of the read away from the read's mean, at most Most.
type Rounds struct {
	First, Most int
	Distance    float64
}

const perRound = 6

// Judged returns the number of judgments by the rule and the reason for the end. Scores are the scores in points by
// replicate, nil without one. Mean and variance describe the response's reads on the judge's scale.
func (r Rounds) Judged(scores []*float64, mean, variance *big.Rat) (asked int, stop schemas.Stop) {
	distance := rational(r.Distance, 1000)
	least := new(big.Rat).Mul(new(big.Rat).Mul(distance, distance), variance)
	seen := 0
	for asked = r.First; ; asked = min(asked+perRound, r.Most) {
		for ; seen < asked && seen < len(scores); seen++ {
			if scores[seen] == nil {
				continue
			}
			off := new(big.Rat).Sub(rational(*scores[seen], 1000), mean)
			if off.Sign() != 0 && off.Mul(off, off).Cmp(least) >= 0 {
				return asked, schemas.StopDistant
			}
		}
		if asked >= r.Most {
			return asked, schemas.StopBound
		}
	}
}
