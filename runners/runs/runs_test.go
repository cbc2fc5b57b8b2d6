package runs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/runners/runs"
	"coeval/schemas"
)

const config = `{"roles":["actor"],"actor":{"n":2},"judge":{"n":2},"method":{"rho":0.32,"min_judgments":1,"min_meta_judgments":2}}`

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeRun(t testing.TB, out, config string) {
	t.Helper()
	b, err := json.Marshal(schemas.Run{
		Format: schemas.RunFormat, Config: json.RawMessage(config), Files: []schemas.File{{Path: shards.Path(shards.Prompts, 0, 1)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(out, "run.json"), b)
}

// A run of the prompts a, b and c: b has no response, and a bad line comes before all.
func newRun(t *testing.T) string {
	t.Helper()
	out := t.TempDir()
	user := []schemas.Message{{Role: "user", Content: "?"}}
	shardstest.WriteFile(t, out, shards.Prompts, schemas.PromptRow{ID: "a", Prompt: user}, schemas.PromptRow{ID: "b", Prompt: user}, schemas.PromptRow{ID: "c", Prompt: user})
	shardstest.WriteFile(t, out, shards.Responses,
		schemas.ResponseRow{ID: "a1", PromptID: "a", Status: "complete", Chars: 3, ScoreMean: new(4.5), ScoreVariance: new(0.25)},
		schemas.ResponseRow{ID: "a2", PromptID: "a", Status: "empty"},
		schemas.ResponseRow{ID: "c1", PromptID: "c", Status: "complete"})
	shardstest.WriteFile(t, out, shards.Judgments, schemas.JudgmentRow{ID: "j", PromptID: "a", ResponseID: "a1", Score: new(4.5), Distinct: true})
	shardstest.WriteFile(t, out, shards.Comparisons, schemas.ComparisonRow{ID: "x", PromptID: "c", FirstID: "1", SecondID: "2", Winner: "none", UnparsedReason: new("tie")})
	shardstest.WriteFile(t, out, shards.Failures,
		schemas.FailureRow{Stage: "prompts", Code: "bad_json", SourceFile: new("f"), SourceLine: new(int64(1))},
		schemas.FailureRow{Stage: "generate", Code: "timeout", PromptID: new("b"), Replicate: new(int32(0))})
	writeRun(t, out, config)
	return out
}

// Every prompt comes once, with the rows that are its own.
func TestEach(t *testing.T) {
	r, err := runs.Open(t.Context(), newRun(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = r.Each(t.Context(), 0, func(d *runs.Numbers) error {
		got = append(got, fmt.Sprintf("%s: %d responses, %d judgments, %d comparisons, %d failures", d.Prompt.ID, len(d.Responses), len(d.Judgments), len(d.Comparisons), len(d.Failures)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a: 2 responses, 1 judgments, 0 comparisons, 0 failures",
		"b: 0 responses, 0 judgments, 0 comparisons, 1 failures",
		"c: 1 responses, 0 judgments, 1 comparisons, 0 failures",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A row of a prompt that is not there is an error, wherever it stands.
func TestStrays(t *testing.T) {
	for _, stray := range []string{"0", "bb", "z"} {
		out := newRun(t)
		rows := []schemas.JudgmentRow{{ID: "j", PromptID: "a"}, {ID: "k", PromptID: stray}}
		if stray < "a" {
			rows[0], rows[1] = rows[1], rows[0]
		}
		shardstest.WriteFile(t, out, shards.Judgments, rows...)
		r, err := runs.Open(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Each(t.Context(), 0, func(*runs.Numbers) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "has a row of prompt "+stray) {
			t.Errorf("a judgment of prompt %s gives %v", stray, err)
		}
	}
}

// A number that no run writes is an error, before anything is counted by it.
func TestNumbers(t *testing.T) {
	response := func(change func(*schemas.ResponseRow)) func(string) {
		r := schemas.ResponseRow{ID: "a1", PromptID: "a", Status: "complete"}
		change(&r)
		return func(out string) { shardstest.WriteFile(t, out, shards.Responses, r) }
	}
	judgment := func(score, elo *float64) func(string) {
		return func(out string) {
			shardstest.WriteFile(t, out, shards.Judgments, schemas.JudgmentRow{ID: "j", PromptID: "a", Score: score, Elo: elo})
		}
	}
	for wanted, spoil := range map[string]func(string){
		"score_mean of a1 is NaN; allowed is 0 to 5":       response(func(r *schemas.ResponseRow) { r.ScoreMean = new(math.NaN()) }),
		"score_mean of a1 is 1e+300; allowed is 0 to 5":    response(func(r *schemas.ResponseRow) { r.ScoreMean = new(1e300) }),
		"score_variance of a1 is -1; allowed is 0 to 6.25": response(func(r *schemas.ResponseRow) { r.ScoreVariance = new(-1.0) }),
		"chars of a1 is -1; allowed is at least 0":         response(func(r *schemas.ResponseRow) { r.Chars = -1 }),
		"score of j is 5.5; allowed is 0 to 5":             judgment(new(5.5), nil),
		"elo of j is +Inf; allowed is -1e+06 to 1e+06":     judgment(nil, new(math.Inf(1))),
	} {
		out := newRun(t)
		spoil(out)
		r, err := runs.Open(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Each(t.Context(), 0, func(*runs.Numbers) error { return nil }); err == nil || !strings.Contains(err.Error(), wanted) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, wanted)
		}
	}
}

// FuzzOpen takes any run.json: it is a run with shards and valid settings, or an error.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"format":1,"config":` + config + `,"files":[{"path":"raw/prompts/part-00000-of-00001.parquet"}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"config":{"method":{"rho":0.7}},"files":[{"path":"raw/prompts/x"}]}`))
	f.Add([]byte(`{"format":1,"config":{"method":{"rho":0.7,"min_margin":9}},"files":[{"path":"raw/prompts/x"}]}`))
	f.Add([]byte(`{"format":1,"config":null,"files":null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		write(t, filepath.Join(dir, "run.json"), b)
		r, err := runs.Open(t.Context(), dir)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a sentence: %q", err)
			}
			return
		}
		if r.Shards < 1 || r.Settings.Method.ActorOptions().Validate() != nil {
			t.Errorf("%q is taken for a run: %+v", b, r)
		}
	})
}

// A prompt with more rows than any run writes is an error, before they fill the memory.
func TestTooManyRows(t *testing.T) {
	out := newRun(t)
	rows := make([]schemas.JudgmentRow, 1<<18+1)
	for i := range rows {
		rows[i] = schemas.JudgmentRow{ID: fmt.Sprintf("%08d", i), PromptID: "a"}
	}
	shardstest.WriteFile(t, out, shards.Judgments, rows...)
	r, err := runs.Open(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Each(t.Context(), 0, func(*runs.Numbers) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `has more than 262144 rows of prompt "a"`) {
		t.Errorf("%v, want an error about too many rows", err)
	}
}

// A run.json of an absurd size is not read.
func TestTooLarge(t *testing.T) {
	out := t.TempDir()
	f, err := os.Create(filepath.Join(out, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := runs.Open(t.Context(), out); err == nil || !strings.Contains(err.Error(), "has 1073741824 bytes; allowed are 67108864") {
		t.Errorf("%v", err)
	}
}

// A run.json of few bytes that would take gigabytes of memory is not decoded. Quotation marks hide no values.
func TestTooManyValues(t *testing.T) {
	out := t.TempDir()
	text := `{"a": "\"", "files": [` + strings.Repeat("{},", 1<<20) + `{}]}`
	if err := os.WriteFile(filepath.Join(out, "run.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// An object, the comma after a, and a list; 2²⁰ + 1 objects with 2²⁰ commas between them.
	if _, err := runs.Open(t.Context(), out); err == nil || !strings.Contains(err.Error(), "run.json has 2097156 values; allowed are up to 2097152") {
		t.Errorf("%v", err)
	}
}

// The texts of one prompt are in memory together, so they are bounded: a file can repeat a text that it contains once.
func TestTooMuchTextOfAPrompt(t *testing.T) {
	out := t.TempDir()
	rows := make([]schemas.JudgmentRow, 257)
	text := strings.Repeat("x", 1<<20)
	for i := range rows {
		rows[i] = schemas.JudgmentRow{ID: fmt.Sprintf("j%04d", i), Replicate: int32(i), PromptID: "p", ResponseID: "r", Model: "m", Text: text}
	}
	shardstest.WriteFile(t, out, shards.Judgments, rows...)
	r := &runs.Run{Dir: out, Shards: 1}
	const want = `has more than 256 MiB of texts of prompt "p", which no run writes`
	if _, err := runs.PromptRows[schemas.JudgmentRow](t.Context(), r, shards.Judgments, "p"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	table := runs.OpenTable[schemas.JudgmentRow](t.Context(), r.Path(shards.Judgments, 0), nil)
	defer table.Close()
	// 255 rows of 1 MiB, and their IDs, are less than 256 MiB; the row with the last MiB is more.
	if n := len(table.Of("p")); n != 255 || table.Err() == nil || !strings.Contains(table.Err().Error(), want) {
		t.Errorf("%d rows, %v, want 255 and %q", n, table.Err(), want)
	}
}
