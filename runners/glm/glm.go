// Package glm fits logistic regressions to outcomes between 0 and 1.
//
// The models have few terms: a strength, a length effect, style features. The fits are exact to rounding,
// need no random numbers and always end. A small ridge keeps the parameters finite if one side wins every
// time. The package keeps no state.
package glm

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Ridge is the default penalty. It moves a probability of 500 outcomes by less than 1e-5.
const Ridge = 1e-3

const (
	// maxSteps bounds Newton's method, which takes 4 to 8 steps on real outcomes.
	maxSteps = 50
	// maxHalvings bounds the search along one step.
	maxHalvings = 40
	// minStep ends the method, relative to the size of the coefficients.
	minStep = 1e-9
	// sureStep is the size of a step that needs no search, relative to the size of the coefficients: Newton's method
	// converges there, and the next step is about its square. From about 3e-8 on the loss falls by less than its
	// rounding, so that a search would halve such steps in vain.
	sureStep = 1e-6
)

// Fit returns the coefficients that minimize
//
//	Σ_i w_i·[log(1 + e^z_i) − y_i·z_i] + ridge·|b|²/2,   z_i = row_i·b
//
// Outcomes y lie in [0, 1]. Weights may be nil, which means 1 each. Start may be nil, which means
// zeros; the result of a fit to similar data saves steps. All rows must have the same length. The
// objective is strictly convex for a ridge above 0, so the result is unique. Fit stops after a step of
// minStep or less. It also stops where rounding prevents progress: a larger step finds no descent, or a
// step of at most sureStep is no smaller than the one before it.
func Fit(rows [][]float64, y, weights []float64, ridge float64, start []float64) []float64 {
	if len(rows) == 0 {
		return nil
	}
	b := make([]float64, len(rows[0]))
	copy(b, start)
	p := problem{rows: rows, y: y, weights: weights, ridge: ridge}
	loss := p.loss(b)
	last := math.Inf(1) // the size of the last step
	for range maxSteps {
		step, ok := p.step(b)
		if !ok {
			break
		}
		next, nextLoss, better := b, loss, false
		size := floats.Norm(step, math.Inf(1)) / (1 + floats.Norm(b, math.Inf(1)))
		if size <= sureStep && size >= last {
			break
		}
		last = size
		for halving := range maxHalvings {
			next = floats.AddScaledTo(make([]float64, len(b)), b, math.Ldexp(1, -halving), step)
			if nextLoss = p.loss(next); nextLoss <= loss || size <= sureStep {
				better = true
				break
			}
		}
		if !better {
			break
		}
		b, loss = next, nextLoss
		if size <= minStep {
			break
		}
	}
	return b
}

// Logistic returns 1/(1 + e^−z).
func Logistic(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

type problem struct {
	rows       [][]float64
	y, weights []float64
	ridge      float64
}

func (p *problem) weight(i int) float64 {
	if p.weights == nil {
		return 1
	}
	return p.weights[i]
}

func (p *problem) loss(b []float64) float64 {
	sum := p.ridge * floats.Dot(b, b) / 2
	for i, row := range p.rows {
		if w := p.weight(i); w != 0 {
			z := floats.Dot(b, row)
			sum += w * (math.Max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) - p.y[i]*z)
		}
	}
	return sum
}

// step returns the Newton step −H⁻¹g. It returns false where H is not positive definite, which a
// ridge above 0 excludes but for rounding.
func (p *problem) step(b []float64) ([]float64, bool) {
	n := len(b)
	gradient := make([]float64, n)
	hessian := make([]float64, n*n) // its upper triangle, by rows
	for k := range n {
		gradient[k] = -p.ridge * b[k]
		hessian[k*n+k] = p.ridge
	}
	for i, row := range p.rows {
		w := p.weight(i)
		if w == 0 {
			continue
		}
		probability := Logistic(floats.Dot(b, row))
		residual, curvature := w*(p.y[i]-probability), w*probability*(1-probability)
		for k, x := range row {
			gradient[k] += residual * x
			for l := k; l < n; l++ {
				hessian[k*n+l] += curvature * x * row[l]
			}
		}
	}
	var factor mat.Cholesky
	if !factor.Factorize(mat.NewSymDense(n, hessian)) {
		return nil, false
	}
	step := mat.NewVecDense(n, nil)
	if err := factor.SolveVecTo(step, mat.NewVecDense(n, gradient)); err != nil {
		return nil, false
	}
	return step.RawVector().Data, true
}
