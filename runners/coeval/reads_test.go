package main

import (
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

// runOfReads is a run whose scores and comparisons are reads.
func runOfReads(url, prompts, out string, more ...string) []string {
	return runOf(url, prompts, out, append([]string{"--set", "judge.verdict=read", "--set", "meta_judge.verdict=read"}, more...)...)
}

// A run with reads is the same on every runner and window, replays from its journal without a request, is
// proved by verify, and says at its start in which form the servers are read. Another bound on the labels'
// mass asks nothing.
func TestRunsWithReads(t *testing.T) {
	world := uneven()
	world.ReadOther = 0.3
	w := newWorker(t, simulator.Options{World: world, FreshTexts: true})
	file, dir := promptFile(t, 10), t.TempDir()
	out := filepath.Join(dir, "a")
	args := runOfReads(w.URL, file, out)
	s := complete(t, args...)
	proved(t, out)
	run := readRun(t, out)
	if c := run.Stats.ComparisonReads; c.Reads == 0 || c.Reads != run.Stats.Comparisons.Texts || c.Unparsed["low_mass"] == 0 {
		t.Errorf("comparisons were read: %+v", c)
	}
	// Every complete response is read once, and at most the contested ones are judged, 4 times each.
	judged := run.Stats.Responses.Distinct - run.Stats.Responses.Empty - run.Stats.Responses.Truncated
	if r := run.Stats.ScoreReads; r.Reads != judged || run.Stats.Judgments.Texts > 4*run.Stats.Prompts || run.Stats.Judgments.Texts == 0 {
		t.Errorf("%d reads of %d complete responses, and %d judgments", r.Reads, judged, run.Stats.Judgments.Texts)
	}
	if !slices.ContainsFunc(run.Files, func(f schemas.File) bool { return strings.HasPrefix(f.Path, string(shards.Reads)+"/") }) {
		t.Errorf("the run has no table of reads: %+v", run.Files)
	}
	if m := s.Reads; m == nil || m.Scores.Reads != run.Stats.ScoreReads.Reads || m.Comparisons.Mass < 0.6 || m.Comparisons.Mass > 0.75 {
		t.Errorf("the summary tells of %+v; the labels' mass is about 0.7", m)
	}
	unchanged(t, w, out, func() *summary.Summary { return complete(t, args...) })

	was := files(t, out)
	strict := complete(t, append(slices.Clone(args), "--set", "method.read_min_mass=0.71")...)
	if strict.Calls.Generations != 0 || strict.Reads.Scores.Unparsed != 1 || s.Reads.Scores.Unparsed > 0.2 {
		t.Errorf("another bound on the mass asks %d generations and has %+v, before it %+v", strict.Calls.Generations, strict.Reads, s.Reads)
	}
	proved(t, out)
	complete(t, args...)
	if diff := cmp.Diff(was, files(t, out)); diff != "" {
		t.Errorf("the first bound again makes other files: %s", diff)
	}

	// Reasoned verdicts on the same journal leave no table of reads.
	complete(t, append(slices.Clone(args), "--set", "judge.verdict=reasoned", "--set", "meta_judge.verdict=reasoned")...)
	proved(t, out)
	for name := range files(t, out) {
		if strings.HasPrefix(name, string(shards.Reads)) {
			t.Errorf("%s is left", name)
		}
	}
}

// What is read of a prompt depends on nothing but the config and this prompt: not on the window, the
// runner, or the other prompts, also where it is read until settled.
func TestReadsAreDeterministic(t *testing.T) {
	w := newWorker(t, simulator.Options{World: uneven()})
	file, dir := promptFile(t, 8), t.TempDir()
	budget := []string{"--set", "judge.n=8", "--set", "budget.comparisons=settled"}
	want := filepath.Join(dir, "a")
	s := complete(t, runOfReads(w.URL, file, want, budget...)...)
	if s.Asking == nil || s.Asking.Asked == 0 || 2*s.Asking.Asked >= s.Asking.Possible {
		t.Errorf("the summary tells of %+v; reads settle a choice with less than half of the comparisons", s.Asking)
	}
	proved(t, want)
	for name, more := range map[string][]string{"window": {"--set", "client.window=2", "--set", "client.max_in_flight=2"}, "prism": {"--runner", "prism"}} {
		out := filepath.Join(dir, name)
		complete(t, runOfReads(w.URL, file, out, append(slices.Clone(budget), more...)...)...)
		if diff := cmp.Diff(files(t, want), files(t, out)); diff != "" {
			t.Errorf("%s: other files: %s", name, diff)
		}
	}
	few := filepath.Join(dir, "few")
	complete(t, runOfReads(w.URL, file, few, append(slices.Clone(budget), "--set", "prompts.sample=3")...)...)
	all := comparisonsOf(t, want)
	for id, rows := range comparisonsOf(t, few) {
		if diff := cmp.Diff(all[id], rows); diff != "" {
			t.Errorf("prompt %s is asked otherwise without the others: %s", id, diff)
		}
	}
}
