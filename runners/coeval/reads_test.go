package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/figures"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// runOfReads is a run whose scores and comparisons are reads.
func runOfReads(url, prompts, out string, more ...string) []string {
	return runOf(url, prompts, out, append([]string{"--set", "judge.verdict=read", "--set", "meta_judge.verdict=read"}, more...)...)
}

// A run with reads is the same on every runner and window, replays from its journal without a request, is
// proved by verify, and says at its start in which form the servers are read. Another bound on the labels'
// mass asks nothing.
func TestRunsWithReads(t *testing.T) {
	t.Parallel()
	truth := uneven()
	truth.ReadOther = 0.3
	w := newWorker(t, simulator.Options{World: truth, FreshTexts: true})
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
		t.Errorf("the summary reports %+v; the labels' mass is about 0.7", m)
	}
	unchanged(t, w, out, func() *summary.Summary { return complete(t, args...) })
	reportsReads(t, out, s)

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

// The reads of a prompt depend on the config and this prompt alone: not on the window, the
// runner, or the other prompts, also where it is read until settled.
func TestReadsAreDeterministic(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	file, dir := promptFile(t, 8), t.TempDir()
	budget := []string{"--set", "judge.n=8", "--set", "budget.comparisons=settled"}
	want := filepath.Join(dir, "a")
	s := complete(t, runOfReads(w.URL, file, want, budget...)...)
	if s.Asking == nil || s.Asking.Asked == 0 || 2*s.Asking.Asked >= s.Asking.Possible {
		t.Errorf("the summary reports %+v; reads settle a judge pair with less than half of the comparisons", s.Asking)
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

// gapOf is the mean true gap of a run's pairs in points: how much better the chosen responses are, or how much less the
// chosen judgments err.
func gapOf(t *testing.T, w *world.World, out, role string) (gap float64, pairs int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(out, role, "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		err := shards.ReadTable(t.Context(), name, func(p *schemas.Pair) error {
			worth := w.Quality
			if role == schemas.RoleJudge {
				worth = func(text string) (float64, bool) { e, ok := w.Error(text); return -e, ok }
			}
			chosen, ok1 := worth(p.Chosen[0].Content)
			rejected, ok2 := worth(p.Rejected[0].Content)
			if !ok1 || !ok2 {
				t.Errorf("pair %s has texts of another world", p.ID)
			}
			gap += chosen - rejected
			pairs++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return gap / float64(max(pairs, 1)), pairs
}

// Through the whole program, in the simulated world "moderate", reads that discriminate as well as words and settle their
// choices cost at most 0.15 of the generated and 0.40 of the prompt tokens of the full method, at no smaller gap in
// quality: TestReadsAgainstAll measures 1.09 ± 0.02. Of 40 prompts the ratio has a standard error of about
// 0.45/√40 = 0.07, so that four of them are 0.28.
func TestReadsCostLess(t *testing.T) {
	t.Parallel()
	truth := world.Default()
	truth.ResponseChars, truth.JudgmentChars, truth.ComparisonChars = 1200, 1000, 1400 // 300, 250 and 350 tokens, as in docs/sizing-and-cost.md
	w := newWorker(t, simulator.Options{World: &truth})
	const prompts = 40
	file, dir := promptFile(t, prompts), t.TempDir()
	run := func(name string, more ...string) (s *summary.Summary, judge, actor float64) {
		out := filepath.Join(dir, name)
		s = complete(t, append([]string{"run", "--url", w.URL, "--model", "simulated", "--prompts", file, "--out", out, "--json", "--set", "method.drop_equal_scores=false"}, more...)...)
		proved(t, out)
		judge, pairs := gapOf(t, &truth, out, schemas.RoleJudge)
		if pairs < prompts*9/10 {
			t.Errorf("%s has %d judge pairs of %d prompts", name, pairs, prompts)
		}
		actor, _ = gapOf(t, &truth, out, schemas.RoleActor)
		return s, judge, actor
	}
	full, fullGap, fullActor := run("full")
	reads, readGap, readActor := run("reads", "--set", "judge.verdict=read", "--set", "meta_judge.verdict=read",
		"--set", "budget.comparisons=settled", "--set", "budget.regret=0.08", "--set", "budget.max_comparisons=36")
	generated := float64(reads.Calls.CompletionTokens) / float64(full.Calls.CompletionTokens)
	read := float64(reads.Calls.PromptTokens) / float64(full.Calls.PromptTokens)
	t.Logf("reads: %.3f of the generated tokens, %.3f of the prompt tokens, %.2f of the judge pairs' gap of %.2f points, %.2f of the actor pairs' gap of %.2f",
		generated, read, readGap/fullGap, fullGap, readActor/fullActor, fullActor)
	if readActor < 0.9*fullActor { // a mean over the distribution errs less than that of 11 draws
		t.Errorf("the actor pairs' gap is %.2f by reads and %.2f by judgments in words", readActor, fullActor)
	}
	if generated > 0.15 || read > 0.40 || readGap < (1.09-0.28)*fullGap {
		t.Errorf("reads take %.3f of the generated and %.3f of the prompt tokens for a gap of %.2f instead of %.2f points", generated, read, readGap, fullGap)
	}
}

// reportsReads checks the report of a run whose scores are reads: the pairs by ρ are those of the reads, and the page
// says which figures are about the judgments of contested responses.
func reportsReads(t *testing.T, out string, s *summary.Summary) {
	t.Helper()
	var f figures.Figures
	if err := json.Unmarshal([]byte(want(t, nil, "report", "--json", out)), &f); err != nil {
		t.Fatal(err)
	}
	own := slices.IndexFunc(f.Length.Rho, func(r figures.RhoFigures) bool { return r.Own })
	if own < 0 || f.Length.Rho[own].Pairs != s.Actor.Paired || math.Abs(f.Length.Rho[own].Margin-s.Actor.ScoreMargin) > 1e-6 || s.Actor.Paired == 0 {
		t.Errorf("by the run's own ρ the report has %+v, the run %d actor pairs with a margin of %v", f.Length.Rho, s.Actor.Paired, s.Actor.ScoreMargin)
	}
	if f.Length.Control != nil || f.CrossFit != nil || !f.Scores.Reads {
		t.Errorf("figures of repeated scores: %+v and %+v", f.Length.Control, f.CrossFit)
	}
	want(t, nil, "report", out)
	page, err := os.ReadFile(filepath.Join(out, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sentence := range []string{
		"figures about judgments are about these", "judgments of contested responses with a score", "Judgments of contested responses with the highest score",
		"how widely the reads spread over the points", "Judgments in words, of the contested responses alone.",
	} {
		if !strings.Contains(string(page), sentence) {
			t.Errorf("the report does not say %q", sentence)
		}
	}
}
