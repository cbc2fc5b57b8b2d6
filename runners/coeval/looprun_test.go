package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/loop"
	"coeval/runners/loop/steps"
	"coeval/transforms/simulator"
)

// loopRun is a loop of the program against a simulated worker, in a folder of its own.
type loopRun struct {
	dir, config string
}

// newLoopRun writes the config of a loop of two iterations of eight prompts. Each text of edits stands
// for a line of the config.
func newLoopRun(t *testing.T, url string, edits ...string) *loopRun {
	t.Helper()
	dir := t.TempDir()
	l := &loopRun{dir: filepath.Join(dir, "loop"), config: filepath.Join(dir, "loop.yaml")}
	prompts, err := filepath.Abs("../../datasets/arena-hard/arena-hard-v0.1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"dir: " + l.dir,
		fmt.Sprintf("run: {worker: {urls: ['%s'], model: base}, prompts: {paths: ['%s']}, actor: {n: 3}, judge: {n: 4}, client: {window: %d}}", url, prompts, killedWindow),
		"prompts_per_iteration: 8",
		"slice_count: 4",
		"model: {path: base}",
		fmt.Sprintf("train: {command: 'echo begin {out} >>%[1]s.trainings && %[2]s simulate train --actor {actor} --judge {judge} --model {model} --out {out} && echo end {out} >>%[1]s.trainings'}", l.dir, program),
		"swap: {kind: lora}",
		fmt.Sprintf("evaluate: {arena: {judge: {model: judge}, prompts: {paths: ['%s'], limit: 6}, resamples: 100, client: {window: %d}}}", prompts, killedWindow),
		"decide: {iterations: 2, patience: 0, signs: 0, length_growth: 0}",
	}
	write(t, l.config, strings.Join(lines, "\n")+"\n")
	for _, edit := range edits {
		l.edit(t, edit)
	}
	return l
}

// edit puts a line into the config, in the place of that with the same key.
func (l *loopRun) edit(t *testing.T, line string) {
	t.Helper()
	key, _, _ := strings.Cut(line, ":")
	lines := strings.Split(strings.TrimSpace(readFile(t, l.config)), "\n")
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, key+":") }); i >= 0 {
		lines[i] = line
	} else {
		lines = append(lines, line)
	}
	write(t, l.config, strings.Join(lines, "\n")+"\n")
}

// complete runs the loop to its end.
func (l *loopRun) complete(t *testing.T) {
	t.Helper()
	want(t, nil, "loop", l.config)
}

// trainings are the outputs of the trainings that began, and of those that ended.
func (l *loopRun) trainings(t *testing.T) (began, ended []string) {
	t.Helper()
	b, err := os.ReadFile(l.dir + ".trainings")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		event, out, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, err := filepath.Rel(l.dir, out)
		if err != nil {
			t.Fatal(err)
		}
		if event == "begin" {
			began = append(began, name)
		} else {
			ended = append(ended, name)
		}
	}
	return began, ended
}

// outcome contains the parts that no kill may change: the files of runs, sets and models, and what training steps and
// decisions recorded. Reports and canaries name the folder, addresses, and times.
func (l *loopRun) outcome(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	all := files(t, l.dir)
	for name, digest := range all {
		if strings.Contains(name, "/journal/") || strings.Contains(name, "/operations/") {
			continue
		}
		if strings.HasSuffix(name, ".parquet") || strings.HasSuffix(name, "set.json") || strings.HasSuffix(name, "/run.json") || strings.Contains(name, "/model/") {
			out[name] = digest
		}
	}
	state, err := steps.Open(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range state.Records() {
		if r.Step != steps.SwapModel && r.Step != steps.SwapFuture && r.Step != steps.Measure {
			out[fmt.Sprintf("state %d %s", r.Iteration, r.Step)] = strings.ReplaceAll(string(r.Output), l.dir, "LOOP")
		}
	}
	return out
}

// calls are the tallies of the attempts of a run, in their order.
func calls(t *testing.T, out string) (generations, replayed []int64) {
	t.Helper()
	names, err := fs.Glob(os.DirFS(out), "operations/*.json")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		var o struct {
			Calls map[string]struct{ Generations, Replayed int64 }
		}
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		var asked, again int64
		for _, stage := range o.Calls {
			asked, again = asked+stage.Generations, again+stage.Replayed
		}
		generations, replayed = append(generations, asked), append(replayed, again)
	}
	return generations, replayed
}

// Phase 2 takes all of phase 1's calls from the journal of their folder, and asks for the future
// model's answers and the current model's judgments of them.
func TestLoopBothPhases(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven(), Adapters: true, Models: []string{"base", "judge"}})
	l := newLoopRun(t, w.URL, "schedule: [{preset: temporal, roles: [actor, judge], set: {judge.n: 6}}]")
	l.complete(t)
	for it := 1; it <= 2; it++ {
		data := filepath.Join(l.dir, fmt.Sprintf("it-%d", it), "data")
		asked, replayed := calls(t, data)
		if len(asked) != 2 || replayed[0] != 0 || asked[0] == 0 || replayed[1] != asked[0] {
			t.Errorf("iteration %d: the phases asked for %v generations and replayed %v", it, asked, replayed)
		}
		// Phase 2 asks 8 prompts for at most 4 answers of the future model, and 6 judgments of each.
		if most := int64(8 * (4 + 4*6)); len(asked) == 2 && (asked[1] == 0 || asked[1] > most) {
			t.Errorf("iteration %d: phase 2 asked for %d generations; at most %d are new", it, asked[1], most)
		}
		want(t, nil, "verify", data)
	}
	// A canary asks six prompts twice, and six long ones once without a salt of its own. It is recorded for
	// five models: the first one and two an iteration. The first model and iteration 1's are recorded again as
	// the models before a swap.
	if twice := w.Stats().AskedTwice; twice != 5*6+2*6 {
		t.Errorf("%d generations were asked twice", twice)
	}
	began, ended := l.trainings(t)
	if want := []string{"it-1/future/model", "it-1/model", "it-2/future/model", "it-2/model"}; !slices.Equal(began, want) || !slices.Equal(ended, want) {
		t.Errorf("trainings began for %v and ended for %v", began, ended)
	}
	if said := want(t, nil, "loop", "status", l.config); strings.Count(said, "future-train") != 2 {
		t.Errorf("the status is\n%s", said)
	}
	before := l.outcome(t)
	requests := w.Stats().Requests
	l.complete(t)
	if diff := cmp.Diff(before, l.outcome(t)); diff != "" || w.Stats().Requests != requests {
		t.Errorf("the second start asked %d times and changed: %s", w.Stats().Requests-requests, diff)
	}
	page, err := os.ReadFile(filepath.Join(l.dir, loop.PageFile))
	if err != nil || !bytes.Contains(page, []byte("temporal")) {
		t.Errorf("the page lacks the preset: %v", err)
	}
}
