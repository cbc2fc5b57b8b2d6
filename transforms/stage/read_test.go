package stage

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

func TestSum(t *testing.T) {
	r := Read{Labels: []string{"A", "B", "10"}}
	tokens := []TokenLogProb{
		{"A", math.Log(0.2)},
		{" A", math.Log(0.1)},
		{"ĠA", math.Log(0.05)},
		{"▁A", math.Log(0.05)},
		{"A", math.Log(0.2)}, // the written token, which is listed again
		{"B", -9999},
		{" B", math.Inf(-1)}, // excluded by a mask
		{"a", math.Log(0.3)},
		{"Answer", -0.5}, // no label
		{"\n10", math.Log(0.01)},
		{"1", math.Log(0.2)},
	}
	// 0.2 + 0.1 + 0.05 + 0.05 = 0.4: log 0.4 = -0.916291. log 0.01 = -4.605170.
	if diff := cmp.Diff(map[string]float64{"A": -0.916291, "10": -4.60517}, r.Sum(tokens)); diff != "" {
		t.Error(diff)
	}
	if got := r.Sum(nil); got == nil || len(got) != 0 {
		t.Errorf("no tokens give %v, want an empty map: it was a read", got)
	}
}

func TestValue(t *testing.T) {
	r := Read{Labels: []string{"0", "1", "2"}}
	values := []int{0, 1000, 2000}
	ln := math.Log
	for _, tt := range []struct {
		name     string
		logProbs map[string]float64
		minMass  float64
		want     schemas.Read
	}{
		// The mass is 0.2 + 0.2 + 0.4 = 0.8; the value (0.2·1 + 0.4·2)/0.8 = 1.25; the variance
		// (0.2·1 + 0.4·4)/0.8 − 1.25² = 2.25 − 1.5625 = 0.6875.
		{"three labels", map[string]float64{"0": ln(0.2), "1": ln(0.2), "2": ln(0.4)}, 0, schemas.Read{MassMicros: 800_000, ValueMicros: 1_250_000, VarianceMicros: 687_500}},
		{"one label", map[string]float64{"2": ln(0.5)}, 0, schemas.Read{MassMicros: 500_000, ValueMicros: 2_000_000}},
		{"too little mass", map[string]float64{"2": ln(0.499999)}, 0, schemas.Read{MassMicros: 499_999, Unparsed: LowMass}},
		{"another bound", map[string]float64{"2": ln(0.25)}, 0.2, schemas.Read{MassMicros: 250_000, ValueMicros: 2_000_000}},
		{"no label", map[string]float64{}, 0.01, schemas.Read{Unparsed: LowMass}},
	} {
		r.MinMass = tt.minMass
		tt.want.LogProbs, tt.want.PromptTokens = tt.logProbs, 9
		got := r.Value(&schemas.Generation{LogProbs: tt.logProbs, PromptTokens: 9}, values)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// The labels decide the key of a call, the bound on their mass doesn't.
func TestReadIsPartOfTheKey(t *testing.T) {
	key := func(r *Read) string {
		c := Call{Role: &Role{Name: schemas.RoleJudge, Model: "m", MaxTokens: 1, Read: r}, Inputs: []string{"a"}}
		return c.Key()
	}
	ab := key(&Read{Labels: []string{"A", "B"}})
	if ab == key(nil) || ab == key(&Read{Labels: []string{"A", "C"}}) {
		t.Error("a read has the key of another call")
	}
	if ab != key(&Read{Labels: []string{"A", "B"}, MinMass: 0.9}) {
		t.Error("the bound changes the key, so that another one would ask again")
	}
}
