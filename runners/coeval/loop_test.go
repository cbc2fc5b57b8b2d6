package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/runners/loop/config"
	"coeval/runners/loop/inputs"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// The plan of a loop counts the calls of each iteration for every preset, prices them, and starts nothing.
func TestLoopPlan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	labels := filepath.Join(dir, "labels.jsonl")
	label := `{"prompt": "Why?", "response_1": "Because.", "response_2": "No idea.", "label": 1}` + "\n"
	if err := os.WriteFile(labels, []byte(label), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "loop.yaml")
	config := fmt.Sprintf(`
dir: %[1]s/loop
run:
  worker: {urls: ["http://127.0.0.1:9/v1"], model: base}
  prompts: {paths: [%[2]s]}
prompts_per_iteration: 5
slices: same
schedule:
  - {preset: paper-1}
  - {preset: self-rewarding}
  - {preset: temporal-1}
  - {preset: temporal-1, roles: [actor, judge], set: {judge.n: 11}}
  - {preset: temporal}
decide: {iterations: 5}
model: {path: base}
train: {command: "true {out}"}
swap: {kind: lora}
evaluate:
  arena:
    judge: {model: judge}
    prompts: {paths: [%[2]s], limit: 6}
  people: %[3]s
`, dir, promptFile(t, 20), labels)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var plan loopPlan
	if err := json.Unmarshal([]byte(want(t, nil, "loop", file, "--plan", "--json", "--prompt-price", "1", "--completion-price", "2")), &plan); err != nil {
		t.Fatal(err)
	}
	var tokens float64
	for i, wanted := range []iterationPlan{
		// K=7, N=11: each of 5 prompts has 7 responses, 77 judgments and 110 comparisons. Both models answer 6 prompts
		// of the arena, and 12 games are played. The label's two responses are judged 11 times.
		{Preset: "paper-1", Run: 5 * (7 + 77 + 110), Arena: 12 + 12, People: 22},
		// K=4, N=3. One more model answers, and plays the baseline and the one before.
		{Preset: "self-rewarding", Run: 5 * (4 + 12), Arena: 6 + 24, People: 6},
		// The first model gives four responses, too.
		{Preset: "temporal-1", Run: 5 * (8 + 24), Arena: 6 + 24, People: 6},
		{Preset: "temporal-1", Run: 5 * (8 + 88 + 110), Arena: 6 + 24, People: 22},
		// And the future model, in phase 2, which asks for nothing that phase 1 asked.
		{Preset: "temporal", Run: 5 * (12 + 36), Arena: 6 + 24, People: 6},
	} {
		got := plan.Iterations[i]
		if got.Iteration != i+1 || got.Preset != wanted.Preset || got.Prompts == nil || *got.Prompts != 5 || got.Run != wanted.Run || got.Arena != wanted.Arena || got.People != wanted.People {
			t.Errorf("iteration %d: %+v, want %+v", i+1, got, wanted)
		}
		if got.Cost.Generations != got.Run+got.Arena+got.People {
			t.Errorf("iteration %d: %d generations in all", i+1, got.Cost.Generations)
		}
		tokens += float64(got.Cost.PromptTokens) + 2*float64(got.Cost.CompletionTokens)
	}
	if plan.All.ByTokens == nil || *plan.All.ByTokens != tokens/1e6 {
		t.Errorf("money %v, want %v", plan.All.ByTokens, tokens/1e6)
	}
	if _, err := os.Stat(filepath.Join(dir, "loop")); err == nil {
		t.Error("the plan made the loop's folder")
	}
	if text := want(t, nil, "loop", file, "--plan"); !strings.Contains(text, "self-rewarding") || !strings.Contains(text, "money: not known") {
		t.Errorf("%s", text)
	}
	if text := want(t, nil, "loop", "status", file); !strings.Contains(text, "no step is done") {
		t.Errorf("status: %s", text)
	}

	// The plan requests nothing for a finished iteration, although its journals are gone. The arena of the next one has
	// to ask the first two models again, for 12 answers and 12 games.
	first := finishedSteps(t, file)
	for done, wanted := range map[int]struct {
		first, second int64 // generations for pairs and the arena
		prompts       bool
	}{
		0: {5*(7+77+110) + 24, 5*(4+12) + 30, true},
		1: {24, 5*(4+12) + 30, false},
		6: {0, 5*(4+12) + 54, false},
	} {
		if err := os.MkdirAll(filepath.Join(dir, "loop"), 0o700); err != nil {
			t.Fatal(err)
		}
		state := strings.Join(first[:done], "")
		if err := os.WriteFile(filepath.Join(dir, "loop", steps.StateFile), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		var later loopPlan
		if err := json.Unmarshal([]byte(want(t, nil, "loop", file, "--plan", "--json")), &later); err != nil {
			t.Fatal(err)
		}
		if later.Refused != "" {
			t.Errorf("after %d steps the loop can't go on: %s", done, later.Refused)
		}
		one, two := later.Iterations[0], later.Iterations[1]
		if len(one.Done) != done || one.Run+one.Arena != wanted.first || (one.Prompts != nil) != wanted.prompts || (one.People == 0) != (done == 6) {
			t.Errorf("after %d steps the first iteration is %+v", done, one)
		}
		if two.Run+two.Arena != wanted.second || two.People != 6 {
			t.Errorf("after %d steps the second iteration is %+v", done, two)
		}
	}
}

// finishedSteps returns the lines of the state of a finished first iteration of a loop.
func finishedSteps(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	input := schemas.Digest(c.Model.Path)
	for _, step := range c.Steps(1) {
		record := steps.Record{Iteration: 1, Step: step, Input: inputs.Of(&c, 1, step, input)[0], Output: json.RawMessage(`{"model":{"name":"model-1"}}`)}
		line, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		lines, input = append(lines, string(line)+"\n"), schemas.Digest(record.Input, string(record.Output))
	}
	return lines
}

// A status beside a running loop leaves a line alone that is in the writing.
func TestLoopStatusChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	half := `{"iteration":1,"step":"produce","input":"x","output":{},"ended":"2026-01-02T03:04:05Z","seconds":90}` + "\n" + `{"iteration":1,"st`
	state := filepath.Join(dir, steps.StateFile)
	if err := os.WriteFile(state, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "loop.yaml")
	config := fmt.Sprintf("dir: %s\nrun: {worker: {urls: [\"http://127.0.0.1:9/v1\"], model: base}}\nmodel: {path: base}\ntrain: {command: \"true {out}\"}\nswap: {kind: lora}\n", dir)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	text := want(t, nil, "loop", "status", file)
	for _, wanted := range []string{"2026-01-02 03:04:05", "1m30s", "next: iteration 1, set"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("the status lacks %q:\n%s", wanted, text)
		}
	}
	if got := readFile(t, state); got != half {
		t.Errorf("the state was changed to %q", got)
	}
}

// Faults of every part's config end the loop before its first step, with exit code 2, and no file repeats a key.
func TestLoopChecksAllParts(t *testing.T) {
	t.Parallel()
	const key = "sk-abcdefghijklmnop1234"
	for edit, wanted := range map[string]string{
		"run: {worker: {urls: ['http://127.0.0.1:9/v1'], model: base, api_key: " + key + "}, prompts: {paths: [PROMPTS]}}": "run: its config:",
		"schedule: [{preset: paper-1, set: {nonsense.key: 1}}]":                                                            "unknown key nonsense",
		"schedule: [{}, {set: {method.rho: 7}}]":                                                                           "iteration 2, run: ",
		"evaluate: {arena: {jugde: {model: judge}, prompts: {paths: [PROMPTS]}}}":                                          "evaluate.arena: its config:",
		"evaluate: {arena: {judge: {model: judge}, prompts: {paths: [/nowhere.jsonl]}}}":                                   "evaluate.arena: prompts: /nowhere.jsonl",
		"evaluate: {people: /nowhere.jsonl}":                                                                               "evaluate.people: ",
		"evaluate: {arena: {judge: {model: judge, api_key: " + key + "}, prompts: {paths: [PROMPTS]}}}":                    "evaluate.arena: ",
	} {
		l := newLoopRun(t, "http://127.0.0.1:9/v1")
		prompts, err := filepath.Abs("../../datasets/arena-hard/arena-hard-v0.1.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		l.edit(t, strings.ReplaceAll(edit, "PROMPTS", "'"+prompts+"'"))
		stdout, stderr, code := refused(t, "loop", l.config)
		said := stdout + stderr
		if code != exitUsage || !strings.Contains(said, wanted) || strings.Contains(said, key) || strings.Contains(said, "iteration 1: produce") {
			t.Errorf("%s: exit code %d, it said\n%s", edit, code, said)
		}
		if _, err := os.Stat(l.dir); err == nil {
			t.Errorf("%s: the folder of the loop was made", edit)
		}
	}
}
