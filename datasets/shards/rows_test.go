package shards_test

import (
	"bytes"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/schemas"
)

func say(role, content string) []schemas.Message {
	return []schemas.Message{{Role: role, Content: content}}
}

func examplePairs() []schemas.Pair {
	actor := schemas.Pair{
		ID: "b", PromptID: "p1",
		Prompt:   []schemas.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Grüße, 世界\x00\n\"?"}},
		Chosen:   say("assistant", "Hi."),
		Rejected: say("assistant", ""), ChosenID: "r1", RejectedID: "r2",
		ChosenScore: 4.5, RejectedScore: 1.0 / 3, ScoreMargin: 4.5 - 1.0/3, ChosenChars: 3,
		OwnID: []string{"1", "x"}, Metadata: `{"a":1}`,
	}
	judge := actor
	judge.ID, judge.PromptID, judge.OwnID = "a", "p2", nil
	judge.ResponseID, judge.ChosenElo, judge.RejectedElo = new("r1"), new(0.0), new(-1.25)
	return []schemas.Pair{actor, judge}
}

// manyPairs are n small pairs, in order.
func manyPairs(n int) []schemas.Pair {
	pairs := make([]schemas.Pair, n)
	for i := range pairs {
		pairs[i] = examplePairs()[i%2]
		id := strconv.Itoa(10_000_000 + i)
		pairs[i].ID, pairs[i].PromptID = id, "p"+id
	}
	return pairs
}

func examplePrompts() []schemas.PromptRow {
	return []schemas.PromptRow{
		{ID: "p1", Prompt: say("user", "x"), OwnID: []string{"1"}, SourceFile: "a.jsonl", SourceLine: 7, Metadata: "{}", Chars: 1},
		{
			ID: "p2", Prompt: say("user", "y"), SourceFile: "a.jsonl", SourceLine: 1 << 40, Metadata: "{}", Chars: 1,
			ActorOutcome: new("dropped"), ActorReason: new("margin"), JudgeOutcome: new("paired"), JudgeReason: new(""),
			ContestedResponseID: new("r1"),
		},
	}
}

func exampleResponses() []schemas.ResponseRow {
	return []schemas.ResponseRow{
		{ID: "r1", PromptID: "p1", Replicates: []int32{0, 3}, Model: "m", Text: "t", Status: "complete", Chars: 1, PromptTokens: 2},
		{
			ID: "r0", PromptID: "p2", Replicates: []int32{1}, Model: "m", Reasoning: new("because"), Status: "empty",
			ParsedJudgments: 2, ScoreMean: new(2.5), ScoreVariance: new(0.0), Contested: true,
		},
	}
}

func exampleJudgments() []schemas.JudgmentRow {
	return []schemas.JudgmentRow{
		{ID: "j1", PromptID: "p1", ResponseID: "r1", Model: "m", Text: "Score: 4", Chars: 8, Score: new(4.0), Distinct: true, Elo: new(0.5)},
		{ID: "j2", PromptID: "p1", ResponseID: "r1", Replicate: 10, Model: "m", Text: "no", Reasoning: new(""), UnparsedReason: new("missing")},
	}
}

func exampleComparisons() []schemas.ComparisonRow {
	return []schemas.ComparisonRow{
		{ID: "c1", PromptID: "p1", ResponseID: "r1", FirstID: "j1", SecondID: "j2", Model: "m", Text: "Winner: A", Winner: "first", PromptTokens: 9},
		{ID: "c2", PromptID: "p1", ResponseID: "r1", FirstID: "j2", SecondID: "j1", Model: "m", Reasoning: new("hm"), Winner: "none", UnparsedReason: new("missing")},
	}
}

func exampleReads() []schemas.ReadRow {
	return []schemas.ReadRow{
		{ID: "c1", PromptID: "p1", ResponseID: "r1", Model: "m", Labels: []string{"4", "5"}, LogProbs: []float64{-0.5, -1}, LabelMass: 0.9, Value: new(4.4), Variance: new(0.25), PromptTokens: 9},
		{ID: "c2", PromptID: "p1", ResponseID: "r1", FirstID: new("j2"), SecondID: new("j1"), Model: "m", Labels: []string{"A"}, LogProbs: []float64{-3}, LabelMass: 0.05, UnparsedReason: new("low_mass")},
	}
}

// exampleFailures are in the order of Compare; two neighbours differ in one column.
func exampleFailures() []schemas.FailureRow {
	call := schemas.FailureRow{Stage: "judge", Code: "http_400", Message: "too long", PromptID: new("p1"), ResponseID: new("r1"), Replicate: new(int32(2))}
	later, other, meta, last := call, call, call, call
	later.Replicate = new(int32(10))
	other.ResponseID = new("r2")
	meta.Stage, meta.FirstID, meta.SecondID = "meta", new("j1"), new("j2")
	last.PromptID = new("p2")
	return []schemas.FailureRow{
		{Stage: "prompts", Code: "bad_json", Message: "m", SourceFile: new("a.jsonl"), SourceLine: new(int64(9))},
		{Stage: "prompts", Code: "bad_json", Message: "m", SourceFile: new("a.jsonl"), SourceLine: new(int64(10))},
		{Stage: "prompts", Code: "bad_json", Message: "m", SourceFile: new("b.jsonl"), SourceLine: new(int64(1))},
		{Stage: "prompts", Code: "too_large", Message: "m", SourceFile: new("a.jsonl"), SourceLine: new(int64(1))},
		call, later, other, meta, last,
	}
}

func encode[T shards.Row](tb testing.TB, table shards.Table, rows []T) []byte {
	tb.Helper()
	var out bytes.Buffer
	shardstest.Write(tb, &out, table, rows)
	return out.Bytes()
}

func open(t *testing.T, data []byte) *parquet.File {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func plainParquet[R any](t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := parquet.Write(&out, make([]R, 1)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// everyString makes each string below the row bad in turn and wants the writer to name its column.
func everyString[T shards.Row](t *testing.T, table shards.Table, row T, bad string) {
	t.Helper()
	fields := reflect.TypeFor[T]()
	for i := range fields.NumField() {
		changed := row
		if !spoil(reflect.ValueOf(&changed).Elem().Field(i), bad) {
			continue
		}
		column, _, _ := strings.Cut(fields.Field(i).Tag.Get("parquet"), ",")
		w, err := shards.NewWriter[T](io.Discard, table)
		if err != nil {
			t.Fatal(err)
		}
		want := "column " + column + " is not valid UTF-8"
		if err := w.Write(&changed); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: error %v, want one that ends in %q", table, err, want)
		}
	}
}

// spoil puts bad into a field of strings, and reports whether it does.
func spoil(field reflect.Value, bad string) bool {
	switch field.Interface().(type) {
	case string:
		field.SetString(bad)
	case *string:
		field.Set(reflect.ValueOf(&bad))
	case []string:
		field.Set(reflect.ValueOf([]string{"good", bad}))
	case []schemas.Message:
		field.Set(reflect.ValueOf(say("user", bad)))
	default:
		return false
	}
	return true
}
