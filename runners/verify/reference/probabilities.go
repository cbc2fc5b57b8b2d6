package reference

import (
	"math"
	"math/big"
	"strconv"
)

// LowMass is the recorded reason of a read whose labels are too unlikely.
const LowMass = "low_mass"

// A Token is a read: labels with the natural logarithms of their probabilities.
type Token struct {
	Labels   []string
	LogProbs []float64
}

// Reading is the result of a read.
type Reading struct {
	Mass float64
	// Value and Variance are valid if Parsed.
	Value, Variance float64
	Parsed          bool
}

// Read computes mass, expected value and variance under the probabilities normalized over the labels:
//
//	m = Σ e^l,   value = Σ e^l·v / m,   variance = Σ e^l·(v − value)² / m
//
// A is worth 1 and B 0; any other label is a number of points. Reads with a mass below minMass are not
// parsed. It returns false for a label that is none of those that were asked for.
func (t Token) Read(asked []string, minMass float64) (r Reading, ok bool) {
	values := make([]float64, len(t.Labels))
	for i, label := range t.Labels {
		known := false
		for _, a := range asked {
			known = known || a == label
		}
		if !known || i >= len(t.LogProbs) {
			return r, false
		}
		switch label {
		case "A":
			values[i] = 1
		case "B":
		default:
			v, err := strconv.ParseFloat(label, 64)
			if err != nil {
				return r, false
			}
			values[i] = v
		}
		r.Mass += math.Exp(t.LogProbs[i])
	}
	for i, v := range values {
		r.Value += math.Exp(t.LogProbs[i]) * v
	}
	r.Value /= r.Mass
	for i, v := range values {
		r.Variance += math.Exp(t.LogProbs[i]) * (v - r.Value) * (v - r.Value)
	}
	r.Variance /= r.Mass
	r.Parsed = r.Mass > 0 && math.Round(r.Mass*1e6) >= minMass*1e6
	return r, true
}

// ReadMoments returns mean and variance of a response's reads, each with a value and a variance in
// millionths: the mean of the values, rounded to thousandths with halves up, and the variance of the mixture of
// the distributions, Σ variance / n + the variance of the rounded values.
func ReadMoments(values, variances []int64) (mean, variance *big.Rat) {
	var rounded []float64
	within := new(big.Rat)
	for i, v := range values {
		thousandths := v / 1000
		if v%1000 >= 500 {
			thousandths++
		}
		rounded = append(rounded, float64(thousandths)/1000)
		within.Add(within, big.NewRat(variances[i], 1_000_000))
	}
	mean, variance = Moments(rounded)
	return mean, variance.Add(variance, within.Quo(within, big.NewRat(int64(len(values)), 1)))
}
