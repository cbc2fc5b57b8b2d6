package methods

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"coeval/runners/loop/decide"
	"coeval/transforms/simulator/world"
)

// made returns outcomes of a variant for five seeds: figures rise by step in each of three iterations,
// and seeds differ by a hundredth.
func made(variant string, quality, agreement, growth float64, rules ...string) []Outcome {
	var all []Outcome
	for seed := 1; seed <= 5; seed++ {
		o := Outcome{Variant: variant, Seed: seed, Stopped: 3, Rules: rules, ActorPairs: 300, JudgePairs: 200}
		for t := 1; t <= 3; t++ {
			own, x := 0.01*float64(seed%3), float64(t)
			o.Points = append(o.Points, Point{
				Iteration: t, Skill: world.Skill{Quality: x * (quality + own), Length: 2 * math.Log1p(x*(growth+own/10))}, Agreement: 0.7 + x*(agreement+own/10), Own: 0.7,
				WinRate: 0.5,
			})
		}
		all = append(all, o)
	}
	return all
}

// good are outcomes of which every claim holds.
func good() map[string][]Outcome {
	return map[string][]Outcome{
		Meta: made(Meta, 0.3, 0.05, 0.02, decide.LimitRule), Static: made(Static, 0.2, 0, 0.02, decide.SignsRule),
		NoControl: made(NoControl, 0.3, 0.05, 0.15, decide.LengthRule), ShuffledName: made(ShuffledName, 0.2, -0.001, 0.02, decide.SignsRule),
	}
}

func claimsOf(by map[string][]Outcome) []Claim {
	var all []Outcome
	for _, outcomes := range by {
		all = append(all, outcomes...)
	}
	return Claims(all, 3)
}

// Every claim holds of outcomes that are made so, and each fails when its own figure is another.
func TestClaims(t *testing.T) {
	for i, c := range claimsOf(good()) {
		if !c.Holds {
			t.Errorf("claim %d does not hold: %s %s", i, c.Statement, c.Evidence)
		}
	}
	for name, test := range map[string]struct {
		change func(map[string][]Outcome)
		fails  []int
	}{
		"the judge stays":          {func(by map[string][]Outcome) { by[Meta] = made(Meta, 0.3, -0.005, 0.02, decide.LimitRule) }, []int{0, 4}},
		"the actor is no better":   {func(by map[string][]Outcome) { by[Static] = made(Static, 0.3, 0, 0.02, decide.SignsRule) }, []int{1}},
		"the static judge goes on": {func(by map[string][]Outcome) { by[Static] = made(Static, 0.2, 0, 0.02, decide.LimitRule) }, []int{2}},
		"the meta-judge stalls":    {func(by map[string][]Outcome) { by[Meta] = made(Meta, 0.3, 0.05, 0.02, decide.SignsRule) }, []int{2}},
		"length stays in bounds":   {func(by map[string][]Outcome) { by[NoControl] = made(NoControl, 0.3, 0.05, 0.05, decide.LengthRule) }, []int{3}},
		"length stops nobody":      {func(by map[string][]Outcome) { by[NoControl] = made(NoControl, 0.3, 0.05, 0.15, decide.LimitRule) }, []int{3}},
		"shuffled labels teach":    {func(by map[string][]Outcome) { by[ShuffledName] = made(ShuffledName, 0.2, 0.03, 0.02) }, []int{4}},
	} {
		by := good()
		test.change(by)
		failed := map[int]bool{}
		for _, i := range test.fails {
			failed[i] = true
		}
		for i, c := range claimsOf(by) {
			if c.Holds == failed[i] {
				t.Errorf("%s: claim %d holds: %v; %s", name, i, c.Holds, c.Evidence)
			}
		}
	}
}

// The interval of 1, 2, 3, 4, 5: the deviation is √2.5, the standard error √0.5, and t of four degrees of
// freedom 2.776.
func TestIntervalOf(t *testing.T) {
	i := IntervalOf([]float64{1, 2, 3, 4, 5})
	if half := 2.7764 * math.Sqrt(0.5); math.Abs(i.Mean-3) > 1e-12 || math.Abs(i.High-3-half) > 1e-3 || math.Abs(3-i.Low-half) > 1e-3 {
		t.Errorf("%+v", i)
	}
	if one := IntervalOf([]float64{7}); one.Mean != 7 || !math.IsInf(one.Low, -1) || !math.IsInf(one.High, 1) {
		t.Errorf("%+v", one)
	}
}

// The table has a line for each variant, and the picture a line in each of its charts.
func TestShow(t *testing.T) {
	var all []Outcome
	for _, v := range Variants() {
		all = append(all, made(v.Name, 0.3, 0.05, 0.02, decide.SignsRule)...)
	}
	all[0].Rules, all[0].Stopped = []string{decide.LengthRule}, 2
	table := Table(all, Variants(), 3)
	if strings.Count(table, "\n") != 2+len(Variants()) {
		t.Errorf("the table is\n%s", table)
	}
	// Seeds 1 to 5 have 0.01, 0.02, 0, 0.01, 0.02 beside 0.3: three times their mean is 0.936.
	for _, want := range []string{"| Meta-Rewarding | 5 | 300 / 200 | +0.94 ± ", "2 to 3", "signs of saturation (4 of 5)"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	picture, err := Picture(all, Variants(), 3)
	if err != nil || !bytes.Contains(picture, []byte("<svg")) || bytes.Count(picture, []byte("iteration")) != len(panels) {
		t.Errorf("the picture has %d bytes, %v", len(picture), err)
	}
}
