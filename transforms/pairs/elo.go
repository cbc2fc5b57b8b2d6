package pairs

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

const (
	// maxSteps bounds Newton's method, which takes 4 to 8 steps on real matrices, maxHalvings
	// the search along one step.
	maxSteps, maxHalvings = 50, 30
	// smallStep ends it: far below the rounding of ratings.
	smallStep = 1e-12
	// grains is how many steps of 1e-9, to which a rating is rounded, make 1.
	grains = 1e9
)

// Elo returns the ratings of n judgments from the matrix B of weighted wins,
//
//	eps = argmax Σ_mn B_mn·log σ(eps_m − eps_n) − (lambda/2)·|eps|²,    Σ eps = 0
//
// with σ the logistic function, rounded to 1e-9. Lambda must be above 0: the objective is
// then strictly concave, its maximum is unique, and it sums to 0 by itself.
func Elo(b [][]float64, lambda float64) []float64 {
	eps := make([]float64, len(b))
	if len(b) == 0 {
		return eps
	}
	value := objective(b, lambda, eps)
	for range maxSteps {
		step, ok := newtonStep(b, lambda, eps)
		if !ok {
			break
		}
		next, nextValue := eps, value
		for halving := range maxHalvings {
			next = floats.AddScaledTo(make([]float64, len(eps)), eps, math.Ldexp(1, -halving), step)
			nextValue = objective(b, lambda, next)
			if nextValue >= value-1e-12*math.Abs(value) { // rounding may cost a little at the top
				break
			}
		}
		eps, value = next, nextValue
		if floats.Norm(step, math.Inf(1)) < smallStep {
			break
		}
	}
	floats.AddConst(-floats.Sum(eps)/float64(len(eps)), eps)
	return roundRatings(eps)
}

func roundRatings(eps []float64) []float64 {
	for i := range eps {
		eps[i] = math.Round(eps[i]*grains)/grains + 0 // + 0 makes −0 a 0
	}
	return eps
}

// objective returns the penalized log-likelihood.
func objective(b [][]float64, lambda float64, eps []float64) float64 {
	sum := -lambda / 2 * floats.Dot(eps, eps)
	for m := range b {
		for n := range b {
			if b[m][n] != 0 {
				sum -= b[m][n] * math.Log1p(math.Exp(eps[n]-eps[m])) // −log σ(x) = log(1 + e^−x)
			}
		}
	}
	return sum
}

// newtonStep solves −H·step = g with, for p_mn = σ(eps_m − eps_n),
//
//	g_m   = Σ_n (B_mn·p_nm − B_nm·p_mn) − lambda·eps_m
//	−H_mn = −(B_mn + B_nm)·p_mn·p_nm                      m ≠ n
//	−H_mm = Σ_n (B_mn + B_nm)·p_mn·p_nm + lambda
//
// −H is positive definite, so Cholesky's method applies.
func newtonStep(b [][]float64, lambda float64, eps []float64) (step []float64, ok bool) {
	size := len(b)
	gradient := mat.NewVecDense(size, nil)
	curvature := mat.NewSymDense(size, nil)
	for m := range size {
		g, c := -lambda*eps[m], lambda
		for n := range size {
			if m == n {
				continue
			}
			p := 1 / (1 + math.Exp(eps[n]-eps[m]))
			w := (b[m][n] + b[n][m]) * p * (1 - p)
			g += b[m][n]*(1-p) - b[n][m]*p
			c += w
			if m < n {
				curvature.SetSym(m, n, -w)
			}
		}
		gradient.SetVec(m, g)
		curvature.SetSym(m, m, c)
	}
	var factor mat.Cholesky
	if !factor.Factorize(curvature) {
		return nil, false
	}
	solved := mat.NewVecDense(size, nil)
	if err := factor.SolveVecTo(solved, gradient); err != nil {
		return nil, false
	}
	return solved.RawVector().Data, true
}
