package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

// settledRun is a run whose comparisons are asked in rounds, 8 judgments a response: of 8·7 = 56
// comparisons at most 40.
func settledRun(url, prompts, out string, more ...string) []string {
	return runOf(url, prompts, out, append([]string{
		"--set", "judge.n=8", "--set", "budget.comparisons=settled", "--set", "budget.regret=0.25", "--set", "budget.max_comparisons=40",
	}, more...)...)
}

// comparisonsOf returns a run's comparisons by prompt, as IDs with their round.
func comparisonsOf(t *testing.T, out string) map[string][]string {
	t.Helper()
	byPrompt := map[string][]string{}
	for _, r := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		round := "all at once"
		if r.Round != nil {
			round = string('0' + *r.Round)
		}
		byPrompt[r.PromptID] = append(byPrompt[r.PromptID], r.ID+" "+round+" "+r.Winner)
	}
	for _, rows := range byPrompt {
		slices.Sort(rows)
	}
	return byPrompt
}

// The calls of a prompt depend on the config, the prompt and its own earlier answers: neither on how
// many prompts are in progress, nor on a runner, nor on which other prompts there are.
func TestSettledRunsAreDeterministic(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	const prompts = 12
	file := promptFile(t, prompts)
	dir := t.TempDir()
	want := filepath.Join(dir, "a")
	s := complete(t, settledRun(w.URL, file, want)...)
	if s.Asking == nil || s.Asking.Asked == 0 || s.Asking.Asked > 40*prompts || s.Asking.Asked >= s.Asking.Possible {
		t.Errorf("the summary reports %+v", s.Asking)
	}
	proved(t, want)
	for name, more := range map[string][]string{
		"window-1": {"--set", "client.window=1"}, "window-3": {"--set", "client.window=3", "--set", "client.max_in_flight=2"}, "prism": {"--runner", "prism"},
	} {
		out := filepath.Join(dir, name)
		complete(t, settledRun(w.URL, file, out, more...)...)
		if diff := cmp.Diff(files(t, want), files(t, out)); diff != "" {
			t.Errorf("%s: other files: %s", name, diff)
		}
	}
	few := filepath.Join(dir, "few")
	complete(t, settledRun(w.URL, file, few, "--set", "prompts.sample=5")...)
	all := comparisonsOf(t, want)
	alone := comparisonsOf(t, few)
	if len(alone) == 0 || len(alone) >= len(all) {
		t.Fatalf("%d prompts were compared alone and %d with the others", len(alone), len(all))
	}
	for id, rows := range alone {
		if diff := cmp.Diff(all[id], rows); diff != "" {
			t.Errorf("prompt %s is asked otherwise without the others: %s", id, diff)
		}
	}
}

// Another budget on the same journal asks for missing calls only, in either direction, and the first one
// again asks nothing and makes its files again. The worker writes another text at each ask.
func TestBudgetsShareAJournal(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven(), FreshTexts: true})
	file, out := promptFile(t, 6), filepath.Join(t.TempDir(), "out")
	settled := settledRun(w.URL, file, out)
	first := complete(t, settled...)
	was := files(t, out)
	asked := comparisonsOf(t, out)

	all := complete(t, append(slices.Clone(settled), "--set", "budget.comparisons=all")...)
	proved(t, out)
	if got, want := all.Calls.Generations, first.Asking.Possible-first.Asking.Asked; got != want || want == 0 {
		t.Errorf("all after settled asks %d generations, want the %d comparisons that are missing", got, want)
	}
	if all.Asking != nil {
		t.Errorf("the summary of a run without a budget reports %+v", all.Asking)
	}
	again := complete(t, settled...)
	if again.Calls.Generations != 0 {
		t.Errorf("settled after all asks %d generations", again.Calls.Generations)
	}
	if diff := cmp.Diff(was, files(t, out)); diff != "" {
		t.Errorf("settled after all makes other files: %s", diff)
	}
	strict := complete(t, append(slices.Clone(settled), "--set", "budget.regret=0.05")...)
	if strict.Calls.Generations != 0 || strict.Asking.Asked <= first.Asking.Asked {
		t.Errorf("a stricter budget asks %d generations, and %+v after %+v", strict.Calls.Generations, strict.Asking, first.Asking)
	}
	for id, rows := range asked { // a stricter budget goes on where the looser one stopped
		for _, row := range rows {
			if !slices.Contains(comparisonsOf(t, out)[id], row) {
				t.Fatalf("the stricter budget lacks comparison %s of prompt %s", row, id)
			}
		}
	}
	proved(t, out)
}

// A run that is killed in its rounds is finished by the same command with the files of one that was not.
func TestKilledSettledRuns(t *testing.T) {
	t.Parallel()
	file := promptFile(t, killedPrompts)
	w := newWorker(t, slowly(simulator.Options{}))
	whole := filepath.Join(t.TempDir(), "whole")
	complete(t, settledRun(w.URL, file, whole)...)
	all := w.settled(t).Requests
	for _, part := range []int64{3, 5, 7} { // of 8
		w := newWorker(t, slowly(simulator.Options{}))
		out := filepath.Join(t.TempDir(), "out")
		args := settledRun(w.URL, file, out, "--set", "client.window=2")
		killAt(t, w, all*part/8, args)
		left := durable(t, out)
		s := complete(t, args...)
		if got, want := s.Calls.Replayed, sum(left); got != want {
			t.Errorf("killed at %d/8: %d generations were replayed, %d are in the journal", part, got, want)
		}
		if diff := cmp.Diff(files(t, whole), files(t, out)); diff != "" {
			t.Errorf("killed at %d/8: other files: %s", part, diff)
		}
	}
}

// A run stops asking at its bound: prompts that are whole are paired and committed, the others are over
// budget. The same command asks nothing more, and with a larger bound it goes on to the files of a run
// without one. The worker writes another text at each ask, so that nothing can be asked twice unseen.
func TestMaxGenerations(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven(), FreshTexts: true})
	const prompts, bound = 12, 150 // of 27 generations a prompt, where nothing is merged or unparsed
	file, out := promptFile(t, prompts), filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, file, out, "--set", "client.window=2")
	bounded := append(slices.Clone(args), "--max-generations", "150")
	first := complete(t, bounded...)
	if n := first.Calls.Generations; n != bound { // the last request asks for the remaining generations
		t.Errorf("asked for %d generations, want %d", n, bound)
	}
	for name, role := range map[string]*summary.Role{"actor": first.Actor, "judge": first.Judge} {
		if over := role.DroppedByReason[schemas.OverBudget]; over == 0 || over >= prompts || role.Paired == 0 {
			t.Errorf("%s: %d prompts are over budget and %d paired, want some of each of %d", name, over, role.Paired, prompts)
		}
	}
	proved(t, out)
	was := files(t, out)
	again := complete(t, bounded...)
	if diff := cmp.Diff(was, files(t, out)); again.Calls.Generations != 0 || diff != "" {
		t.Errorf("the same command asked for %d generations more, other files: %s", again.Calls.Generations, diff)
	}
	more := complete(t, append(slices.Clone(args), "--max-generations", "10000")...)
	if n := more.Actor.DroppedByReason[schemas.OverBudget]; n != 0 || more.Calls.Generations == 0 {
		t.Errorf("with a larger bound %d prompts are over budget after %d generations more", n, more.Calls.Generations)
	}
	proved(t, out)
	was = files(t, out)
	free := complete(t, args...)
	if diff := cmp.Diff(was, files(t, out)); free.Calls.Generations != 0 || diff != "" {
		t.Errorf("without a bound %d generations are asked for again, other files: %s", free.Calls.Generations, diff)
	}
	if n := w.Stats().AskedAfterDelivery; n != 0 {
		t.Errorf("%d generations were asked for again", n)
	}
}

// A bound in money counts the tokens of all attempts; the requests in flight when it is reached are the
// only excess. With 8 generations in flight, each of less than 1,000 tokens at 1 a token, that is less than 8,000.
func TestMaxCost(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven(), FreshTexts: true})
	file, out := promptFile(t, 12), filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, file, out, "--set", "client.window=2", "--set", "client.max_in_flight=8", "--completion-price", "1000000")
	spent := 0.0
	for _, bound := range []float64{5_000, 20_000} {
		s := complete(t, append(slices.Clone(args), "--max-cost", fmt.Sprint(bound))...)
		spent += float64(s.Calls.CompletionTokens)
		if spent < bound || spent > bound+8_000 {
			t.Errorf("%.0f were spent, want %.0f and what was in flight", spent, bound)
		}
		if s.Actor.DroppedByReason[schemas.OverBudget] == 0 {
			t.Errorf("no prompt is over a budget of %.0f", bound)
		}
		proved(t, out)
	}
}

// GPU hours are counted from the first request, over all attempts.
func TestMaxGPUHours(t *testing.T) {
	t.Parallel()
	w := newWorker(t, slowly(simulator.Options{Slots: 1}))
	file, out := promptFile(t, 40), filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, file, out, "--set", "client.max_in_flight=4", "--gpus", "3600")
	// A second of 3,600 GPUs is a GPU hour; 40·27 generations of 2 ms take two at least.
	s := complete(t, append(slices.Clone(args), "--max-gpu-hours", "0.3")...)
	if s.Calls.Generations == 0 || s.Actor.DroppedByReason[schemas.OverBudget] == 0 {
		t.Errorf("after %d generations %d prompts are over budget, want some", s.Calls.Generations, s.Actor.DroppedByReason[schemas.OverBudget])
	}
	if again := complete(t, append(slices.Clone(args), "--max-gpu-hours", "0.3")...); again.Calls.Generations != 0 {
		t.Errorf("the same command asks for %d generations more", again.Calls.Generations)
	}
	if all := complete(t, args...); all.Actor.DroppedByReason[schemas.OverBudget] != 0 {
		t.Errorf("without a bound %+v", all.Actor)
	}
}

func TestBoundsAreChecked(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{
		"--max-generations=-1":       "--max-generations is -1; allowed is 0 (no limit) or more",
		"--max-cost=-2":              "--max-cost is -2; allowed is",
		"--max-cost=5":               "--max-cost needs prices: add --prompt-price",
		"--max-gpu-hours=1 --gpus=0": "--gpus is 0; give the number of GPUs",
		"--max-generations=5 -- --runner=flink --endpoint=localhost:1": "the workers of a cluster don't share a count",
	} {
		args := append([]string{"run", "--simulate", "--prompts", "p.jsonl", "--out", "out"}, strings.Fields(flags)...)
		call := refused
		if slices.Contains(args, "--") {
			call = coeval
		}
		if _, stderr, code := call(t, args...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d:\n%s", flags, code, stderr)
		}
	}
}
