package summary

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"coeval/pipelines/metareward"
	"coeval/schemas"
)

// The thresholds of the warnings.
const (
	// mostHigher and mostOneScore are the signs of a judge that collapses into high scores.
	mostHigher   = 0.9
	mostOneScore = 0.4
	// mostLength is a length difference as a share of the mean length.
	mostLength = 0.1
	// mostDropped is the share of a role's prompts that one reason may drop.
	mostDropped = 0.3
	// mostUnparsed is the share of a stage's texts that may say nothing.
	mostUnparsed = 0.2
	// mostConstant is the share of prompts whose responses may all be one text.
	mostConstant = 0.5
)

// settingBehind names what decides how often a reason drops a prompt.
var settingBehind = map[string]string{
	schemas.TooFewScored:        "method.min_judgments, actor.max_tokens and judge.max_tokens decide how many responses are scored",
	schemas.EqualScores:         "judge.n: more judgments make equal means rarer; a judge.calibration makes ties where it is level",
	schemas.Margin:              "method.min_margin",
	schemas.ChosenTooLong:       "method.max_chosen_chars",
	schemas.NotContested:        "judge.n and judge.temperature: no response had judgments that differ",
	schemas.TooFewJudgments:     "method.min_meta_judgments, judge.n and judge.max_tokens",
	schemas.TooFewVerdicts:      "meta_judge.max_tokens, and whether the meta-judge's texts end in a verdict",
	schemas.EqualElo:            "judge.n: more judgments make equal ratings rarer",
	schemas.EqualTexts:          "judge.temperature: the judge's texts differ in white space only",
	schemas.EqualJudgmentScores: "method.drop_equal_scores",
	schemas.JudgmentTooLong:     "method.max_judgment_chars",
}

// SettingBehind names what decides how often a reason drops a prompt; empty for what is no reason.
func SettingBehind(reason string) string { return settingBehind[reason] }

// warnings says what should be looked at before the data is used, each with its threshold.
func warnings(s *Summary, run *schemas.Run, c *metareward.Config) []string {
	out := []string{}
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, r := range []struct {
		name string
		role *Role
	}{{schemas.RoleActor, s.Actor}, {schemas.RoleJudge, s.Judge}} {
		if r.role != nil {
			warnRole(warn, r.name, r.role, s.Prompts)
		}
	}
	if s.Collapse != nil {
		warnCollapse(warn, s.Collapse)
	}
	for _, stage := range []string{schemas.StageJudge, schemas.StageMeta} {
		if u := s.UnparsedByStage[stage]; u > mostUnparsed {
			warn("%s of the texts of stage %s don't parse (more than %s): look at text and unparsed_reason in raw/, at max_tokens, and whether the model is up to it", percent(u), stage, percent(mostUnparsed))
		}
	}
	if r := run.Stats.Responses; r.Several > 0 && float64(r.Constant) > mostConstant*float64(r.Several) {
		warn("on %d of %d prompts all responses of the actor are one text: temperature (%v) or n seems to be ignored by the server", r.Constant, r.Several, c.Actor.Temperature)
	}
	return out
}

func warnRole(warn func(string, ...any), name string, r *Role, prompts int64) {
	if r.Paired == 0 {
		warn("THE %s HAS NO PAIR AT ALL, so the dataset card leaves it out", upper[name])
	}
	for _, reason := range slices.Sorted(maps.Keys(r.DroppedByReason)) {
		if n := share(float64(r.DroppedByReason[reason]), prompts); n > mostDropped {
			warn("%s of the prompts have no pair for the %s because of %s (more than %s): see %s", percent(n), name, reason, percent(mostDropped), settingBehind[reason])
		}
	}
	if r.Paired > 0 && math.Abs(r.LengthDifference) > mostLength*r.MeanLength {
		advice, than := "a larger method.rho chooses shorter ones", "longer"
		if r.LengthDifference < 0 {
			advice, than = "a smaller method.rho chooses longer ones", "shorter"
		}
		if name == schemas.RoleJudge {
			advice = "method.max_judgment_chars bounds the chosen ones"
		}
		warn("chosen texts of the %s are %.0f characters %s than rejected ones, %s of the mean length %.0f (more than %s): %s",
			name, math.Abs(r.LengthDifference), than, percent(math.Abs(r.LengthDifference)/r.MeanLength), r.MeanLength, percent(mostLength), advice)
	}
}

var upper = map[string]string{schemas.RoleActor: "ACTOR", schemas.RoleJudge: "JUDGE"}

func warnCollapse(warn func(string, ...any), c *Collapse) {
	if c.HigherChosen > mostHigher {
		warn("in %s of the judge pairs the chosen judgment has the higher score (more than %s): the judge would learn to score high, not well", percent(c.HigherChosen), percent(mostHigher))
	}
	for _, b := range c.ChosenScores {
		if b.Share > mostOneScore {
			warn("%s of the chosen judgments give the score %g (more than %s): the judge would learn that score", percent(b.Share), b.Score, percent(mostOneScore))
		}
	}
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }
