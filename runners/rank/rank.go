// Package rank computes rank correlations.
package rank

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Spearman returns Pearson's correlation of the ranks of x and y, equal values having the mean of
// theirs. It returns false with fewer than two values, or where one measure has no spread.
func Spearman(x, y []float64) (float64, bool) {
	rx, ry := ranks(x), ranks(y)
	if len(x) < 2 || flat(rx) || flat(ry) {
		return 0, false
	}
	return stat.Correlation(rx, ry, nil), true
}

func flat(values []float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool { return v != values[0] })
}

// ranks returns the rank of each value from 0 on.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	out := make([]float64, len(values))
	for i := 0; i < len(order); {
		k := i
		for k < len(order) && values[order[k]] == values[order[i]] {
			k++
		}
		for _, at := range order[i:k] {
			out[at] = float64(i+k-1) / 2
		}
		i = k
	}
	return out
}

// Kendall returns τ_b = (C − D)/√((n₀ − n₁)(n₀ − n₂)) of n₀ = n(n−1)/2 pairs, of which C have one
// order in x and y, D the other, n₁ are tied in x and n₂ in y. It returns false where that is 0/0:
// with fewer than two values, or where one measure has no spread.
//
// It counts in O(n log n) (Knight, 1966): D is the number of exchanges that sort y once the values
// are in the order of x, ties in the order of y.
func Kendall(x, y []float64) (float64, bool) {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(x[a], x[b]), cmp.Compare(y[a], y[b])) })
	sorted := make([]float64, len(y))
	var tiedX, tiedBoth, runX, runBoth int64
	for i, at := range order {
		sorted[i] = y[at]
		if i > 0 && x[at] == x[order[i-1]] {
			runX++
			tiedX += runX
			if y[at] == y[order[i-1]] {
				runBoth++
				tiedBoth += runBoth
				continue
			}
			runBoth = 0
			continue
		}
		runX, runBoth = 0, 0
	}
	discordant := exchanges(sorted, make([]float64, len(sorted)))
	var tiedY, runY int64
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			runY++
			tiedY += runY
		} else {
			runY = 0
		}
	}
	n := int64(len(x))
	all := n * (n - 1) / 2
	if all == tiedX || all == tiedY {
		return 0, false
	}
	// C + D are the pairs that are tied in neither.
	concordant := all - tiedX - tiedY + tiedBoth - discordant
	return float64(concordant-discordant) / (math.Sqrt(float64(all-tiedX)) * math.Sqrt(float64(all-tiedY))), true
}

// exchanges sorts values by merging and returns how many pairs were in the wrong order.
func exchanges(values, room []float64) int64 {
	if len(values) < 2 {
		return 0
	}
	half := len(values) / 2
	a, b := values[:half], values[half:]
	n := exchanges(a, room[:half]) + exchanges(b, room[half:])
	for k := range room {
		if len(b) == 0 || len(a) > 0 && a[0] <= b[0] {
			room[k], a = a[0], a[1:]
			continue
		}
		n += int64(len(a))
		room[k], b = b[0], b[1:]
	}
	copy(values, room)
	return n
}
