package settings

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/meta"
	"coeval/transforms/stage"
)

// says is a Caller that returns one text for every generation.
type says string

func (s says) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i, c := range calls {
		if len(c.Messages()) == 0 {
			return nil, context.Canceled
		}
		for range c.N {
			out[i] = append(out[i], schemas.Generation{Text: string(s), FinishReason: "stop"})
		}
	}
	return out, nil
}

// The example configs of published judges are valid, and read those judges' own endings.
func TestTemplateExamples(t *testing.T) {
	t.Chdir("../..")
	endings := map[string]struct {
		judgment   string
		score      int
		comparison string
	}{
		"paper.yaml":      {"It is complete.\n\nScore: 4", 4000, "B misses a point.\n\nWinner: Judgment A"},
		"prometheus.yaml": {"Feedback: The response is correct (score 3 at least). [RESULT] 4", 4000, "Winner: A"},
		"mt-bench.yaml":   {"Good. Rating: [[7]]", 7000, "My final verdict is: [[A>>B]]"},
	}
	files, err := filepath.Glob("docs/examples/templates/*.yaml")
	if err != nil || len(files) != len(endings) {
		t.Fatalf("got %v, %v; want %d configs", files, err, len(endings))
	}
	for _, file := range files {
		want := endings[filepath.Base(file)]
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Load(Source{File: source, Name: file, Settings: required})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		d := schemas.Dossier{
			Prompt:    schemas.Prompt{ID: "p", Messages: []schemas.Message{{Role: "user", Content: "Capital of Italy?"}}, Metadata: `{"reference":"Rome"}`},
			Responses: []schemas.Response{{ID: "r", Text: "Rome.", Status: schemas.Complete}},
		}
		runStage(t, judgeOf(t, &c), says(want.judgment), &d)
		if j := d.Responses[0].Judgments[0]; j.Score != want.score || j.Unparsed != "" {
			t.Errorf("%s: the judgment reads as %d, %q; want %d", file, j.Score, j.Unparsed, want.score)
		}
		d.ContestedID = "r"
		d.Responses[0].Judgments = []schemas.Judgment{{ID: "a", Text: "one", Distinct: true}, {ID: "b", Text: "two", Distinct: true}}
		runStage(t, metaOf(t, &c), says(want.comparison), &d)
		if got := d.Comparisons[0].Winner; got != schemas.First {
			t.Errorf("%s: the comparison reads as %s, %q", file, got, d.Comparisons[0].Unparsed)
		}
	}
}

func runStage(t *testing.T, s stage.Stage, c stage.Caller, d *schemas.Dossier) {
	t.Helper()
	if err := s(t.Context(), c, d); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, name string) string {
	t.Helper()
	if name == "" {
		return ""
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func judgeOf(t *testing.T, c *config.Config) stage.Stage {
	t.Helper()
	s, err := judge.Stage(judge.Options{
		Role: stage.Role{Name: schemas.RoleJudge, Model: "m"}, N: 1, Template: text(t, c.Judge.Template), Rubric: text(t, c.Judge.Rubric), Pattern: c.Judge.Pattern,
		Scale: points.Scale{Min: int(math.Round(1000 * c.Judge.Scale[0])), Max: int(math.Round(1000 * c.Judge.Scale[1]))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func metaOf(t *testing.T, c *config.Config) stage.Stage {
	t.Helper()
	s, err := meta.Stage(meta.Options{
		Role: stage.Role{Name: schemas.RoleMetaJudge, Model: "m"}, MinJudgments: 2,
		Template: text(t, c.MetaJudge.Template), Rubric: text(t, c.Judge.Rubric), Pattern: c.MetaJudge.Pattern,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
