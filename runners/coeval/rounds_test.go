package main

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/plan"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

// runOfRounds is a run of reads whose contested responses get 4 judgments first, then 6 a round and at most 16, and
// whose comparisons are asked until settled.
func runOfRounds(url, prompts, out string, more ...string) []string {
	return runOfReads(url, prompts, out, append([]string{
		"--set", "budget.comparisons=settled", "--set", "budget.max_judgments=16", "--set", "budget.distance=1.5",
	}, more...)...)
}

// judgmentsOf returns a run's judgments by prompt, as IDs with their replicate.
func judgmentsOf(t *testing.T, out string) map[string][]string {
	t.Helper()
	byPrompt := map[string][]string{}
	for _, r := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
		byPrompt[r.PromptID] = append(byPrompt[r.PromptID], fmt.Sprintf("%02d %s", r.Replicate, r.ID))
	}
	for _, ids := range byPrompt {
		slices.Sort(ids)
	}
	return byPrompt
}

// planOf returns the stages of a run's plan by name.
func planOf(t *testing.T, args []string) map[string]plan.Stage {
	t.Helper()
	var p plan.Plan
	if err := json.Unmarshal([]byte(want(t, nil, append([]string{"plan"}, args[1:]...)...)), &p); err != nil {
		t.Fatal(err)
	}
	stages := map[string]plan.Stage{}
	for _, s := range p.Stages {
		stages[s.Stage] = s
	}
	return stages
}

// How many judgments a prompt gets depends on the config and on its own earlier answers alone: neither on how many
// prompts are in progress, nor on a runner, nor on which other prompts there are. Plan bounds them from above.
func TestRoundsAreDeterministic(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	const prompts = 12
	file, dir := promptFile(t, prompts), t.TempDir()
	want := filepath.Join(dir, "a")
	args := runOfRounds(w.URL, file, want)
	before := planOf(t, args)
	s := complete(t, args...)
	stats := readRun(t, want).Stats
	if j := s.Judging; j == nil || j.Asked != stats.Judging.Asked || j.Responses > prompts || j.Asked <= 4*j.Responses || j.Asked >= 16*j.Responses ||
		j.Stopped[schemas.StopDistant] == 0 || j.Stopped[schemas.StopBound] == 0 || j.Asked != stats.Judgments.Texts {
		t.Errorf("the summary reports %+v with %d judgments, want both reasons to stop", j, stats.Judgments.Texts)
	}
	proved(t, want)
	if got := before[schemas.StageJudge]; got.Ask != 16*prompts || got.Requests != 3*prompts { // rounds of 4, 6 and 6
		t.Errorf("before the run plan counts %+v, want 16 judgments in 3 requests for each of %d prompts", got, prompts)
	}
	if after := planOf(t, args)[schemas.StageJudge]; after.Ask != 0 || after.Held != s.Judging.Asked || after.Generations != s.Judging.Asked {
		t.Errorf("after the run plan counts %+v, want the %d judgments of the journal", after, s.Judging.Asked)
	}
	for name, more := range map[string][]string{
		"window-1": {"--set", "client.window=1"}, "window-3": {"--set", "client.window=3", "--set", "client.max_in_flight=2"}, "prism": {"--runner", "prism"},
	} {
		out := filepath.Join(dir, name)
		complete(t, runOfRounds(w.URL, file, out, more...)...)
		if diff := cmp.Diff(files(t, want), files(t, out)); diff != "" {
			t.Errorf("%s: other files: %s", name, diff)
		}
	}
	for id, ids := range judgmentsOf(t, want) { // no call failed
		inspected(t, want, id, len(ids))
	}
	few := filepath.Join(dir, "few")
	complete(t, runOfRounds(w.URL, file, few, "--set", "prompts.sample=5")...)
	all, alone := judgmentsOf(t, want), judgmentsOf(t, few)
	if len(alone) == 0 || len(alone) >= len(all) {
		t.Fatalf("%d prompts were judged alone and %d with the others", len(alone), len(all))
	}
	for id, ids := range alone {
		if diff := cmp.Diff(all[id], ids); diff != "" {
			t.Errorf("prompt %s is judged otherwise without the others: %s", id, diff)
		}
	}
}

// inspected checks how inspect shows the reads and the rounds of a prompt with this number of judgments.
func inspected(t *testing.T, out, id string, judgments int) {
	t.Helper()
	text := want(t, nil, "inspect", out, id)
	if !strings.Contains(text, fmt.Sprintf("\n  %d judgments in rounds, stopped as ", judgments)) {
		t.Errorf("prompt %s has %d judgments, and inspect says\n%s", id, judgments, text)
	}
	for _, r := range rows[schemas.ReadRow](t, out, shards.Reads) {
		if r.PromptID == id && r.FirstID == nil && r.Value != nil && !strings.Contains(text, fmt.Sprintf("  %.2f±%.2f ", *r.Value, math.Sqrt(*r.Variance))) {
			t.Errorf("the read of %.2f is not shown:\n%s", *r.Value, text)
		}
	}
	_, matrix, _ := strings.Cut(text, "characters    1 ")
	matrix, _, _ = strings.Cut(matrix, "row shown first, column second: per cent of the probability")
	compared := 0
	for _, c := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		if c.PromptID == id {
			compared++
		}
	}
	// After the head, each row has its number, its rating, score and length, and a cell for itself.
	_, table, _ := strings.Cut(matrix, "\n")
	distinct := strings.Count(table, "·")
	if cells := len(strings.Fields(table)) - 5*distinct; cells != compared || compared == 0 {
		t.Errorf("%d comparisons in the matrix of %d judgments, want %d:\n%s", cells, distinct, compared, text)
	}
}

// A run with another rule on the same journal requests only the missing judgments, whether the rule asks more or less. The
// first run again requests nothing and writes the same files. The worker writes another text for each request.
func TestRoundsShareAJournal(t *testing.T) {
	w := newWorker(t, simulator.Options{World: uneven(), FreshTexts: true})
	const prompts = 6
	file, out := promptFile(t, prompts), filepath.Join(t.TempDir(), "out")
	args := runOfRounds(w.URL, file, out)
	first := complete(t, args...)
	was, judged := files(t, out), judgmentsOf(t, out)

	far := complete(t, append(slices.Clone(args), "--set", "budget.distance=2.5")...)
	proved(t, out)
	if far.Judging.Asked <= first.Judging.Asked || far.Judging.Responses != first.Judging.Responses {
		t.Errorf("a larger distance asks %+v after %+v", far.Judging, first.Judging)
	}
	longer := judgmentsOf(t, out)
	for id, ids := range judged { // it goes on where the smaller one stopped
		if got := longer[id]; len(got) < len(ids) || cmp.Diff(ids, got[:len(ids)]) != "" {
			t.Errorf("prompt %s was judged %v and then %v", id, ids, got)
		}
	}
	// A run without rounds has 16 judgments of each contested response. The journal has those of the rounds.
	all := complete(t, append(slices.Clone(args), "--set", "budget.judgments=all", "--set", "judge.n=16")...)
	proved(t, out)
	stats := readRun(t, out).Stats
	if all.Judging != nil || stats.Judging.Asked != 0 || stats.Judgments.Texts != 16*far.Judging.Responses {
		t.Errorf("the summary of budget.judgments: all reports %+v with %d judgments", all.Judging, stats.Judgments.Texts)
	}
	again := complete(t, args...)
	if diff := cmp.Diff(was, files(t, out)); again.Calls.Generations != 0 || diff != "" {
		t.Errorf("the first rule again asks %d generations, other files: %s", again.Calls.Generations, diff)
	}
	if n := w.Stats().AskedAfterDelivery; n != 0 {
		t.Errorf("%d generations were asked for again", n)
	}
}

// A run that is killed while it reads or judges in rounds is finished by the same command: with the files of a run that
// nothing disturbed, and without a call for an answer in the journal.
func TestKilledRunsOfRounds(t *testing.T) {
	t.Parallel()
	file := promptFile(t, killedPrompts)
	killed := func(w *worker, out string) []string {
		return runOfRounds(w.URL, file, out, "--set", fmt.Sprintf("client.window=%d", killedWindow))
	}
	w := newWorker(t, slowly(simulator.Options{}))
	whole := filepath.Join(t.TempDir(), "whole")
	all := complete(t, killed(w, whole)...).Calls
	wanted := files(t, whole)
	// The first requests are 2 of the actor and 6 reads; at request 7 some of the first reads are answered.
	for _, at := range []int64{5, 7, 12, all.Requests / 3, all.Requests * 2 / 3} {
		t.Run(fmt.Sprintf("at request %d", at), func(t *testing.T) {
			w := newWorker(t, slowly(simulator.Options{}))
			out := filepath.Join(t.TempDir(), "out")
			args := killed(w, out)
			s := finish(t, w, out, killAt(t, w, at, args), args)
			if got := s.Calls.Replayed + s.Calls.Generations; got != all.Generations {
				t.Errorf("%d generations, want those of the undisturbed run, %d", got, all.Generations)
			}
			if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
				t.Errorf("files differ from those of the undisturbed run: %s", diff)
			}
		})
	}
}
