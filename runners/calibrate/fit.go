package calibrate

import (
	"cmp"
	"math"
	"slices"

	"coeval/transforms/score"
)

// point is a value at a place.
type point struct{ at, value float64 }

// equal is the largest rounding difference between equal means of two blocks.
const equal = 1e-12

// isotonic returns the blocks of the isotonic regression of the points in their order: of all monotonic
// functions, the one with the smallest sum of squares. It pools adjacent violators (Ayer et al., 1955):
// two neighbouring blocks are merged while the second's mean is not above the first's. Values rise from
// block to block, and At is the mean place of a block's points.
func isotonic(points []point) []Block {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.value, b.value)) })
	var pools []pool
	for i := 0; i < len(points); {
		own := pool{from: points[i].at, to: points[i].at}
		for ; i < len(points) && points[i].at == own.from; i++ { // one place has one value
			own.at += points[i].at
			own.people += points[i].value
			own.labels++
		}
		for k := len(pools) - 1; k >= 0 && pools[k].mean() >= own.mean()-equal; k-- {
			own = pools[k].join(own)
			pools = pools[:k]
		}
		pools = append(pools, own)
	}
	blocks := make([]Block, len(pools))
	for i, p := range pools {
		blocks[i] = Block{From: p.from, To: p.to, At: p.at / float64(p.labels), People: p.mean(), Labels: p.labels}
	}
	return blocks
}

// pool is a block with the sums of its points' places and values. Sums do not depend on the order of
// merging, as far as floats represent them exactly; means of means would.
type pool struct {
	from, to, at, people float64
	labels               int
}

func (p pool) mean() float64 { return p.people / float64(p.labels) }

func (p pool) join(q pool) pool {
	return pool{from: p.from, to: q.to, at: p.at + q.at, people: p.people + q.people, labels: p.labels + q.labels}
}

// at evaluates the map of blocks: linear between them, constant outside.
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

// step is the fitted value at x: the value of the last block that begins at or before x.
func step(blocks []Block, x float64) float64 {
	i, found := slices.BinarySearchFunc(blocks, x, func(b Block, x float64) int { return cmp.Compare(b.From, x) })
	if !found {
		i = max(i-1, 0)
	}
	return blocks[i].People
}

// parts is the number of parts for measuring a map's error.
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

// mapped returns the error of maps on the parts that they were not fitted to.
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

// thousandths makes a map of blocks. Blocks with equal thousandths of S are merged.
func thousandths(blocks []Block) []score.CalibrationPoint {
	var points []score.CalibrationPoint
	var last pool
	round := func(x float64) score.Points { return score.Points(math.Round(1000 * x)) }
	for _, b := range blocks {
		own := pool{people: b.People * float64(b.Labels), labels: b.Labels}
		if k := len(points) - 1; k >= 0 && points[k].Score == round(b.At) {
			last = last.join(own)
			points[k].People = round(last.mean())
			continue
		}
		last = own
		points = append(points, score.CalibrationPoint{Score: round(b.At), People: round(b.People)})
	}
	return points
}
