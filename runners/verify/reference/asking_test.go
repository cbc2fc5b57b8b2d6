package reference

import (
	"math"
	"testing"

	"coeval/schemas"
)

// Before any verdict all ratings are 0: any judgment may be the best, and any the worst. Each of the 3·3
// picks has its own expected regret, and none settles the selection.
func TestPicksThatAreEqual(t *testing.T) {
	p := Prompt{Judgments: []Judgment{{ID: "a", Score: 4}, {ID: "b", Score: 4}, {ID: "c", Score: 2}}}
	s := p.Begin(&Asking{Seed: "prompt", Share: 0.19, Most: 110})
	if len(s.Regrets) != 9 || len(s.Stops) != 1 || s.Stops[0] != "" {
		t.Errorf("%d regrets and stops %q, want 9 and to go on", len(s.Regrets), s.Stops)
	}
	// a as the best and b as the worst has another regret than the two the other way round.
	if s.Regrets[1] == s.Regrets[3] {
		t.Errorf("both picks have the regret %g", s.Regrets[1])
	}
	// A verdict in both orders tells a and c apart: one pick is left.
	p.Winners = [][]schemas.Winner{{0, 0, schemas.First}, {0, 0, 0}, {schemas.Second, 0, 0}}
	if s = p.Next(&Asking{Seed: "prompt", Share: 0.19, Most: 110}, [][][2]int{{{0, 2}}}); len(s.Regrets) != 1 {
		t.Errorf("%d regrets, want 1", len(s.Regrets))
	}
}

// Only differences of ratings count: ratings that are larger by 1000, whose exponentials overflow, bring the same
// information.
func TestInformationOfLargeRatings(t *testing.T) {
	near, far := Step{}, Step{}
	ends := make([]int, draws)
	for d := range draws {
		x := []float64{float64(d % 3), float64(d % 5), 1}
		ends[d] = top(x)
		near.samples = append(near.samples, x)
		far.samples = append(far.samples, []float64{1000 + x[0], 1000 + x[1], 1000 + x[2]})
	}
	want := information(near.strengths(), 0, 1, ends, 0)
	if got := information(far.strengths(), 0, 1, ends, 0); want <= 0 || math.Abs(got-want) > slack {
		t.Errorf("the information is %g, want %g, above 0", got, want)
	}
}
