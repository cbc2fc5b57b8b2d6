package summary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/answers"
	"coeval/transforms/meta"
)

// Responses counts the distinct responses of all models.
type Responses struct {
	// Distinct = Complete + CutOff + Empty. Only complete responses are judged.
	Distinct int64 `json:"distinct"`
	Complete int64 `json:"complete"`
	CutOff   int64 `json:"cut_off"`
	Empty    int64 `json:"empty"`
	// Scored counts the complete responses with enough parsed judgments.
	Scored int64 `json:"scored"`
}

func responsesOf(s *schemas.ResponseStats) Responses {
	return Responses{
		Distinct: s.Distinct, Complete: s.Distinct - s.Empty - s.Truncated, CutOff: s.Truncated, Empty: s.Empty, Scored: s.Scored,
	}
}

func (r *Responses) String() string {
	return fmt.Sprintf("%s distinct: %s complete (%s scored), %s cut off, %s empty",
		humanize.Comma(r.Distinct), humanize.Comma(r.Complete), humanize.Comma(r.Scored), humanize.Comma(r.CutOff), humanize.Comma(r.Empty))
}

// A cause is one explanation of responses without a score, with the number of texts that it explains.
type cause struct {
	texts int64
	text  string
}

// advice names the setting behind a drop reason, or the first cause where the texts show it.
func (s *Summary) advice(reason string, c *config.Config) string {
	unscored := s.Responses.Distinct - s.Responses.Scored
	switch reason {
	case schemas.TooFewScored:
		return s.firstCause(c)
	case schemas.NotContested: // responses without scores are not contested
		if unscored > s.Responses.Scored {
			return s.firstCause(c)
		}
	case schemas.TooFewJudgments:
		if cause := s.textCause(&judgments, c.Judge.MaxTokens, c.Judge.Pattern); cause != "" {
			return cause
		}
	case schemas.TooFewVerdicts:
		if cause := s.textCause(&comparisons, c.MetaJudge.MaxTokens, c.MetaJudge.Pattern); cause != "" {
			return cause
		}
	case schemas.EqualScores:
		if s.Judge != nil && s.Judge.DroppedByReason[schemas.NotContested] >= s.Actor.DroppedByReason[reason] {
			return "the judge gives all responses to a prompt one score: look at judge.template and judge.temperature"
		}
	}
	return "see " + settingBehind[reason]
}

// firstCause names the most frequent cause of responses without a score and the setting behind it.
func (s *Summary) firstCause(c *config.Config) string {
	r := &s.Responses
	unscored := r.Complete - r.Scored
	failed, codes := int64(0), map[string]int64{}
	for _, stage := range []string{schemas.StageGenerate, schemas.StagePast, schemas.StageFuture} {
		for code, n := range s.FailedCalls[stage] {
			failed += n
			codes[code] += n
		}
	}
	causes := []cause{
		{r.CutOff, fmt.Sprintf("%s of %s responses %s", humanize.Comma(r.CutOff), humanize.Comma(r.Distinct), s.cutCause(r.CutOff, "actor", c.Actor.MaxTokens))},
		{r.Empty, fmt.Sprintf("%s of %s responses are empty: look at actor.stop, and whether the model's text is all reasoning", humanize.Comma(r.Empty), humanize.Comma(r.Distinct))},
		{unscored, fmt.Sprintf("%s of %s complete responses have too few parsed judgments: %s", humanize.Comma(unscored), humanize.Comma(r.Complete), cmp.Or(s.textCause(&judgments, c.Judge.MaxTokens, c.Judge.Pattern), "lower method.min_judgments, or raise judge.n"))},
		{failed, fmt.Sprintf("%s calls for responses failed: %s", humanize.Comma(failed), counts(codes))},
	}
	first := slices.MaxFunc(causes, func(a, b cause) int { return cmp.Compare(a.texts, b.texts) })
	if first.texts == 0 {
		return fmt.Sprintf("the actor gave %s distinct responses: raise actor.n, or actor.temperature if texts repeat", humanize.Comma(r.Distinct))
	}
	return first.text
}

// A kindOfText is the texts of one stage as messages name them.
type kindOfText struct{ stage, role, name string }

var (
	judgments   = kindOfText{schemas.StageJudge, "judge", "judgments"}
	comparisons = kindOfText{schemas.StageMeta, "meta_judge", "comparisons"}
)

// textCause names the most frequent reason of texts without a score or verdict, empty without one.
func (s *Summary) textCause(k *kindOfText, maxTokens int, pattern string) string {
	most, first := int64(0), ""
	for _, reason := range slices.Sorted(maps.Keys(s.UnparsedReasons)) {
		if name, own := strings.CutPrefix(reason, k.stage+"."); own && s.UnparsedReasons[reason] > most {
			most, first = s.UnparsedReasons[reason], name
		}
	}
	failed := schemas.Sum(s.FailedCalls[k.stage])
	n := humanize.Comma(most) + " " + k.name
	switch {
	case most == 0 && failed == 0:
		return ""
	case failed >= most:
		return fmt.Sprintf("%s %s calls failed (%s)", humanize.Comma(failed), strings.ReplaceAll(k.role, "_", "-"), counts(s.FailedCalls[k.stage]))
	case first == answers.CutOff:
		return n + " " + s.cutCause(most, k.role, maxTokens)
	case first == meta.Tie:
		return fmt.Sprintf("%s name no winner (tie): look at text in raw/%s, and ask for one winner in %s.template", n, k.name, k.role)
	}
	if pattern != "" { // verdicts: enforced is refused beside it
		return fmt.Sprintf("%s don't parse (%s): look at text in raw/%s, and compare their ends with %s.pattern", n, first, k.name, k.role)
	}
	return fmt.Sprintf("%s don't parse (%s): look at text in raw/%s, and try verdicts: enforced", n, first, k.name)
}

// cutCause returns the cause of n cut-off texts of a role: unknown finish reasons, or a limit that is too low.
func (s *Summary) cutCause(n int64, role string, maxTokens int) string {
	if unknown := schemas.Sum(s.UnknownFinishes); unknown > 0 && 2*unknown >= n {
		return fmt.Sprintf("count as cut off, as their finish reasons are not known (%s): look at the texts in raw/ and at finish_reason in the server's documentation", counts(s.UnknownFinishes))
	}
	if maxTokens == 0 {
		return fmt.Sprintf("are cut off at the server's own limit, since %s.max_tokens is 0: set it", role)
	}
	return fmt.Sprintf("are cut off at %s.max_tokens (%d): raise it", role, maxTokens)
}
