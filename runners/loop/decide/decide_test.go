package decide_test

import (
	"slices"
	"strings"
	"testing"

	"coeval/runners/loop/decide"
)

func gain(value, low float64) *decide.Estimate {
	return &decide.Estimate{Value: value, Low: low, High: 1}
}

// Each rule ends the loop at its threshold and not before it.
func TestRules(t *testing.T) {
	rules := decide.DefaultRules()
	rules.MaxUSD, rules.MaxGPUHours = 100, 10
	one := decide.Iteration{Gain: gain(0.6, 0.55)}
	for _, test := range []struct {
		name       string
		iterations []decide.Iteration
		want       []string
		best       int
	}{
		{"nothing", nil, nil, 0},
		{"a gain", []decide.Iteration{one}, nil, 1},
		{"no figure", []decide.Iteration{{}, {}, {}}, nil, 0},
		{"all done", []decide.Iteration{one, {Gain: gain(0.7, 0.65)}, {Gain: gain(0.8, 0.75)}, {Gain: gain(0.9, 0.85)}}, []string{decide.LimitRule}, 4},
		{"one without a gain", []decide.Iteration{one, {Gain: gain(0.62, 0.57)}}, nil, 2},
		// The interval of the third lies above 0.6 but not above 0.62.
		{"two without a gain", []decide.Iteration{one, {Gain: gain(0.62, 0.57)}, {Gain: gain(0.66, 0.61)}}, []string{decide.PatienceRule}, 3},
		{"never above the baseline", []decide.Iteration{{Gain: gain(0.5, 0.45)}, {Gain: gain(0.52, 0.48)}}, []string{decide.PatienceRule}, 2},
		// √(0.7·0.3/1000 + 0.65·0.35/1000) = 0.0209: the drop of 0.05 is more than two of it.
		{"agreement falls", []decide.Iteration{
			{Gain: gain(0.6, 0.55), Agreement: &decide.Agreement{Share: 0.7, Pairs: 1000}},
			{Gain: gain(0.7, 0.65), Agreement: &decide.Agreement{Share: 0.65, Pairs: 1000}},
		}, []string{decide.AgreementRule}, 2},
		// The same shares over 100 pairs: two standard errors are 0.13.
		{"agreement seems to fall", []decide.Iteration{
			{Gain: gain(0.6, 0.55), Agreement: &decide.Agreement{Share: 0.7, Pairs: 100}},
			{Gain: gain(0.7, 0.65), Agreement: &decide.Agreement{Share: 0.65, Pairs: 100}},
		}, nil, 2},
		{"one sign", []decide.Iteration{{Gain: gain(0.6, 0.55), Signs: []string{"x"}}}, nil, 1},
		{"two signs", []decide.Iteration{{Gain: gain(0.6, 0.55), Signs: []string{"x", "y"}}}, []string{decide.SignsRule}, 1},
		{"as long as allowed", []decide.Iteration{{Gain: gain(0.6, 0.55), Chars: new(1300.0)}}, nil, 1},
		{"too long", []decide.Iteration{{Gain: gain(0.6, 0.55), Chars: new(1301.0)}}, []string{decide.LengthRule}, 1},
		{"money", []decide.Iteration{{Gain: gain(0.6, 0.55), USD: 60, GPUHours: 4}, {Gain: gain(0.7, 0.65), USD: 40, GPUHours: 4}}, []string{decide.MoneyRule}, 2},
		{"hours", []decide.Iteration{{Gain: gain(0.6, 0.55), GPUHours: 10}}, []string{decide.HoursRule}, 1},
	} {
		d := decide.Of(test.iterations, 1000, rules)
		if !slices.Equal(d.Rules, test.want) || d.Best != test.best || d.Stop != (len(test.want) > 0) {
			t.Errorf("%s: %+v; want the rules %v and the best %d", test.name, d, test.want, test.best)
		}
		for i, rule := range d.Rules {
			if !strings.Contains(d.Reasons[i], "decide."+rule) {
				t.Errorf("%s: the reason %q doesn't name decide.%s", test.name, d.Reasons[i], rule)
			}
		}
	}
}

// With all other rules off, only the number of iterations ends a loop.
func TestRulesOff(t *testing.T) {
	bad := decide.Iteration{
		Gain: gain(0.1, 0.05), Chars: new(1e6), Signs: []string{"a", "b", "c"}, USD: 1e9, GPUHours: 1e9,
		Agreement: &decide.Agreement{Share: 0.1, Pairs: 10_000},
	}
	good := decide.Iteration{Gain: gain(0.9, 0.8), Agreement: &decide.Agreement{Share: 0.9, Pairs: 10_000}}
	if d := decide.Of([]decide.Iteration{good, bad, bad}, 1000, decide.Rules{Iterations: 10}); d.Stop || d.Best != 1 {
		t.Errorf("decision is %+v", d)
	}
}

func TestValidate(t *testing.T) {
	defaults := decide.DefaultRules()
	if err := defaults.Validate(); err != nil {
		t.Error(err)
	}
	wrong := decide.Rules{Patience: -1, AgreementDrop: 1, Signs: 11, LengthGrowth: -1, MaxUSD: -1, MaxGPUHours: -1}
	err := wrong.Validate()
	for _, key := range []string{"iterations", "patience", "agreement_drop", "signs", "length_growth", "max_usd", "max_gpu_hours"} {
		if err == nil || !strings.Contains(err.Error(), "decide."+key) {
			t.Errorf("problems don't name %s: %v", key, err)
		}
	}
}
