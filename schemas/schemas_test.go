package schemas

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLengthBins(t *testing.T) {
	last := -1
	for chars := 1; chars < 5000; chars++ {
		bin := LengthBinOf(chars)
		if bin < last {
			t.Fatalf("length %d has bin %d, a shorter one %d", chars, bin, last)
		}
		if bin > last && LengthBinFloor(bin) != chars {
			t.Errorf("bin %d begins at %d, LengthBinFloor says %d", bin, chars, LengthBinFloor(bin))
		}
		last = bin
	}
}

// The journal reads a shard bucket by bucket and writes it in the order of prompt IDs: that
// works because shards and buckets are ranges of IDs.
func TestShardsAreRangesOfIDs(t *testing.T) {
	ids := make([]string, 3000)
	for i := range ids {
		ids[i] = PromptID([]Message{{Role: "user", Content: string(rune('a' + i))}})
	}
	slices.Sort(ids)
	for _, shards := range []int{1, 3, 4, 64} {
		counts := make([]int, shards)
		last := 0
		for _, id := range ids {
			shard := Shard(id, shards)
			if shard < last || shard >= shards {
				t.Fatalf("%s is in shard %d of %d, a lower ID in %d", id, shard, shards, last)
			}
			last = shard
			counts[shard]++
		}
		// 3,000 IDs on 64 shards: mean 47, standard deviation 7; 6 of them away is once in 10^9.
		mean := float64(len(ids)) / float64(shards)
		for _, n := range counts {
			if d := float64(n) - mean; d*d > 36*mean {
				t.Errorf("%d shards: one has %d of %d IDs", shards, n, len(ids))
			}
		}
	}
}

// Verdicts are placed by the IDs that they name, so the order in which they come is nothing.
func TestVerdictsArePlacedByID(t *testing.T) {
	d := Dossier{
		Prompt: Prompt{ID: "p"}, ContestedID: "r",
		Responses: []Response{{ID: "r", Judgments: []Judgment{
			{ID: "c", Distinct: true}, {ID: "a", Distinct: true}, {ID: "x"}, {ID: "b", Distinct: true},
		}}},
		Comparisons: []Comparison{
			{FirstID: "a", SecondID: "c", Winner: Second},
			{FirstID: "b", SecondID: "a", Winner: First},
			{FirstID: "c", SecondID: "b", Winner: NoWins},
		},
	}
	// Judgments in ID order are a, b, c; x stands for no text of its own.
	want := "" +
		"--2" + // a first
		"1--" + // b first
		"-0-" //   c first
	got := NewFinding(&d)
	if got.Verdicts != want {
		t.Errorf("verdicts %q, want %q", got.Verdicts, want)
	}
	slices.Reverse(d.Comparisons)
	if diff := cmp.Diff(got, NewFinding(&d)); diff != "" {
		t.Errorf("another order of comparisons: %s", diff)
	}
	if got.Verdict(0, 2) != Second || got.Verdict(2, 0) != Missing {
		t.Errorf("a against c is %s, c against a %s", got.Verdict(0, 2), got.Verdict(2, 0))
	}
}

func TestIDsDependOnEveryPart(t *testing.T) {
	ids := []string{
		PromptID([]Message{{Role: "user", Content: "ab"}}),
		PromptID([]Message{{Role: "usera", Content: "b"}}),
		PromptID([]Message{{Role: "user", Content: "a"}, {Role: "", Content: "b"}}),
		ResponseID("p", "m", "text"), ResponseID("p", "mt", "ext"), ResponseID("p", "m@1", "text"),
		JudgmentID("r", "m", 0, "text"), JudgmentID("r", "m", 1, "text"),
		ComparisonID("a", "b", "m"), ComparisonID("b", "a", "m"),
		PairID(RoleActor, "a", "b"), PairID(RoleJudge, "a", "b"),
	}
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 12 {
		t.Errorf("%d of 12 IDs differ", n)
	}
}

func TestStatsAddUpInAnyOrder(t *testing.T) {
	parts := []*Stats{{}, {}, {}}
	for i, p := range parts {
		p.Prompts = int64(i)
		p.SetOutcomes(RoleActor, Outcomes{Paired: 1, Dropped: map[string]int64{Margin: int64(i)}})
		p.Judge.CountChosen(1000*i, 2000)
		p.Judgments.Count("missing")
		p.CountFailed(StageJudge, "timeout", 2)
		p.CountLength(100*i, i == 1)
	}
	var up, down Stats
	for i := range parts {
		up.Add(parts[i])
		down.Add(parts[len(parts)-1-i])
	}
	if diff := cmp.Diff(up, down); diff != "" {
		t.Error(diff)
	}
	want := Outcomes{Paired: 3, Dropped: map[string]int64{Margin: 3}} // margins 0 + 1 + 2
	if diff := cmp.Diff(want, up.Outcomes[RoleActor]); diff != "" {
		t.Error(diff)
	}
	if up.Judge.LowerChosen != 2 || up.Judge.HigherChosen != 0 || up.Judge.ScoreDifference != -3000 {
		t.Errorf("judge pairs %+v", up.Judge)
	}
}

// A sum of tallies has maps of its own: adding to it changes neither of what it is the sum of.
func TestCallTallyPlus(t *testing.T) {
	retried := func(n int64) CallTally { return CallTally{Retries: n, RetriesByCode: map[string]int64{"full": n}} }
	a, b := retried(1), retried(2)
	for _, sum := range []CallTally{a.Plus(b), a.Plus(CallTally{}).Plus(b), CallTally{}.Plus(a).Plus(b)} {
		if sum.Retries != 3 || sum.RetriesByCode["full"] != 3 {
			t.Errorf("the sum is %+v", sum)
		}
	}
	if a.RetriesByCode["full"] != 1 || b.RetriesByCode["full"] != 2 {
		t.Errorf("the sums changed %+v and %+v", a, b)
	}
}

// Stages has every stage of the source in the order of a run, except those whose calls are not part of it.
func TestStages(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "schemas.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Stage") {
			return true
		}
		if value, ok := spec.Values[0].(*ast.BasicLit); ok {
			name, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			want[name] = true
		}
		return true
	})
	delete(want, StagePrompts)
	delete(want, StagePairwise)
	if len(want) < 6 {
		t.Fatalf("the source has the stages %v, at least 6 were expected", want)
	}
	for stage := range want {
		if !slices.Contains(Stages, stage) {
			t.Errorf("Stages lacks %s", stage)
		}
	}
	order := []string{"generate", "generate_past", "generate_future", "judge_reads", "judge", "meta"}
	if diff := cmp.Diff(order, Stages); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}
