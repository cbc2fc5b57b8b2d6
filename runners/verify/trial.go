package verify

import (
	"bytes"
	"cmp"
	"math/big"
	"slices"

	"coeval/schemas"
	"coeval/transforms/meta"
)

// A trial is what the meta-judge said of the contested response.
type trial struct {
	// contested is nil when no response is.
	contested *response
	// judgments are its distinct ones, in the order of their IDs.
	judgments []*judgment
	// verdicts has the winner of each ordered pair, row by row of who was shown first, and
	// told is true where there is a row or a failure.
	verdicts []byte
	told     []bool
}

// compare finds the contested response and holds what was said of it against the pairs that
// the meta-judge was to compare.
func (d *dossier) compare() {
	t := &d.trial
	t.contested = mostContested(d.responses)
	for _, r := range d.responses {
		same(d.shard.responses.row(&d.notes, r.row), "contested", r.row.Contested, r == t.contested)
	}
	if t.contested != nil {
		for _, j := range t.contested.judgments {
			if j.distinct {
				t.judgments = append(t.judgments, j)
			}
		}
		slices.SortFunc(t.judgments, func(a, b *judgment) int { return cmp.Compare(a.row.ID, b.row.ID) })
	}
	n := len(t.judgments)
	t.verdicts = bytes.Repeat([]byte{byte(schemas.Missing)}, n*n)
	t.told = make([]bool, n*n)
	for i := range d.rows.comparisons {
		d.readComparison(&d.rows.comparisons[i])
	}
	for i := range d.rows.failures {
		if f := &d.rows.failures[i]; f.Stage == schemas.StageMeta {
			at := d.shard.failures.row(&d.notes, f)
			d.tell(at, text(f.ResponseID), text(f.FirstID), text(f.SecondID), schemas.Missing)
		}
	}
	d.checkComparisons()
}

// mostContested returns the scored response with the highest variance above 0, of equals the
// one with the lowest ID, or nil.
func mostContested(responses []*response) *response {
	var most *response
	highest := new(big.Rat)
	for _, r := range responses {
		if !r.score.Scored {
			continue
		}
		v := variance(r.score)
		if c := v.Cmp(highest); c > 0 || c == 0 && most != nil && r.row.ID < most.row.ID {
			most, highest = r, v
		}
	}
	return most
}

// variance returns V = Σs²/n − (Σs/n)² in squared thousandths.
func variance(s schemas.Score) *big.Rat {
	n := int64(s.N)
	mean := big.NewRat(s.Written(), n)
	return new(big.Rat).Sub(big.NewRat(s.Squares, n), mean.Mul(mean, mean))
}

func (d *dossier) readComparison(row *schemas.ComparisonRow) {
	s := d.shard
	at := s.comparisons.row(&d.notes, row)
	at.id("first_id, second_id and model", row.ID, schemas.ComparisonID(row.FirstID, row.SecondID, row.Model))
	same(at, "model", row.Model, s.run.settings.MetaJudge.Role.Identity())
	winner := schemas.NoWins
	if text(row.UnparsedReason) != meta.CutOff {
		var unparsed string
		winner, unparsed = meta.ParseVerdict(row.Text, "")
		sameNullable(at, "unparsed_reason", row.UnparsedReason, nullable(unparsed))
	}
	same(at, "winner", row.Winner, winner.String())
	s.figures.countVerdict(winner, text(row.UnparsedReason))
	d.tell(at, row.ResponseID, row.FirstID, row.SecondID, winner)
}

// tell places what was said of two judgments by the IDs that the row names.
func (d *dossier) tell(at spot, responseID, firstID, secondID string, winner schemas.Winner) {
	t := &d.trial
	if !d.isCompared() {
		return // see checkComparisons
	}
	same(at, "response_id", responseID, t.contested.row.ID)
	first, second := t.place(firstID), t.place(secondID)
	switch {
	case first < 0:
		at.add("first_id is %s, which is none of the distinct parsed judgments of the contested response %s", firstID, t.contested.row.ID)
	case second < 0:
		at.add("second_id is %s, which is none of the distinct parsed judgments of the contested response %s", secondID, t.contested.row.ID)
	case first == second:
		at.add("first_id and second_id are both %s", firstID)
	case t.told[first*len(t.judgments)+second]:
		at.add("judgments %s and %s have another row or failure in this order", firstID, secondID)
	default:
		t.told[first*len(t.judgments)+second] = true
		t.verdicts[first*len(t.judgments)+second] = byte(winner)
	}
}

func (t *trial) place(id string) int {
	return slices.IndexFunc(t.judgments, func(j *judgment) bool { return j.row.ID == id })
}

// isCompared says whether the meta-judge was asked.
func (d *dossier) isCompared() bool {
	s := d.shard.run.settings
	return s.wants(schemas.RoleJudge) && d.trial.contested != nil && len(d.trial.judgments) >= s.Method.MinMetaJudgments
}

// checkComparisons reports comparisons that are gone, and any where nothing is to compare.
func (d *dossier) checkComparisons() {
	t := &d.trial
	at := d.shard.comparisons.prompt(&d.notes, d.id)
	if !d.isCompared() {
		failures := d.failedCalls(schemas.StageMeta)
		if rows := len(d.rows.comparisons); rows+failures > 0 {
			at.add("it has %d comparisons and %d failures of them, should have none: no response of it was to be compared", rows, failures)
		}
		return
	}
	for i, first := range t.judgments {
		for k, second := range t.judgments {
			if i != k && !t.told[i*len(t.judgments)+k] {
				at.add("the comparison of judgment %s, shown first, and %s has neither a row nor a failure", first.row.ID, second.row.ID)
			}
		}
	}
}

func (d *dossier) failedCalls(stage string) int {
	calls := 0
	for key, n := range d.failed {
		if key.Stage == stage {
			calls += n
		}
	}
	return calls
}
