package compare

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/runs"
	"coeval/transforms/judge"
	"coeval/transforms/rating"
)

// Settings that differ are listed, and those of a meta-judge that one of the runs did not ask are not.
func TestSettingsThatDiffer(t *testing.T) {
	one, two := &runs.Run{}, &runs.Run{}
	one.Settings.Roles, two.Settings.Roles = []string{"actor", "judge"}, []string{"actor", "judge"}
	one.Settings.Actor.Role.Model, two.Settings.Actor.Role.Model, two.Settings.Actor.Role.Revision = "m", "m", "it-2"
	two.Settings.Method.JudgeClassCap, two.Settings.Method.BalanceDirections = 0.4, 0.1
	two.Settings.Judge.Reads, two.Settings.Judge.Rounds = 1, &judge.Rounds{Max: 40, Distance: 1.8}
	two.Settings.MetaJudge.Budget = &rating.Policy{Regret: 0.08, MaxComparisons: 36}
	two.Settings.Judge.Role.TopP = 0.5
	two.Settings.Actor.Role.Seed, two.Settings.MetaJudge.Role.MaxTokens = 7, 64
	want := []Setting{
		{"seed", []string{"0", "7"}},
		{"actor.model", []string{"m", "m@it-2"}},
		{"judge.verdict", []string{"reasoned", "read"}},
		{"budget.judgments", []string{"all", "rounds, distance 1.8, at most 40"}},
		{"budget.comparisons", []string{"all", "settled, regret 0.08, at most 36"}},
	}
	others := []Setting{
		{"judge.reads", []string{"none", "1"}},
		{"judge.top_p", []string{"0", "0.5"}},
		{"meta_judge.max_tokens", []string{"0", "64"}},
		{"method.balance_directions", []string{"none", "0.1"}},
		{"method.judge_class_cap", []string{"none", "0.4"}},
	}
	want = append(want, others...)
	if diff := cmp.Diff(want, append(namedSettings([]*runs.Run{one, two}), otherSettings([]*runs.Run{one, two})...)); diff != "" {
		t.Error(diff)
	}
	two.Settings.Roles = []string{"actor"}
	want = append([]Setting{{"roles", []string{"actor, judge", "actor"}}}, want[:3]...)
	want = append(want, others[0], others[1], others[3], others[4])
	if diff := cmp.Diff(want, append(namedSettings([]*runs.Run{one, two}), otherSettings([]*runs.Run{one, two})...)); diff != "" {
		t.Error(diff)
	}
}
