package isotonic

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The regression never falls, keeps the mean of all values, and no other function that never
// falls comes closer.
func TestFit(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 200 {
		points := make([]Point, 1+r.IntN(30))
		for i := range points {
			points[i] = Point{At: float64(r.IntN(12)), Value: float64(r.IntN(12)) + r.Float64()}
		}
		blocks := Fit(points)
		rss := func(f func(float64) float64) float64 {
			sum := 0.0
			for _, p := range points {
				sum += (p.Value - f(p.At)) * (p.Value - f(p.At))
			}
			return sum
		}
		var all, fitted float64
		labelled := 0
		for i, b := range blocks {
			labelled += b.Labels
			fitted += b.People * float64(b.Labels)
			if i > 0 && (b.People <= blocks[i-1].People || b.From <= blocks[i-1].To) || b.At < b.From || b.At > b.To {
				t.Fatalf("%+v", blocks)
			}
		}
		for _, p := range points {
			all += p.Value
		}
		if labelled != len(points) || math.Abs(all-fitted) > 1e-9 {
			t.Fatalf("%d labels with the sum %v became %d with %v", len(points), all, labelled, fitted)
		}
		least := rss(func(x float64) float64 { return Step(blocks, x) })
		for range 50 {
			// Steps between other functions that never fall: the fitted one and a random one, mixed.
			base, slope, mix := r.Float64()*12, r.Float64()*2, r.Float64()
			other := rss(func(x float64) float64 { return (1-mix)*Step(blocks, x) + mix*(base+slope*(x-6)) })
			if other < least-1e-9 {
				t.Fatalf("%+v leaves %v, another function %v", blocks, least, other)
			}
		}
	}
}
