package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
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
	names, err := filepath.Glob(filepath.Join(out, "raw", "comparisons", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	byPrompt := map[string][]string{}
	for _, name := range names {
		err := shards.ReadTable(t.Context(), name, func(r *schemas.ComparisonRow) error {
			round := "all at once"
			if r.Round != nil {
				round = string('0' + rune(*r.Round))
			}
			byPrompt[r.PromptID] = append(byPrompt[r.PromptID], r.ID+" "+round+" "+r.Winner)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, rows := range byPrompt {
		slices.Sort(rows)
	}
	return byPrompt
}

// What is asked of a prompt depends on the config and on its own earlier answers alone: neither on how
// many prompts are in progress, nor on a runner, nor on which other prompts there are.
func TestSettledRunsAreDeterministic(t *testing.T) {
	w := newWorker(t, simulator.Options{World: uneven()})
	const prompts = 12
	file := promptFile(t, prompts)
	dir := t.TempDir()
	want := filepath.Join(dir, "a")
	s := complete(t, settledRun(w.URL, file, want)...)
	if s.Asking == nil || s.Asking.Asked == 0 || s.Asking.Asked > 40*prompts || s.Asking.Asked >= s.Asking.Possible {
		t.Errorf("the summary tells of %+v", s.Asking)
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

// Another budget on the same journal asks only what is missing, in either direction, and the first one
// again asks nothing and makes its files again. The worker writes another text at each ask.
func TestBudgetsShareAJournal(t *testing.T) {
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
		t.Errorf("a run that asks all tells of %+v", all.Asking)
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
