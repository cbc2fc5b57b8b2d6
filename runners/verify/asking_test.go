package verify

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"coeval/datasets/shards"
	"coeval/pipelines/config"
	"coeval/schemas"
)

// settle makes a run whose comparisons are asked until settled, 6 judgments a response: at most
// 30 comparisons a prompt, of which rounds ask 4.
var settle = sync.OnceValues(func() (string, error) {
	const out = "settled"
	err := makeRun(context.Background(), out, promptLines(), func(c *config.Config) {
		c.Judge.N, c.Budget.Comparisons, c.Budget.Regret = 6, config.SettledComparisons, 0.3
		c.Budget.MaxComparisons = 22
	})
	return out, err
})

// Verify derives the comparisons, their rounds and the reason to stop from the verdicts, also if calls
// failed. It finds every change in them.
func TestAsking(t *testing.T) {
	out, err := settle()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range mustVerify(t, out).Problems {
		t.Error(p)
	}
	stats := readManifest(t, out).Stats
	a := stats.Asking
	failed := schemas.Sum(stats.FailedCalls[schemas.StageMeta])
	if a.Stopped[schemas.StopSettled] == 0 || a.Stopped[schemas.StopBound] == 0 || failed == 0 ||
		a.Asked != stats.Comparisons.Texts+failed || a.Asked >= a.Possible {
		t.Errorf("asked %+v with %d comparisons and %d failures: both reasons to stop and failures are wanted", a, stats.Comparisons.Texts, failed)
	}
	good, err := goodRun()
	if err != nil {
		t.Fatal(err)
	}
	if a := readManifest(t, good).Stats.Asking; a.Asked != 0 || a.Stopped != nil {
		t.Errorf("a run that asks everything counts %+v", a)
	}

	prompts := func(change func(*schemas.PromptRow)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			f := readLargest[schemas.PromptRow](t, dir, shards.Prompts)
			for i := range f.rows {
				if f.rows[i].AskingStopped != nil {
					change(&f.rows[i])
				}
			}
			f.forge(t)
		}
	}
	comparisons := func(change func([]schemas.ComparisonRow) []schemas.ComparisonRow) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			f := readLargest[schemas.ComparisonRow](t, dir, shards.Comparisons)
			f.rows = change(f.rows)
			f.forge(t)
		}
	}
	config := func(was, is string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			run := string(read(t, dir, runFile))
			if !strings.Contains(run, was) {
				t.Fatalf("run.json lacks %s", was)
			}
			write(t, dir, runFile, []byte(strings.Replace(run, was, is, 1)))
		}
	}
	for _, tt := range []struct {
		name   string
		damage func(*testing.T, string)
		want   string
	}{
		{"another reason", prompts(func(p *schemas.PromptRow) { p.AskingStopped = new("all_pairs") }), `asking_stopped is "all_pairs", should be `},
		{"no reason", prompts(func(p *schemas.PromptRow) { p.AskingStopped = nil }), "asking_stopped is null, should be "},
		{"another regret", prompts(func(p *schemas.PromptRow) { *p.ExpectedRegret *= 1.01 }), "expected_regret is "},
		{"another spread", prompts(func(p *schemas.PromptRow) { *p.ExpectedSpread += 0.001 }), "expected_spread is "},
		{"another round", comparisons(func(rows []schemas.ComparisonRow) []schemas.ComparisonRow {
			for i := range rows {
				switch *rows[i].Round {
				case 1:
					*rows[i].Round = 2
				case 2:
					*rows[i].Round = 1
				}
			}
			return rows
		}), "round 1 of its comparisons requests judgments "},
		{"no round", comparisons(func(rows []schemas.ComparisonRow) []schemas.ComparisonRow {
			rows[0].Round = nil
			return rows
		}), "round is null, should be 1 or more"},
		{"one order", comparisons(func(rows []schemas.ComparisonRow) []schemas.ComparisonRow { return rows[1:] }), "has neither a row nor a failure"},
		{"a round gone", comparisons(func(rows []schemas.ComparisonRow) []schemas.ComparisonRow {
			kept := rows[:0]
			for _, r := range rows {
				if *r.Round != 2 {
					kept = append(kept, r)
				}
			}
			return kept
		}), "round 2 of its comparisons requests nothing, should request judgments "},
		{"other verdicts", comparisons(func(rows []schemas.ComparisonRow) []schemas.ComparisonRow {
			for i := range rows {
				if *rows[i].Round == 1 && rows[i].Winner != "none" {
					rows[i].Winner = map[string]string{"first": "second", "second": "first"}[rows[i].Winner]
				}
			}
			return rows
		}), "by the verdicts before it"},
		{"a looser rule", config(`"regret": 0.3`, `"regret": 0.6`), "but the requests should have stopped before it (settled)"},
		{"a stricter rule", config(`"regret": 0.3`, `"regret": 0.01`), "should be another round: the selection was not settled"},
		{"a smaller bound", config(`"max_comparisons": 22`, `"max_comparisons": 8`), "but the requests should have stopped before it (bound)"},
		{"rows of a prompt over budget", prompts(func(p *schemas.PromptRow) {
			p.ActorOutcome, p.ActorReason = new("dropped"), new(schemas.OverBudget)
		}), "it is over budget, but has "},
		{"another rating", config(`"rating": "scores",`, ``), "elo is "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			copyTables(t, out, dir)
			tt.damage(t, dir)
			if problems := strings.Join(mustVerify(t, dir).Problems, "\n"); !strings.Contains(problems, tt.want) {
				t.Errorf("no problem speaks of %q:\n%.1500s", tt.want, problems)
			}
		})
	}
}
