package calibrate

import (
	"cmp"
	"math"
	"slices"

	"coeval/transforms/score"
)

// point is a value to be fitted at a place.
type point struct{ at, value float64 }

// isotonic returns the blocks of the isotonic regression of the points in their order: of all
// functions that never fall, the one with the least sum of squares. It pools adjacent violators
// (Ayer et al., 1955): whenever a block's mean is not above that of the one before, both become one.
// Values rise from block to block, and At is the mean place of a block's points.
func isotonic(points []point) []Block {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.value, b.value)) })
	var blocks []Block
	for i := 0; i < len(points); {
		own := Block{From: points[i].at, To: points[i].at, At: points[i].at}
		for ; i < len(points) && points[i].at == own.At; i++ { // at one place there is one value
			own.People += points[i].value
			own.Labels++
		}
		own.People /= float64(own.Labels)
		for k := len(blocks) - 1; k >= 0 && blocks[k].People >= own.People; k-- {
			own = pool(blocks[k], own)
			blocks = blocks[:k]
		}
		blocks = append(blocks, own)
	}
	return blocks
}

func pool(a, b Block) Block {
	n, m := float64(a.Labels), float64(b.Labels)
	return Block{From: a.From, To: b.To, At: (n*a.At + m*b.At) / (n + m), People: (n*a.People + m*b.People) / (n + m), Labels: a.Labels + b.Labels}
}

// at is the map of blocks: linear between them, level outside.
func at(blocks []Block, x float64) float64 {
	i, found := slices.BinarySearchFunc(blocks, x, func(b Block, x float64) int { return cmp.Compare(b.At, x) })
	switch {
	case found || i == 0:
		return blocks[i].People
	case i == len(blocks):
		return blocks[i-1].People
	}
	low, high := blocks[i-1], blocks[i]
	return low.People + (high.People-low.People)*(x-low.At)/(high.At-low.At)
}

// step is the fitted value at x: that of the last block that begins there or before.
func step(blocks []Block, x float64) float64 {
	i, found := slices.BinarySearchFunc(blocks, x, func(b Block, x float64) int { return cmp.Compare(b.From, x) })
	if !found {
		i = max(i-1, 0)
	}
	return blocks[i].People
}

// parts is in how many the labels are cut to tell what a map is worth.
const parts = 5

// fit fits people's scores; nil without a scored response.
func (f *Figures) fit() *Fit {
	var all []point
	var prompts []string
	for _, s := range f.Scores {
		if r := &f.Responses[s.Response]; r.Mean != nil {
			all = append(all, point{*r.Mean, s.People})
			prompts = append(prompts, r.PromptID)
		}
	}
	out := &Fit{Labels: len(all)}
	if len(all) == 0 {
		out.Problem = "no labelled response has a score"
		return out
	}
	out.Blocks = isotonic(all)
	var squares float64
	for _, p := range all {
		out.Bias += (p.at - p.value) / float64(len(all))
		squares += (p.at - p.value) * (p.at - p.value)
	}
	out.Error = math.Sqrt(squares / float64(len(all)))
	out.Mapped = mapped(all, prompts)
	out.Points = thousandths(out.Blocks)
	if len(out.Points) < 2 || out.Points[0].People == out.Points[len(out.Points)-1].People {
		out.Points, out.Problem = nil, "the judge's scores don't rise with people's, so that a map would tie all responses"
	}
	return out
}

// mapped returns the error of the maps that are fitted without the part that they are tried on.
func mapped(all []point, prompts []string) *float64 {
	distinct := slices.Compact(slices.Sorted(slices.Values(prompts)))
	if len(distinct) < parts {
		return nil
	}
	var squares float64
	for part := range parts {
		var fitted, tried []point
		for i, p := range all {
			place, _ := slices.BinarySearch(distinct, prompts[i])
			if place%parts == part {
				tried = append(tried, p)
			} else {
				fitted = append(fitted, p)
			}
		}
		blocks := isotonic(fitted)
		for _, p := range tried {
			off := at(blocks, p.at) - p.value
			squares += off * off
		}
	}
	e := math.Sqrt(squares / float64(len(all)))
	return &e
}

// thousandths makes a map of blocks. Those that share a thousandth of S become one.
func thousandths(blocks []Block) []score.CalibrationPoint {
	var points []score.CalibrationPoint
	var last Block
	round := func(x float64) score.Points { return score.Points(math.Round(1000 * x)) }
	for _, b := range blocks {
		if k := len(points) - 1; k >= 0 && points[k].Score == round(b.At) {
			last = pool(last, b)
			points[k].People = round(last.People)
			continue
		}
		last = b
		points = append(points, score.CalibrationPoint{Score: round(b.At), People: round(b.People)})
	}
	return points
}
