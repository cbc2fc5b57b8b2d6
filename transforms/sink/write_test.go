package sink

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal"
	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/stage"
)

// The pipeline on the local runner writes the same files as a loop over the shards, for any order of
// the records.
func TestPipelineWritesTheSameFiles(t *testing.T) {
	plain := t.TempDir()
	r := newTestRun(t, plain, 4, 2, nil)
	r.commit(t, r.writeAll(t))
	for range 2 {
		out := t.TempDir()
		again := newTestRun(t, out, 4, 2, nil)
		slices.Reverse(again.records)
		if err := again.pipeline(t, prism, again.records, again.records); err != nil {
			t.Fatal(err)
		}
		complete(t, out)
		if diff := cmp.Diff(files(t, plain), files(t, out)); diff != "" {
			t.Error(diff)
		}
	}
}

// The number of shards changes no row.
func TestShardsHoldTheSameRows(t *testing.T) {
	t.Parallel()
	read := func(shardCount, bits int) []any {
		out := t.TempDir()
		r := newTestRun(t, out, shardCount, bits, nil)
		r.commit(t, r.writeAll(t))
		// Shards are ranges of prompt IDs, so that a table's rows come in the same order; bad
		// lines are spread by their place.
		failures := rows[schemas.FailureRow](t, out, shards.Failures)
		slices.SortFunc(failures, func(a, b schemas.FailureRow) int { return shards.Compare(&a, &b) })
		return []any{
			rows[schemas.Pair](t, out, shards.Actor), rows[schemas.Pair](t, out, shards.Judge),
			rows[schemas.PromptRow](t, out, shards.Prompts), rows[schemas.ResponseRow](t, out, shards.Responses),
			rows[schemas.JudgmentRow](t, out, shards.Judgments), rows[schemas.ComparisonRow](t, out, shards.Comparisons),
			failures,
		}
	}
	one := read(1, 0)
	for _, other := range [][2]int{{1, 3}, {2, 1}, {8, 3}} {
		if diff := cmp.Diff(one, read(other[0], other[1])); diff != "" {
			t.Errorf("%d shards of buckets with %d bits: %s", other[0], other[1], diff)
		}
	}
}

// A record that the journal lacks is an error that names it, and leaves no file behind.
func TestWriteWithoutARecord(t *testing.T) {
	last := prompt(prompts - 1).ID
	tests := []struct {
		name string
		lose func(*journal.Record) bool
		want string
	}{
		{"the prompt", func(r *journal.Record) bool { return r.Prompt != nil && r.PromptID == last }, "the journal lacks its record"},
		{"a response", func(r *journal.Record) bool {
			return r.Role == schemas.RoleActor && r.Replicate == 2 && r.PromptID == last
		}, "the journal lacks replicate 2"},
		{"the failure of a call", func(r *journal.Record) bool { return r.Code != "" && r.PromptID == last }, "the journal lacks replicate 0"},
		{"the comparisons", func(r *journal.Record) bool { return r.Role == schemas.RoleMetaJudge && r.PromptID == last }, "(meta)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			r := newTestRun(t, out, 1, 0, tt.lose)
			_, err := writeShard(t.Context(), &r.options, r.stage, 0, r.records)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), last) {
				t.Fatalf("got %v, want an error with %q and prompt %s", err, tt.want, last)
			}
			if missing := (*infer.Missing)(nil); tt.name != "the prompt" && (!errors.As(err, &missing) || missing.PromptID != last) {
				t.Errorf("the error does not name the missing part: %v", err)
			}
			for name := range files(t, out) {
				t.Errorf("%s is left", name)
			}
			if err := r.pipeline(t, direct, r.records, r.records); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the pipeline ends with %v", err)
			}
			if _, err := os.Stat(filepath.Join(out, rundir.RunFile)); !os.IsNotExist(err) {
				t.Errorf("there is a run.json (%v)", err)
			}
		})
	}
}

// A finding that the journal does not give is an error.
func TestWriteOfAnotherFinding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*schemas.Finding)
	}{
		{"a sum", func(f *schemas.Finding) { f.Responses[0].Score.Sum += 500 }},
		{"a score", func(f *schemas.Finding) { f.Judgments[0].Score -= 500 }},
		{"a verdict", func(f *schemas.Finding) { f.Verdicts = strings.ReplaceAll(f.Verdicts, "1", "2") }},
		{"a response", func(f *schemas.Finding) { f.Responses = f.Responses[1:] }},
		{"a failure", func(f *schemas.Finding) { f.Failed = nil }},
		{"the contested", func(f *schemas.Finding) { f.ContestedID = "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newTestRun(t, t.TempDir(), 1, 0, nil)
			f := r.records[3].Finding
			tt.edit(f)
			_, err := writeShard(t.Context(), &r.options, r.stage, 0, r.records)
			if err == nil || !strings.Contains(err.Error(), "the journal gives another finding now") || !strings.Contains(err.Error(), f.PromptID) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A selection of a missing response is an error.
func TestWriteOfAChoiceOfNothing(t *testing.T) {
	t.Parallel()
	for _, role := range []string{schemas.RoleActor, schemas.RoleJudge} {
		r := newTestRun(t, t.TempDir(), 1, 0, nil)
		at := slices.IndexFunc(r.records, func(r schemas.Record) bool {
			return r.Finding != nil && r.Actor.Outcome == schemas.Paired && r.Judge.Outcome == schemas.Paired
		})
		selection := map[string]*schemas.Selection{schemas.RoleActor: r.records[at].Actor, schemas.RoleJudge: r.records[at].Judge}[role]
		selection.RejectedID = "nobody"
		if _, err := writeShard(t.Context(), &r.options, r.stage, 0, r.records); err == nil || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("%s: got %v", role, err)
		}
	}
}

// All findings of a bucket come from one bundle attempt: those of two may differ.
func TestWriteOfTwoBundleAttempts(t *testing.T) {
	t.Parallel()
	r := newTestRun(t, t.TempDir(), 1, 0, nil)
	r.records[1].Finding.Origin.View = "another"
	if _, err := writeShard(t.Context(), &r.options, r.stage, 0, r.records); err == nil || !strings.Contains(err.Error(), "two bundle attempts") {
		t.Errorf("got %v", err)
	}
}

// Judge pairs train on the judge's prompt, byte for byte.
func TestJudgePairsHaveTheJudgesPrompt(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	r := newTestRun(t, out, 1, 0, nil)
	r.commit(t, r.writeAll(t))
	asked := map[string]bool{}
	for i := range prompts {
		d := schemas.Dossier{Prompt: prompt(i)}
		heard := listener{asked: asked}
		if err := r.stage(t.Context(), &heard, &d); err != nil {
			t.Fatal(err)
		}
	}
	found := rows[schemas.Pair](t, out, shards.Judge)
	if len(found) == 0 {
		t.Fatal("there is no judge pair")
	}
	for _, p := range found {
		if !asked[join(p.Prompt)] {
			t.Errorf("pair %s: the judge was not asked %.300q", p.ID, join(p.Prompt))
		}
	}
}

// listener records the judge's prompts.
type listener struct {
	answers
	asked map[string]bool
}

func (l *listener) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	for i := range calls {
		if calls[i].Stage == schemas.StageJudge {
			l.asked[join(calls[i].Messages())] = true
		}
	}
	return l.answers.Do(ctx, calls)
}

func join(messages []schemas.Message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.Role + "\x00" + m.Content + "\x00")
	}
	return b.String()
}

// Options that can't work are refused before there is a graph.
func TestOptionsAreRefused(t *testing.T) {
	t.Parallel()
	_, s := beam.NewPipelineWithRoot()
	in := beam.CreateList(s, []schemas.Record{})
	_, err := Write(s, in, Options{})
	for _, wanted := range []string{"Out is empty", "Attempt is empty", "Journal is empty", "Shards is 0", "Roles is empty"} {
		if err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("the error lacks %q: %v", wanted, err)
		}
	}
	if err := Commit(s, beam.CreateList(s, []schemas.Tally{}), beam.CreateList(s, []schemas.Manifest{}), Options{}); err == nil {
		t.Error("Commit takes no options at all")
	}
}
