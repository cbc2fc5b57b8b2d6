// Package rating rates the judgments of one response from comparisons of pairs of them. It also decides
// which pair to compare next and when to stop.
//
// # Model
//
// Judgment i has a rating ε_i in logits and a score s_i in rubric points. Judgments with similar scores
// are usually about equally good, so the prior over ratings is a Gaussian process over scores:
//
//	ε ~ N(0, K),   K_ij = σf²·exp(−(s_i − s_j)²/(2ℓ²)) + σe²·[i = j]
//
// In a comparison that shows m first and n second, m wins with the probability σ(ε_m − ε_n + b). Here σ
// is the logistic function. The position term b is the log-odds with which the meta-judge prefers the
// first of two equal judgments. [Fit] returns the Laplace approximation of the posterior: a normal
// distribution around its mode (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
// section 3.4; Chu and Ghahramani, Preference Learning with Gaussian Processes, 2005).
//
// # Requesting
//
// [Policy.Next] plans rounds of comparisons. A round requests two pairs; the last round may have only one.
// The verdict of the first carries the most information about the best judgment, that of the second the
// most about the worst. This is entropy search (Hennig and Schuler, Entropy Search for
// Information-Efficient Global Optimization, 2012). The information is estimated from samples of the
// posterior. Both orders of a pair are requested together. The position term is estimated from the
// comparisons of the prompt itself.
//
// Best and worst are the judgments with the highest and the lowest rating at the mode. The regret of such a
// pick is the expected distance of its rating from the true highest or lowest one. A prompt is settled if both picks
// were in at least one comparison each, and if the sum of their regrets is small against the expected distance
// between the highest and the lowest rating.
//
// Every result is a function of its arguments alone. The package keeps no state and reads no clock, so a
// run that replays its journal requests the same comparisons.
package rating

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Prior contains the parameters of the prior over ratings.
type Prior struct {
	// Shared is σf, the standard deviation in logits of the part of a rating that its score
	// determines. Zero means 1.2.
	Shared float64 `json:"shared"`
	// Length is ℓ, the distance in rubric points over which that part stays similar. Zero
	// means 0.8.
	Length float64 `json:"length"`
	// Own is σe, the standard deviation in logits of the rest of a rating. Zero means 0.7.
	Own float64 `json:"own"`
}

func (p Prior) withDefaults() Prior {
	if p.Shared == 0 {
		p.Shared = 1.2
	}
	if p.Length == 0 {
		p.Length = 0.8
	}
	if p.Own == 0 {
		p.Own = 0.7
	}
	return p
}

// Validate returns an error that names every field with a value that is not allowed.
func (p Prior) Validate() error {
	p = p.withDefaults()
	var errs []error
	for _, f := range []struct {
		name  string
		value float64
	}{{"shared", p.Shared}, {"length", p.Length}, {"own", p.Own}} {
		if !(f.value >= 1e-3 && f.value <= 30) {
			errs = append(errs, fmt.Errorf("rating: prior %s is %v; allowed is 0.001 to 30", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}

// covariance returns K for scores in thousandths of a rubric point.
func (p Prior) covariance(scores []int) *mat.SymDense {
	k := mat.NewSymDense(len(scores), nil)
	for i := range scores {
		for j := i; j < len(scores); j++ {
			distance := float64(scores[i]-scores[j]) / 1000 / p.Length
			v := p.Shared * p.Shared * math.Exp(-distance*distance/2)
			if i == j {
				v += p.Own * p.Own
			}
			k.SetSym(i, j, v)
		}
	}
	return k
}

// A Game is the outcome of one comparison.
type Game struct {
	// First and Second are the indices of the judgments in the order in which they were shown.
	First, Second int
	// Win is the probability, from 0 to 1, that the first one is the better: 1 or 0 for a
	// verdict, a fraction for a read.
	Win float64
	// Weight is the number of verdicts that the comparison counts as. Zero means 1.
	Weight float64
}

// ReadWeight is the number of verdicts that a read counts as: a probability tells more than one draw from
// it. With 10 the rounds of reads stop after about 20 of 110 comparisons instead of 50, for the same gap in
// quality (simulated).
const ReadWeight = 10

func (g *Game) weight() float64 {
	if g.Weight == 0 {
		return 1
	}
	return g.Weight
}

// A Posterior is a normal distribution over the ratings of n judgments.
type Posterior struct {
	// Mean contains the n ratings at the mode, in logits.
	Mean []float64
	// root is the lower triangle L of L·Lᵀ = H, the precision at the mode.
	root *mat.TriDense
}

const (
	// maxSteps bounds Newton's method, which takes 3 to 7 steps on real comparisons.
	maxSteps = 50
	// maxHalvings bounds the search along one step.
	maxHalvings = 30
	// minStep ends the method: far below the rounding of ratings to 1e-9.
	minStep = 1e-12
)

// Fit returns the posterior over the ratings of judgments with these scores, in thousandths of a
// rubric point, after these games. Position is b in logits. It returns an error if a game names a
// judgment that does not exist or a probability outside [0, 1].
func Fit(scores []int, games []Game, position float64, prior Prior) (*Posterior, error) {
	for _, g := range games {
		if g.First < 0 || g.Second < 0 || g.First >= len(scores) || g.Second >= len(scores) || g.First == g.Second {
			return nil, fmt.Errorf("rating: game of judgments %d and %d; allowed are two different indices from 0 to %d", g.First, g.Second, len(scores)-1)
		}
		if !(g.Win >= 0 && g.Win <= 1) {
			return nil, fmt.Errorf("rating: game is won with probability %v; allowed is 0 to 1", g.Win)
		}
	}
	f := fit{games: games, position: position}
	if err := f.invert(prior.withDefaults().covariance(scores)); err != nil {
		return nil, err
	}
	return f.maximize(len(scores))
}

// fit is one maximization of the posterior.
type fit struct {
	games     []Game
	position  float64
	precision mat.SymDense // K⁻¹
}

func (f *fit) invert(k *mat.SymDense) error {
	var factor mat.Cholesky
	if !factor.Factorize(k) {
		return fmt.Errorf("rating: the prior's covariance is not positive definite")
	}
	if err := factor.InverseTo(&f.precision); err != nil {
		return fmt.Errorf("rating: invert the prior's covariance: %w", err)
	}
	return nil
}

// maximize runs Newton's method with step halving. The objective is strictly concave.
func (f *fit) maximize(n int) (*Posterior, error) {
	ratings := make([]float64, n)
	value := f.objective(ratings)
	var factor mat.Cholesky
	for range maxSteps {
		gradient, precision := f.derivatives(ratings)
		if !factor.Factorize(precision) {
			return nil, fmt.Errorf("rating: the posterior's precision is not positive definite")
		}
		step := mat.NewVecDense(n, nil)
		if err := factor.SolveVecTo(step, gradient); err != nil {
			return nil, fmt.Errorf("rating: Newton step: %w", err)
		}
		next, nextValue := ratings, value
		for halving := range maxHalvings {
			next = floats.AddScaledTo(make([]float64, n), ratings, math.Ldexp(1, -halving), step.RawVector().Data)
			nextValue = f.objective(next)
			if nextValue >= value-1e-12*math.Abs(value) { // rounding may cost a little at the top
				break
			}
		}
		ratings, value = next, nextValue
		if floats.Norm(step.RawVector().Data, math.Inf(1)) < minStep {
			break
		}
	}
	root := mat.NewTriDense(n, mat.Lower, nil)
	factor.LTo(root)
	return &Posterior{Mean: ratings, root: root}, nil
}

// objective returns the log posterior up to a constant:
//
//	Σ_games Weight·(Win·log σ(x) + (1 − Win)·log σ(−x)) − ½·εᵀK⁻¹ε,   x = ε_first − ε_second + b
func (f *fit) objective(ratings []float64) float64 {
	v := mat.NewVecDense(len(ratings), ratings)
	sum := -mat.Inner(v, &f.precision, v) / 2
	for _, g := range f.games {
		x := ratings[g.First] - ratings[g.Second] + f.position
		sum -= g.weight() * (g.Win*softplus(-x) + (1-g.Win)*softplus(x))
	}
	return sum
}

// softplus returns log(1 + eˣ), which is −log σ(−x), without overflow.
func softplus(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// derivatives returns the gradient of the objective and its negative Hessian, the precision.
func (f *fit) derivatives(ratings []float64) (*mat.VecDense, *mat.SymDense) {
	n := len(ratings)
	gradient := mat.NewVecDense(n, nil)
	gradient.MulVec(&f.precision, mat.NewVecDense(n, ratings))
	gradient.ScaleVec(-1, gradient)
	precision := mat.NewSymDense(n, nil)
	precision.CopySym(&f.precision)
	for _, g := range f.games {
		p := logistic(ratings[g.First] - ratings[g.Second] + f.position)
		k := g.weight()
		gradient.SetVec(g.First, gradient.AtVec(g.First)+k*g.Win-k*p)
		gradient.SetVec(g.Second, gradient.AtVec(g.Second)-(k*g.Win-k*p))
		w := k * p * (1 - p)
		precision.SetSym(g.First, g.First, precision.At(g.First, g.First)+w)
		precision.SetSym(g.Second, g.Second, precision.At(g.Second, g.Second)+w)
		precision.SetSym(g.First, g.Second, precision.At(g.First, g.Second)-w)
	}
	return gradient, precision
}

// draw returns count rating vectors from the posterior: mode + L⁻ᵀz, for z standard normal, has
// the covariance (L·Lᵀ)⁻¹.
func (p *Posterior) draw(r *source, count int) [][]float64 {
	n := len(p.Mean)
	columns := make([][]float64, n) // of L, so that both operands of the inner loop are contiguous
	for j := range columns {
		columns[j] = make([]float64, n)
		for i := j; i < n; i++ {
			columns[j][i] = p.root.At(i, j)
		}
	}
	samples := make([][]float64, count)
	for s := range samples {
		x := make([]float64, n)
		for i := range x {
			x[i] = r.normal()
		}
		for i := n - 1; i >= 0; i-- { // solves Lᵀx = z from the last row up
			column, sum := columns[i], x[i]
			for j := i + 1; j < n; j++ {
				sum -= column[j] * x[j]
			}
			x[i] = sum / column[i]
		}
		floats.Add(x, p.Mean)
		samples[s] = x
	}
	return samples
}
