package config_test

import (
	"testing"

	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/judge"
)

// Rounds are the default of reads whose comparisons are bounded. Without rounds run.json has the bytes of earlier
// versions.
func TestRoundsAreDecided(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		want   bool
	}{
		{"the default", func(*config.Config) {}, false},
		{"reads", func(c *config.Config) { c.Judge.Verdict = config.ReadVerdict }, false},
		{"settled", func(c *config.Config) { c.Budget.Comparisons = config.SettledComparisons }, false},
		{"both", func(c *config.Config) {
			c.Judge.Verdict, c.Budget.Comparisons = config.ReadVerdict, config.SettledComparisons
		}, true},
		{"both, all", func(c *config.Config) {
			c.Judge.Verdict, c.Budget.Comparisons, c.Budget.Judgments = config.ReadVerdict, config.SettledComparisons, config.AllJudgments
		}, false},
		{"both, for the actor", func(c *config.Config) {
			c.Judge.Verdict, c.Budget.Comparisons, c.Roles = config.ReadVerdict, config.SettledComparisons, []string{schemas.RoleActor}
		}, false},
		{"reads, rounds", func(c *config.Config) {
			c.Judge.Verdict, c.Budget.Judgments = config.ReadVerdict, config.RoundJudgments
		}, true},
	} {
		c := config.Default()
		tt.change(&c)
		options, err := c.Resolve()
		if err != nil {
			t.Fatal(err)
		}
		got := options.Judge.Rounds
		if (got != nil) != tt.want || got != nil && *got != (judge.Rounds{Max: judge.DefaultMaxJudgments, Distance: judge.DefaultDistance}) {
			t.Errorf("%s: rounds are %+v", tt.name, got)
		}
	}
}
