package reference

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"coeval/schemas"
)

// PositionWeights returns the weights of a win in first and in second place,
//
//	w1 = second / (first + second),    w2 = first / (first + second)
//
// from the wins in each place. Without wins both are 1/2.
func PositionWeights(first, second int64) schemas.PositionWeights {
	if first+second == 0 {
		return schemas.PositionWeights{First: 0.5, Second: 0.5}
	}
	all := float64(first + second)
	return schemas.PositionWeights{First: float64(second) / all, Second: float64(first) / all}
}

// Positions sums the wins in first and in second place, in millionths.
func (p *Prompt) Positions() (first, second int64) {
	for m := range p.Winners {
		for n := range p.Winners[m] {
			if win, ok := p.win(m, n); ok && m != n {
				micros := int64(math.Round(win * 1e6))
				first += micros
				second += 1e6 - micros
			}
		}
	}
	return first, second
}

// Ratings returns the Elo ratings of the judgments,
//
//	argmax Σ_mn B_mn·log σ(ε_m − ε_n) − (λ/2)·Σ ε²,    B_mn = w1·[m first beats n] + w2·[m second beats n]
//
// rounded to 1e-9.
func (p *Prompt) Ratings(w schemas.PositionWeights, lambda float64) []float64 {
	eps, _ := newton(len(p.Judgments), func(x []float64) (*mat.VecDense, *mat.Dense) { return p.slope(w, lambda, x) })
	for i := range eps {
		eps[i] = math.Round(eps[i]*1e9) / 1e9
	}
	return eps
}

// newton returns the maximum of a concave function of n numbers, and the negative of its Hessian there.
// Slope returns the gradient and the negative Hessian at x. Newton's method begins at zero, and halves a
// step that makes the gradient grow.
func newton(n int, slope func(x []float64) (*mat.VecDense, *mat.Dense)) (x []float64, hessian *mat.Dense) {
	x = make([]float64, n)
	gradient, hessian := slope(x)
	for range 100 {
		var step mat.VecDense
		if step.SolveVec(hessian, gradient) != nil {
			break
		}
		next, factor := make([]float64, n), 1.0
		for range 40 {
			for i := range next {
				next[i] = x[i] + factor*step.AtVec(i)
			}
			g, h := slope(next)
			if mat.Norm(g, 2) <= mat.Norm(gradient, 2) {
				gradient, hessian = g, h
				break
			}
			factor /= 2
		}
		x = next
		if mat.Norm(&step, 2) < 1e-12 {
			break
		}
	}
	return x, hessian
}

// slope returns the gradient of the objective and the negative of its Hessian.
func (p *Prompt) slope(w schemas.PositionWeights, lambda float64, eps []float64) (*mat.VecDense, *mat.Dense) {
	n := len(eps)
	gradient, hessian := mat.NewVecDense(n, nil), mat.NewDense(n, n, nil)
	add := func(m mat.Mutable, i, k int, x float64) { m.Set(i, k, m.At(i, k)+x) }
	for i := range n {
		gradient.SetVec(i, -lambda*eps[i])
		hessian.Set(i, i, lambda)
	}
	for i := range n {
		for k := range n {
			var wins float64 // of i over k
			if win, ok := p.win(i, k); ok && i != k {
				wins += w.First * win
			}
			if win, ok := p.win(k, i); ok && i != k {
				wins += w.Second * (1 - win)
			}
			if wins == 0 {
				continue
			}
			lose := 1 / (1 + math.Exp(eps[i]-eps[k])) // 1 − σ(ε_i − ε_k)
			gradient.SetVec(i, gradient.AtVec(i)+wins*lose)
			gradient.SetVec(k, gradient.AtVec(k)-wins*lose)
			c := wins * lose * (1 - lose)
			add(hessian, i, i, c)
			add(hessian, k, k, c)
			add(hessian, i, k, -c)
			add(hessian, k, i, -c)
		}
	}
	return gradient, hessian
}
