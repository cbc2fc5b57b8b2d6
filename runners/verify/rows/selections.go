package rows

import (
	"math"
	"math/big"
	"slices"

	"coeval/datasets/shards"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
	"coeval/runners/verify/rows/sums"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// checkSelections derives the selection of each role from the raw rows and compares it with the prompt's
// outcome, the ratings and the pair.
func (d *prompt) checkSelections(p *schemas.PromptRow) {
	s := d.shard
	at := locate(d, shards.Prompts, p)
	var contestedID *string
	if d.compared.contested != nil {
		contestedID = &d.compared.contested.row.ID
	}
	problems.SameNullable(at, "contested_response_id", p.ContestedResponseID, contestedID)

	d.checkAsking(at, p)
	rules := s.Run.rules()
	var actor, judge schemas.Selection
	if s.Run.Settings.Wants(schemas.RoleActor) {
		actor = d.compared.prompt.Actor(rules)
	}
	var ratings []float64
	if s.Run.Settings.Wants(schemas.RoleJudge) {
		ratings = d.checkedRatings()
		judge = d.balanced(p, d.compared.prompt.Judge(rules, ratings))
	}
	d.checkNoOtherRatings()
	checkOutcome(at, schemas.RoleActor, p.ActorOutcome, p.ActorReason, actor)
	checkOutcome(at, schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason, judge)
	wantActor, wantJudge := d.actorPair(p, &actor), d.judgePair(p, &judge, ratings)
	d.checkPair(shards.Actor, d.ActorUnreadable, d.Actor, wantActor)
	d.checkPair(shards.Judge, d.JudgeUnreadable, d.Judge, wantJudge)
	s.Sums.CountPrompt(p, conversationChars(p.Prompt), len(d.Failures) > 0)
	s.Sums.CountPairs(wantActor, wantJudge)
}

// rules returns the settings of the selections.
func (r *Run) rules() reference.Rules {
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
func (d *prompt) weights() schemas.PositionWeights {
	m := &d.shard.Run.Settings.Method
	switch string(m.PositionWeights) {
	case fixedWeights:
		return schemas.PositionWeights{First: m.FixedPositionWeights[0], Second: m.FixedPositionWeights[1]}
	case responseWeights:
		first, second := d.compared.prompt.Positions()
		return reference.PositionWeights(first+schemas.ReadUnit, second+schemas.ReadUnit)
	}
	if w := d.shard.Run.Manifest.PositionWeights; w != nil {
		return *w
	}
	return schemas.PositionWeights{}
}

// RunWeights returns the position weights that a whole run with these counts has, nil for a run without them.
func (r *Run) RunWeights(positions schemas.PositionCounts) *schemas.PositionWeights {
	m := &r.Settings.Method
	var w schemas.PositionWeights
	switch {
	case !r.Settings.Wants(schemas.RoleJudge), string(m.PositionWeights) == responseWeights:
		return nil
	case string(m.PositionWeights) == fixedWeights:
		w = schemas.PositionWeights{First: m.FixedPositionWeights[0], Second: m.FixedPositionWeights[1]}
	default:
		w = reference.PositionWeights(positions.First, positions.Second)
	}
	return &w
}

// checkedRatings computes the ratings of the compared judgments, nil if they were not compared, and
// compares them with the column elo. If they agree within the tolerance it returns the recorded ratings,
// so that the last digit, which depends on the processor, cannot change the selection.
func (d *prompt) checkedRatings() []float64 {
	if !d.isCompared() {
		return nil
	}
	m := &d.shard.Run.Settings.Method
	var ratings []float64
	if pairs.RatingMode(m.Rating) == pairs.ScoresRating {
		ratings = d.compared.prompt.ScoreRatings(d.weights())
	} else {
		ratings = d.compared.prompt.Ratings(d.weights(), m.EloLambda)
	}
	for i, j := range d.compared.judgments {
		if problems.SameRating(locate(d, shards.Judgments, j.row), "elo", j.row.Elo, &ratings[i]) {
			ratings[i] = *j.row.Elo
		}
	}
	return ratings
}

// balanced returns the judge's selection after the run's balance: a pair may be dropped for one of
// its reasons, which the check of the run confirms.
func (d *prompt) balanced(p *schemas.PromptRow, c schemas.Selection) schemas.Selection {
	if c.Outcome != schemas.Paired || !sums.IsBalanced(&d.shard.Run.Settings.Method) {
		return c
	}
	k := &d.compared
	chosen, rejected := k.judgments[k.place(c.ChosenID)].row, k.judgments[k.place(c.RejectedID)].row
	reason := text(p.JudgeReason)
	if reason != schemas.Direction && reason != schemas.ClassCap {
		reason = ""
	}
	d.shard.Sums.Balance.Count(reference.KindOf(p.ID, *chosen.Score, *rejected.Score), reason)
	if reason == "" {
		return c
	}
	return schemas.Selection{Outcome: schemas.Dropped, Reason: reason, Elo: c.Elo}
}

// checkNoOtherRatings reports ratings of judgments that were not compared.
func (d *prompt) checkNoOtherRatings() {
	compared := d.isCompared()
	for _, r := range d.joined {
		for _, j := range r.judgments {
			if !compared || r != d.compared.contested || !j.isDistinct {
				problems.SameNullable(locate(d, shards.Judgments, j.row), "elo", j.row.Elo, nil)
			}
		}
	}
}

// checkOutcome compares the columns of a role's outcome. Want is zero for a role without pairs.
func checkOutcome(at problems.Location, role string, outcome, reason *string, want schemas.Selection) {
	problems.SameNullable(at, role+"_outcome", outcome, nullable(string(want.Outcome)))
	problems.SameNullable(at, role+"_reason", reason, nullable(want.Reason))
}

// newPair fills in the columns that both roles share.
func newPair(role string, p *schemas.PromptRow, c *schemas.Selection, chosen, rejected string) *schemas.Pair {
	return &schemas.Pair{
		ID: schemas.PairID(role, c.ChosenID, c.RejectedID), PromptID: p.ID,
		Chosen: []schemas.Message{{Role: "assistant", Content: chosen}}, Rejected: []schemas.Message{{Role: "assistant", Content: rejected}},
		ChosenID: c.ChosenID, RejectedID: c.RejectedID,
		ChosenChars: charsOf(chosen), RejectedChars: charsOf(rejected),
		OwnID: p.OwnID, Metadata: p.Metadata,
	}
}

// actorPair returns the row of a selection, nil if there is no pair.
func (d *prompt) actorPair(p *schemas.PromptRow, c *schemas.Selection) *schemas.Pair {
	if c.Outcome != schemas.Paired {
		return nil
	}
	chosen, rejected := d.response(c.ChosenID), d.response(c.RejectedID)
	pair := newPair(schemas.RoleActor, p, c, chosen.row.Text, rejected.row.Text)
	pair.Prompt = p.Prompt
	pair.ChosenModel, pair.RejectedModel = &chosen.row.Model, &rejected.row.Model
	pair.ChosenScore, pair.RejectedScore = *floatOf(chosen.mean), *floatOf(rejected.mean)
	pair.ScoreMargin = *floatOf(new(big.Rat).Sub(chosen.mean, rejected.mean))
	if !d.shard.Run.Settings.ReadsScores() {
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

// judgePair returns the row of a selection, nil if there is no pair.
func (d *prompt) judgePair(p *schemas.PromptRow, c *schemas.Selection, ratings []float64) *schemas.Pair {
	if c.Outcome != schemas.Paired {
		return nil
	}
	k := &d.compared
	best, worst := k.place(c.ChosenID), k.place(c.RejectedID)
	chosen, rejected := k.judgments[best].row, k.judgments[worst].row
	pair := newPair(schemas.RoleJudge, p, c, chosen.Text, rejected.Text)
	asked, err := d.shard.Run.Settings.JudgePrompt(p, k.contested.row.Text)
	if err != nil {
		d.locate(shards.Judge).Add("the judge's prompt can't be rendered from the config's template: %v", err)
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
func (d *prompt) checkPair(table shards.Table, isUnreadable bool, rows []schemas.Pair, want *schemas.Pair) {
	switch {
	case isUnreadable:
		return
	case want == nil && len(rows) > 0:
		locate(d, table, &rows[0]).Add("no such pair of prompt %s follows from its raw rows", d.ID)
	case want != nil && len(rows) == 0:
		d.locate(table).Add("its pair %s of chosen %s and rejected %s is missing", want.ID, want.ChosenID, want.RejectedID)
	case want != nil:
		samePair(locate(d, table, &rows[0]), &rows[0], want)
	}
	for i := range rows {
		if i > 0 {
			locate(d, table, &rows[i]).Add("prompt %s has another pair already", d.ID)
		}
	}
}

func samePair(at problems.Location, got, want *schemas.Pair) {
	if got.ChosenID == want.RejectedID && got.RejectedID == want.ChosenID {
		at.Add("chosen and rejected are swapped")
	}
	problems.Same(at, "id", got.ID, want.ID)
	sameMessages(at, "prompt", got.Prompt, want.Prompt)
	sameMessages(at, "chosen", got.Chosen, want.Chosen)
	sameMessages(at, "rejected", got.Rejected, want.Rejected)
	problems.SameNullable(at, "response_id", got.ResponseID, want.ResponseID)
	problems.Same(at, "chosen_id", got.ChosenID, want.ChosenID)
	problems.Same(at, "rejected_id", got.RejectedID, want.RejectedID)
	problems.SameNullable(at, "chosen_model", got.ChosenModel, want.ChosenModel)
	problems.SameNullable(at, "rejected_model", got.RejectedModel, want.RejectedModel)
	problems.SameNumber(at, "chosen_score", &got.ChosenScore, &want.ChosenScore)
	problems.SameNumber(at, "rejected_score", &got.RejectedScore, &want.RejectedScore)
	problems.SameNumber(at, "score_margin", &got.ScoreMargin, &want.ScoreMargin)
	problems.SameNumber(at, "margin_se", got.MarginSE, want.MarginSE)
	problems.Same(at, "chosen_chars", got.ChosenChars, want.ChosenChars)
	problems.Same(at, "rejected_chars", got.RejectedChars, want.RejectedChars)
	problems.SameRating(at, "chosen_elo", got.ChosenElo, want.ChosenElo)
	problems.SameRating(at, "rejected_elo", got.RejectedElo, want.RejectedElo)
	problems.SameText(at, "metadata", got.Metadata, want.Metadata)
	if !slices.Equal(got.OwnID, want.OwnID) {
		at.Add("own_id is %q, should be %q", got.OwnID, want.OwnID)
	}
}

func sameMessages(at problems.Location, column string, got, want []schemas.Message) {
	if len(got) != len(want) {
		at.Add("%s has %d messages, should have %d", column, len(got), len(want))
		return
	}
	for i := range got {
		problems.Same(at, column+".role", got[i].Role, want[i].Role)
		problems.SameText(at, column+".content", got[i].Content, want[i].Content)
	}
}

func inThousandths(points float64) int { return int(math.Round(points * 1000)) }
