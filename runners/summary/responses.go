package summary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"

	"coeval/schemas"
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

// firstCause names the most frequent cause of responses without a score and the setting behind it.
func (s *Summary) firstCause(maxTokens, judgeMaxTokens int) string {
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
		{r.CutOff, fmt.Sprintf("%s of %s responses are cut off at actor.max_tokens (%d): raise it", humanize.Comma(r.CutOff), humanize.Comma(r.Distinct), maxTokens)},
		{r.Empty, fmt.Sprintf("%s of %s responses are empty: look at actor.stop, and whether the model's text is all reasoning", humanize.Comma(r.Empty), humanize.Comma(r.Distinct))},
		{unscored, fmt.Sprintf("%s of %s complete responses have too few parsed judgments: %s", humanize.Comma(unscored), humanize.Comma(r.Complete), s.judgmentCause(judgeMaxTokens))},
		{failed, fmt.Sprintf("%s calls for responses failed: %s", humanize.Comma(failed), counts(codes))},
	}
	first := slices.MaxFunc(causes, func(a, b cause) int { return cmp.Compare(a.texts, b.texts) })
	if first.texts == 0 {
		return fmt.Sprintf("the actor gave %s distinct responses: raise actor.n, or actor.temperature if texts repeat", humanize.Comma(r.Distinct))
	}
	return first.text
}

// judgmentCause names the most frequent reason of judgments without a score.
func (s *Summary) judgmentCause(maxTokens int) string {
	prefix, most, first := schemas.StageJudge+".", int64(0), ""
	for _, reason := range slices.Sorted(maps.Keys(s.UnparsedReasons)) {
		if n := s.UnparsedReasons[reason]; len(reason) > len(prefix) && reason[:len(prefix)] == prefix && n > most {
			most, first = n, reason[len(prefix):]
		}
	}
	failed := schemas.Sum(s.FailedCalls[schemas.StageJudge])
	switch {
	case most == 0 && failed == 0:
		return "lower method.min_judgments, or raise judge.n"
	case failed >= most:
		return fmt.Sprintf("%s judge calls failed (%s)", humanize.Comma(failed), counts(s.FailedCalls[schemas.StageJudge]))
	case first == cutOff:
		return fmt.Sprintf("%s judgments are cut off at judge.max_tokens (%d): raise it", humanize.Comma(most), maxTokens)
	}
	return fmt.Sprintf("%s judgments don't parse (%s): look at text in raw/judgments, and try verdicts: enforced", humanize.Comma(most), first)
}

// cutOff is the reason of a judgment that was cut off.
const cutOff = "cut_off"
