package schemas

import "math"

// HasDecimals reports whether x is the float64 nearest to a number with at most n decimals.
func HasDecimals(x float64, n int) bool {
	scale := math.Pow10(n)
	return math.Abs(x) < 1e9 && math.Round(x*scale)/scale == x
}
