package loop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/runners/loop/config"
	"coeval/runners/loop/inputs"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// TestStateOfEarlierVersion goes on with a state that the version before the moves of servers wrote, with all steps of
// an iteration and the first two of the next one. Its records bind the addresses of the servers, and records of this
// version behind them do not.
func TestStateOfEarlierVersion(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "earlier.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(filepath.Join("testdata", "earlier.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	loopOf := func(dir string, change *strings.Replacer) *Loop {
		t.Helper()
		c, err := config.Parse("loop.yaml", []byte(change.Replace(string(text))))
		if err != nil {
			t.Fatal(err)
		}
		l := &Loop{Config: c}
		if l.state, err = steps.Open(dir); err != nil {
			t.Fatal(err)
		}
		return l
	}
	goOn := func(l *Loop, iteration int) { // appends the steps that the iteration lacks
		t.Helper()
		input := l.inputOf(iteration)
		for _, step := range l.Config.Steps(iteration) {
			if l.state.Find(iteration, step) == nil {
				r := steps.Record{Iteration: iteration, Step: step, Input: inputs.Of(&l.Config, iteration, step, input)[0], Output: []byte(`{"new":true}`)}
				if err := l.state.Append(r); err != nil {
					t.Fatal(err)
				}
			}
			done := l.state.Find(iteration, step)
			input = schemas.Digest(done.Input, string(done.Output))
		}
	}
	type refusal struct {
		iteration int
		step      steps.Step
	}
	changes := map[string]struct {
		change       *strings.Replacer
		earlier, own refusal // of records by the earlier version, and by this one
	}{
		"nothing":          {strings.NewReplacer(), refusal{}, refusal{}},
		"the worker":       {strings.NewReplacer("http://a/v1", "http://b/v1"), refusal{1, steps.PhaseOne}, refusal{}},
		"headers":          {strings.NewReplacer("env:ORG", "env:OTHER"), refusal{1, steps.PhaseOne}, refusal{}},
		"a client setting": {strings.NewReplacer("2m", "3m"), refusal{1, steps.PhaseOne}, refusal{}},
		"a turn's servers": {strings.NewReplacer("http://c/v1", "http://d/v1"), refusal{1, steps.PhaseOne}, refusal{}},
		"the future model": {strings.NewReplacer("http://f/v1", "http://g/v1"), refusal{1, steps.SwapFuture}, refusal{}},
		"a field":          {strings.NewReplacer("client: c", "client: d"), refusal{1, steps.PhaseOne}, refusal{1, steps.PhaseOne}},
		"a server command": {strings.NewReplacer("8001", "8002"), refusal{1, steps.SwapFuture}, refusal{1, steps.SwapFuture}},
		"the last set":     {strings.NewReplacer("roles: [actor]", "roles: [judge]"), refusal{2, steps.Produce}, refusal{2, steps.Produce}},
		"a training":       {strings.NewReplacer("train {train}", "train -v {train}"), refusal{1, steps.TrainFuture}, refusal{1, steps.TrainFuture}},
		"the stop rules":   {strings.NewReplacer("iterations: 2", "iterations: 2, patience: 9"), refusal{}, refusal{}},
		"the price":        {strings.NewReplacer("people: ", "gpu_hour_usd: 2, people: "), refusal{}, refusal{}},
		"the first model":  {strings.NewReplacer("model: m,", "model: n,"), refusal{1, steps.PhaseOne}, refusal{1, steps.PhaseOne}},
	}
	for name, tt := range changes {
		for _, of := range []struct {
			records string
			begin   func(dir string)
			want    refusal
		}{
			{"the earlier version", func(string) {}, tt.earlier},
			{"both versions", func(dir string) { goOn(loopOf(dir, strings.NewReplacer()), 2) }, tt.earlier},
			{"this version", func(dir string) {
				if err := os.Remove(filepath.Join(dir, steps.StateFile)); err != nil {
					t.Fatal(err)
				}
				l := loopOf(dir, strings.NewReplacer())
				goOn(l, 1)
				goOn(l, 2)
			}, tt.own},
		} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, steps.StateFile), state, 0o600); err != nil {
				t.Fatal(err)
			}
			of.begin(dir)
			iteration, step, _ := loopOf(dir, tt.change).Changed()
			if got := (refusal{iteration, step}); got != of.want {
				t.Errorf("a change of %s with records of %s is refused at %v, want %v", name, of.records, got, of.want)
			}
		}
	}
}
