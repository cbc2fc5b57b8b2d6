package calibrate

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/labels"
	"coeval/runners/rank"
)

// sample has the numbers behind the resampled figures.
type sample struct {
	// agree has the agreement on each usable pair, decided on those without a tie.
	agree, decided []float64
	// x and y are the values whose ranks are correlated.
	x, y []float64
}

func (s *sample) join(t *sample) {
	s.agree = append(s.agree, t.agree...)
	s.decided = append(s.decided, t.decided...)
	s.x = append(s.x, t.x...)
	s.y = append(s.y, t.y...)
}

// figureCount is the number of figures of a sample.
const figureCount = 4

// figures are agreement without and with ties, and Spearman's and Kendall's correlation; NaN for a figure
// without data.
func (s *sample) figures() [figureCount]float64 {
	out := [figureCount]float64{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	if n := len(s.decided); n > 0 {
		out[0] = total(s.decided) / float64(n)
	}
	if n := len(s.agree); n > 0 {
		out[1] = total(s.agree) / float64(n)
	}
	if r, ok := rank.Spearman(s.x, s.y); ok {
		out[2] = r
	}
	if r, ok := rank.Kendall(s.x, s.y); ok {
		out[3] = r
	}
	return out
}

func total(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}

// samples returns one sample of each prompt, in the order of their IDs.
func (f *Figures) samples() []sample {
	places := map[string]int{}
	var all []sample
	of := func(response int) *sample {
		id := f.Responses[response].PromptID
		if _, ok := places[id]; !ok { // responses are in the order of their prompts
			places[id] = len(all)
			all = append(all, sample{})
		}
		return &all[places[id]]
	}
	for i := range f.Responses {
		of(i)
	}
	for i := range f.Pairs {
		p := &f.Pairs[i]
		if p.Agree == nil {
			continue
		}
		s := of(p.First)
		s.agree = append(s.agree, *p.Agree)
		if p.People != Tie && p.Judge != Tie {
			s.decided = append(s.decided, *p.Agree)
		}
		if f.Labels.Kind == labels.Pairs {
			d, label := f.difference(p), p.People.sign()
			s.x = append(s.x, d, -d)
			s.y = append(s.y, label, -label)
		}
	}
	for _, label := range f.Scores {
		if mean := f.Responses[label.Response].Mean; mean != nil {
			s := of(label.Response)
			s.x = append(s.x, *mean)
			s.y = append(s.y, label.People)
		}
	}
	return all
}

// bootstrap fills in the figures that have intervals.
func (f *Figures) bootstrap() {
	prompts := f.samples()
	var whole sample
	for i := range prompts {
		whole.join(&prompts[i])
	}
	values := whole.figures()
	drawn := make([][figureCount]float64, f.Bootstrap.Resamples)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range drawn {
		group.Go(func() error {
			// Each resample has its own stream, so the order of goroutines does not matter.
			r := rand.New(rand.NewPCG(f.Bootstrap.Seed, uint64(i))) //nolint:gosec // chance, no secret
			var s sample
			for range prompts {
				s.join(&prompts[r.IntN(len(prompts))])
			}
			drawn[i] = s.figures()
			return nil
		})
	}
	_ = group.Wait() // no goroutine fails
	estimate := func(figure int) *Estimate {
		if math.IsNaN(values[figure]) {
			return nil
		}
		e := &Estimate{Value: values[figure]}
		var column []float64
		for i := range drawn {
			if v := drawn[i][figure]; !math.IsNaN(v) {
				column = append(column, v)
			}
		}
		if 2*len(column) >= len(drawn) && len(prompts) > 1 {
			slices.Sort(column)
			tail := (1 - f.Bootstrap.Level) / 2
			low, high := quantile(column, tail), quantile(column, 1-tail)
			e.Low, e.High = &low, &high
		}
		return e
	}
	if f.Agreement != nil {
		f.Agreement.WithoutTies, f.Agreement.WithTies = estimate(0), estimate(1)
	}
	f.Ranks = Ranks{Of: len(whole.x), Spearman: estimate(2), Kendall: estimate(3)}
	if f.Labels.Kind == labels.Pairs {
		f.Ranks.Of /= 2 // each pair is in both orders
	}
}

// quantile is linear between the values around its place, as numpy's.
func quantile(sorted []float64, q float64) float64 {
	place := q * float64(len(sorted)-1)
	i := int(place)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (place-float64(i))*(sorted[i+1]-sorted[i])
}
