package reference

import (
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"gonum.org/v1/gonum/mat"

	"coeval/schemas"
)

// The prior over ratings, in logits and rubric points: ratings are normal with the covariance
// 1.2²·exp(−Δs²/(2·0.8²)) + 0.7²·[same judgment], for a score difference of Δs.
const (
	priorShared = 1.2
	priorLength = 0.8
	priorOwn    = 0.7
)

// draws is the number of rating vectors that are drawn in each round.
const draws = 128

// slack is how much two programs may differ in an expected regret or an information, which are sums
// over 128 draws of numbers of the order of 1. It is far above rounding and far below the differences
// of distinct pairs.
const slack = 1e-6

// Asking is the rule by which comparisons are requested until a selection is settled.
type Asking struct {
	// Seed is the prompt's ID.
	Seed string
	// Share is the share of the spread below which the regret settles, Most the largest number of
	// comparisons.
	Share float64
	Most  int
}

// A Step is the state of a prompt after some rounds.
type Step struct {
	// Regrets and Spread are in logits. There are several regrets if ratings are too close to determine
	// the pick: one for each possible pick.
	Regrets []float64
	Spread  float64
	// Stops contains the possible reasons to stop, "" for going on. It has several if the numbers are
	// too close to decide.
	Stops []schemas.Stop

	asked   [][]bool
	pairs   int
	samples [][]float64
	asking  *Asking
}

// A duel is a verdict on two judgments in the order in which they were shown: the probability that the
// first one wins, 1 or 0 unless it is a read.
type duel struct {
	first, second int
	win           float64
	// weight is the number of verdicts that it counts as.
	weight float64
}

// readWeight is the weight of a read.
const readWeight = 10

func (p *Prompt) duel(first, second int, win float64) duel {
	d := duel{first: first, second: second, win: win, weight: 1}
	if p.Reads != nil {
		d.weight = readWeight
	}
	return d
}

// Begin returns the state before any round.
func (p *Prompt) Begin(a *Asking) *Step { return p.step(a, p.grid(), nil, 0) }

// Next returns the state after a round that requested these pairs in both orders. Rounds are all rounds
// so far.
func (p *Prompt) Next(a *Asking, rounds [][][2]int) *Step {
	asked, pairs := p.grid(), 0
	var duels []duel
	for _, round := range rounds {
		for _, pair := range round {
			asked[pair[0]][pair[1]], asked[pair[1]][pair[0]] = true, true
			pairs++
			for _, order := range [][2]int{pair, {pair[1], pair[0]}} {
				if win, ok := p.win(order[0], order[1]); ok {
					duels = append(duels, p.duel(order[0], order[1], win))
				}
			}
		}
	}
	return p.step(a, asked, duels, pairs)
}

func (p *Prompt) grid() [][]bool {
	grid := make([][]bool, len(p.Judgments))
	for i := range grid {
		grid[i] = make([]bool, len(p.Judgments))
	}
	return grid
}

func (p *Prompt) step(a *Asking, asked [][]bool, duels []duel, pairs int) *Step {
	wins := [2]float64{2, 2} // in first and in second place, with two added to each
	for _, d := range duels {
		wins[0] += d.win
		wins[1] += 1 - d.win
	}
	mean, precision := p.mode(duels, math.Log(wins[0])-math.Log(wins[1]))
	s := &Step{asked: asked, pairs: pairs, samples: sample(mean, precision, a.Seed, pairs), asking: a}
	for _, x := range s.samples {
		s.Spread += (x[top(x)] - x[bottom(x)]) / draws
	}
	for _, best := range within(mean, mean[top(mean)]) {
		for _, worst := range within(mean, mean[bottom(mean)]) {
			regret := 0.0
			for _, x := range s.samples {
				regret += (x[top(x)] - x[best] + x[worst] - x[bottom(x)]) / draws
			}
			s.Regrets = append(s.Regrets, regret)
			for _, stop := range s.stops(best, worst, regret) {
				if !slices.Contains(s.Stops, stop) {
					s.Stops = append(s.Stops, stop)
				}
			}
		}
	}
	return s
}

// within returns the places of the ratings that equal one but for rounding.
func within(ratings []float64, one float64) (places []int) {
	for i, x := range ratings {
		if math.Abs(x-one) <= slack {
			places = append(places, i)
		}
	}
	return places
}

// stops returns the possible reasons to stop with these picks.
func (s *Step) stops(best, worst int, regret float64) []schemas.Stop {
	n := len(s.asked)
	if 2*s.pairs == n*(n-1) {
		return []schemas.Stop{schemas.StopAllPairs}
	}
	var stops []schemas.Stop
	known := slices.Contains(s.asked[best], true) && slices.Contains(s.asked[worst], true)
	if distance := regret - s.asking.Share*s.Spread; known && distance <= slack {
		stops = []schemas.Stop{schemas.StopSettled}
		if distance < -slack {
			return stops
		}
	}
	if 2*(s.pairs+1) > s.asking.Most {
		return append(stops, schemas.StopBound)
	}
	return append(stops, "")
}

func top(x []float64) int {
	at := 0
	for i := range x {
		if x[i] > x[at] {
			at = i
		}
	}
	return at
}

func bottom(x []float64) int {
	at := 0
	for i := range x {
		if x[i] <= x[at] {
			at = i
		}
	}
	return at
}

// Explains reports whether these pairs are a round that follows from the state. The first pair is the
// one with the most information about the best judgment. The second is the one of the others with the
// most information about the worst judgment, unless it would exceed the bound on comparisons. Should is
// that round.
func (s *Step) Explains(round [][2]int) (ok bool, should [][2]int) {
	asked := make([][]bool, len(s.asked))
	for i := range asked {
		asked[i] = slices.Clone(s.asked[i])
	}
	rest := slices.Clone(round)
	strengths := s.strengths()
	ok = true
	for k, end := range []func([]float64) int{top, bottom} {
		if 2*(s.pairs+k+1) > s.asking.Most {
			break
		}
		most, pair := math.Inf(-1), [2]int{}
		ends := make([]int, len(s.samples))
		for d, x := range s.samples {
			ends[d] = end(x)
		}
		values := map[[2]int]float64{}
		for i := range asked {
			for j := i + 1; j < len(asked); j++ {
				if asked[i][j] {
					continue
				}
				v := information(strengths, i, j, ends, most-3*slack)
				values[[2]int{i, j}] = v
				if v > most+slack {
					most, pair = v, [2]int{i, j}
				}
			}
		}
		if len(values) == 0 {
			break
		}
		should = append(should, pair)
		at := slices.IndexFunc(rest, func(r [2]int) bool { v, there := values[r]; return there && v >= most-2*slack })
		if at < 0 {
			ok = false
			asked[pair[0]][pair[1]] = true
			continue
		}
		asked[rest[at][0]][rest[at][1]] = true
		rest = slices.Delete(rest, at, at+1)
	}
	return ok && len(rest) == 0, should
}

// strengths returns e^(x−m) of every rating of every draw, with the draw's largest rating m, so that the probability
// of a win is a quotient. Without m, large ratings would make it ∞/∞.
func (s *Step) strengths() [][]float64 {
	all := make([][]float64, len(s.samples))
	for d, x := range s.samples {
		all[d] = make([]float64, len(x))
		most := slices.Max(x)
		for i := range x {
			all[d][i] = math.Exp(x[i] - most)
		}
	}
	return all
}

// information returns the mutual information of the verdict on two judgments and of which judgment is
// at one end: the entropy of the mean probability less the mean entropy given the judgment at the end.
// Ends has that judgment for each draw. Less than enough need not be exact.
func information(strengths [][]float64, i, j int, ends []int, enough float64) float64 {
	n := len(strengths[0])
	sums, counts := make([]float64, n), make([]float64, n)
	total := 0.0
	for d, e := range strengths {
		p := e[i] / (e[i] + e[j])
		sums[ends[d]] += p
		counts[ends[d]]++
		total += p
	}
	value := uncertainty(total / draws)
	for e := range n {
		if counts[e] > 0 {
			value -= counts[e] / draws * uncertainty(sums[e]/counts[e])
		}
		if value < enough {
			break // no later term is negative
		}
	}
	return value
}

func uncertainty(p float64) float64 {
	if p <= 0 || p >= 1 {
		return 0
	}
	return -p*math.Log(p) - (1-p)*math.Log(1-p)
}

// ScoreRatings returns the ratings under the prior over scores, rounded to 1e-9. The position term is
// ln(w2/w1) of the position weights, at most 5 in size.
func (p *Prompt) ScoreRatings(w schemas.PositionWeights) []float64 {
	var duels []duel
	for m := range p.Winners {
		for n := range p.Winners[m] {
			if win, ok := p.win(m, n); ok && m != n {
				duels = append(duels, p.duel(m, n, win))
			}
		}
	}
	position := 0.0
	switch {
	case w.First > 0 && w.Second > 0:
		position = max(-5, min(5, math.Log(w.Second)-math.Log(w.First)))
	case w.Second > 0:
		position = 5
	case w.First > 0:
		position = -5
	}
	mean, _ := p.mode(duels, position)
	for i := range mean {
		mean[i] = math.Round(mean[i]*1e9) / 1e9
	}
	return mean
}

// mode returns the ratings of the highest posterior density, and the negative Hessian of its logarithm
// there.
func (p *Prompt) mode(duels []duel, position float64) ([]float64, *mat.Dense) {
	n := len(p.Judgments)
	prior := mat.NewDense(n, n, nil)
	for i := range n {
		for j := range n {
			d := (p.Judgments[i].Score - p.Judgments[j].Score) / priorLength
			prior.Set(i, j, priorShared*priorShared*math.Exp(-d*d/2))
			if i == j {
				prior.Set(i, i, priorShared*priorShared+priorOwn*priorOwn)
			}
		}
	}
	var inverse mat.Dense
	if inverse.Inverse(prior) != nil {
		return make([]float64, n), prior
	}
	return newton(n, func(x []float64) (*mat.VecDense, *mat.Dense) {
		var g mat.VecDense
		g.MulVec(&inverse, mat.NewVecDense(n, x))
		g.ScaleVec(-1, &g)
		h := mat.DenseCopyOf(&inverse)
		for _, d := range duels {
			lose := 1 / (1 + math.Exp(x[d.first]-x[d.second]+position))
			pull := d.weight * (d.win*lose - (1-d.win)*(1-lose))
			g.SetVec(d.first, g.AtVec(d.first)+pull)
			g.SetVec(d.second, g.AtVec(d.second)-pull)
			c := d.weight * lose * (1 - lose)
			h.Set(d.first, d.first, h.At(d.first, d.first)+c)
			h.Set(d.second, d.second, h.At(d.second, d.second)+c)
			h.Set(d.first, d.second, h.At(d.first, d.second)-c)
			h.Set(d.second, d.first, h.At(d.second, d.first)-c)
		}
		return &g, h
	})
}

// sample draws rating vectors x = mean + y from the normal distribution with this precision H = L·Lᵀ:
// y solves Lᵀy = z, and z is standard normal.
func sample(mean []float64, precision *mat.Dense, seed string, pairs int) [][]float64 {
	n := len(mean)
	l := make([][]float64, n)
	for i := range n {
		l[i] = make([]float64, n)
		for j := range i + 1 {
			sum := precision.At(i, j)
			for k := range j {
				sum -= l[i][k] * l[j][k]
			}
			if i == j {
				l[i][i] = math.Sqrt(sum)
			} else {
				l[i][j] = sum / l[j][j]
			}
		}
	}
	normal := normals(xxhash.Sum64String(seed) ^ uint64(pairs)*0x9e3779b97f4a7c15)
	out := make([][]float64, draws)
	for s := range out {
		z, y := make([]float64, n), make([]float64, n)
		for i := range z {
			z[i] = normal()
		}
		out[s] = make([]float64, n)
		for i := n - 1; i >= 0; i-- {
			y[i] = z[i]
			for j := i + 1; j < n; j++ {
				y[i] -= l[j][i] * y[j]
			}
			y[i] /= l[i][i]
			out[s][i] = mean[i] + y[i]
		}
	}
	return out
}

// normals returns a generator of standard normal numbers: SplitMix64 (Steele, Lea and Flood, Fast
// Splittable Pseudorandom Number Generators, 2014) and the polar form r·sin, r·cos of Box and Muller,
// the cosine first.
func normals(state uint64) func() float64 {
	uniform := func() float64 {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb
		return float64((z ^ (z >> 31)) >> 11)
	}
	var kept []float64
	return func() float64 {
		if len(kept) == 0 {
			r := math.Sqrt(-2 * math.Log((uniform()+1)/(1<<53)))
			angle := 2 * math.Pi * uniform() / (1 << 53)
			kept = []float64{r * math.Cos(angle), r * math.Sin(angle)}
		}
		x := kept[0]
		kept = kept[1:]
		return x
	}
}
