package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/datasets/shards"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/judge/points"
	"coeval/transforms/meta"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// uneven is a world in which many answers can't be used: texts that are equal, empty,
// cut off, or say nothing.
func uneven() *world.World {
	w := world.Default()
	w.Duplicates, w.Empty, w.Truncated = 0.1, 0.03, 0.05
	w.JudgeUnparsed, w.JudgeCutOff, w.JudgeDuplicates, w.MetaUnparsed = 0.05, 0.02, 0.05, 0.05
	return &w
}

// mixed is a file of n prompts with one of them twice and a line that is none.
func mixed(t *testing.T, n int) string {
	t.Helper()
	return promptFile(t, n, `{"id":"again","prompt":"Use ABC notation to write a melody in the style of a folk tune."}`, `{"no":"prompt"}`)
}

// unchanged fails the test if a run asked anything or changed any file.
func unchanged(t *testing.T, w *worker, out string, again func() *summary.Summary) {
	t.Helper()
	requests, journal, before := w.Stats().Requests, segments(t, out), files(t, out)
	s := again()
	if got := w.Stats().Requests; got != requests || s.Calls.Requests != 0 || s.Calls.Generations != 0 || s.SlotUse != nil {
		t.Errorf("the worker saw %d requests more, the run tells of %+v", got-requests, s.Calls)
	}
	if diff := cmp.Diff(journal, segments(t, out)); diff != "" {
		t.Errorf("the journal's segments changed: %s", diff)
	}
	if diff := cmp.Diff(before, files(t, out)); diff != "" {
		t.Errorf("files changed: %s", diff)
	}
}

// A run with nothing missing asks nothing and changes nothing, also where calls failed for good.
func TestAgainAsksNothing(t *testing.T) {
	for _, faults := range []simulator.Faults{nil, {simulator.FaultPermanent: 0.1}} {
		t.Run("faults "+faults.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, simulator.Options{World: uneven(), Faults: faults})
			out := filepath.Join(t.TempDir(), "out")
			args := runOf(w.URL, mixed(t, 20), out, "--set", "output.prompts_per_shard=8")
			first := complete(t, args...)
			proved(t, out)
			if faults != nil && first.Calls.Failed == 0 {
				t.Fatal("no call failed: this run shows nothing")
			}
			unchanged(t, w, out, func() *summary.Summary {
				s := complete(t, args...)
				if s.Calls.Replayed != first.Calls.Generations {
					t.Errorf("%d generations were replayed, want all %d", s.Calls.Replayed, first.Calls.Generations)
				}
				return s
			})
		})
	}
}

// Failures are asked again when that is wanted, and only they.
func TestRetryFailed(t *testing.T) {
	t.Parallel()
	out, prompts := filepath.Join(t.TempDir(), "out"), mixed(t, 12)
	bad := newWorker(t, simulator.Options{World: uneven(), Faults: simulator.Faults{simulator.FaultPermanent: 0.2}})
	first := complete(t, runOf(bad.URL, prompts, out)...)
	if first.Calls.Failed == 0 {
		t.Fatal("no call failed: this run shows nothing")
	}
	contested := contestedResponses(t, out)
	good := newWorker(t, simulator.Options{World: uneven()})
	args := runOf(good.URL, prompts, out)
	unchanged(t, good, out, func() *summary.Summary { return complete(t, append(args, "--retry-failed=timeout")...) })
	second := complete(t, append(args, "--retry-failed")...)
	// All calls that had failed are answered now, and those that depend on their answers are made for
	// the first time. All other answers are replayed, except the comparisons of a prompt whose contested
	// response is another one, now that all of its judgments are there.
	unused := int64(0)
	now := contestedResponses(t, out)
	for prompt, c := range contested {
		if now[prompt].id != c.id {
			unused += c.comparisons
		}
	}
	if want := first.Calls.Generations - first.Calls.Failed - unused; second.Calls.Replayed != want || second.Calls.Generations < first.Calls.Failed || second.Calls.Failed != 0 {
		t.Errorf("first %+v, then %+v: want %d replayed", first.Calls, second.Calls, want)
	}
	proved(t, out)
	undisturbed := filepath.Join(t.TempDir(), "out")
	complete(t, runOf(newWorker(t, simulator.Options{World: uneven()}).URL, prompts, undisturbed)...)
	if diff := cmp.Diff(files(t, undisturbed), files(t, out)); diff != "" {
		t.Errorf("files differ from those of a run without failures: %s", diff)
	}
	unchanged(t, good, out, func() *summary.Summary { return complete(t, args...) })
}

// A changed setting asks for the calls that it changes and for nothing else.
func TestAnotherSettingAsksWhatIsNew(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	const prompts = 20
	input, out := mixed(t, prompts), filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, input, out)
	first := complete(t, args...)
	pairs := func(table shards.Table) []string {
		var ids []string
		for _, p := range rows[schemas.Pair](t, out, table) {
			ids = append(ids, p.ID)
		}
		return ids
	}
	actor, judge, before := pairs(shards.Actor), pairs(shards.Judge), files(t, out)

	t.Run("rho", func(t *testing.T) {
		asked := w.Stats().Requests
		s := complete(t, append(args, "--set", "method.rho=0")...)
		if got := w.Stats().Requests; got != asked || s.Calls.Replayed != first.Calls.Generations {
			t.Errorf("%d requests, %d replayed of %d", got-asked, s.Calls.Replayed, first.Calls.Generations)
		}
		if cmp.Equal(actor, pairs(shards.Actor)) {
			t.Error("rho 0 chose the same actor pairs as rho 0.32")
		}
		if diff := cmp.Diff(judge, pairs(shards.Judge)); diff != "" {
			t.Errorf("rho changed judge pairs: %s", diff)
		}
		proved(t, out)
	})
	t.Run("back", func(t *testing.T) {
		asked := w.Stats().Requests
		complete(t, args...)
		if got := w.Stats().Requests; got != asked {
			t.Errorf("%d requests", got-asked)
		}
		if diff := cmp.Diff(before, files(t, out)); diff != "" {
			t.Errorf("the first files do not come back: %s", diff)
		}
	})
	t.Run("one role", func(t *testing.T) {
		asked := w.Stats().Requests
		s := complete(t, append(args, "--set", "roles=[actor]")...)
		// The meta-judge has no part in it.
		if got := w.Stats().Requests; got != asked || s.Judge != nil || len(pairs(shards.Judge)) != 0 {
			t.Errorf("%d requests, judge %+v", got-asked, s.Judge)
		}
		if _, err := os.Stat(filepath.Join(out, "judge", "train-00000-of-00001.parquet")); !os.IsNotExist(err) {
			t.Errorf("the judge's pairs of the run before are still there (%v)", err)
		}
		if diff := cmp.Diff(actor, pairs(shards.Actor)); diff != "" {
			t.Errorf("the actor's pairs changed: %s", diff)
		}
		proved(t, out)
	})
	t.Run("judge", func(t *testing.T) {
		was := w.Stats()
		s := complete(t, append(args, "--set", "judge.model=another", "--set", "judge.revision=r2")...)
		// The one request that looks like the actor's is the probe of the new model's n.
		if got := w.Stats().Roles[schemas.RoleActor].Requests - was.Roles[schemas.RoleActor].Requests; got != 1 {
			t.Errorf("%d requests of the actor, want the probe", got)
		}
		if s.Calls.Replayed != 3*prompts { // K = 3 responses a prompt
			t.Errorf("%d generations replayed, want the actor's %d", s.Calls.Replayed, 3*prompts)
		}
		for _, j := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
			if j.Model != "another@r2" {
				t.Fatalf("judgment %s is by %s", j.ID, j.Model)
			}
		}
		proved(t, out)
	})
	t.Run("one prompt more", func(t *testing.T) {
		complete(t, args...)
		b, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		write(t, input, string(b)+`{"prompt":"What is the capital of Mongolia?"}`+"\n")
		was := w.Stats()
		s := complete(t, args...)
		if s.Calls.Replayed != first.Calls.Generations {
			t.Errorf("%d generations replayed, want all of before, %d", s.Calls.Replayed, first.Calls.Generations)
		}
		responses := only(rows[schemas.ResponseRow](t, out, shards.Responses), newest, func(r schemas.ResponseRow) string { return r.PromptID })
		judgments := only(rows[schemas.JudgmentRow](t, out, shards.Judgments), newest, func(r schemas.JudgmentRow) string { return r.PromptID })
		comparisons := only(rows[schemas.ComparisonRow](t, out, shards.Comparisons), newest, func(r schemas.ComparisonRow) string { return r.PromptID })
		if len(responses) == 0 || len(judgments) == 0 || len(comparisons) == 0 {
			t.Fatalf("the new prompt has %d responses, %d judgments, %d comparisons", len(responses), len(judgments), len(comparisons))
		}
		// Its three responses in one request, the judgments of each complete response in one,
		// every comparison in one; and the two probes of a program that is started anew.
		complete := 0
		for _, r := range responses {
			if r.Status == string(schemas.Complete) {
				complete++
			}
		}
		if got, want := w.Stats().Requests-was.Requests, int64(1+complete+len(comparisons)+2); got != want {
			t.Errorf("%d requests, want %d", got, want)
		}
		if got, want := s.Calls.Generations, int64(3+len(judgments)+len(comparisons)); got != want {
			t.Errorf("%d generations, want %d", got, want)
		}
		if w.Stats().AskedTwice != 0 {
			t.Errorf("%d generations were asked twice", w.Stats().AskedTwice)
		}
		proved(t, out)
	})
}

// newest is the prompt of TestAnotherSettingAsksWhatIsNew that comes later.
var newest = schemas.PromptID([]schemas.Message{{Role: "user", Content: "What is the capital of Mongolia?"}})

func only[T any](all []T, id string, promptID func(T) string) []T {
	return slices.DeleteFunc(all, func(r T) bool { return promptID(r) != id })
}

// However the work is done, the files are the same.
func TestSameFilesHoweverTheyAreMade(t *testing.T) {
	t.Parallel()
	input := mixed(t, 12)
	run := func(t *testing.T, o simulator.Options, env []string, more ...string) string {
		t.Helper()
		o.World = uneven()
		out := filepath.Join(t.TempDir(), "out")
		want(t, env, runOf(newWorker(t, o).URL, input, out, append([]string{"--set", "output.prompts_per_shard=5"}, more...)...)...)
		return out
	}
	reference := run(t, simulator.Options{}, nil)
	proved(t, reference)
	wanted := files(t, reference)
	// 13 prompts by 5 are 3 shards, which the next power of two rounds up; and run.json and the card.
	if len(wanted) != 4*len(shards.Tables)+2 {
		t.Errorf("files are %v", slices.Sorted(maps.Keys(wanted)))
	}
	second := newWorker(t, simulator.Options{World: uneven()})
	tests := []struct {
		name   string
		worker simulator.Options
		env    []string
		args   []string
	}{
		{name: "prism", args: []string{"--", "--runner=prism"}},
		{name: "window 1", args: []string{"--set", "client.window=1"}},
		{name: "window 3", args: []string{"--set", "client.window=3"}},
		{name: "2 in flight", args: []string{"--max-in-flight", "2"}}, // fewer than the n of any request
		{name: "n refused", worker: simulator.Options{MaxN: 1}},
		{name: "n up to 3", worker: simulator.Options{MaxN: 3}},
		{name: "1 core", env: []string{"GOMAXPROCS=1"}},
		{name: "2 cores", env: []string{"GOMAXPROCS=2"}},
		{name: "two endpoints", args: []string{"--url", second.URL}},
		{name: "slow and failing worker", worker: simulator.Options{
			Latency: 1e6, Slots: 8, // a millisecond each
			Faults: simulator.Faults{"503": 0.02, simulator.FaultReset: 0.02, simulator.FaultMissing: 0.05},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := run(t, tt.worker, tt.env, tt.args...)
			if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The calls in the journal do not depend on the numbers of buckets and shards, and neither do the
// pairs.
func TestShardsChangeNoPair(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	out := filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, mixed(t, 10), out)
	complete(t, args...)
	one := files(t, out)
	read := func() (all []any) {
		for _, table := range []shards.Table{shards.Actor, shards.Judge} {
			pairs := rows[schemas.Pair](t, out, table)
			slices.SortFunc(pairs, func(a, b schemas.Pair) int { return shards.Compare(&a, &b) })
			all = append(all, pairs)
		}
		return all
	}
	pairs, asked := read(), w.Stats().Requests
	// The journal has one bucket now, of which these are parts; and 16 shards of 10 prompts
	// leave some empty.
	for _, per := range []string{"4", "1"} {
		complete(t, append(args, "--set", "output.prompts_per_shard="+per)...)
		proved(t, out)
		if diff := cmp.Diff(pairs, read(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s prompts a shard: %s", per, diff)
		}
	}
	if n := len(readRun(t, out).Files); n != 16*len(shards.Tables) {
		t.Errorf("%d files, want 16 of each table", n)
	}
	complete(t, args...)
	if diff := cmp.Diff(one, files(t, out)); diff != "" {
		t.Errorf("one shard again: %s", diff)
	}
	if got := w.Stats().Requests; got != asked {
		t.Errorf("%d requests for what the journal holds", got-asked)
	}
}

// A run that goes on with more of the input gives the files of one that had it all from the start.
func TestLimitThenAll(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	input, out, whole := mixed(t, 16), filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "whole")
	for _, limit := range []int64{3, 10} {
		s := complete(t, append(runOf(w.URL, input, out), "--limit", strconv.FormatInt(limit, 10))...)
		if s.Prompts != limit {
			t.Errorf("--limit %d took %d prompts", limit, s.Prompts)
		}
	}
	complete(t, runOf(w.URL, input, out)...)
	if stats := w.Stats(); stats.AskedTwice != 0 {
		t.Errorf("%d generations were asked twice", stats.AskedTwice)
	}
	complete(t, runOf(w.URL, input, whole)...)
	if diff := cmp.Diff(files(t, whole), files(t, out)); diff != "" {
		t.Error(diff)
	}
}

// Enforced verdicts are other texts than free ones: judgments and comparisons are asked for
// again, responses are not. All that isn't cut off can be parsed then.
func TestEnforcedVerdicts(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	out := filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, promptFile(t, 10), out)
	free := complete(t, args...)
	if free.Unparsed == 0 {
		t.Fatal("free texts are all parsed")
	}
	enforced := append(slices.Clone(args), "--set", "verdicts=enforced")
	responses := int64(len(rows[schemas.ResponseRow](t, out, shards.Responses)))
	if s := complete(t, enforced...); s.Calls.Replayed != responses {
		t.Errorf("%d generations were replayed, want the %d responses", s.Calls.Replayed, responses)
	}
	for _, j := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
		if j.UnparsedReason != nil && *j.UnparsedReason != points.CutOff {
			t.Errorf("a judgment is unparsed, %s: %q", *j.UnparsedReason, j.Text)
		}
	}
	for _, c := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		if c.UnparsedReason != nil && *c.UnparsedReason != meta.CutOff {
			t.Errorf("a comparison is unparsed, %s: %q", *c.UnparsedReason, c.Text)
		}
	}
	proved(t, out)
	before := w.Stats()
	complete(t, enforced...)
	complete(t, args...)
	if now := w.Stats(); now.Requests != before.Requests {
		t.Errorf("what was paid for was asked again: %d requests", now.Requests-before.Requests)
	}
}

// A contested response has the comparisons of its judgments.
type contestedResponse struct {
	id          string
	comparisons int64
}

// contestedResponses returns the contested response of each prompt of a run.
func contestedResponses(t *testing.T, out string) map[string]contestedResponse {
	t.Helper()
	found := map[string]contestedResponse{}
	for _, p := range rows[schemas.PromptRow](t, out, shards.Prompts) {
		if p.ContestedResponseID != nil {
			found[p.ID] = contestedResponse{id: *p.ContestedResponseID}
		}
	}
	for _, c := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		of := found[c.PromptID]
		of.comparisons++
		found[c.PromptID] = of
	}
	return found
}
