package rows

import (
	"cmp"
	"slices"

	"coeval/datasets/shards"
	"coeval/runners/verify/endings"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
	"coeval/schemas"
)

// comparisons are the verdicts of the meta-judge on the contested response.
type comparisons struct {
	// contested is nil if no response is contested.
	contested *response
	// judgments are its distinct judgments in the order of their IDs.
	judgments []*judgment
	// seen reports for each ordered pair of judgments whether it has a row or a failure.
	seen [][]bool
	// rounds contains the round of each ordered pair with a row, 0 for none.
	rounds [][]int32
	// prompt is the input of the selections.
	prompt reference.Prompt
}

// checkCompared finds the contested response and compares the rows about it with the comparisons that
// the meta-judge had to make.
func (d *prompt) checkCompared() {
	c := &d.compared
	d.findContested()
	for _, r := range d.joined {
		problems.Same(locate(d, shards.Responses, r.row), "contested", r.row.Contested, r == c.contested)
	}
	n := len(c.judgments)
	unseen := schemas.Missing
	if d.shard.Run.Settings.MetaJudge.Budget != nil {
		unseen = schemas.NotAsked
	}
	c.seen, c.rounds, c.prompt.Winners = make([][]bool, n), make([][]int32, n), make([][]schemas.Winner, n)
	for i := range n {
		c.seen[i], c.rounds[i], c.prompt.Winners[i] = make([]bool, n), make([]int32, n), slices.Repeat([]schemas.Winner{unseen}, n)
	}
	if d.shard.Run.Settings.ReadsComparisons() && n > 0 {
		c.prompt.Reads = make([][]float64, n)
		for i := range n {
			c.prompt.Reads[i] = slices.Repeat([]float64{-1}, n)
		}
	}
	for i := range d.Comparisons {
		d.joinComparison(&d.Comparisons[i])
	}
	d.reportStrayReads()
	for i := range d.Failures {
		if f := &d.Failures[i]; f.Stage == schemas.StageMeta {
			at := locate(d, shards.Failures, f)
			d.placeVerdict(at, text(f.ResponseID), text(f.FirstID), text(f.SecondID), schemas.Missing, nil)
		}
	}
	d.reportMissingComparisons()
}

// findContested fills in the input of the selections and finds the contested response.
func (d *prompt) findContested() {
	c := &d.compared
	c.prompt.FailedCalls = d.failed
	for _, r := range d.joined {
		distinct := 0
		for _, j := range r.judgments {
			if j.isDistinct {
				distinct++
			}
		}
		c.prompt.Responses = append(c.prompt.Responses, reference.Response{
			ID: r.row.ID, Pool: r.pool, Chars: int(charsOf(r.row.Text)), Mean: r.mean, Variance: r.variance, Distinct: distinct, Failed: r.failed,
		})
	}
	minDistinct := d.shard.Run.rules().MinMetaJudgments
	if d.shard.Run.Settings.ReadsScores() { // with reads, a response has judgments only after it was selected
		minDistinct = 0
	}
	c.prompt.Contested = reference.Contested(c.prompt.Responses, minDistinct)
	if c.prompt.Contested < 0 {
		return
	}
	c.contested = d.joined[c.prompt.Contested]
	for _, j := range c.contested.judgments {
		if j.isDistinct {
			c.judgments = append(c.judgments, j)
		}
	}
	slices.SortFunc(c.judgments, func(a, b *judgment) int { return cmp.Compare(a.row.ID, b.row.ID) })
	for _, j := range c.judgments {
		c.prompt.Judgments = append(c.prompt.Judgments, reference.Judgment{
			ID: j.row.ID, Text: j.row.Text, Score: *j.row.Score, Chars: int(charsOf(j.row.Text)),
		})
	}
}

func (d *prompt) joinComparison(row *schemas.ComparisonRow) {
	s := d.shard
	at := locate(d, shards.Comparisons, row)
	at.ID("first_id, second_id and model", row.ID, schemas.ComparisonID(row.FirstID, row.SecondID, row.Model))
	problems.Same(at, "model", row.Model, s.Run.Settings.MetaJudge.Role.Identity())
	checkTokens(at, row.PromptTokens)
	winner, known := winnerOf(row.Winner)
	if !known {
		at.Add("winner is %s, should be first, second or none", problems.Show(row.Winner))
	}
	if s.Run.Settings.ReadsComparisons() {
		d.checkReadWinner(at, row)
	} else {
		finding, said := s.Run.verdicts.Verdict(row.Text, winner, text(row.UnparsedReason))
		if finding == endings.Wrong {
			at.Add("winner is %s, should be %s by the end of its text (unparsed_reason is %s)", problems.Show(row.Winner), said, problems.ShowNullable(row.UnparsedReason))
		}
		s.Sums.Comparisons.Count(text(row.UnparsedReason), finding)
	}
	s.Sums.CountVerdict(winner, text(row.UnparsedReason))
	if budget := s.Run.Settings.MetaJudge.Budget; budget == nil {
		problems.SameNullable(at, "round", row.Round, nil)
	} else if row.Round == nil || *row.Round < 1 {
		at.Add("round is %s, should be 1 or more: budget.comparisons is settled", problems.ShowNullable(row.Round))
	}
	d.placeVerdict(at, row.ResponseID, row.FirstID, row.SecondID, winner, row.Round)
}

func winnerOf(column string) (w schemas.Winner, known bool) {
	for _, w := range []schemas.Winner{schemas.First, schemas.Second, schemas.NoWins} {
		if w.String() == column {
			return w, true
		}
	}
	return schemas.NoWins, false
}

// placeVerdict places a verdict on two judgments by the IDs in its row.
func (d *prompt) placeVerdict(at problems.Location, responseID, firstID, secondID string, winner schemas.Winner, round *int32) {
	c := &d.compared
	if !d.isCompared() {
		return // reportMissingComparisons reports the row
	}
	problems.Same(at, "response_id", responseID, c.contested.row.ID)
	first, second := c.place(firstID), c.place(secondID)
	switch {
	case first < 0:
		at.Add("first_id is %s, which is none of the distinct parsed judgments of the contested response %s", firstID, c.contested.row.ID)
	case second < 0:
		at.Add("second_id is %s, which is none of the distinct parsed judgments of the contested response %s", secondID, c.contested.row.ID)
	case first == second:
		at.Add("first_id and second_id are both %s", firstID)
	case c.seen[first][second]:
		at.Add("judgments %s and %s have another row or failure in this order", firstID, secondID)
	default:
		c.seen[first][second] = true
		c.prompt.Winners[first][second] = winner
		if read := d.read[schemas.ComparisonID(firstID, secondID, d.shard.Run.Settings.MetaJudge.Role.Identity())]; read != nil && read.Value != nil && winner != schemas.Missing {
			c.prompt.Reads[first][second] = *read.Value
		}
		if round != nil {
			c.rounds[first][second] = *round
		}
	}
}

func (c *comparisons) place(id string) int {
	return slices.IndexFunc(c.judgments, func(j *judgment) bool { return j.row.ID == id })
}

// isCompared reports whether the meta-judge was asked.
func (d *prompt) isCompared() bool {
	return d.shard.Run.Settings.Wants(schemas.RoleJudge) && d.compared.prompt.IsCompared(d.shard.Run.rules())
}

// reportMissingComparisons reports missing comparisons, and comparisons of prompts that should have
// none.
func (d *prompt) reportMissingComparisons() {
	c := &d.compared
	at := d.locate(shards.Comparisons)
	if !d.isCompared() {
		failures := 0
		for key, n := range d.failed {
			if key.Stage == schemas.StageMeta {
				failures += n
			}
		}
		if rows := len(d.Comparisons); rows+failures > 0 {
			at.Add("it has %d comparisons and %d failed ones, but should have none: none of its responses is contested", rows, failures)
		}
		return
	}
	inRounds := d.shard.Run.Settings.MetaJudge.Budget != nil
	for i, first := range c.judgments {
		for k, second := range c.judgments {
			if i != k && !c.seen[i][k] && (!inRounds || c.seen[k][i]) {
				at.Add("the comparison of judgment %s, shown first, and %s has neither a row nor a failure", first.row.ID, second.row.ID)
			}
		}
	}
}
