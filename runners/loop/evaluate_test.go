package loop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/runners/loop/config"
	"coeval/runners/loop/inputs"
	"coeval/runners/loop/nested"
	"coeval/runners/loop/steps"
)

// Figures are of another kind after a change of a setting that they depend on, and of no other one.
func TestFigureKind(t *testing.T) {
	dir := t.TempDir()
	people, template := filepath.Join(dir, "people.jsonl"), filepath.Join(dir, "template.txt")
	for _, file := range []string{people, template} {
		if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	begin := func() *Loop {
		c := config.Default()
		c.Run = map[string]any{"worker": map[string]any{"model": "m"}}
		c.Evaluate.People = people
		c.Evaluate.Arena = map[string]any{
			"judge":   map[string]any{"model": "j", "replicates": 1, "template": template},
			"prompts": map[string]any{"paths": []any{"p.jsonl"}}, "b": map[string]any{"model": "other", "max_tokens": 64},
		}
		return &Loop{Config: c}
	}
	set := func(key string, value any) func(*Loop) {
		return func(l *Loop) { nested.Set(l.Config.Evaluate.Arena, key, value) }
	}
	write := func(file, text string) func(*Loop) {
		return func(*Loop) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		change func(*Loop)
		other  bool
	}{
		"nothing":            {func(*Loop) {}, false},
		"categories":         {set("category_field", "topic"), false},
		"resamples":          {set("resamples", 500), false},
		"bad prompts":        {set("prompts.max_bad_prompts", 0.1), false},
		"folder":             {set("output.dir", "x"), false},
		"servers":            {set("judge.urls", []any{"http://h/v1"}), false},
		"servers of all":     {set("worker.urls", []any{"http://h/v1"}), false},
		"headers":            {set("b.headers", map[string]any{"X-Org": "env:ORG"}), false},
		"simulated latency":  {set("simulate.latency", "1s"), false},
		"client":             {set("client.patience", "1h"), false},
		"the baseline":       {set("b.model", "another"), false}, // it is the first model in any case
		"judge":              {set("judge.model", "k"), true},
		"revision":           {set("judge.revision", "2"), true},
		"request field":      {set("judge.extra_body", map[string]any{"client": "x"}), true},
		"verdict":            {set("judge.verdict", "three"), true},
		"replicates":         {set("judge.replicates", 2), true},
		"prompts":            {set("prompts.paths", []any{"q.jsonl"}), true},
		"bound of answers":   {set("b.max_tokens", 65), true},
		"outcome":            {set("outcome", "soft"), true},
		"difficulty":         {set("known", []any{"arena-0"}), true},
		"simulated world":    {set("simulate.world", "bad"), true},
		"figure":             {func(l *Loop) { l.Config.Evaluate.Figure = config.WinRateFigure }, true},
		"text of a template": {write(template, "2"), true},
		"labels":             {write(people, "2"), true},
		"moved labels": {func(l *Loop) {
			l.Config.Evaluate.People = filepath.Join(dir, "moved.jsonl")
			write(l.Config.Evaluate.People, "1")(l)
		}, false},
		"lost labels":             {func(*Loop) { _ = os.Remove(people) }, false},
		"other labels, not read":  {func(l *Loop) { l.Config.Evaluate.People = "s3://bucket/people.jsonl" }, true},
		"no labels":               {func(l *Loop) { l.Config.Evaluate.People = "" }, false},
		"no arena":                {func(l *Loop) { l.Config.Evaluate.Arena, l.Config.Evaluate.Figure = nil, config.WinRateFigure }, false},
		"the judge is the worker": {func(l *Loop) { delete(l.Config.Evaluate.Arena["judge"].(map[string]any), "model") }, true},
	} {
		write(people, "1")(nil)
		write(template, "1")(nil)
		before, l := begin().figureKind(), begin()
		tt.change(l)
		if got := before.Differs(l.figureKind()); got != tt.other {
			t.Errorf("%s: another kind of figures is %t, want %t", name, got, tt.other)
		}
	}
}

// Evaluate is refused with the sentence about figures only where these are of another kind.
func TestRefusal(t *testing.T) {
	var out strings.Builder
	l := recorded(t, &out, map[steps.Step]any{steps.Measure: measured{Kind: inputs.Kind{Figure: config.WinRateFigure, Contest: "of another arena"}}})
	l.Config.Run = map[string]any{}
	for want, arena := range map[string]map[string]any{
		"was done with another evaluate.figure": {"judge": map[string]any{"model": "j"}},
		"was done with other settings":          nil, // an edited state, for example
	} {
		l.Config.Evaluate.Arena = arena
		if err := l.Refusal(1, steps.Measure); !strings.Contains(err.Error(), want) {
			t.Errorf("with the arena %v the refusal is %v; want %q", arena, err, want)
		}
	}
}
