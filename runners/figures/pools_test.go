package figures_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/runners/figures"
	"coeval/runners/runs"
	"coeval/schemas"
)

// A run of two prompts with the actor now and past then. Of p the pair is the actor's a over past's c, of q the
// actor's d over its own e.
func pooledRun(t *testing.T) *runs.Run {
	t.Helper()
	out := t.TempDir()
	said := func(text string) []schemas.Message { return []schemas.Message{{Role: "assistant", Content: text}} }
	asked := []schemas.Message{{Role: "user", Content: "?"}}
	shardstest.WriteFile(t, out, shards.Prompts, schemas.PromptRow{ID: "p", Prompt: asked}, schemas.PromptRow{ID: "q", Prompt: asked})
	response := func(id, prompt, model, status string, chars int32, score *float64) schemas.ResponseRow {
		r := schemas.ResponseRow{ID: id, PromptID: prompt, Model: model, Status: status, Chars: chars, ScoreMean: score}
		if score != nil {
			r.ScoreVariance = new(0.0)
		}
		return r
	}
	shardstest.WriteFile(t, out, shards.Responses,
		response("a", "p", "now", "complete", 100, new(4.0)), response("b", "p", "now", "truncated", 900, nil),
		response("c", "p", "then", "complete", 300, new(1.0)), response("c2", "p", "then", "empty", 0, nil),
		response("d", "q", "now", "complete", 500, new(5.0)), response("e", "q", "now", "complete", 200, new(2.0)),
		response("f", "q", "then", "complete", 100, new(3.0)))
	judgment := func(id, prompt, response string, score float64) schemas.JudgmentRow {
		return schemas.JudgmentRow{ID: id, PromptID: prompt, ResponseID: response, Score: &score, Distinct: true}
	}
	shardstest.WriteFile(t, out, shards.Judgments,
		judgment("1", "p", "a", 4), judgment("2", "p", "c", 1), judgment("3", "q", "d", 5), judgment("4", "q", "e", 2), judgment("5", "q", "f", 3))
	shardstest.WriteFile[schemas.ComparisonRow](t, out, shards.Comparisons)
	shardstest.WriteFile[schemas.FailureRow](t, out, shards.Failures)
	shardstest.WriteFile(t, out, shards.Actor,
		schemas.Pair{
			ID: "1", PromptID: "p", Prompt: asked, Chosen: said("# Title\n- one"), Rejected: said("plain"), ChosenModel: new("now"), RejectedModel: new("then"),
			ScoreMargin: 3, ChosenChars: 100, RejectedChars: 300,
		},
		schemas.Pair{
			ID: "2", PromptID: "q", Prompt: asked, Chosen: said("plain"), Rejected: said("**bold**"), ChosenModel: new("now"), RejectedModel: new("now"),
			ScoreMargin: 3, ChosenChars: 500, RejectedChars: 200,
		})
	const config = `{"roles":["actor"],"actor":{"n":2,"role":{"name":"actor","model":"now"},"pools":[{"role":{"name":"past","model":"then"},"n":2}]},` +
		`"judge":{"n":2},"method":{"pairs":"temporal","phase":1,"min_judgments":1,"min_meta_judgments":2}}`
	b, err := json.Marshal(schemas.Run{
		Format: schemas.RunFormat, Config: json.RawMessage(config), Files: []schemas.File{{Path: shards.Path(shards.Prompts, 0, 1)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "run.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := runs.Open(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPools(t *testing.T) {
	r := pooledRun(t)
	f, err := figures.Of(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	want := &figures.Pools{
		Sources: []figures.Source{
			{
				Role: "actor", Model: "now", Responses: 4, Statuses: map[string]int64{"complete": 3, "truncated": 1}, Complete: 0.75,
				// a, d and e: S (4+5+2)/3, lengths (100+500+200)/3.
				Scored: 3, Score: 11.0 / 3, Chars: 800.0 / 3, Chosen: 2, Rejected: 1,
			},
			{
				Role: "past", Model: "then", Responses: 3, Statuses: map[string]int64{"complete": 2, "empty": 1}, Complete: 2.0 / 3,
				Scored: 2, Score: 2, Chars: 200, Rejected: 1,
			},
		},
		Pairs: []figures.SourcePairs{
			{Chosen: "actor", Rejected: "actor", Pairs: 1, Share: 0.5, ChosenChars: 500, RejectedChars: 200, Difference: 300, Margin: 3, RejectedMarkdown: 1},
			{Chosen: "actor", Rejected: "past", Pairs: 1, Share: 0.5, ChosenChars: 100, RejectedChars: 300, Difference: -200, Margin: 3, ChosenMarkdown: 1},
		},
	}
	if diff := cmp.Diff(want, f.Pools, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Error(diff)
	}
	// Without another model there is nothing to tell apart.
	r.Settings.Actor.Pools = nil
	if f, err = figures.Of(t.Context(), r); err != nil || f.Pools != nil {
		t.Errorf("without pools: %+v, %v", f.Pools, err)
	}
}
