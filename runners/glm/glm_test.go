package glm_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"coeval/runners/glm"
)

// An intercept alone fits the logit of the mean outcome: 3 wins of 4 give log 3.
func TestFitIntercept(t *testing.T) {
	rows := [][]float64{{1}, {1}, {1}, {1}}
	got := glm.Fit(rows, []float64{1, 1, 1, 0}, nil, 1e-12, nil)[0]
	if math.Abs(got-math.Log(3)) > 1e-9 {
		t.Errorf("intercept is %v; want log 3 = %v", got, math.Log(3))
	}
}

// A weight of 2 is the same as the row twice, and a fractional outcome the same as both outcomes
// with its weights.
func TestFitWeights(t *testing.T) {
	rows := [][]float64{{1, 0.5}, {1, -1}, {1, 2}}
	weighted := glm.Fit(rows, []float64{0.25, 1, 0.5}, []float64{4, 2, 2}, glm.Ridge, nil)
	twice := [][]float64{{1, 0.5}, {1, 0.5}, {1, 0.5}, {1, 0.5}, {1, -1}, {1, -1}, {1, 2}, {1, 2}}
	repeated := glm.Fit(twice, []float64{1, 0, 0, 0, 1, 1, 1, 0}, nil, glm.Ridge, nil)
	for i := range weighted {
		if math.Abs(weighted[i]-repeated[i]) > 1e-9 {
			t.Errorf("coefficient %d is %v weighted and %v repeated", i, weighted[i], repeated[i])
		}
	}
}

// At the minimum the gradient vanishes for data of any kind: separable, constant, huge or collinear.
func TestFitEndsAtTheMinimum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n := 1 + r.IntN(80)
		scale := math.Pow(10, float64(r.IntN(7)-3))
		rows, y := make([][]float64, n), make([]float64, n)
		for i := range rows {
			x := scale * r.NormFloat64()
			rows[i] = []float64{1, x, x, 0}
			switch r.IntN(3) {
			case 0:
				y[i] = 1
			case 1:
				y[i] = r.Float64()
			}
			if scale > 1 && x > 0 {
				y[i] = 1 // separable
			}
		}
		b := glm.Fit(rows, y, nil, glm.Ridge, nil)
		for k := range b {
			g := glm.Ridge * b[k]
			size := 1.0
			for i, row := range rows {
				z := 0.0
				for l := range b {
					z += b[l] * row[l]
				}
				g += (glm.Logistic(z) - y[i]) * row[k]
				size += math.Abs(row[k])
			}
			// Each term of the sum is rounded at 1e-16 of its size; conditioning adds digits.
			if math.Abs(g) > 1e-7*size {
				t.Fatalf("gradient %d is %v of %v at the result %v", k, g, size, b)
			}
		}
	}
}
