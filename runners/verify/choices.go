package verify

import (
	"math"
	"math/big"
	"slices"

	"coeval/runners/verify/reference"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// checkChoices derives the choice of each role from the raw rows and compares it with the prompt's
// outcome, the ratings and the pair.
func (d *rows) checkChoices(p *schemas.PromptRow) {
	s := d.shard
	at := s.prompts.row(&d.problems, p)
	var contestedID *string
	if d.compared.contested != nil {
		contestedID = &d.compared.contested.row.ID
	}
	sameNullable(at, "contested_response_id", p.ContestedResponseID, contestedID)

	d.checkAsking(at, p)
	rules := s.run.rules()
	var actor, judge schemas.Choice
	if s.run.Settings.Wants(schemas.RoleActor) {
		actor = d.compared.prompt.Actor(rules)
	}
	var ratings []float64
	if s.run.Settings.Wants(schemas.RoleJudge) {
		ratings = d.checkedRatings()
		judge = d.balanced(p, d.compared.prompt.Judge(rules, ratings))
	}
	d.checkNoOtherRatings()
	checkOutcome(at, schemas.RoleActor, p.ActorOutcome, p.ActorReason, actor)
	checkOutcome(at, schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason, judge)
	wantActor, wantJudge := d.actorPair(p, &actor), d.judgePair(p, &judge, ratings)
	d.checkPair(s.actor, d.actor, wantActor)
	d.checkPair(s.judge, d.judge, wantJudge)
	s.figures.countPrompt(p, len(d.failures) > 0)
	s.figures.countPairs(wantActor, wantJudge)
}

// rules returns the settings of the choices.
func (r *run) rules() reference.Rules {
	m := &r.Settings.Method
	return reference.Rules{
		Rho: m.Rho, MinMargin: m.MinMargin, MaxChosenChars: m.MaxChosenChars, MaxJudgmentChars: m.MaxJudgmentChars,
		Temporal: m.Pairs == temporalPairs, Phase: max(m.Phase, 1), MinMetaJudgments: m.MinMetaJudgments, DropEqualScores: m.DropEqualScores,
	}
}

// temporalPairs is method.pairs of pairs between checkpoints.
const temporalPairs = "temporal"

// Position weights by where they come from, as the config names them.
const (
	runWeights      = "run"
	responseWeights = "response"
	fixedWeights    = "fixed"
)

// weights returns the position weights of the prompt. Those of the run are taken from run.json:
// checkFigures compares them with the tables.
func (d *rows) weights() schemas.PositionWeights {
	m := &d.shard.run.Settings.Method
	switch string(m.PositionWeights) {
	case fixedWeights:
		return schemas.PositionWeights{First: m.FixedPositionWeights[0], Second: m.FixedPositionWeights[1]}
	case responseWeights:
		first, second := d.compared.prompt.Positions()
		return reference.PositionWeights(first+schemas.ReadUnit, second+schemas.ReadUnit)
	}
	if w := d.shard.run.Manifest.PositionWeights; w != nil {
		return *w
	}
	return schemas.PositionWeights{}
}

// checkedRatings computes the ratings of the compared judgments, nil if they were not compared, and
// compares them with the column elo. It returns the recorded ratings that agree: the choice follows
// from them, so that a last digit which another processor rounds otherwise can't break a tie.
func (d *rows) checkedRatings() []float64 {
	if !d.isCompared() {
		return nil
	}
	m := &d.shard.run.Settings.Method
	var ratings []float64
	if pairs.RatingMode(m.Rating) == pairs.ScoresRating {
		ratings = d.compared.prompt.ScoreRatings(d.weights())
	} else {
		ratings = d.compared.prompt.Ratings(d.weights(), m.EloLambda)
	}
	for i, j := range d.compared.judgments {
		if sameRating(d.shard.judgments.row(&d.problems, j.row), "elo", j.row.Elo, &ratings[i]) {
			ratings[i] = *j.row.Elo
		}
	}
	return ratings
}

// checkNoOtherRatings reports ratings of judgments that were not compared.
func (d *rows) checkNoOtherRatings() {
	compared := d.isCompared()
	for _, r := range d.joined {
		for _, j := range r.judgments {
			if !compared || r != d.compared.contested || !j.isDistinct {
				sameNullable(d.shard.judgments.row(&d.problems, j.row), "elo", j.row.Elo, nil)
			}
		}
	}
}

// checkOutcome compares the columns of a role's outcome. Want is zero for a role without pairs.
func checkOutcome(at location, role string, outcome, reason *string, want schemas.Choice) {
	sameNullable(at, role+"_outcome", outcome, nullable(string(want.Outcome)))
	sameNullable(at, role+"_reason", reason, nullable(want.Reason))
}

// newPair fills in the columns that both roles share.
func newPair(role string, p *schemas.PromptRow, c *schemas.Choice, chosen, rejected string) *schemas.Pair {
	return &schemas.Pair{
		ID: schemas.PairID(role, c.ChosenID, c.RejectedID), PromptID: p.ID,
		Chosen: []schemas.Message{{Role: "assistant", Content: chosen}}, Rejected: []schemas.Message{{Role: "assistant", Content: rejected}},
		ChosenID: c.ChosenID, RejectedID: c.RejectedID,
		ChosenChars: charsOf(chosen), RejectedChars: charsOf(rejected),
		OwnID: p.OwnID, Metadata: p.Metadata,
	}
}

// actorPair returns the row of a choice, nil if there is no pair.
func (d *rows) actorPair(p *schemas.PromptRow, c *schemas.Choice) *schemas.Pair {
	if c.Outcome != schemas.Paired {
		return nil
	}
	chosen, rejected := d.response(c.ChosenID), d.response(c.RejectedID)
	pair := newPair(schemas.RoleActor, p, c, chosen.row.Text, rejected.row.Text)
	pair.Prompt = p.Prompt
	pair.ChosenModel, pair.RejectedModel = &chosen.row.Model, &rejected.row.Model
	pair.ChosenScore, pair.RejectedScore = *floatOf(chosen.mean), *floatOf(rejected.mean)
	pair.ScoreMargin = *floatOf(new(big.Rat).Sub(chosen.mean, rejected.mean))
	if !d.shard.run.Settings.ReadsScores() {
		pair.MarginSE = marginSE(chosen, rejected)
	}
	return pair
}

// marginSE returns the standard error of the difference of two means: the root of the sum of V/(n−1). It
// returns nil if a response has a single score.
func marginSE(chosen, rejected *response) *float64 {
	squares := 0.0
	for _, r := range []*response{chosen, rejected} {
		n := 0
		for _, j := range r.judgments {
			if j.isParsed() {
				n++
			}
		}
		if n < 2 {
			return nil
		}
		squares += *floatOf(r.variance) / float64(n-1)
	}
	se := math.Sqrt(squares)
	return &se
}

// judgePair returns the row of a choice, nil if there is no pair.
func (d *rows) judgePair(p *schemas.PromptRow, c *schemas.Choice, ratings []float64) *schemas.Pair {
	if c.Outcome != schemas.Paired {
		return nil
	}
	k := &d.compared
	best, worst := k.place(c.ChosenID), k.place(c.RejectedID)
	chosen, rejected := k.judgments[best].row, k.judgments[worst].row
	pair := newPair(schemas.RoleJudge, p, c, chosen.Text, rejected.Text)
	asked, err := d.shard.run.Settings.JudgePrompt(p, k.contested.row.Text)
	if err != nil {
		d.shard.judge.prompt(&d.problems, d.id).add("the judge's prompt can't be rendered from the config's template: %v", err)
	}
	pair.Prompt = asked
	pair.ResponseID = &k.contested.row.ID
	pair.ChosenModel, pair.RejectedModel = &chosen.Model, &rejected.Model
	pair.ChosenScore, pair.RejectedScore = *chosen.Score, *rejected.Score
	pair.ScoreMargin = float64(inThousandths(*chosen.Score)-inThousandths(*rejected.Score)) / 1000
	pair.ChosenElo, pair.RejectedElo = &ratings[best], &ratings[worst]
	return pair
}

// checkPair compares the rows of a role's pairs with the pair that follows from the raw rows, nil for none.
func (d *rows) checkPair(t *table[schemas.Pair], rows []schemas.Pair, want *schemas.Pair) {
	switch {
	case t.torn:
		return
	case want == nil && len(rows) > 0:
		t.row(&d.problems, &rows[0]).add("no such pair of prompt %s follows from its raw rows", d.id)
	case want != nil && len(rows) == 0:
		t.prompt(&d.problems, d.id).add("its pair %s of chosen %s and rejected %s is missing", want.ID, want.ChosenID, want.RejectedID)
	case want != nil:
		samePair(t.row(&d.problems, &rows[0]), &rows[0], want)
	}
	for i := range rows {
		if i > 0 {
			t.row(&d.problems, &rows[i]).add("prompt %s has another pair already", d.id)
		}
	}
}

func samePair(at location, got, want *schemas.Pair) {
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
	sameNullable(at, "chosen_model", got.ChosenModel, want.ChosenModel)
	sameNullable(at, "rejected_model", got.RejectedModel, want.RejectedModel)
	sameNumber(at, "chosen_score", &got.ChosenScore, &want.ChosenScore)
	sameNumber(at, "rejected_score", &got.RejectedScore, &want.RejectedScore)
	sameNumber(at, "score_margin", &got.ScoreMargin, &want.ScoreMargin)
	sameNumber(at, "margin_se", got.MarginSE, want.MarginSE)
	same(at, "chosen_chars", got.ChosenChars, want.ChosenChars)
	same(at, "rejected_chars", got.RejectedChars, want.RejectedChars)
	sameRating(at, "chosen_elo", got.ChosenElo, want.ChosenElo)
	sameRating(at, "rejected_elo", got.RejectedElo, want.RejectedElo)
	sameText(at, "metadata", got.Metadata, want.Metadata)
	if !slices.Equal(got.OwnID, want.OwnID) {
		at.add("own_id is %q, should be %q", got.OwnID, want.OwnID)
	}
}

func sameMessages(at location, column string, got, want []schemas.Message) {
	if len(got) != len(want) {
		at.add("%s has %d messages, should have %d", column, len(got), len(want))
		return
	}
	for i := range got {
		same(at, column+".role", got[i].Role, want[i].Role)
		sameText(at, column+".content", got[i].Content, want[i].Content)
	}
}
