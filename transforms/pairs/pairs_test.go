package pairs

import (
	"context"
	"fmt"
	"log"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

func init() {
	register.Function1x0(printSelections)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

func records() []schemas.Record {
	contested := better(3)
	contested.PromptID = "contested"
	contested.Responses = seven.Responses
	failed := &schemas.Finding{PromptID: "failed", Failed: []schemas.FailedCalls{{Stage: schemas.StageGenerate, Code: "timeout", Calls: 7}}}
	bad := &schemas.Failure{Stage: schemas.StagePrompts, Code: "not_json", File: "a.jsonl", Line: 3}
	return []schemas.Record{{Finding: contested}, {Finding: failed}, {Finding: &schemas.Finding{PromptID: "empty"}}, {BadLine: bad}}
}

func TestTransforms(t *testing.T) {
	ao, jo := ActorOptions{Rho: 0.32}, JudgeOptions{}
	var want []any
	for _, r := range records() {
		if r.Finding != nil {
			// All six comparisons are won: 3 in first place, 3 in second.
			actor, judge := Actor(r.Finding, ao), Judge(r.Finding, schemas.PositionWeights{First: 0.5, Second: 0.5}, jo)
			r.Actor, r.Judge = &actor, &judge
		}
		want = append(want, r)
	}
	p, s := beam.NewPipelineWithRoot()
	withActor, err := ActorPairs(s, beam.CreateList(s, records()), ao)
	if err != nil {
		t.Fatal(err)
	}
	counts := PositionCounts(s, withActor)
	passert.Equals(s, counts, schemas.PositionCounts{First: 3, Second: 3})
	withBoth, err := JudgePairs(s, withActor, counts, jo)
	if err != nil {
		t.Fatal(err)
	}
	passert.Equals(s, withBoth, want...)
	result := ptest.RunAndValidate(t, p)

	got := map[string]int64{}
	for _, c := range result.Metrics().Query(func(r beam.MetricResult) bool { return r.Namespace() == "pairs" }).Counters() {
		got[c.Name()] = c.Result()
	}
	counters := map[string]int64{
		"actor_paired": 1, "actor_failed": 1, "actor_dropped_too_few_scored": 1,
		"judge_paired": 1, "judge_failed": 1, "judge_dropped_not_contested": 1,
	}
	if diff := cmp.Diff(counters, got); diff != "" {
		t.Error(diff)
	}
}

// The run's counts decide over all records. Without counts every pair is kept.
func TestJudgePairsUsesTheRunsWeights(t *testing.T) {
	few := finding("-11", "0-2", "01-") // see TestJudge
	tests := []struct {
		name   string
		counts []schemas.PositionCounts
		chosen string
	}{
		{"second wins often", []schemas.PositionCounts{{First: 1, Second: 7}, {Second: 2}}, "a"}, // w1 = 0.9
		{"first wins often", []schemas.PositionCounts{{First: 9, Second: 1}}, "c"},               // w1 = 0.1
		{"no counts", nil, "a"}, // w1 = 0.5
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, s := beam.NewPipelineWithRoot()
			judged, err := JudgePairs(s, beam.Create(s, schemas.Record{Finding: few}), beam.CreateList(s, tt.counts), JudgeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			selection := Judge(few, Weights(sum(tt.counts)), JudgeOptions{})
			if selection.ChosenID != tt.chosen {
				t.Errorf("chosen is %s, want %s", selection.ChosenID, tt.chosen)
			}
			passert.Equals(s, judged, schemas.Record{Finding: few, Judge: &selection})
			ptest.RunAndValidate(t, p)
		})
	}
}

func sum(counts []schemas.PositionCounts) (all schemas.PositionCounts) {
	for _, c := range counts {
		all = addPositions(all, c)
	}
	return all
}

func TestPositionCountsOfNothing(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	passert.Empty(s, PositionCounts(s, beam.CreateList(s, records()[1:])))
	ptest.RunAndValidate(t, p)
}

func TestTransformsRefuseOptions(t *testing.T) {
	_, s := beam.NewPipelineWithRoot()
	in := beam.CreateList(s, records())
	if _, err := ActorPairs(s, in, ActorOptions{Rho: 0.5}); err == nil {
		t.Error("rho 0.5 gives no error")
	}
	if _, err := JudgePairs(s, in, PositionCounts(s, in), JudgeOptions{Lambda: -1}); err == nil {
		t.Error("lambda -1 gives no error")
	}
}

func printSelections(r schemas.Record) {
	fmt.Printf("%s: actor %s %q, judge %s %q\n", r.Finding.PromptID, r.Actor.Outcome, r.Actor.Reason, r.Judge.Outcome, r.Judge.Reason)
}

// The graph is a line: the actor's selection is added to a record, then the judge's, whose
// weights come from all records.
func ExampleJudgePairs() {
	p, s := beam.NewPipelineWithRoot()
	in := beam.CreateList(s, records()[:3])
	withActor, err := ActorPairs(s, in, ActorOptions{Rho: 0.32})
	if err != nil {
		log.Fatal(err)
	}
	withBoth, err := JudgePairs(s, withActor, PositionCounts(s, withActor), JudgeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	beam.ParDo0(s, printSelections, withBoth)
	if _, err := beam.Run(context.Background(), "prism", p); err != nil {
		log.Fatal(err)
	}
	// Unordered output:
	// contested: actor paired "", judge paired ""
	// failed: actor failed "timeout", judge failed "timeout"
	// empty: actor dropped "too_few_scored", judge dropped "not_contested"
}
