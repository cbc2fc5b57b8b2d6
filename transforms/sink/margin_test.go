package sink

import (
	"math"
	"testing"

	"coeval/schemas"
)

// scoreOf adds up scores in thousandths.
func scoreOf(scores ...int64) schemas.Score {
	s := schemas.Score{N: len(scores), Scored: true}
	for _, x := range scores {
		s.Sum += x
		s.Squares += x * x
	}
	return s
}

func TestMarginSE(t *testing.T) {
	// V = 1/4 of n = 4 and V = 2/9 of n = 3: √((1/4)/3 + (2/9)/2) = √(7/36).
	got := marginSE(scoreOf(4000, 5000, 4000, 5000), scoreOf(2000, 2000, 3000))
	if want := math.Sqrt(7.0 / 36); got == nil || math.Abs(*got-want) > 1e-12 {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := marginSE(scoreOf(4000), scoreOf(2000, 2000)); got != nil {
		t.Errorf("a single score has the standard error %v", *got)
	}
	// A calibration shifts the sum, not the scores.
	shifted := scoreOf(4000, 5000)
	shifted.Sum, shifted.Shift = shifted.Sum-1000, -1000
	if got, want := marginSE(shifted, scoreOf(2000, 2000)), 0.5; got == nil || math.Abs(*got-want) > 1e-12 {
		t.Errorf("with a calibration got %v, want %v", got, want)
	}
}
