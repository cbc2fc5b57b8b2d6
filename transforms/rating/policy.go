package rating

import (
	"math"

	"github.com/cespare/xxhash/v2"
	"gonum.org/v1/gonum/floats"
)

// Policy contains the rule by which comparisons are asked until the best and the worst judgment
// are known well enough.
type Policy struct {
	// Regret is the share of the expected distance between best and worst rating below which
	// the expected regret of both picks settles a prompt. Zero means 0.25.
	Regret float64 `json:"regret"`
	// MaxComparisons bounds the comparisons of a prompt, both orders counted. Zero means 60.
	MaxComparisons int `json:"max_comparisons"`
	// Prior is the prior over ratings.
	Prior Prior `json:"prior"`
}

func (p Policy) withDefaults() Policy {
	if p.Regret == 0 {
		p.Regret = 0.25
	}
	if p.MaxComparisons == 0 {
		p.MaxComparisons = 60
	}
	return p
}

// A Stop is the reason why no further comparison of a prompt is asked.
type Stop string

// The reasons to stop. Asking means that the plan has pairs to ask.
const (
	Asking    Stop = ""
	Settled   Stop = "settled"   // the expected regret is small enough
	Exhausted Stop = "exhausted" // every pair was asked
	AtMost    Stop = "at_most"   // MaxComparisons was reached
)

// A Plan is the next round, or the reason why there is none.
type Plan struct {
	// Pairs are the pairs of indices to compare, each in both orders.
	Pairs [][2]int
	Stop  Stop
	// Best and Worst are the indices of the judgments with the highest and the lowest rating.
	Best, Worst int
	// Regret is the expected loss of both picks in logits: E[max ε − ε_best] + E[ε_worst − min ε].
	Regret float64
	// Spread is E[max ε − min ε] in logits.
	Spread float64
}

// draws is the number of posterior samples behind each estimate of a round. The standard error
// of an expected regret is then about a tenth of it, which moves the stop by less than a round.
const draws = 64

// Next returns the next round for judgments with these scores in thousandths of a rubric point,
// given all games so far. Seed must be the same for all rounds of a prompt and differ between
// prompts. The games must come in a fixed order, since sums of floats depend on it.
func (p Policy) Next(scores []int, games []Game, seed string) (Plan, error) {
	p = p.withDefaults()
	post, err := Fit(scores, games, 0, p.Prior)
	if err != nil {
		return Plan{}, err
	}
	asked := map[[2]int]bool{}
	for _, g := range games {
		asked[pairOf(g.First, g.Second)] = true
	}
	samples := post.draw(newSource(seed, len(asked)), draws)
	plan := p.assess(post, samples, len(asked))
	if plan.Stop != Asking {
		return plan, nil
	}
	for _, end := range []float64{1, -1} {
		if 2*(len(asked)+1) > p.MaxComparisons {
			break
		}
		if pair, ok := mostInformative(samples, end, asked); ok {
			asked[pair] = true
			plan.Pairs = append(plan.Pairs, pair)
		}
	}
	return plan, nil
}

func pairOf(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// assess estimates the expected regret of both picks and decides whether asking goes on after so
// many pairs.
func (p Policy) assess(post *Posterior, samples [][]float64, pairs int) Plan {
	plan := Plan{Best: extreme(post.Mean, 1), Worst: extreme(post.Mean, -1)}
	for _, x := range samples {
		high, low := x[extreme(x, 1)], x[extreme(x, -1)]
		plan.Regret += (high - x[plan.Best] + x[plan.Worst] - low) / draws
		plan.Spread += (high - low) / draws
	}
	n := len(post.Mean)
	switch {
	case pairs == n*(n-1)/2:
		plan.Stop = Exhausted
	case pairs > 0 && plan.Regret <= p.Regret*plan.Spread:
		plan.Stop = Settled
	case 2*(pairs+1) > p.MaxComparisons:
		plan.Stop = AtMost
	}
	return plan
}

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

// mostInformative returns the pair that was not asked yet whose verdict v has the largest mutual
// information with the identity e of the extreme judgment at one end:
//
//	I(v; e) = H(E[p]) − Σ_e P(e)·H(E[p | e]),   p = σ(ε_i − ε_j)
//
// with the expectations over the samples and H the entropy of a Bernoulli variable. Of equal
// pairs it returns the first. It returns false when every pair was asked.
func mostInformative(samples [][]float64, end float64, asked map[[2]int]bool) (pair [2]int, ok bool) {
	n := len(samples[0])
	extremes := make([]int, len(samples))
	counts := make([]float64, n)
	for s, x := range samples {
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
			for s, x := range samples {
				wins[extremes[s]] += logistic(x[i] - x[j])
			}
			information := entropy(floats.Sum(wins) / float64(len(samples)))
			for e, count := range counts {
				if count > 0 {
					information -= count / float64(len(samples)) * entropy(wins[e]/count)
				}
			}
			if information > best {
				best, pair, ok = information, [2]int{i, j}, true
			}
		}
	}
	return pair, ok
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// entropy returns that of a Bernoulli variable, in nats.
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
