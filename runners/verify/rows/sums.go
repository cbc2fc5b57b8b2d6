package rows

import (
	"math"

	"coeval/runners/verify/reference"
	"coeval/schemas"
)

// Sums are counts over rows.
type Sums struct {
	// Bad counts the bad lines of the input.
	Bad   int64
	Stats schemas.Stats
	// Judgments and Comparisons count the findings about their texts.
	Judgments, Comparisons reference.Readings
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

// countTexts counts a prompt's responses and failures; its judgments and comparisons are
// counted as they are read.
func (f *Sums) countTexts(d *prompt) {
	own, texts, empty := 0, 0, 0 // of the actor
	for _, r := range d.joined {
		f.Stats.Responses.Replicates += int64(len(r.row.Replicates))
		if r.pool == "" {
			own += len(r.row.Replicates)
			texts++
			if schemas.Status(r.row.Status) == schemas.Empty {
				empty++
			}
		}
		f.Stats.Responses.Distinct++
		switch schemas.Status(r.row.Status) {
		case schemas.Empty:
			f.Stats.Responses.Empty++
		case schemas.Truncated:
			f.Stats.Responses.Truncated++
		}
		if r.mean != nil {
			f.Stats.Responses.Scored++
		}
	}
	if own > 1 {
		f.Stats.Responses.Several++
		if texts == 1 && empty == 0 {
			f.Stats.Responses.Constant++
		}
	}
	for key, calls := range d.failed {
		f.Stats.CountFailed(key.Stage, key.Code, int64(calls))
	}
}

func (f *Sums) countVerdict(winner schemas.Winner, unparsed string) {
	f.Stats.Comparisons.Count(unparsed)
	switch winner {
	case schemas.First:
		f.Stats.Positions.First++
	case schemas.Second:
		f.Stats.Positions.Second++
	}
}

// countPrompt counts the outcomes in a row of raw/prompts.
func (f *Sums) countPrompt(p *schemas.PromptRow, failed bool) {
	f.Stats.Prompts++
	f.Stats.CountLength(int(conversationChars(p.Prompt)), failed)
	for _, recorded := range []struct {
		role            string
		outcome, reason *string
	}{{schemas.RoleActor, p.ActorOutcome, p.ActorReason}, {schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason}} {
		if recorded.outcome != nil {
			outcomes := f.Stats.Outcomes[recorded.role]
			outcomes.Count(&schemas.Selection{Outcome: schemas.Outcome(*recorded.outcome), Reason: text(recorded.reason)})
			f.Stats.SetOutcomes(recorded.role, outcomes)
		}
	}
}

// countPairs counts the pairs that follow from the raw tables.
func (f *Sums) countPairs(actor, judge *schemas.Pair) {
	if actor != nil {
		f.Stats.Actor.Pairs++
		f.Stats.Actor.ChosenChars += int64(actor.ChosenChars)
		f.Stats.Actor.RejectedChars += int64(actor.RejectedChars)
		f.Stats.Actor.ScoreMarginMicros += int64(math.Round(actor.ScoreMargin * 1e6))
	}
	if judge != nil {
		f.Stats.Judge.CountChosen(inThousandths(judge.ChosenScore), inThousandths(judge.RejectedScore))
		f.Stats.Judge.ChosenChars += int64(judge.ChosenChars)
		f.Stats.Judge.RejectedChars += int64(judge.RejectedChars)
	}
}

func inThousandths(points float64) int { return int(math.Round(points * 1000)) }
