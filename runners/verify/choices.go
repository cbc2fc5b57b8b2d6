package verify

import (
	"cmp"
	"math/big"
	"slices"

	"coeval/schemas"
	"coeval/transforms/pairs"
)

// checkChoices computes the choice of each role from the raw rows, and holds against it the
// prompt's outcome, the ratings and the pair.
func (d *dossier) checkChoices(p *schemas.PromptRow) {
	s := d.shard
	at := s.prompts.row(&d.notes, p)
	found := d.finding()
	sameNullable(at, "contested_response_id", p.ContestedResponseID, nullable(found.ContestedID))

	var actor, judge schemas.Choice
	if s.run.settings.wants(schemas.RoleActor) {
		actor = pairs.Actor(found, s.run.settings.Method.ActorOptions())
	}
	if s.run.settings.wants(schemas.RoleJudge) {
		judge = pairs.Judge(found, s.run.weights(), s.run.settings.Method.JudgeOptions())
	}
	checkOutcome(at, schemas.RoleActor, p.ActorOutcome, p.ActorReason, actor)
	checkOutcome(at, schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason, judge)
	d.checkRatings(judge.Elo)
	wantActor, wantJudge := d.actorPair(p, &actor), d.judgePair(p, &judge)
	d.checkPair(s.actor, d.rows.actor, wantActor)
	d.checkPair(s.judge, d.rows.judge, wantJudge)
	s.figures.countPrompt(p, len(d.rows.failures) > 0)
	s.figures.countPairs(wantActor, wantJudge)
}

// weights are the run's position weights as run.json has them: checkFigures proves them.
func (r *run) weights() schemas.PositionWeights {
	if r.manifest.PositionWeights == nil {
		return schemas.PositionWeights{}
	}
	return *r.manifest.PositionWeights
}

// finding returns the numbers and IDs of the prompt, all from texts.
func (d *dossier) finding() *schemas.Finding {
	f := &schemas.Finding{PromptID: d.id}
	lost := map[string]int{}
	for i := range d.rows.failures {
		if row := &d.rows.failures[i]; row.Stage == schemas.StageJudge && row.ResponseID != nil {
			lost[*row.ResponseID]++
		}
	}
	for _, r := range d.responses {
		f.Responses = append(f.Responses, schemas.ResponseFinding{
			ID: r.row.ID, Status: schemas.Status(r.row.Status), Chars: int(charsOf(r.row.Text)), Score: r.score,
			FailedJudgments: lost[r.row.ID],
		})
	}
	if t := &d.trial; t.contested != nil {
		f.ContestedID, f.Verdicts = t.contested.row.ID, string(t.verdicts)
		for _, j := range t.judgments {
			f.Judgments = append(f.Judgments, schemas.JudgmentFinding{
				ID: j.row.ID, Score: j.score, Chars: int(charsOf(j.row.Text)), Fingerprint: schemas.Collapse(j.row.Text),
			})
		}
	}
	for key, calls := range d.failed {
		key.Calls = calls
		f.Failed = append(f.Failed, key)
	}
	slices.SortFunc(f.Failed, func(a, b schemas.FailedCalls) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Code, b.Code))
	})
	return f
}

// checkOutcome takes a zero choice for a role that is not asked for.
func checkOutcome(at spot, role string, outcome, reason *string, want schemas.Choice) {
	sameNullable(at, role+"_outcome", outcome, nullable(string(want.Outcome)))
	sameNullable(at, role+"_reason", reason, nullable(want.Reason))
}

// checkRatings holds the elo column against the ratings of the contested response's distinct
// judgments; every other judgment has none.
func (d *dossier) checkRatings(ratings []float64) {
	t := &d.trial
	for _, r := range d.responses {
		for _, j := range r.judgments {
			var want *float64
			if r == t.contested && j.distinct && len(ratings) > 0 {
				want = &ratings[t.place(j.row.ID)]
			}
			sameRating(d.shard.judgments.row(&d.notes, j.row), "elo", j.row.Elo, want)
		}
	}
}

// newPair fills in what the pairs of both roles share.
func newPair(role string, p *schemas.PromptRow, c *schemas.Choice, chosen, rejected string) *schemas.Pair {
	return &schemas.Pair{
		ID: schemas.PairID(role, c.ChosenID, c.RejectedID), PromptID: p.ID,
		Chosen: []schemas.Message{{Role: "assistant", Content: chosen}}, Rejected: []schemas.Message{{Role: "assistant", Content: rejected}},
		ChosenID: c.ChosenID, RejectedID: c.RejectedID,
		ChosenChars: charsOf(chosen), RejectedChars: charsOf(rejected),
		OwnID: p.OwnID, Metadata: p.Metadata,
	}
}

// actorPair returns the row that a choice comes to, nil when there is none.
func (d *dossier) actorPair(p *schemas.PromptRow, c *schemas.Choice) *schemas.Pair {
	if c.Outcome != schemas.Paired {
		return nil
	}
	chosen, rejected := d.response(c.ChosenID), d.response(c.RejectedID)
	pair := newPair(schemas.RoleActor, p, c, chosen.row.Text, rejected.row.Text)
	pair.Prompt = p.Prompt
	pair.ChosenScore, pair.RejectedScore = chosen.score.Mean(), rejected.score.Mean()
	difference := new(big.Rat).Sub(meanOf(chosen.score), meanOf(rejected.score))
	pair.ScoreMargin, _ = difference.Float64()
	return pair
}

// meanOf returns S in rubric points.
func meanOf(s schemas.Score) *big.Rat { return big.NewRat(s.Sum, 1000*int64(s.N)) }

// judgePair returns the row that a choice comes to, nil when there is none.
func (d *dossier) judgePair(p *schemas.PromptRow, c *schemas.Choice) *schemas.Pair {
	if c.Outcome != schemas.Paired {
		return nil
	}
	t := &d.trial
	best, worst := t.place(c.ChosenID), t.place(c.RejectedID)
	chosen, rejected := t.judgments[best], t.judgments[worst]
	pair := newPair(schemas.RoleJudge, p, c, chosen.row.Text, rejected.row.Text)
	asked, err := d.shard.run.settings.asked.Messages(p.Prompt, t.contested.row.Text)
	if err != nil {
		d.shard.judge.prompt(&d.notes, d.id).add("the judge's prompt can't be made with the config's template: %v", err)
	}
	pair.Prompt = asked
	pair.ResponseID = &t.contested.row.ID
	pair.ChosenScore, pair.RejectedScore = float64(chosen.score)/1000, float64(rejected.score)/1000
	pair.ScoreMargin = float64(chosen.score-rejected.score) / 1000
	pair.ChosenElo, pair.RejectedElo = &c.Elo[best], &c.Elo[worst]
	return pair
}

// checkPair holds the rows of a role's pairs against the one that is wanted, nil for none.
func (d *dossier) checkPair(t *table[schemas.Pair], rows []schemas.Pair, want *schemas.Pair) {
	switch {
	case t.torn:
		return
	case want == nil && len(rows) > 0:
		t.row(&d.notes, &rows[0]).add("prompt %s has no such pair by its raw rows", d.id)
	case want != nil && len(rows) == 0:
		t.prompt(&d.notes, d.id).add("its pair %s of chosen %s and rejected %s is missing", want.ID, want.ChosenID, want.RejectedID)
	case want != nil:
		samePair(t.row(&d.notes, &rows[0]), &rows[0], want)
	}
	for i := range rows {
		if i > 0 {
			t.row(&d.notes, &rows[i]).add("prompt %s has another pair already", d.id)
		}
	}
}

func samePair(at spot, got, want *schemas.Pair) {
	if got.ChosenID == want.RejectedID && got.RejectedID == want.ChosenID {
		at.add("chosen and rejected are swapped")
	}
	same(at, "id", got.ID, want.ID)
	sameMessages(at, "prompt", got.Prompt, want.Prompt)
	sameMessages(at, "chosen", got.Chosen, want.Chosen)
	sameMessages(at, "rejected", got.Rejected, want.Rejected)
	sameNullable(at, "response_id", got.ResponseID, want.ResponseID)
	same(at, "chosen_id", got.ChosenID, want.ChosenID)
	same(at, "rejected_id", got.RejectedID, want.RejectedID)
	same(at, "chosen_score", got.ChosenScore, want.ChosenScore)
	same(at, "rejected_score", got.RejectedScore, want.RejectedScore)
	same(at, "score_margin", got.ScoreMargin, want.ScoreMargin)
	same(at, "chosen_chars", got.ChosenChars, want.ChosenChars)
	same(at, "rejected_chars", got.RejectedChars, want.RejectedChars)
	sameRating(at, "chosen_elo", got.ChosenElo, want.ChosenElo)
	sameRating(at, "rejected_elo", got.RejectedElo, want.RejectedElo)
	sameText(at, "metadata", got.Metadata, want.Metadata)
	if !slices.Equal(got.OwnID, want.OwnID) {
		at.add("own_id is %q, should be %q", got.OwnID, want.OwnID)
	}
}

func sameMessages(at spot, column string, got, want []schemas.Message) {
	if len(got) != len(want) {
		at.add("%s has %d messages, should have %d", column, len(got), len(want))
		return
	}
	for i := range got {
		same(at, column+".role", got[i].Role, want[i].Role)
		sameText(at, column+".content", got[i].Content, want[i].Content)
	}
}
