package estimate

import (
	"math"
	"slices"

	"coeval/runners/plan"
	"coeval/schemas"
)

// measuredN is the number of judgments in the measurements below.
const measuredN = 11

// measured are the comparisons of a prompt in the mean, and the gap in true quality between chosen and
// rejected judgment as a ratio to that of all comparisons with Elo ratings. HiddenGap is the gap when
// scores leave half a point of a judgment's quality untold. They are of the simulated judges "moderate",
// 5,000 prompts each, 150 for reads of comparisons and 1,500 for reads of both, measured with `make budget` on 2026-11-29.
var measured = []struct {
	settings       []string
	comparisons    float64
	gap, hiddenGap float64
	// reads are the roles whose verdicts are one token.
	reads reads
	judged
}{
	{[]string{"budget.comparisons=all"}, 110, 1, 1, none, judged{measuredN, 1}},
	{[]string{"budget.comparisons=all", "method.rating=scores"}, 110, 1.026, 1.010, none, judged{measuredN, 1}},
	{[]string{"budget.comparisons=settled", "budget.regret=0.13", "budget.max_comparisons=60"}, 47.1, 1.004, 0.969, none, judged{measuredN, 1}},
	{[]string{"budget.comparisons=settled"}, 38.6, 0.998, 0.949, none, judged{measuredN, 1}},
	{[]string{"meta_judge.verdict=read", "budget.comparisons=settled", "budget.regret=0.08", "budget.max_comparisons=36"}, 30.6, 1.117, 1.102, comparisons, judged{measuredN, 1}},
	{[]string{"judge.verdict=read", "meta_judge.verdict=read", "budget.comparisons=settled", "budget.regret=0.08", "budget.max_comparisons=36"}, 34.1, 1.093, 1.101, both, judged{20.3, 2.6}},
}

// reads are the verdicts of one token in a budget. Reads were measured with the discrimination of verdicts in
// words: `coeval calibrate --verdict read,reasoned` shows whether that holds for a model.
type reads int

const (
	none reads = iota
	comparisons
	both
)

// A Budget is the cost of a plan with an empty journal under a budget, and the expected value of its
// judge pairs.
type Budget struct {
	// Settings are keys of the config with their values.
	Settings []string `json:"settings"`
	// Comparisons is the mean number of comparisons of a prompt.
	Comparisons float64 `json:"comparisons"`
	// Gap and HiddenGap are ratios to all comparisons, measured in simulation.
	Gap       float64 `json:"gap"`
	HiddenGap float64 `json:"hidden_gap"`
	// AssumesReads is true if the gap holds for reads that discriminate as well as verdicts in words.
	AssumesReads bool `json:"assumes_reads,omitempty"`
	Cost
}

// budgets adds the budgets that were measured for n judgments.
func (e *Estimate) budgets(p *plan.Plan, k, n int) {
	asksMeta := slices.ContainsFunc(p.Stages, func(s plan.Stage) bool { return s.Stage == schemas.StageMeta && s.Generations > 0 })
	if n != measuredN || !asksMeta {
		return
	}
	for _, m := range measured {
		b := Budget{Settings: m.settings, Comparisons: m.comparisons, Gap: m.gap, HiddenGap: m.hiddenGap, AssumesReads: m.reads != none}
		b.Cost, _ = e.whole(p, k, m.judged, int64(math.Round(float64(p.Prompts)*m.comparisons)), m.reads == both, m.reads != none)
		e.Budgets = append(e.Budgets, b)
	}
}
