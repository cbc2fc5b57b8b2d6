package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

func TestGoodRun(t *testing.T) {
	good, err := goodRun()
	if err != nil {
		t.Fatal(err)
	}
	report := mustVerify(t, good)
	for _, p := range report.Problems {
		t.Error(p)
	}
	run := readManifest(t, good)
	var rows int64
	for _, f := range run.Files {
		rows += f.Rows
	}
	want := Report{
		Files: int64(len(run.Files)), Rows: rows, Prompts: run.Ledger.Findings,
		ActorPairs: run.Ledger.Roles[schemas.RoleActor].Paired, JudgePairs: run.Ledger.Roles[schemas.RoleJudge].Paired,
	}
	if got := report; got.Files != want.Files || got.Rows != want.Rows || got.Prompts != want.Prompts || got.ActorPairs != want.ActorPairs || got.JudgePairs != want.JudgePairs {
		t.Errorf("figures %+v, want %+v", got, want)
	}
	// The other tests damage this run: every kind of row must occur.
	if report.Files != 7*4 || report.ActorPairs == 0 || report.JudgePairs == 0 || run.Ledger.Bad == 0 || run.Ledger.Merged == 0 || len(run.Stats.FailedCalls) != 3 {
		t.Errorf("the run lacks something: %+v, failed calls %v", report, run.Stats.FailedCalls)
	}
}

func TestOtherConfigs(t *testing.T) {
	tests := []struct {
		name   string
		change func(*config.Config)
	}{
		{"actor alone", func(c *config.Config) { c.Roles = []string{schemas.RoleActor} }},
		{"judge alone", func(c *config.Config) { c.Roles = []string{schemas.RoleJudge} }},
		{"response weights", func(c *config.Config) {
			c.Method.PositionWeights, c.Method.DropEqualScores, c.Method.HideScores = pairs.ResponseWeights, false, true
		}},
		{"fixed weights", func(c *config.Config) {
			c.Method.PositionWeights, c.Method.FixedPositionWeights = pairs.FixedWeights, [2]float64{0.25, 0.75}
		}},
		{"limits", func(c *config.Config) {
			c.Method.Rho, c.Method.MinMargin, c.Method.MaxChosenChars, c.Method.MaxJudgmentChars = 0, 1, 700, 700
		}},
		{"no pairs", func(c *config.Config) { c.Method.MinMargin, c.Method.MaxJudgmentChars = 5, 1 }},
		{"balanced", func(c *config.Config) { c.Method.JudgeClassCap, c.Method.BalanceDirections = 0.5, 0.2 }},
		{"temporal 1", func(c *config.Config) { temporal(c, 1) }},
		{"temporal 2, both roles, tiers", func(c *config.Config) {
			temporal(c, 2)
			c.Roles, c.Method.Rho = []string{schemas.RoleActor, schemas.RoleJudge}, 0.3
		}},
		{"past is the actor", func(c *config.Config) { c.Method.Pairs, c.Past.Revision = pairs.Temporal, c.Worker.Revision }},
		{"one shard", func(c *config.Config) { c.Output.PromptsPerShard = 1000 }},
		{"sample", func(c *config.Config) { c.Prompts.Sample = 5 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			if err := makeRun(t.Context(), out, promptLines(), tt.change); err != nil {
				t.Fatal(err)
			}
			for _, p := range mustVerify(t, out).Problems {
				t.Error(p)
			}
		})
	}
}

// temporal makes a config of a phase of the method temporal.
func temporal(c *config.Config, phase int) {
	c.Roles = []string{schemas.RoleActor}
	c.Method.Pairs, c.Method.Phase = pairs.Temporal, phase
	c.Past.Model, c.Past.N, c.Future.Model = "sim:quality=-0.5,length=+0,noise=+0", 2, "sim:quality=+0.5,length=+0,noise=+0"
}

// A pair whose side is of another pool than the method takes it from is found, and so is a column that
// names another model.
func TestPoolsAreProved(t *testing.T) {
	out := t.TempDir()
	if err := makeRun(t.Context(), out, promptLines(), func(c *config.Config) { temporal(c, 2); c.Output.PromptsPerShard = 1000 }); err != nil {
		t.Fatal(err)
	}
	f := readLargest[schemas.Pair](t, out, shards.Actor)
	if err := os.RemoveAll(filepath.Join(out, "journal")); err != nil { // it has run.json's digest
		t.Fatal(err)
	}
	f.rows[0].RejectedModel = new("m@r1")
	f.forge(t)
	problems := mustVerify(t, out).Problems
	if len(problems) != 1 || !strings.Contains(problems[0], `rejected_model is "m@r1", should be "sim:quality=-0.5`) {
		t.Errorf("problems are %q", problems)
	}
	m := readManifest(t, out)
	m.Config = []byte(strings.Replace(string(m.Config), `"phase":2`, `"phase":1`, 1))
	writeManifest(t, out, m)
	problems = mustVerify(t, out).Problems
	if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, "chosen_id") }) {
		t.Errorf("phase 1 gives the same pairs: %q", problems)
	}
}

func TestEndOfContext(t *testing.T) {
	good, err := goodRun()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := Out(ctx, good); !errors.Is(err, context.Canceled) || len(report.Problems) > 0 {
		t.Errorf("got %+v and %v, want the context's error alone", report, err)
	}
}

func mustVerify(t *testing.T, dir string) Report {
	t.Helper()
	report, err := Out(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return report
}
