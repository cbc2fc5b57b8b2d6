package summary

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/dustin/go-humanize/english"

	"coeval/pipelines/config"
	"coeval/schemas"
)

// The thresholds of the warnings.
const (
	// MaxHigher and MaxOneScore detect a judge that collapses into high scores. MaxHigher bounds the
	// share of judge pairs in which the chosen judgment has the higher score. MaxOneScore bounds the
	// share of the most frequent chosen score.
	MaxHigher   = 0.9
	MaxOneScore = 0.4
	// MaxLength is the largest length difference as a share of the mean length.
	MaxLength = 0.1
	// maxDropped is the largest share of a role's prompts that one reason may drop.
	maxDropped = 0.3
	// MaxUnparsed is the largest share of a stage's texts without a score or verdict.
	MaxUnparsed = 0.2
	// maxConstant is the largest share of prompts with equal responses only.
	maxConstant = 0.5
	// fewPairs is the number of pairs below which a share is weak evidence.
	fewPairs = 30
)

// settingBehind names the settings that influence how often a reason drops a prompt.
var settingBehind = map[string]string{
	schemas.OverBudget:          "--max-generations, --max-cost or --max-gpu-hours: the same command with a larger bound goes on",
	schemas.TooFewScored:        "method.min_judgments, actor.max_tokens and judge.max_tokens decide how many responses are scored",
	schemas.EqualScores:         "judge.n: more judgments make equal means rarer; a judge.calibration makes ties where it is level",
	schemas.NoGap:               "past.model and judge.n: the rejected response scored no lower than the chosen one",
	schemas.Margin:              "method.min_margin",
	schemas.ChosenTooLong:       "method.max_chosen_chars",
	schemas.NotContested:        "judge.n and judge.temperature: no response had judgments that differ",
	schemas.TooFewJudgments:     "method.min_meta_judgments, judge.n and judge.max_tokens",
	schemas.TooFewVerdicts:      "meta_judge.max_tokens, and whether the meta-judge's texts end in a verdict",
	schemas.EqualElo:            "judge.n: more judgments make equal ratings rarer",
	schemas.EqualTexts:          "judge.temperature: the judge's texts differ in white space only",
	schemas.EqualJudgmentScores: "method.drop_equal_scores",
	schemas.JudgmentTooLong:     "method.max_judgment_chars",
	schemas.Direction:           "method.balance_directions",
	schemas.ClassCap:            "method.judge_class_cap",
}

// SettingBehind names the settings that influence how often a reason drops a prompt. It is empty for an
// unknown reason.
func SettingBehind(reason string) string { return settingBehind[reason] }

type namedRole struct {
	name string
	role *Role
}

// roles returns the requested roles.
func (s *Summary) roles() []namedRole {
	var out []namedRole
	for _, r := range []namedRole{{schemas.RoleActor, s.Actor}, {schemas.RoleJudge, s.Judge}} {
		if r.role != nil {
			out = append(out, r)
		}
	}
	return out
}

// warnUnparsed warns of the texts of a stage that don't parse.
func warnUnparsed(warn func(format string, args ...any), stage string, share float64, c *config.Config) {
	role, pattern := schemas.RoleJudge, c.Judge.Pattern
	if stage == schemas.StageMeta {
		role, pattern = "meta_judge", c.MetaJudge.Pattern
	}
	if pattern != "" { // verdicts: enforced is refused beside it
		warn("%s of the texts of stage %s don't parse (more than %s): look at text and unparsed_reason in raw/, raise max_tokens if texts are cut off, or compare their ends with %s.pattern", percent(share), stage, percent(MaxUnparsed), role)
		return
	}
	warn("%s of the texts of stage %s don't parse (more than %s): look at text and unparsed_reason in raw/, raise max_tokens if texts are cut off, or set verdicts: enforced", percent(share), stage, percent(MaxUnparsed))
}

// warnings returns a sentence for each figure over its threshold, with the setting to change.
func warnings(s *Summary, run *schemas.Run, c *config.Config) []string {
	out := []string{}
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, r := range s.roles() {
		s.warnRole(warn, r, c)
	}
	if s.Collapse != nil {
		warnCollapse(warn, s.Collapse)
	}
	for _, stage := range []string{schemas.StageJudge, schemas.StageMeta} {
		areReads := stage == schemas.StageMeta && s.Reads != nil && s.Reads.Comparisons.Reads > 0
		if u := s.UnparsedByStage[stage]; u > MaxUnparsed && !areReads {
			warnUnparsed(warn, stage, u, c)
		}
	}
	if s.Reads != nil {
		warnReads(warn, "scores", "judge", s.Reads.Scores)
		warnReads(warn, "comparisons", "meta_judge", s.Reads.Comparisons)
	}
	if r := run.Stats.Responses; r.Several > 0 && float64(r.Constant) > maxConstant*float64(r.Several) {
		warn("on %d of %d prompts all responses of the actor are the same text: the server seems to ignore temperature (%s) or n", r.Constant, r.Several, config.ShownNumber(c.Actor.Temperature))
	}
	if n := s.Calls.ReplayedFailed; n > 0 {
		warn("%s", ReplayedFailed(n))
	}
	return out
}

func (s *Summary) warnRole(warn func(string, ...any), r namedRole, c *config.Config) {
	if r.role.Paired == 0 {
		warn("THE %s HAS NO PAIR, so the dataset card leaves it out", upper[r.name])
	}
	for _, reason := range slices.Sorted(maps.Keys(r.role.DroppedByReason)) {
		n := share(float64(r.role.DroppedByReason[reason]), s.Prompts)
		if n <= maxDropped {
			continue
		}
		warn("%s of the prompts have no pair for the %s because of %s (more than %s): %s", percent(n), r.name, reason, percent(maxDropped), s.advice(reason, c))
	}
	if r.role.Paired > 0 && math.Abs(r.role.LengthDifference) > MaxLength*r.role.MeanLength {
		than := "longer"
		if r.role.LengthDifference < 0 {
			than = "shorter"
		}
		warn("chosen texts of the %s are %.0f characters %s than rejected ones, %s of the mean length %.0f (more than %s%s): %s",
			r.name, math.Abs(r.role.LengthDifference), than, percent(math.Abs(r.role.LengthDifference)/r.role.MeanLength), r.role.MeanLength,
			percent(MaxLength), onFew(r.role.Paired), lengthAdvice(r, &c.Method))
	}
}

// lengthAdvice names the setting that equalizes the lengths of chosen and rejected texts.
func lengthAdvice(r namedRole, m *config.Method) string {
	isLonger := r.role.LengthDifference > 0
	switch {
	case r.name == schemas.RoleActor && isLonger:
		return "a larger method.rho chooses shorter responses"
	case r.name == schemas.RoleActor && m.Rho > 0:
		return "a smaller method.rho chooses longer responses"
	case r.name == schemas.RoleActor:
		return "method.rho is 0 already, so the judge itself prefers short responses: look at judge.template"
	case isLonger:
		return "method.max_judgment_chars drops pairs with a long chosen judgment"
	case m.MaxJudgmentChars > 0:
		return fmt.Sprintf("method.max_judgment_chars (%d) drops pairs with a long chosen judgment: raise it", m.MaxJudgmentChars)
	}
	return "the meta-judge itself prefers short judgments: look at meta_judge.template"
}

// onFew warns about a share of few pairs.
func onFew(pairs int64) string {
	if pairs >= fewPairs {
		return ""
	}
	return fmt.Sprintf("; only %s, so this is weak evidence", english.Plural(int(pairs), "pair", ""))
}

var upper = map[string]string{schemas.RoleActor: "ACTOR", schemas.RoleJudge: "JUDGE"}

func warnCollapse(warn func(string, ...any), c *Collapse) {
	if c.HigherChosen > MaxHigher {
		warn("in %s of the judge pairs the chosen judgment has the higher score (more than %s%s): the judge would learn to score high, not well; method.balance_directions keeps as many pairs with a lower chosen score as with a higher one (%g would have kept %d of %d)",
			percent(c.HigherChosen), percent(MaxHigher), onFew(c.Pairs), cureDirections, c.KeptByDirections, c.Pairs)
	}
	for _, b := range c.ChosenScores {
		if b.Share > MaxOneScore {
			warn("%s of the chosen judgments give the score %g (more than %s%s): the judge would learn that score; method.judge_class_cap bounds the share of each chosen score (%g would have kept %d of %d)",
				percent(b.Share), b.Score, percent(MaxOneScore), onFew(c.Pairs), cureClassCap, c.KeptByClassCap, c.Pairs)
		}
	}
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// warnReads warns of reads whose labels are unlikely: the model was about to write something else.
func warnReads(warn func(string, ...any), kind, role string, r ReadFigures) {
	if r.Reads > 0 && r.Unparsed > MaxUnparsed {
		warn("in %s of the reads of %s the labels have less probability than method.read_min_mass (more than %s): the model begins its answers with something else. Give %s.template an ending that asks for the label alone, or set %s.verdict: reasoned",
			percent(r.Unparsed), kind, percent(MaxUnparsed), role, role)
	}
}
