package estimate

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/runners/plan"
)

// A plan of 10 prompts with K = 7, N = 11 and an empty journal: each prompt has 7 responses in one
// request, 77 judgments in 7 requests, and 110 comparisons.
func examplePlan() *plan.Plan {
	// At 4 characters a token: 100 tokens are shown and 100 written for a response, 1,000 and 200 for a
	// judgment, 1,000 and 100 for a comparison.
	lengths := map[string]plan.Length{
		"generate": {PromptChars: 400, Chars: 400}, "judge": {PromptChars: 4000, Chars: 800}, "meta": {PromptChars: 4000, Chars: 400},
	}
	return &plan.Plan{Prompts: 10, Shards: 1, Compression: plan.Compression{Tables: 4, Journal: 2}, Assumed: lengths, Stages: []plan.Stage{
		{Stage: "generate", Generations: 70, Ask: 70, Requests: 10, PromptTokens: 1000, CompletionTokens: 7000},
		{Stage: "judge", Generations: 770, Ask: 770, Requests: 70, PromptTokens: 70_000, CompletionTokens: 154_000},
		{Stage: "meta", Generations: 1100, Ask: 1100, Requests: 1100, PromptTokens: 1_100_000, CompletionTokens: 110_000},
	}}
}

var near = cmpopts.EquateApprox(0, 1e-9)

func TestEstimate(t *testing.T) {
	e := New(examplePlan(), 7, 11, Others{}, Rates{Prompt: 10_000, Completion: 1000}, Prices{PromptTokens: 0.5, CompletionTokens: 2, GPUHour: 3, GPUs: 8})
	// 1,171,000 prompt tokens at 10,000 a second and 271,000 completion tokens at 1,000: 117.1 + 271 s.
	// At half a unit and two a million: 0.5855 + 0.542. Of 8 GPUs at 3 an hour: 388.1/3600·24.
	want := Cost{
		Generations: 1940, PromptTokens: 1_171_000, CompletionTokens: 271_000,
		Seconds: new(388.1), ByTokens: new(1.1275), ByHours: new(388.1 / 3600 * 24),
	}
	if diff := cmp.Diff(want, e.All, near); diff != "" {
		t.Error(diff)
	}
	// K = 4 and N = 5: for each prompt 4 + 20 + 20 generations; 100 + 4·1000 + 20·1000 tokens
	// read and 4·100 + 20·200 + 20·100 written.
	if len(e.Variants) != 6 {
		t.Fatalf("%d variants, want K of 4 and 7 by N of 5, 7 and 11", len(e.Variants))
	}
	// Their 440 texts have 40·400 + 200·800 + 200·400 = 256,000 characters. In the journal that is
	// half as much and 35 bytes for each, in the tables a quarter, 47 bytes for each and 20,000 of a shard.
	small := Variant{K: 4, N: 5, Comparisons: 20, JournalBytes: 143_400, OutputBytes: 104_680, Cost: Cost{
		Generations: 440, PromptTokens: 241_000, CompletionTokens: 64_000,
		Seconds: new(88.1), ByTokens: new(0.2485), ByHours: new(88.1 / 3600 * 24),
	}}
	if diff := cmp.Diff(small, e.Variants[0], near); diff != "" {
		t.Error(diff)
	}
	// The run's own numbers are those of the plan.
	own := e.Variants[5]
	if diff := cmp.Diff(e.All, own.Cost, near); diff != "" || !own.Own || own.Comparisons != 110 {
		t.Errorf("%+v: %s", own, diff)
	}
}

// Without rates there is no time and no price of hours, without prices no price.
func TestUnknown(t *testing.T) {
	e := New(examplePlan(), 7, 11, Others{}, Rates{Completion: 1000}, Prices{GPUHour: 3})
	if e.All.Seconds != nil || e.All.ByHours != nil || e.All.ByTokens != nil {
		t.Errorf("%+v", e.All)
	}
	// One GPU by default.
	if e := New(examplePlan(), 7, 11, Others{}, Rates{Prompt: 10_000, Completion: 1000}, Prices{GPUHour: 3600}); *e.All.ByHours != *e.All.Seconds {
		t.Errorf("%v for %v seconds of one GPU at 1 a second", *e.All.ByHours, *e.All.Seconds)
	}
}

// Budgets are for an empty journal, even when the journal has calls. Without judge pairs there are no
// comparisons. Each requested budget is listed once.
func TestVariants(t *testing.T) {
	p := examplePlan()
	for i := range p.Stages {
		p.Stages[i] = plan.Stage{Stage: p.Stages[i].Stage, Generations: p.Stages[i].Generations, Held: p.Stages[i].Generations}
	}
	if diff := cmp.Diff(New(examplePlan(), 7, 11, Others{}, Rates{}, Prices{}).Variants, New(p, 7, 11, Others{}, Rates{}, Prices{}).Variants); diff != "" {
		t.Error(diff)
	}
	p.Stages[2] = plan.Stage{Stage: "meta"}
	e := New(p, 7, 5, Others{}, Rates{}, Prices{})
	if len(e.Variants) != 4 || e.Variants[0].Comparisons != 0 || e.Variants[0].Generations != 10*(4+20) {
		t.Errorf("%+v", e.Variants)
	}
	var got [][2]int
	for _, v := range New(examplePlan(), 7, 11, Others{K: []int{4, 2}, N: []int{11, 7, 3}}, Rates{}, Prices{}).Variants {
		got = append(got, [2]int{v.K, v.N})
	}
	want := [][2]int{{2, 3}, {2, 5}, {2, 7}, {2, 11}, {4, 3}, {4, 5}, {4, 7}, {4, 11}, {7, 3}, {7, 5}, {7, 7}, {7, 11}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if e := New(&plan.Plan{}, 7, 11, Others{}, Rates{}, Prices{}); e.Variants != nil {
		t.Errorf("%+v of no prompt", e.Variants)
	}
}

func TestAmount(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0.00", 1234567.891: "1,234,567.89", 1: "1.00", 0.5: "0.50", 0.1761: "0.176", 0.04: "0.04", 0.00123456: "0.00123", 0.0000205: "0.0000205",
	} {
		if got := Amount(x); got != want {
			t.Errorf("Amount(%v) = %s, want %s", x, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := (&Prices{PromptTokens: 1, GPUs: 8}).Validate(); err != nil {
		t.Error(err)
	}
	err := (&Prices{PromptTokens: -1, GPUs: 2e9}).Validate()
	if err == nil || !strings.Contains(err.Error(), "--prompt-price is -1; allowed is 0 to") || !strings.Contains(err.Error(), "--gpus is 2e+09") {
		t.Errorf("%v", err)
	}
	if err := (&Rates{Completion: -1}).Validate(); err == nil || !strings.Contains(err.Error(), "--completion-rate is -1") {
		t.Errorf("%v", err)
	}
}

// All comparisons cost the same as the plan, 10·(7 + 77 + 110) generations; each further budget asks
// fewer and keeps less. Budgets were measured for 11 judgments and for judge pairs only.
func TestBudgets(t *testing.T) {
	e := New(examplePlan(), 7, 11, Others{}, Rates{}, Prices{})
	if len(e.Budgets) < 3 || e.Budgets[0].Generations != 1940 || e.Budgets[0].Gap != 1 {
		t.Fatalf("%+v", e.Budgets)
	}
	for i, b := range e.Budgets {
		want := 840 + int64(10*b.Comparisons+0.5)
		if slices.Contains(b.Settings, "judge.verdict=read") {
			want = 10*(7+7) + int64(10*measured[i].judgments+0.5) + int64(10*b.Comparisons+0.5) // 7 reads, and judgments of the contested response
		}
		if b.Generations != want {
			t.Errorf("%v asks for %d generations, want %d: 10·(7 + 77), or 10·(7 + 7) and the judgments in rounds, and 10·%v", b.Settings, b.Generations, want, b.Comparisons)
		}
		if b.AssumesReads != slices.Contains(b.Settings, "meta_judge.verdict=read") || b.AssumesReads && b.CompletionTokens >= e.Budgets[3].CompletionTokens {
			t.Errorf("%v writes %d tokens, verdicts in words %d", b.Settings, b.CompletionTokens, e.Budgets[3].CompletionTokens)
		}
		if i > 1 && !b.AssumesReads && (b.Comparisons >= e.Budgets[i-1].Comparisons || b.Gap > e.Budgets[i-1].Gap || b.HiddenGap > e.Budgets[i-1].HiddenGap) {
			t.Errorf("%v asks %v for a gap of %v, the one before it %v for %v", b.Settings, b.Comparisons, b.Gap, e.Budgets[i-1].Comparisons, e.Budgets[i-1].Gap)
		}
	}
	if e := New(examplePlan(), 7, 7, Others{}, Rates{}, Prices{}); e.Budgets != nil {
		t.Errorf("%+v of 7 judgments", e.Budgets)
	}
	p := examplePlan()
	p.Stages[2] = plan.Stage{Stage: "meta"}
	if e := New(p, 7, 11, Others{}, Rates{}, Prices{}); e.Budgets != nil {
		t.Errorf("%+v without judge pairs", e.Budgets)
	}
}
