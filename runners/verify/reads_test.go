package verify

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"coeval/datasets/shards"
	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// readsRun makes a run whose scores and comparisons are reads, asked until settled, with some that failed.
var readsRun = sync.OnceValues(func() (string, error) {
	const out = "reads"
	truth := world.Default()
	truth.JudgeUnparsed, truth.MetaUnparsed, truth.ReadOther = 0.1, 0.1, 0.2
	err := makeRunIn(context.Background(), truth, out, promptLines(), func(c *config.Config) {
		c.Judge.Verdict, c.Judge.Reads, c.Judge.N, c.MetaJudge.Verdict = config.ReadVerdict, 2, 6, config.ReadVerdict
		c.Budget.Comparisons = config.SettledComparisons
	})
	return out, err
})

func copyReads(t *testing.T) string {
	t.Helper()
	out, err := readsRun()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	copyTables(t, out, dir)
	return dir
}

// All that a run with reads has is derived again from the kept log-probabilities.
func TestReads(t *testing.T) {
	dir := copyReads(t)
	for _, p := range mustVerify(t, dir).Problems {
		t.Error(p)
	}
	stats := readManifest(t, dir).Stats
	if s, c := stats.ScoreReads, stats.ComparisonReads; s.Reads == 0 || c.Reads != stats.Comparisons.Texts || c.Reads == 0 || s.Unparsed["low_mass"]+c.Unparsed["low_mass"] == 0 ||
		schemas.Sum(stats.FailedCalls[schemas.StageReads]) == 0 || stats.Judgments.Texts == 0 {
		t.Errorf("the run has %+v and %+v, failed calls %+v: reads of both kinds, some unparsed, and failures are wanted", s, c, stats.FailedCalls)
	}
	t.Run("columns", func(t *testing.T) { everyColumn[schemas.ReadRow](t, shards.Reads, readsRun) })
}

// roundsRun makes a run whose contested responses are judged in rounds, 4 judgments first.
var roundsRun = sync.OnceValues(func() (string, error) {
	const out = "rounds"
	truth := world.Default()
	truth.JudgeUnparsed = 0.1
	err := makeRunIn(context.Background(), truth, out, promptLines(), func(c *config.Config) {
		c.Judge.Verdict, c.Judge.N, c.MetaJudge.Verdict = config.ReadVerdict, 4, config.ReadVerdict
		c.Budget.Judgments, c.Budget.MaxJudgments, c.Budget.Distance = config.RoundJudgments, 15, 1.5
	})
	return out, err
})

// Verify derives how many judgments the contested response has, and why no more, from the scores and the reads.
func TestRounds(t *testing.T) {
	out, err := roundsRun()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range mustVerify(t, out).Problems {
		t.Error(p)
	}
	stats := readManifest(t, out).Stats
	if j := stats.Judging; j.Stopped[schemas.StopDistant] == 0 || j.Stopped[schemas.StopBound] == 0 ||
		j.Asked != stats.Judgments.Texts+schemas.Sum(stats.FailedCalls[schemas.StageJudge]) || len(stats.FailedCalls[schemas.StageJudge]) == 0 {
		t.Errorf("asked %+v with %d judgments and failures %v: both reasons to stop and failures are wanted", j, stats.Judgments.Texts, stats.FailedCalls)
	}
	judgments := func(keep func(*schemas.JudgmentRow) bool) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			f := readLargest[schemas.JudgmentRow](t, dir, shards.Judgments)
			f.rows = slices.DeleteFunc(f.rows, func(r schemas.JudgmentRow) bool { return !keep(&r) })
			f.forge(t)
		}
	}
	replace := func(was, is string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			run := string(read(t, dir, runFile))
			if !strings.Contains(run, was) {
				t.Fatalf("run.json lacks %s", was)
			}
			write(t, dir, runFile, []byte(strings.Replace(run, was, is, 1)))
		}
	}
	for _, tt := range []struct {
		name, want string
		damage     func(*testing.T, string)
	}{
		{"a round gone", "stats.judging.stopped.bound is", judgments(func(r *schemas.JudgmentRow) bool { return r.Replicate < 4 })},
		{"a smaller distance", "but the requests should have stopped after 4 judgments (distant)", replace(`"distance": 1.5`, `"distance": 0.1`)},
		{"a larger distance", "of the judge has neither a row nor a failure", replace(`"distance": 1.5`, `"distance": 9`)},
		{"a smaller bound", "should be within 0 to 9", replace(`"max": 15`, `"max": 10`)},
		{"no rounds", "should be within 0 to 3", replace(`"max": 15`, `"max": 4`)},
		{"a distance of nothing", "judge.rounds.distance is 0 with judge.reads 1", replace(`"distance": 1.5`, `"distance": 0`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			copyTables(t, out, dir)
			tt.damage(t, dir)
			var found string
			if report, err := Out(t.Context(), dir); err != nil {
				found = err.Error()
			} else {
				found = strings.Join(report.Problems, "\n")
			}
			if !strings.Contains(found, tt.want) {
				t.Errorf("no problem speaks of %q:\n%.1500s", tt.want, found)
			}
		})
	}
}

// Each case changes a run with reads, and returns what the problems must say.
func TestReadsDamage(t *testing.T) {
	change := func(by func(*tableFile[schemas.ReadRow])) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			f := readLargest[schemas.ReadRow](t, dir, shards.Reads)
			by(f)
			f.forge(t)
		}
	}
	first := func(f *tableFile[schemas.ReadRow], comparison bool) int {
		for i := range f.rows {
			if (f.rows[i].FirstID != nil) == comparison && f.rows[i].Value != nil {
				return i
			}
		}
		return -1
	}
	remove := func(comparison bool) func(*tableFile[schemas.ReadRow]) {
		return func(f *tableFile[schemas.ReadRow]) {
			i := first(f, comparison)
			f.rows = append(f.rows[:i:i], f.rows[i+1:]...)
		}
	}
	for _, tt := range []struct {
		name, want string
		damage     func(*testing.T, string)
	}{
		{"a score is gone", "of the judge has neither a row nor a failure", change(remove(false))},
		{"a comparison is gone", "it has no row in raw/reads", change(remove(true))},
		{"a label that nobody asked for", "should be among", change(func(f *tableFile[schemas.ReadRow]) { f.rows[first(f, false)].Labels[0] = "7" })},
		{"a consistent forgery of a score", "score_mean is", change(func(f *tableFile[schemas.ReadRow]) {
			r := &f.rows[first(f, false)]
			r.Labels, r.LogProbs, r.LabelMass, r.Value, r.Variance = []string{"5"}, []float64{0}, 1, new(5.0), new(0.0)
		})},
		{"a consistent forgery of a comparison", "winner is", change(func(f *tableFile[schemas.ReadRow]) {
			r := &f.rows[first(f, true)]
			p := 1.0
			if *r.Value > 0.5 {
				p = 0
			}
			r.Labels, r.LogProbs, r.LabelMass, r.Value = []string{map[float64]string{0: "B", 1: "A"}[p]}, []float64{0}, 1, &p
		})},
		{"judgments of another response", "only the contested response is judged", func(t *testing.T, dir string) {
			responses := readLargest[schemas.ResponseRow](t, dir, shards.Responses)
			f := readTable[schemas.JudgmentRow](t, dir, shards.Judgments, strings.Replace(responses.path, string(shards.Responses), string(shards.Judgments), 1))
			for _, r := range responses.rows {
				if !r.Contested && r.Status == string(schemas.Complete) {
					j := f.rows[0]
					j.PromptID, j.ResponseID = r.PromptID, r.ID
					j.ID = schemas.JudgmentID(j.ResponseID, j.Model, int(j.Replicate), j.Text)
					f.rows = append(f.rows, j)
					break
				}
			}
			f.forge(t)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyReads(t)
			tt.damage(t, dir)
			problems := strings.Join(mustVerify(t, dir).Problems, "\n")
			if !strings.Contains(problems, tt.want) {
				t.Errorf("no problem says %q; there are\n%s", tt.want, problems)
			}
		})
	}
}
