package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/store"
	"coeval/runners/plan"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

// A plan asks nothing, writes nothing, and is right: exactly where the journal holds all, and as an
// upper bound before.
func TestPlan(t *testing.T) {
	t.Parallel()
	w := newWorker(t, slowly(simulator.Options{}))
	const prompts = killedPrompts
	out := filepath.Join(t.TempDir(), "out")
	args := killedRun(w.URL, mixed(t, prompts), out)
	planned := func() (p plan.Plan, stages map[string]plan.Stage) {
		t.Helper()
		requests := w.Stats().Requests
		if err := json.Unmarshal([]byte(want(t, nil, append([]string{"plan"}, args[1:]...)...)), &p); err != nil {
			t.Fatal(err)
		}
		if got := w.Stats().Requests; got != requests {
			t.Errorf("the plan made %d requests", got-requests)
		}
		// One prompt is there twice, and one line is none.
		if p.Lines != prompts+2 || p.Bad != 1 || p.Merged != 1 || p.Prompts != prompts || p.Shards != 1 {
			t.Errorf("the plan reads the prompts as %+v", p)
		}
		stages = map[string]plan.Stage{}
		for _, s := range p.Stages {
			if s.Generations != s.Held+s.Ask || s.PromptTokens > 0 != (s.Ask > 0) || s.CompletionTokens > 0 != (s.Ask > 0) {
				t.Errorf("the plan does not add up: %+v", s)
			}
			stages[s.Stage] = plan.Stage{Generations: s.Generations, Held: s.Held, Ask: s.Ask, Requests: s.Requests}
		}
		return p, stages
	}

	p, stages := planned()
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("the plan made the run's folder (%v)", err)
	}
	// Per prompt K = 3 responses in a request, N = 4 judgments of each in one, and N(N−1) = 12
	// comparisons, each alone.
	if diff := cmp.Diff(map[string]plan.Stage{
		schemas.StageGenerate: {Generations: 3 * prompts, Ask: 3 * prompts, Requests: prompts},
		schemas.StageJudge:    {Generations: 12 * prompts, Ask: 12 * prompts, Requests: 3 * prompts},
		schemas.StageMeta:     {Generations: 12 * prompts, Ask: 12 * prompts, Requests: 12 * prompts},
	}, stages); diff != "" || p.Known != 0 {
		t.Errorf("before the run %d prompts are known: %s", p.Known, diff)
	}

	stats := killAt(t, w, 80, args)
	before, left := files(t, out), durable(t, out)
	_, stages = planned()
	for stage, role := range map[string]string{
		schemas.StageGenerate: schemas.RoleActor, schemas.StageJudge: schemas.RoleJudge, schemas.StageMeta: schemas.RoleMetaJudge,
	} {
		if got := stages[stage].Held; got != left[role] {
			t.Errorf("the plan finds %d generations of %s, the journal holds %d", got, stage, left[role])
		}
	}
	if diff := cmp.Diff(before, files(t, out)); diff != "" {
		t.Errorf("the plan changed files: %s", diff)
	}
	s := finish(t, w, out, stats, args)
	var ask int64
	for _, stage := range stages {
		ask += stage.Ask
	}
	if s.Calls.Generations > ask {
		t.Errorf("%d generations were asked for, the plan said at most %d", s.Calls.Generations, ask)
	}

	p, stages = planned()
	var held int64
	for stage, s := range stages {
		if held += s.Held; s.Ask != 0 || s.Requests != 0 {
			t.Errorf("after the run the plan asks %+v of %s", s, stage)
		}
	}
	if want := s.Calls.Replayed + s.Calls.Generations; held != want || p.Known != prompts {
		t.Errorf("after the run the plan knows %d prompts and %d generations, want %d and %d", p.Known, held, prompts, want)
	}
}

// A simulated run takes the storage that the plan announced, within a quarter: before it, where texts
// are assumed, and after it, where they are measured and the journal is as large as it is.
func TestPlanStorage(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	args := []string{"--simulate", "--prompts", "../../datasets/arena-hard/arena-hard-v0.1.jsonl", "--limit", "40", "--out", out, "--json"}
	planned := func() (p plan.Plan) {
		t.Helper()
		if err := json.Unmarshal([]byte(want(t, nil, append([]string{"plan"}, args...)...)), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	size := func(folder string) (bytes int64) {
		t.Helper()
		found, err := store.List(t.Context(), folder+"/")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			bytes += f.Size
		}
		return bytes
	}
	before := planned()
	s := complete(t, append([]string{"run"}, args...)...)
	after, journal := planned(), size(filepath.Join(out, "journal"))
	for what, c := range map[string]struct{ planned, is int64 }{
		"journal before": {before.JournalBytes, journal}, "tables before": {before.OutputBytes, s.Bytes}, "tables after": {after.OutputBytes, s.Bytes},
	} {
		if off := float64(c.planned)/float64(c.is) - 1; math.Abs(off) > 0.25 {
			t.Errorf("%s: %d bytes were planned and %d taken, %+.0f %%", what, c.planned, c.is, 100*off)
		} else {
			t.Logf("%s: %+.1f %%", what, 100*off)
		}
	}
	if after.JournalBytes != journal || before.Compression.Measured || !after.Compression.Measured {
		t.Errorf("after the run %d bytes of journal are planned, %d are there; compression %+v and %+v", after.JournalBytes, journal, before.Compression, after.Compression)
	}
}
