package winrate

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"

	"coeval/runners/glm"
)

// Outcome selects the share of a game that the figures use.
type Outcome string

// The outcomes.
const (
	// Hard counts a win as 1, a tie as 1/2.
	Hard Outcome = "hard"
	// Soft counts a much better answer as 1 and a better one as 3/4.
	Soft Outcome = "soft"
)

func (r *Round) outcome(o Outcome) float64 {
	if o == Soft {
		return r.Soft
	}
	return r.Hard
}

// Estimate is a figure with its 95 % interval from a bootstrap over prompts.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Figures describe one match. Shares lie in [0, 1]; a pointer is null where there is no figure.
type Figures struct {
	A     string `json:"a"`
	B     string `json:"b"`
	Tally Tally  `json:"tally"`
	// WinRate is the mean over prompts of the share that A got.
	WinRate *Estimate `json:"win_rate"`
	// LengthControlled is the win rate at equal lengths.
	LengthControlled *LengthControlled `json:"length_controlled"`
	// StyleControlled is the win rate at equal length and Markdown.
	StyleControlled *StyleControlled `json:"style_controlled"`
	// Consistent is the share of replicates whose two orders agree, FirstShown the share of the
	// decided games that the answer shown first won.
	Consistent *float64 `json:"consistent"`
	FirstShown *float64 `json:"first_shown"`
	// MinDifference is the least distance of a win rate from 1/2 that this number of prompts detects
	// with a power of 80 % in a two-sided test at 5 %, from the standard deviation between prompts.
	MinDifference *float64 `json:"min_difference"`
	// CharsA and CharsB are mean lengths in Unicode code points.
	CharsA *float64 `json:"chars_a"`
	CharsB *float64 `json:"chars_b"`
	// Categories are by name, for prompts with a category.
	Categories []Category `json:"categories,omitempty"`
}

// Category is the win rate on the prompts of one category.
type Category struct {
	Name    string    `json:"name"`
	Prompts int       `json:"prompts"`
	WinRate *Estimate `json:"win_rate"`
}

// LengthControlled is the fit of
//
//	P(A gets the round) = σ(θ + φ·tanh(Δ/s) + ψ·γ)
//
// to the outcomes, with Δ the difference of the lengths in code points and s its standard deviation
// (Dubois et al., arXiv 2404.04475). The estimate is the mean over prompts of σ(θ + ψ·γ), which is
// the win rate at Δ = 0. Where games of other models on the same prompts are known, γ is the
// difficulty that they give; else ψ is 0 and the form is minimal. Neither is the figure that
// AlpacaEval publishes, which fits to games that are not public in this form.
type LengthControlled struct {
	Estimate

	// Form is minimal or difficulty.
	Form  string  `json:"form"`
	Theta float64 `json:"theta"`
	Phi   float64 `json:"phi"`
	Psi   float64 `json:"psi"`
	// Scale is s, in code points.
	Scale float64 `json:"scale"`
}

// The forms of [LengthControlled].
const (
	MinimalForm    = "minimal"
	DifficultyForm = "difficulty"
)

// StyleControlled is the fit of P(A gets the round) = σ(θ + Σ φ_i·x_i) with the differences x of
// length, headers, lists and bold text, each divided by its standard deviation, as Arena-Hard v2
// defines them; see package style. The estimate is σ(θ). Arena-Hard also subtracts the mean of each
// difference over all models. With one match that would leave the mean difference of style in θ,
// so that it is not subtracted here.
type StyleControlled struct {
	Estimate

	Theta   float64 `json:"theta"`
	Length  float64 `json:"length"`
	Headers float64 `json:"headers"`
	Lists   float64 `json:"lists"`
	Bold    float64 `json:"bold"`
}

// Options decide how figures are computed.
type Options struct {
	// Outcome is hard or soft. Empty means hard.
	Outcome Outcome
	// Resamples is the number of bootstrap resamples. Zero means 1000.
	Resamples int
	// Difficulty gives γ of each prompt; see [Difficulty]. Nil means none.
	Difficulty map[string]float64
}

func (o Options) withDefaults() Options {
	if o.Outcome == "" {
		o.Outcome = Hard
	}
	if o.Resamples == 0 {
		o.Resamples = 1000
	}
	return o
}

// minRounds is the least number of rounds that a fit with a slope and an interval needs.
const minRounds = 3

// Of returns the figures of a match.
func Of(m *Match, o Options) *Figures {
	o = o.withDefaults()
	f := &Figures{A: m.A, B: m.B, Tally: m.Tally}
	t := &m.Tally
	f.Consistent = ratio(t.Agree, t.BothOrders)
	f.FirstShown = ratio(t.FirstWins, t.FirstWins+t.SecondWins)
	n := len(m.Rounds)
	if n == 0 {
		return f
	}
	s := newSample(m.Rounds, o)
	resamples := resample(n, o.Resamples)
	f.WinRate = s.estimate(resamples, s.winRate)
	f.CharsA, f.CharsB = s.meanChars()
	if n >= minRounds {
		// z(0.975) + z(0.8) = 1.960 + 0.842 standard errors.
		least := 2.802 * stat.StdDev(s.y, nil) / math.Sqrt(float64(n))
		f.MinDifference = &least
		f.LengthControlled = s.lengthControlled(resamples)
		f.StyleControlled = s.styleControlled(resamples)
	}
	f.Categories = s.categories(m.Rounds, resamples)
	return f
}

// MinDifference returns the least distance of a win rate from 1/2 that this number of prompts will
// detect with a power of 80 % in a two-sided test at 5 %. Before any game it takes the standard
// deviation of a prompt's outcome as 0.45: 0.5 is the deviation of hard outcomes without ties, and orders that
// disagree make it smaller.
func MinDifference(prompts int) float64 { return 2.802 * 0.45 / math.Sqrt(float64(max(prompts, 1))) }

func ratio(part, all int) *float64 {
	if all == 0 {
		return nil
	}
	r := float64(part) / float64(all)
	return &r
}

// sample is the rounds of a match as numbers.
type sample struct {
	rounds []Round
	y      []float64
	// length and style are the rows of the two fits.
	length, style [][]float64
	scale         float64
	form          string
	gamma         []float64
}

func newSample(rounds []Round, o Options) *sample {
	s := &sample{rounds: rounds, form: MinimalForm, gamma: make([]float64, len(rounds))}
	differences := make([]float64, len(rounds))
	raw := make([][4]float64, len(rounds))
	for i := range rounds {
		r := &rounds[i]
		s.y = append(s.y, r.outcome(o.Outcome))
		differences[i] = float64(r.A.Chars - r.B.Chars)
		raw[i] = features(&r.A, &r.B)
		s.gamma[i] = o.Difficulty[r.PromptID]
	}
	if deviation := stat.PopStdDev(s.gamma, nil); deviation > 0 {
		s.form = DifficultyForm
		mean := stat.Mean(s.gamma, nil)
		for i := range s.gamma {
			s.gamma[i] = (s.gamma[i] - mean) / deviation
		}
	}
	if len(rounds) > 1 {
		s.scale = stat.StdDev(differences, nil)
	}
	for i := range rounds {
		row := []float64{1, 0, s.gamma[i]}
		if s.scale > 0 {
			row[1] = math.Tanh(differences[i] / s.scale)
		}
		s.length = append(s.length, row)
	}
	s.style = scaled(raw)
	return s
}

// features returns the differences of two answers, each between −1 and 1:
//
//	(L_a − L_b) / (L_a + L_b)                       length
//	(D_a − D_b) / (D_a + D_b + 1),  D = count/(L+1)  headers, lists, bold
//
// Lengths are in Unicode code points. Arena-Hard counts tokens; the first ratio hardly depends on the
// unit, and the densities count four characters as a token.
func features(a, b *Answer) [4]float64 {
	const charsPerToken = 4
	lengthA, lengthB := float64(a.Chars)/charsPerToken, float64(b.Chars)/charsPerToken
	var f [4]float64
	if lengthA+lengthB > 0 {
		f[0] = (lengthA - lengthB) / (lengthA + lengthB)
	}
	for i, counts := range [3][2]int{
		{a.Style.Headers, b.Style.Headers}, {a.Style.Lists, b.Style.Lists}, {a.Style.Bold, b.Style.Bold},
	} {
		densityA, densityB := float64(counts[0])/(lengthA+1), float64(counts[1])/(lengthB+1)
		f[1+i] = (densityA - densityB) / (densityA + densityB + 1)
	}
	return f
}

// scaled returns rows of 1 and the features, each divided by its standard deviation.
func scaled(raw [][4]float64) [][]float64 {
	var deviations [4]float64
	column := make([]float64, len(raw))
	for k := range deviations {
		for i := range raw {
			column[i] = raw[i][k]
		}
		if len(raw) > 1 {
			deviations[k] = stat.StdDev(column, nil)
		}
	}
	rows := make([][]float64, len(raw))
	for i := range raw {
		rows[i] = []float64{1, 0, 0, 0, 0}
		for k, d := range deviations {
			if d > 0 {
				rows[i][1+k] = raw[i][k] / d
			}
		}
	}
	return rows
}

// winRate returns the weighted mean outcome. Weights of nil are all 1.
func (s *sample) winRate(weights []float64) float64 { return stat.Mean(s.y, weights) }

// estimate computes a figure on all rounds and on each resample.
func (s *sample) estimate(resamples [][]float64, figure func(weights []float64) float64) *Estimate {
	values := make([]float64, len(resamples))
	for i, weights := range resamples {
		values[i] = figure(weights)
	}
	e := interval(figure(nil), values)
	return &e
}

// interval leaves the 2.5 % of the resampled values at each end out, rounded down. It sorts them.
func interval(value float64, resampled []float64) Estimate {
	if len(resampled) == 0 {
		return Estimate{Value: value, Low: value, High: value}
	}
	slices.Sort(resampled)
	out := len(resampled) / 40
	return Estimate{Value: value, Low: resampled[out], High: resampled[len(resampled)-1-out]}
}

func (s *sample) lengthControlled(resamples [][]float64) *LengthControlled {
	fitted := glm.Fit(s.length, s.y, nil, glm.Ridge, nil)
	controlled := func(b, weights []float64) float64 {
		at := make([]float64, len(s.gamma))
		for i, g := range s.gamma {
			at[i] = glm.Logistic(b[0] + b[2]*g)
		}
		return stat.Mean(at, weights)
	}
	e := s.estimate(resamples, func(weights []float64) float64 {
		if weights == nil {
			return controlled(fitted, nil)
		}
		return controlled(glm.Fit(s.length, s.y, weights, glm.Ridge, fitted), weights)
	})
	return &LengthControlled{Estimate: *e, Form: s.form, Theta: fitted[0], Phi: fitted[1], Psi: fitted[2], Scale: s.scale}
}

func (s *sample) styleControlled(resamples [][]float64) *StyleControlled {
	fitted := glm.Fit(s.style, s.y, nil, glm.Ridge, nil)
	e := s.estimate(resamples, func(weights []float64) float64 {
		return glm.Logistic(glm.Fit(s.style, s.y, weights, glm.Ridge, fitted)[0])
	})
	return &StyleControlled{Estimate: *e, Theta: fitted[0], Length: fitted[1], Headers: fitted[2], Lists: fitted[3], Bold: fitted[4]}
}

func (s *sample) meanChars() (a, b *float64) {
	var sumA, sumB float64
	for i := range s.rounds {
		sumA += float64(s.rounds[i].A.Chars)
		sumB += float64(s.rounds[i].B.Chars)
	}
	n := float64(len(s.rounds))
	sumA, sumB = sumA/n, sumB/n
	return &sumA, &sumB
}

func (s *sample) categories(rounds []Round, resamples [][]float64) []Category {
	byName := map[string][]int{}
	for i := range rounds {
		byName[rounds[i].Category] = append(byName[rounds[i].Category], i)
	}
	if _, ok := byName[""]; ok && len(byName) == 1 {
		return nil
	}
	var out []Category
	for name, own := range byName {
		figure := func(weights []float64) float64 { return meanOf(s.y, weights, own) }
		var values []float64
		for _, weights := range resamples {
			if v := figure(weights); !math.IsNaN(v) { // a resample may lack the category
				values = append(values, v)
			}
		}
		e := interval(figure(nil), values)
		out = append(out, Category{Name: name, Prompts: len(own), WinRate: &e})
	}
	slices.SortFunc(out, func(x, y Category) int {
		if x.Prompts != y.Prompts {
			return y.Prompts - x.Prompts
		}
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	return out
}

// meanOf returns the weighted mean of y at these indices, NaN where the weights are all zero.
func meanOf(y, weights []float64, indices []int) float64 {
	var sum, total float64
	for _, i := range indices {
		w := 1.0
		if weights != nil {
			w = weights[i]
		}
		sum += w * y[i]
		total += w
	}
	return sum / total
}

// resample returns count vectors of how often each of n prompts was drawn, from a fixed seed.
func resample(n, count int) [][]float64 {
	r := rand.New(rand.NewPCG(0x636f6576616c, uint64(n)))
	out := make([][]float64, count)
	for i := range out {
		out[i] = make([]float64, n)
		for range n {
			out[i][r.IntN(n)]++
		}
	}
	return out
}

// Difficulty returns γ of each prompt from the matches of other models against the same baseline:
// the log-odds of their mean outcome, with half a win and half a loss added. The result is empty
// without matches. Prompts on which only this model played have 0, which is the middle.
func Difficulty(others []*Match, o Outcome) map[string]float64 {
	sums, counts := map[string]float64{}, map[string]float64{}
	for _, m := range others {
		for i := range m.Rounds {
			r := &m.Rounds[i]
			sums[r.PromptID] += r.outcome(o)
			counts[r.PromptID]++
		}
	}
	gamma := make(map[string]float64, len(sums))
	for id, sum := range sums {
		gamma[id] = math.Log((sum + 0.5) / (counts[id] - sum + 0.5))
	}
	return gamma
}

// Interval returns the estimate, for package pages.
func (l *LengthControlled) Interval() *Estimate { return &l.Estimate }

// Interval returns the estimate, for package pages.
func (s *StyleControlled) Interval() *Estimate { return &s.Estimate }
