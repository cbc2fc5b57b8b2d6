package metareward

import (
	"path/filepath"
	"testing"

	"coeval/datasets/shards"
	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// A temporal run asks each model for its own responses, judges all of them, and compares judgments of
// the actor's alone.
func TestTemporalRun(t *testing.T) {
	c := config.Default()
	c.Prompts.Paths, c.Actor.N, c.Judge.N = []string{promptsOf(t, 6)}, 3, 4
	c.Method.Pairs, c.Past.Model, c.Past.N = pairs.Temporal, "sim:quality=-1,length=+0,noise=+0", 2
	out, _ := run(t, c)
	pools := map[string]int{}
	replicates := map[string]int{}
	models := map[string]string{}
	contested := map[string]bool{}
	err := shards.ReadTable(t.Context(), filepath.Join(out, shards.Path(shards.Responses, 0, 1)), func(r *schemas.ResponseRow) error {
		pools[r.Model]++
		replicates[r.Model] += len(r.Replicates)
		models[r.ID] = r.Model
		contested[r.Model] = contested[r.Model] || r.Contested
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pools) != 2 || replicates[c.Past.Model] != 6*2 {
		t.Errorf("responses by model: %v, replicates %v", pools, replicates)
	}
	if contested[c.Past.Model] {
		t.Error("a response of past is contested")
	}
	judged := map[string]bool{}
	err = shards.ReadTable(t.Context(), filepath.Join(out, shards.Path(shards.Judgments, 0, 1)), func(j *schemas.JudgmentRow) error {
		judged[models[j.ResponseID]] = true
		return nil
	})
	if err != nil || len(judged) != 2 {
		t.Errorf("judged are responses of %v (%v)", judged, err)
	}
	rejected := map[string]int{}
	err = shards.ReadTable(t.Context(), filepath.Join(out, shards.Path(shards.Actor, 0, 1)), func(p *schemas.Pair) error {
		if *p.ChosenModel != models[p.ChosenID] || *p.RejectedModel != models[p.RejectedID] {
			t.Errorf("pair %s names the models %s and %s; its responses are of %s and %s", p.ID, *p.ChosenModel, *p.RejectedModel, models[p.ChosenID], models[p.RejectedID])
		}
		rejected[*p.RejectedModel]++
		return nil
	})
	if err != nil || rejected[c.Past.Model] == 0 {
		t.Errorf("rejected are responses of %v (%v)", rejected, err)
	}
}
