// Package sums counts over the rows of a run. Package verify compares the counts with those in run.json.
//
// After package rows has checked a row or a prompt, it calls package sums for it. The sums of shards add up to
// those of the run, in any order. [Balance] counts the judge pairs that the run's balance kept and dropped. Its
// counts can be checked only for the whole run, because the balance follows from all judge pairs.
package sums

import (
	"math"

	"coeval/runners/verify/endings"
	"coeval/schemas"
)

// Sums are counts over rows.
type Sums struct {
	// Bad counts the bad lines of the input.
	Bad   int64
	Stats schemas.Stats
	// Judgments and Comparisons count the findings about their texts.
	Judgments, Comparisons endings.Counts
	// Balance counts the judge pairs that the balance of the run kept and dropped.
	Balance Balance
}

// Add adds the counts of other rows.
func (f *Sums) Add(g *Sums) {
	f.Bad += g.Bad
	f.Stats.Add(&g.Stats)
	f.Judgments.Add(g.Judgments)
	f.Comparisons.Add(g.Comparisons)
	f.Balance.add(&g.Balance)
}

// A Text is a response of a prompt.
type Text struct {
	Row *schemas.ResponseRow
	// Own reports whether the actor of the run wrote it, and Scored whether it has a mean.
	Own, Scored bool
}

// CountTexts counts a prompt's responses and failures.
func (f *Sums) CountTexts(responses []Text, failed map[schemas.FailedCalls]int) {
	own, texts, empty := 0, 0, 0 // of the actor
	for _, r := range responses {
		f.Stats.Responses.Replicates += int64(len(r.Row.Replicates))
		if r.Own {
			own += len(r.Row.Replicates)
			texts++
			if schemas.Status(r.Row.Status) == schemas.Empty {
				empty++
			}
		}
		f.Stats.Responses.Distinct++
		switch schemas.Status(r.Row.Status) {
		case schemas.Empty:
			f.Stats.Responses.Empty++
		case schemas.Truncated:
			f.Stats.Responses.Truncated++
		}
		if r.Scored {
			f.Stats.Responses.Scored++
		}
	}
	if own > 1 {
		f.Stats.Responses.Several++
		if texts == 1 && empty == 0 {
			f.Stats.Responses.Constant++
		}
	}
	for key, calls := range failed {
		f.Stats.CountFailed(key.Stage, key.Code, int64(calls))
	}
}

// CountVerdict counts a comparison. Unparsed is the reason why it has no verdict, empty for one that has.
func (f *Sums) CountVerdict(winner schemas.Winner, unparsed string) {
	f.Stats.Comparisons.Count(unparsed)
	switch winner {
	case schemas.First:
		f.Stats.Positions.First++
	case schemas.Second:
		f.Stats.Positions.Second++
	}
}

// CountPrompt counts the outcomes in a row of raw/prompts. Chars is the length of its messages. Failed reports whether
// a call of the prompt failed.
func (f *Sums) CountPrompt(p *schemas.PromptRow, chars int32, failed bool) {
	f.Stats.Prompts++
	f.Stats.CountLength(int(chars), failed)
	for _, recorded := range []struct {
		role            string
		outcome, reason *string
	}{{schemas.RoleActor, p.ActorOutcome, p.ActorReason}, {schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason}} {
		if recorded.outcome != nil {
			outcomes := f.Stats.Outcomes[recorded.role]
			selection := schemas.Selection{Outcome: schemas.Outcome(*recorded.outcome)}
			if recorded.reason != nil {
				selection.Reason = *recorded.reason
			}
			outcomes.Count(&selection)
			f.Stats.SetOutcomes(recorded.role, outcomes)
		}
	}
}

// CountPairs counts the pairs that follow from the raw tables, nil for a role without one.
func (f *Sums) CountPairs(actor, judge *schemas.Pair) {
	if actor != nil {
		f.Stats.Actor.Pairs++
		f.Stats.Actor.ChosenChars += int64(actor.ChosenChars)
		f.Stats.Actor.RejectedChars += int64(actor.RejectedChars)
		f.Stats.Actor.ScoreMarginMicros += int64(math.Round(actor.ScoreMargin * 1e6))
	}
	if judge != nil {
		f.Stats.Judge.CountChosen(thousandths(judge.ChosenScore), thousandths(judge.RejectedScore))
		f.Stats.Judge.ChosenChars += int64(judge.ChosenChars)
		f.Stats.Judge.RejectedChars += int64(judge.RejectedChars)
	}
}

func thousandths(points float64) int { return int(math.Round(points * 1000)) }
