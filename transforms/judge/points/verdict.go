package points

import "coeval/transforms/stage"

// maxHalves is the longest scale, in points, on which an enforced score can be a half point.
const maxHalves = 10

// Verdict is the last line of a judgment where verdicts are enforced: a score in half points,
// or in whole points on scales of more than ten.
func Verdict(sc Scale) *stage.Verdict {
	if sc == (Scale{}) {
		sc = FivePoints
	}
	step := 500
	if sc.Max-sc.Min > maxHalves*1000 {
		step = 1000
	}
	v := &stage.Verdict{Label: "Score"}
	for n := sc.Min; n <= sc.Max; n += step {
		v.Values = append(v.Values, Format(n))
	}
	return v
}
