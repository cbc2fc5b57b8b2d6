// Package isotonic fits monotonic functions to labels.
//
// Isotonic regression divides the sorted inputs into blocks. All inputs of a block get the same fitted value.
// The package also makes a map from them. The map has a block's value at the mean of the block's inputs, and is
// linear between these means.
package isotonic

import (
	"cmp"
	"slices"
)

// A Block is a block of an isotonic regression: its range, the mean of its places, and the mean of people's
// values there.
type Block struct {
	From   float64 `json:"from"`
	To     float64 `json:"to"`
	At     float64 `json:"at"`
	People float64 `json:"people"`
	Labels int     `json:"labels"`
}

// A Point is a value at a place.
type Point struct{ At, Value float64 }

// equal is the largest rounding difference between equal means of two blocks.
const equal = 1e-12

// Fit returns the blocks of the isotonic regression of the points in their order: of all monotonic
// functions, the one with the smallest sum of squares. It pools adjacent violators (Ayer et al., 1955):
// two neighbouring blocks are merged while the second's mean is not above the first's. Values rise from
// block to block, and At is the mean place of a block's points.
func Fit(points []Point) []Block {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b Point) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Value, b.Value)) })
	var pools []pool
	for i := 0; i < len(points); {
		own := pool{from: points[i].At, to: points[i].At}
		for ; i < len(points) && points[i].At == own.from; i++ { // one place has one value
			own.at += points[i].At
			own.people += points[i].Value
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

// At evaluates the map of blocks: linear between them, constant outside.
func At(blocks []Block, x float64) float64 {
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

// Step is the fitted value at x: the value of the last block that begins at or before x.
func Step(blocks []Block, x float64) float64 {
	i, found := slices.BinarySearchFunc(blocks, x, func(b Block, x float64) int { return cmp.Compare(b.From, x) })
	if !found {
		i = max(i-1, 0)
	}
	return blocks[i].People
}
