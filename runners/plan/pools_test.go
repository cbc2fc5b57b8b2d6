package plan

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/prompts"
	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// A plan counts the answers of past and future, and the judgments of all of them.
func TestPools(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.jsonl")
	if err := os.WriteFile(file, []byte(`{"prompt": "One?"}`+"\n"+`{"prompt": "Two?"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Prompts.Paths, c.Output.Dir, c.Simulate.Enabled = []string{file}, filepath.Join(t.TempDir(), "out"), true
	c.Roles, c.Actor.N, c.Judge.N = []string{schemas.RoleActor}, 3, 4
	c.Method.Pairs, c.Method.Phase = pairs.Temporal, 2
	c.Past.Model, c.Past.N, c.Future.Model = "first", 2, "next"
	scan, err := prompts.ScanFiles(t.Context(), c.Prompts.Paths, c.Reading(), c.Selection())
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(t.Context(), c, scan, nil)
	if err != nil {
		t.Fatal(err)
	}
	asks := map[string]int64{}
	for _, s := range p.Stages {
		if s.Ask > 0 {
			asks[s.Stage] = s.Ask
		}
	}
	// Two prompts with 3 + 2 + 3 responses, each judged 4 times.
	want := map[string]int64{schemas.StageGenerate: 6, schemas.StagePast: 4, schemas.StageFuture: 6, schemas.StageJudge: 64}
	if diff := cmp.Diff(want, asks); diff != "" {
		t.Error(diff)
	}
	pools := []config.AskedPool{{Stage: schemas.StagePast, N: 2}, {Stage: schemas.StageFuture, N: 3, AsActor: true}}
	if diff := cmp.Diff(pools, p.Pools); diff != "" {
		t.Error(diff)
	}
}
