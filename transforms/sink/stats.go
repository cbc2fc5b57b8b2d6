package sink

import (
	"math"

	"coeval/schemas"
)

// countDossier adds the figures of one dossier.
func countDossier(s *schemas.Stats, d *schemas.Dossier, r *schemas.Record) {
	s.Prompts++
	s.CountLength(promptChars(d.Prompt.Messages), len(d.Failures) > 0)
	for _, f := range d.Failures {
		s.CountFailed(f.Stage, f.Code, 1)
	}
	countResponses(s, d)
	for i := range d.Comparisons {
		c := &d.Comparisons[i]
		s.Comparisons.Count(c.Unparsed)
		if c.Read != nil {
			s.ComparisonReads.Count(c.Read)
			if c.Unparsed == "" {
				s.ComparisonReads.FirstMicros += c.Read.ValueMicros
			}
		}
		switch c.Winner {
		case schemas.First:
			s.Positions.First++
		case schemas.Second:
			s.Positions.Second++
		}
	}
	countAsking(s, d)
	if d.Judging != nil {
		s.Judging.Count(d.Judging.Stopped, d.Judging.Asked)
	}
	for role, c := range map[string]*schemas.Selection{schemas.RoleActor: r.Actor, schemas.RoleJudge: r.Judge} {
		if c != nil {
			outcomes := s.Outcomes[role]
			outcomes.Count(c)
			s.SetOutcomes(role, outcomes)
		}
	}
	countActorPair(s, d, r.Actor)
	countJudgePair(s, d, r.Judge)
}

func countAsking(s *schemas.Stats, d *schemas.Dossier) {
	contested, a := d.Contested(), d.Asking
	if contested == nil || a == nil {
		return
	}
	asked := len(d.Comparisons)
	for _, f := range d.Failures {
		if f.Stage == schemas.StageMeta {
			asked++
		}
	}
	s.Asking.Count(a.Stopped, a.Regret, a.Spread, asked, len(contested.DistinctJudgments()))
}

func countResponses(s *schemas.Stats, d *schemas.Dossier) {
	own, texts, empty := 0, 0, 0 // of the actor
	for i := range d.Responses {
		r := &d.Responses[i]
		s.Responses.Replicates += int64(len(r.Replicates))
		if r.IsActors() {
			own += len(r.Replicates)
			texts++
			if r.Status == schemas.Empty {
				empty++
			}
		}
		s.Responses.Distinct++
		switch r.Status {
		case schemas.Empty:
			s.Responses.Empty++
		case schemas.Truncated:
			s.Responses.Truncated++
		}
		if r.Score.Scored {
			s.Responses.Scored++
		}
		for k := range r.Judgments {
			s.Judgments.Count(r.Judgments[k].Unparsed)
		}
		for k := range r.Reads {
			s.ScoreReads.Count(&r.Reads[k])
		}
	}
	if own > 1 {
		s.Responses.Several++
		if texts == 1 && empty == 0 { // reasoning without a text is no evidence about temperature
			s.Responses.Constant++
		}
	}
}

func countActorPair(s *schemas.Stats, d *schemas.Dossier, c *schemas.Selection) {
	if c == nil || c.Outcome != schemas.Paired {
		return
	}
	chosen, rejected := response(d, c.ChosenID), response(d, c.RejectedID)
	if chosen == nil || rejected == nil {
		return // writeRows returns the error
	}
	s.Actor.Pairs++
	s.Actor.ChosenChars += int64(chosen.Chars())
	s.Actor.RejectedChars += int64(rejected.Chars())
	s.Actor.ScoreMarginMicros += int64(math.Round(scoreMargin(chosen.Score, rejected.Score) * 1e6))
}

func countJudgePair(s *schemas.Stats, d *schemas.Dossier, c *schemas.Selection) {
	contested := d.Contested()
	if c == nil || c.Outcome != schemas.Paired || contested == nil {
		return
	}
	chosen, rejected := judgment(contested, c.ChosenID), judgment(contested, c.RejectedID)
	if chosen == nil || rejected == nil {
		return // writeRows returns the error
	}
	s.Judge.CountChosen(chosen.Score, rejected.Score)
	s.Judge.ChosenChars += int64(chars(chosen.Text))
	s.Judge.RejectedChars += int64(chars(rejected.Text))
}
