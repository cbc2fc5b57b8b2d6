package rank

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCorrelations(t *testing.T) {
	for name, c := range map[string]struct {
		x, y              []float64
		spearman, kendall float64
	}{
		"the same order":  {[]float64{1, 2, 3}, []float64{10, 100, 1000}, 1, 1},
		"the other order": {[]float64{1, 2, 3}, []float64{3, 2, 1}, -1, -1},
		// Ranks 0 1 2 3 and 1 0 3 2: 1 − 6·Σd²/(n(n²−1)) = 1 − 6·4/60 = 0.6; C = 4, D = 2 of 6.
		"two swaps": {[]float64{1, 2, 3, 4}, []float64{2, 1, 4, 3}, 0.6, 1.0 / 3},
		// Ranks 0.5 0.5 2 and 0 1 2: Sxy = −0.5·−1 + −0.5·0 + 1·1 = 1.5, Sxx = 1.5, Syy = 2.
		// C = 2, D = 0, one pair tied in x: 2/√(2·3).
		"a tie": {[]float64{1, 1, 3}, []float64{1, 2, 3}, 1.5 / math.Sqrt(3), 2 / math.Sqrt(6)},
		// Both are tied in the same pair: C = 2 of the 2 that are not.
		"a tie in both": {[]float64{1, 1, 3}, []float64{2, 2, 3}, 1, 1},
	} {
		if got, ok := Spearman(c.x, c.y); !ok || math.Abs(got-c.spearman) > 1e-12 {
			t.Errorf("%s: Spearman's is %v, %v, want %v", name, got, ok, c.spearman)
		}
		if got, ok := Kendall(c.x, c.y); !ok || math.Abs(got-c.kendall) > 1e-12 {
			t.Errorf("%s: Kendall's is %v, %v, want %v", name, got, ok, c.kendall)
		}
	}
	for _, flat := range [][]float64{nil, {1}, {1, 1, 1}} {
		rising := []float64{1, 2, 3}[:len(flat)]
		if got, ok := Spearman(flat, rising); ok {
			t.Errorf("Spearman's of %v is %v", flat, got)
		}
		if got, ok := Kendall(rising, flat); ok {
			t.Errorf("Kendall's of %v is %v", flat, got)
		}
	}
}

// Counting pair by pair gives the same.
func TestKendallCountsPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		n := 2 + r.IntN(40)
		x, y := make([]float64, n), make([]float64, n)
		for i := range x {
			x[i], y[i] = float64(r.IntN(8)), float64(r.IntN(5))
		}
		var balance, inX, inY int
		for i := range x {
			for k := range i {
				a, b := cmp.Compare(x[i], x[k]), cmp.Compare(y[i], y[k])
				balance += a * b
				inX += a * a
				inY += b * b
			}
		}
		before := slices.Clone(y)
		got, ok := Kendall(x, y)
		if ok != (inX > 0 && inY > 0) || ok && math.Abs(got-float64(balance)/math.Sqrt(float64(inX*inY))) > 1e-12 {
			t.Fatalf("%v and %v: %v, %v", x, y, got, ok)
		}
		if !slices.Equal(before, y) {
			t.Fatal("the values were changed")
		}
	}
}
