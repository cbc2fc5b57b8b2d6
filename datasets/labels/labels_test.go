package labels

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"coeval/schemas"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func id(text string) string {
	return schemas.PromptID([]schemas.Message{{Role: "user", Content: text}})
}

func TestPairs(t *testing.T) {
	path := write(t, "pairs.jsonl", "\uFEFF"+`{"prompt": "p", "response_1": " a ", "response_2": "b", "label": 1, "who": "x"}

{"messages": [{"role": "user", "content": "p"}], "response_1": "b", "response_2": "c", "label": "tie"}
{"input": "q", "output_1": "d", "output_2": "e", "label": 2}
`)
	got, err := Read(t.Context(), path, RubricScale)
	if err != nil {
		t.Fatal(err)
	}
	want := []Pair{
		{Line: 1, PromptID: id("p"), First: "a", Second: "b", Preferred: schemas.First},
		{Line: 3, PromptID: id("p"), First: "b", Second: "c", Preferred: schemas.NoWins},
		{Line: 4, PromptID: id("q"), First: "d", Second: "e", Preferred: schemas.Second},
	}
	if diff := cmp.Diff(want, got.Pairs); diff != "" || got.Kind != Pairs || got.File != "pairs.jsonl" || len(got.Prompts) != 2 {
		t.Errorf("%+v\n%s", got, diff)
	}
	for _, d := range got.Dossiers() {
		var texts []string
		for _, r := range d.Responses {
			texts = append(texts, r.Text)
		}
		want := map[string][]string{id("p"): {"a", "b", "c"}, id("q"): {"d", "e"}}[d.Prompt.ID]
		if diff := cmp.Diff(want, texts); diff != "" {
			t.Error(diff)
		}
	}
}

// Scores of any scale come on the rubric's: 1 to 10 has 5.5 in its middle, which is 2.5 of 5.
func TestScores(t *testing.T) {
	path := write(t, "scores.jsonl", `{"prompt": "p", "response": "a", "score": 5.5}
{"prompt": "p", "response": "a", "score": 10}
{"prompt": "p", "response": "b", "score": 1}`)
	got, err := Read(t.Context(), path, Scale{1, 10})
	if err != nil {
		t.Fatal(err)
	}
	want := []Score{
		{Line: 1, PromptID: id("p"), Response: "a", Points: 2.5},
		{Line: 2, PromptID: id("p"), Response: "a", Points: 5},
		{Line: 3, PromptID: id("p"), Response: "b", Points: 0},
	}
	if diff := cmp.Diff(want, got.Scores); diff != "" || got.Kind != Scores {
		t.Errorf("%+v\n%s", got, diff)
	}
	if d := got.Dossiers(); len(d) != 1 || len(d[0].Responses) != 2 {
		t.Errorf("dossiers %+v, want one with two responses", d)
	}
}

// The shipped set has the numbers in its README.
func TestLLMBar(t *testing.T) {
	got, err := Read(t.Context(), "../llmbar/llmbar-natural.json", RubricScale)
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	for _, p := range got.Pairs {
		if p.Preferred == schemas.First {
			first++
		}
	}
	if len(got.Pairs) != 100 || first != 42 || len(got.Prompts) != 100 {
		t.Errorf("%d pairs on %d prompts, %d prefer the first; want 100, 100, 42", len(got.Pairs), len(got.Prompts), first)
	}
	readme, err := os.ReadFile("../llmbar/README.md")
	if err != nil || !strings.Contains(string(readme), got.SHA256) {
		t.Errorf("the README doesn't name the SHA-256 %s: %v", got.SHA256, err)
	}
	// Each entry has six lines: the braces and four fields.
	if a, b := got.Pairs[0].Line, got.Pairs[1].Line; a != 2 || b != 8 {
		t.Errorf("the first pairs are in lines %d and %d, want 2 and 8", a, b)
	}
}

func TestCompressed(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(`[{"prompt": "p", "response": "a", "score": 1}]`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), write(t, "scores.json.gz", b.String()), RubricScale)
	if err != nil || len(got.Scores) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := Read(t.Context(), write(t, "scores.json.gz", b.String()[:20]), RubricScale); err == nil || !strings.Contains(err.Error(), "damaged or cut off") {
		t.Errorf("a torn file: %v", err)
	}
}

// An error is one sentence with file and line.
func TestBadLabels(t *testing.T) {
	const good = `{"prompt": "p", "response_1": "a", "response_2": "b", "label": 1}` + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"no JSON", "<xml>", ":1: the line is not JSON"},
		{"half a line", good + `{"prompt": "p"`, ":2: the line is not a JSON object"},
		{"no UTF-8", good + "{\"prompt\": \"\xff\"}", ":2: the line is not valid UTF-8"},
		{"no prompt", `{"response": "a", "score": 1}`, ":1: no field with a prompt was found"},
		{"another label", strings.Replace(good, `"label": 1`, `"label": 0`, 1), `:1: label is 0; allowed are 1, 2 and "tie"`},
		{"a label in words", strings.Replace(good, `"label": 1`, `"label": "first"`, 1), `:1: label is "first"; allowed are`},
		{"no label", strings.Replace(good, `, "label": 1`, ``, 1), ":1: label is missing"},
		{"one response", strings.Replace(good, `"response_2": "b", `, ``, 1), ":1: response_2 is missing"},
		{"a response that is a list", strings.Replace(good, `"b"`, `["b"]`, 1), `:1: response_2 is ["b"]; allowed is a text`},
		{"a blank response", strings.Replace(good, `"b"`, `" \n"`, 1), ":1: response_2 is blank"},
		{"equal responses", strings.Replace(good, `"b"`, `" a"`, 1), ":1: response_1 and response_2 are equal texts"},
		{"half of LLMBar", `{"input": "q", "output_1": "d", "label": 2}`, ":1: output_2 is missing"},
		{"no score", `{"prompt": "p", "response": "a"}`, ":1: score is missing; allowed is 0 to 5"},
		{"no response", `{"prompt": "p", "score": 1}`, ":1: response is missing"},
		{"above the scale", `{"prompt": "p", "response": "a", "score": 5.5}`, ":1: score is 5.5; allowed is 0 to 5"},
		{"below the scale", `{"prompt": "p", "response": "a", "score": -1}`, ":1: score is -1; allowed is 0 to 5"},
		{"a score in words", `{"prompt": "p", "response": "a", "score": "4"}`, `:1: score is "4"; allowed is 0 to 5`},
		{"a score without end", `{"prompt": "p", "response": "a", "score": 1e999}`, ":1: score is 1e999; allowed is 0 to 5"},
		{"both kinds", good + `{"prompt": "p", "response": "a", "score": 1}`, ":2: it is one of scores, the lines before it are of pairs"},
		{"a field twice", `{"prompt": "p", "prompt": "p", "response": "a", "score": 1}`, ":1: the line is not a JSON object"},
		{"nothing", "\n\n", "labels.jsonl: the file has no label"},
		{"an empty array", "[]", "labels.jsonl: the file has no label"},
		{"an array of texts", `["a"]`, ":1: an entry of the array is not an object"},
		{"a torn array", "[\n" + strings.TrimSpace(good) + ",\n{\"prompt\"", ":3: not a JSON array of objects"},
		{"more than an array", "[\n" + good + "]\n{}", ":4: the file continues after the array"},
		{"bad in an array", "[\n" + strings.TrimSpace(good) + ",\n" + `{"prompt": "p", "label": 1}` + "]", ":3: response_1 is missing"},
	} {
		_, err := Read(t.Context(), write(t, "labels.jsonl", c.text), RubricScale)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", c.name, err, c.want)
		}
	}
	_, err := Read(t.Context(), write(t, "labels.jsonl", strings.Repeat("{}\n", 25)), RubricScale)
	if n := strings.Count(err.Error(), "\n"); n != 20 || !strings.Contains(err.Error(), "5 more problems") {
		t.Errorf("25 bad lines: %v, want 20 of them and a count", err)
	}
	if _, err := Read(t.Context(), write(t, "labels.parquet", ""), RubricScale); err == nil || !strings.Contains(err.Error(), "files of this kind can't be read") {
		t.Errorf("Parquet: %v", err)
	}
}

func TestParseScale(t *testing.T) {
	if s, err := ParseScale("1:10"); err != nil || s != (Scale{1, 10}) || s.String() != "1 to 10" {
		t.Errorf("%v, %v", s, err)
	}
	for _, bad := range []string{"", "5", "10:1", "1:1", "a:b", "0:Inf", "NaN:5"} {
		if s, err := ParseScale(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, s)
		}
	}
}

// Any file is either refused with its name, or gives labels within their bounds whose responses are in
// the dossiers.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"prompt": "p", "response_1": "a", "response_2": "b", "label": "tie"}`))
	f.Add([]byte(`[{"input": "q", "output_1": "d", "output_2": "e", "label": 2}]`))
	f.Add([]byte("{\"messages\": [], \"response\": \"a\\ud800\", \"score\": 1}\n\xff"))
	f.Add([]byte(`{"prompt": "p", "response": "a", "score": 4.5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &reader{name: "fuzz.jsonl", scale: RubricScale, set: &Set{Prompts: map[string]schemas.Prompt{}}}
		set, err := r.read(data)
		if err != nil {
			if !strings.Contains(err.Error(), "fuzz.jsonl") {
				t.Fatalf("the error doesn't name the file: %v", err)
			}
			return
		}
		responses := map[string]bool{}
		for _, d := range set.Dossiers() {
			for _, r := range d.Responses {
				responses[d.Prompt.ID+r.Text] = true
			}
		}
		last := int64(0)
		for _, p := range set.Pairs {
			if !responses[p.PromptID+p.First] || !responses[p.PromptID+p.Second] || p.First == p.Second || p.Line < last {
				t.Fatalf("%+v", p)
			}
			last = p.Line
		}
		for _, s := range set.Scores {
			if !responses[s.PromptID+s.Response] || !(s.Points >= 0 && s.Points <= 5) || s.Line < last {
				t.Fatalf("%+v", s)
			}
			last = s.Line
		}
	})
}

// A file that is too large is refused, however small it is compressed.
func TestLargeFile(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	blank := bytes.Repeat([]byte("\n"), 1<<20)
	for range maxFileBytes>>20 + 1 {
		if _, err := w.Write(blank); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sparse := write(t, "sparse.jsonl", "")
	if err := os.Truncate(sparse, maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{write(t, "a.jsonl.gz", b.String()), sparse} {
		_, err := Read(t.Context(), path, RubricScale)
		if want := "labels: " + path + ": the file has more than 128 MiB; give some thousand labels"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
