package calibrate

import (
	"math"
	"slices"

	"coeval/runners/calibrate/isotonic"
	"coeval/transforms/score"
)

// parts is the number of parts for measuring a map's error.
const parts = 5

// fit fits people's scores; nil without a scored response.
func (f *Figures) fit() *Fit {
	var all []isotonic.Point
	var prompts []string
	for _, s := range f.Scores {
		if r := &f.Responses[s.Response]; r.Mean != nil {
			all = append(all, isotonic.Point{At: *r.Mean, Value: s.People})
			prompts = append(prompts, r.PromptID)
		}
	}
	out := &Fit{Labels: len(all)}
	if len(all) == 0 {
		out.Problem = "no labelled response has a score"
		return out
	}
	out.Blocks = isotonic.Fit(all)
	var squares float64
	for _, p := range all {
		out.Bias += (p.At - p.Value) / float64(len(all))
		squares += (p.At - p.Value) * (p.At - p.Value)
	}
	out.Error = math.Sqrt(squares / float64(len(all)))
	out.Mapped = mapped(all, prompts)
	out.Points = thousandths(out.Blocks)
	if len(out.Points) < 2 || out.Points[0].People == out.Points[len(out.Points)-1].People {
		out.Points, out.Problem = nil, "the judge's scores don't rise with people's, so that a map would tie all responses"
	}
	return out
}

// mapped returns the error of maps on the parts that they were not fitted to.
func mapped(all []isotonic.Point, prompts []string) *float64 {
	distinct := slices.Compact(slices.Sorted(slices.Values(prompts)))
	if len(distinct) < parts {
		return nil
	}
	var squares float64
	for part := range parts {
		var fitted, tried []isotonic.Point
		for i, p := range all {
			place, _ := slices.BinarySearch(distinct, prompts[i])
			if place%parts == part {
				tried = append(tried, p)
			} else {
				fitted = append(fitted, p)
			}
		}
		blocks := isotonic.Fit(fitted)
		for _, p := range tried {
			off := isotonic.At(blocks, p.At) - p.Value
			squares += off * off
		}
	}
	e := math.Sqrt(squares / float64(len(all)))
	return &e
}

// thousandths makes a map of blocks. Blocks with equal thousandths of S are merged.
func thousandths(blocks []isotonic.Block) []score.CalibrationPoint {
	var points []score.CalibrationPoint
	var people float64 // the sum of the last point's labels
	var labels int
	round := func(x float64) score.Points { return score.Points(math.Round(1000 * x)) }
	for _, b := range blocks {
		if k := len(points) - 1; k >= 0 && points[k].Score == round(b.At) {
			people += b.People * float64(b.Labels)
			labels += b.Labels
			points[k].People = round(people / float64(labels))
			continue
		}
		people, labels = b.People*float64(b.Labels), b.Labels
		points = append(points, score.CalibrationPoint{Score: round(b.At), People: round(b.People)})
	}
	return points
}
