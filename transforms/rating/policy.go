package rating

import (
	"errors"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
	"gonum.org/v1/gonum/floats"

	"coeval/schemas"
)

// The defaults of [Policy].
const (
	DefaultRegret         = 0.16
	DefaultMaxComparisons = 52
)

// Policy contains the rule by which comparisons are requested until the best and the worst judgment
// are known well enough.
type Policy struct {
	// Regret is the share of the expected distance between best and worst rating below which
	// the expected regret of both picks settles a prompt, above 0 to below 1. A smaller share
	// takes more comparisons. Zero means DefaultRegret.
	Regret float64 `json:"regret"`
	// MaxComparisons bounds the comparisons of a prompt, both orders counted: 2 or more. Zero
	// means DefaultMaxComparisons.
	MaxComparisons int `json:"max_comparisons"`
	// Prior is the prior over ratings.
	Prior Prior `json:"prior,omitzero"`
}

func (p Policy) withDefaults() Policy {
	if p.Regret == 0 {
		p.Regret = DefaultRegret
	}
	if p.MaxComparisons == 0 {
		p.MaxComparisons = DefaultMaxComparisons
	}
	return p
}

// Validate returns an error that names every field with a value that is not allowed.
func (p Policy) Validate() error {
	p = p.withDefaults()
	var errs []error
	if !(p.Regret > 0 && p.Regret < 1) {
		errs = append(errs, fmt.Errorf("rating: regret is %v; allowed is above 0 to below 1", p.Regret))
	}
	if p.MaxComparisons < 2 {
		errs = append(errs, fmt.Errorf("rating: max_comparisons is %d; allowed is 2 or more", p.MaxComparisons))
	}
	return errors.Join(append(errs, p.Prior.Validate())...)
}

// A History contains the comparisons requested for a prompt so far.
type History struct {
	// Asked contains the pairs of indices that were requested, also those without a verdict.
	Asked [][2]int
	// Games contains the verdicts in the order of their requests. Sums of floats depend
	// on the order.
	Games []Game
}

// position returns the position term that the games show: the log-odds with which the first of two
// judgments wins, with two wins added to each place. Both orders of a pair are asked, so that the
// difference of the two does not bias it.
func (h *History) position() float64 {
	first, second := 2.0, 2.0
	for _, g := range h.Games {
		first += g.Win
		second += 1 - g.Win
	}
	return math.Log(first / second)
}

// A Plan is the next round, or the reason why there is none.
type Plan struct {
	// Pairs are the pairs of indices to compare, each in both orders.
	Pairs [][2]int
	// Stop is the reason why Pairs is empty. It is empty while there are pairs to request.
	Stop schemas.Stop
	// Best and Worst are the indices of the judgments with the highest and the lowest rating.
	Best, Worst int
	// Regret is the expected loss of both picks in logits: E[max ε − ε_best] + E[ε_worst − min ε].
	Regret float64
	// Spread is E[max ε − min ε] in logits.
	Spread float64
}

// draws is the number of posterior samples behind each estimate of a round. The standard error
// of an expected regret is then less than a tenth of it, which moves the stop by less than a round.
const draws = 128

// Next returns the next round for judgments with these scores in thousandths of a rubric point.
// Seed must be the same for all rounds of a prompt and differ between prompts.
func (p Policy) Next(scores []int, h History, seed string) (Plan, error) {
	p = p.withDefaults()
	post, err := Fit(scores, h.Games, h.position(), p.Prior)
	if err != nil {
		return Plan{}, err
	}
	asked, compared := map[[2]int]bool{}, make([]bool, len(scores))
	for _, pair := range h.Asked {
		asked[pairOf(pair[0], pair[1])] = true
		compared[pair[0]], compared[pair[1]] = true, true
	}
	samples := post.draw(newSource(seed, len(asked)), draws)
	plan := p.assess(post, samples, len(asked))
	if plan.Stop == schemas.StopSettled && !(compared[plan.Best] && compared[plan.Worst]) {
		plan.Stop = ""
	}
	if plan.Stop == "" && 2*(len(asked)+1) > p.MaxComparisons {
		plan.Stop = schemas.StopBound
	}
	if plan.Stop != "" {
		return plan, nil
	}
	known := newInformation(samples)
	for _, end := range []float64{1, -1} {
		if 2*(len(asked)+1) > p.MaxComparisons {
			break
		}
		if pair, ok := known.most(end, asked); ok {
			asked[pair] = true
			plan.Pairs = append(plan.Pairs, pair)
		}
	}
	return plan, nil
}

func pairOf(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// assess estimates the expected regret of both picks and decides whether they are known well
// enough after so many pairs.
func (p Policy) assess(post *Posterior, samples [][]float64, pairs int) Plan {
	plan := Plan{Best: extreme(post.Mean, 1), Worst: extreme(post.Mean, -1)}
	for _, x := range samples {
		high, low := x[extreme(x, 1)], x[extreme(x, -1)]
		plan.Regret += (high - x[plan.Best] + x[plan.Worst] - low) / draws
		plan.Spread += (high - low) / draws
	}
	plan.Regret, plan.Spread = rounded(plan.Regret), rounded(plan.Spread)
	n := len(post.Mean)
	switch {
	case pairs == n*(n-1)/2:
		plan.Stop = schemas.StopAllPairs
	case plan.Regret <= p.Regret*plan.Spread:
		plan.Stop = schemas.StopSettled
	}
	return plan
}

// rounded returns x to 1e-9, so that its last digits, which depend on the processor, decide
// nothing.
func rounded(x float64) float64 { return math.Round(x*1e9) / 1e9 }

// extreme returns the index of the highest rating for end 1 and of the lowest for end −1. Of
// equal ratings the first is the highest and the last the lowest, as ties break by ID.
func extreme(x []float64, end float64) int {
	at := 0
	for i := range x {
		if end*x[i] > end*x[at] || end < 0 && x[i] == x[at] {
			at = i
		}
	}
	return at
}

// information tells how much the verdict on a pair says about which judgment is at one end.
type information struct {
	samples [][]float64
	// strength is exp(ε) of each judgment in each sample, so that σ(ε_i − ε_j) is a quotient.
	strength [][]float64
}

// minGain is the step of [rounded]: a value that is lower than another one by more stays lower when rounded.
const minGain = 1e-9

func newInformation(samples [][]float64) *information {
	strength := make([][]float64, len(samples))
	for s, x := range samples {
		strength[s] = make([]float64, len(x))
		for i := range x {
			strength[s][i] = math.Exp(x[i])
		}
	}
	return &information{samples, strength}
}

// most returns the pair that was not asked yet whose verdict v has the largest mutual information
// with the identity e of the extreme judgment at one end:
//
//	I(v; e) = H(E[p]) − Σ_e P(e)·H(E[p | e]),   p = σ(ε_i − ε_j)
//
// with the expectations over the samples and H the entropy of a Bernoulli variable. Of equal
// pairs it returns the first. It returns false when every pair was asked.
func (k *information) most(end float64, asked map[[2]int]bool) (pair [2]int, ok bool) {
	n := len(k.samples[0])
	extremes := make([]int, len(k.samples))
	counts := make([]float64, n)
	for s, x := range k.samples {
		extremes[s] = extreme(x, end)
		counts[extremes[s]]++
	}
	best := math.Inf(-1)
	wins := make([]float64, n) // by extreme judgment
	for i := range n {
		for j := i + 1; j < n; j++ {
			if asked[[2]int{i, j}] {
				continue
			}
			clear(wins)
			for s, x := range k.strength {
				wins[extremes[s]] += x[i] / (x[i] + x[j])
			}
			total := float64(len(k.samples))
			value := entropy(floats.Sum(wins) / total)
			for e, count := range counts {
				if count > 0 {
					value -= count / total * entropy(wins[e]/count)
				}
				if value < best-minGain { // the other terms lower it further
					break
				}
			}
			if value = rounded(value); value > best {
				best, pair, ok = value, [2]int{i, j}, true
			}
		}
	}
	return pair, ok
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// entropy returns the entropy of a Bernoulli variable, in nats.
func entropy(p float64) float64 {
	if p <= 0 || p >= 1 {
		return 0
	}
	return -p*math.Log(p) - (1-p)*math.Log1p(-p)
}

// source is a counter-based random generator: SplitMix64 from a hash of the seed and the round.
type source struct {
	state uint64
	spare float64
	has   bool
}

func newSource(seed string, round int) *source {
	return &source{state: xxhash.Sum64String(seed) ^ uint64(round)*0x9e3779b97f4a7c15}
}

func (s *source) uint64() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// normal returns a standard normal number by the method of Box and Muller.
func (s *source) normal() float64 {
	if s.has {
		s.has = false
		return s.spare
	}
	u := float64(s.uint64()>>11+1) / (1 << 53) // in (0, 1]
	v := float64(s.uint64()>>11) / (1 << 53)
	radius := math.Sqrt(-2 * math.Log(u))
	sin, cos := math.Sincos(2 * math.Pi * v)
	s.spare, s.has = radius*sin, true
	return radius * cos
}
