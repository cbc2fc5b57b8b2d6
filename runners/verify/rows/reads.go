package rows

import (
	"fmt"
	"math"
	"math/big"

	"coeval/datasets/shards"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
	"coeval/schemas"
)

// joinRead derives a read from its labels' log-probabilities, and joins it to its response or keeps it for
// its comparison.
func (d *prompt) joinRead(row *schemas.ReadRow) {
	s := d.shard
	at := locate(d, shards.Reads, row)
	checkTokens(at, row.PromptTokens)
	if (row.FirstID == nil) != (row.SecondID == nil) {
		at.Add("first_id is %s and second_id is %s, should both be null or both be set", problems.ShowNullable(row.FirstID), problems.ShowNullable(row.SecondID))
		return
	}
	if row.FirstID != nil {
		d.joinComparisonRead(at, row)
		return
	}
	settings := &s.Run.Settings
	if !settings.ReadsScores() {
		at.Add("it is the read of a response, but the config has none")
		return
	}
	at.ID("response_id, model and replicate", row.ID, schemas.ReadID(row.ResponseID, row.Model, int(row.Replicate)))
	problems.Same(at, "model", row.Model, settings.Judge.Role.Identity())
	labels, _ := settings.Judge.Scale.Labels()
	parsed := d.checkRead(at, row, labels, settings.Judge.ReadMinMass, true)
	r := d.judgedResponse(at, row.ResponseID)
	if r == nil || !markSeen(at, "replicate", r.hasRead, row.Replicate) {
		return
	}
	count(&s.Sums.Stats.ScoreReads, row)
	if parsed {
		r.reads = append(r.reads, row)
	}
}

func (d *prompt) joinComparisonRead(at problems.Location, row *schemas.ReadRow) {
	settings := &d.shard.Run.Settings
	if !settings.ReadsComparisons() {
		at.Add("it is the read of a comparison, but the config has none")
		return
	}
	at.ID("first_id, second_id and model", row.ID, schemas.ComparisonID(*row.FirstID, *row.SecondID, row.Model))
	problems.Same(at, "model", row.Model, settings.MetaJudge.Role.Identity())
	problems.Same(at, "replicate", row.Replicate, 0)
	asked := settings.MetaJudge.Role.Read
	d.checkRead(at, row, asked.Labels, asked.MinMass, false)
	d.read[row.ID] = row
}

// slack is how much a recorded number of a read, which is rounded to a millionth, may differ from ours.
const slack = 0.6e-6

// checkRead derives the columns of a read. It reports whether the read has a value.
func (d *prompt) checkRead(at problems.Location, row *schemas.ReadRow, labels []string, minMass float64, isScore bool) bool {
	if len(row.Labels) != len(row.LogProbs) {
		at.Add("it has %d labels and %d log_probs", len(row.Labels), len(row.LogProbs))
		return false
	}
	read, ok := reference.Token{Labels: row.Labels, LogProbs: row.LogProbs}.Read(labels, minMass)
	if !ok {
		at.Add("labels is %q, should be among %q", row.Labels, labels)
		return false
	}
	near := func(column string, got *float64, want float64) {
		if got == nil || !(math.Abs(*got-want) <= slack) {
			at.Add("%s is %s, should be %.6f by its log_probs", column, problems.ShowNullable(got), want)
		}
	}
	near("label_mass", &row.LabelMass, read.Mass)
	if !read.Parsed {
		problems.SameNullable(at, "value", row.Value, nil)
		problems.SameNullable(at, "variance", row.Variance, nil)
		problems.SameNullable(at, "unparsed_reason", row.UnparsedReason, new(reference.LowMass))
		return false
	}
	problems.SameNullable(at, "unparsed_reason", row.UnparsedReason, nil)
	near("value", row.Value, read.Value)
	if isScore {
		near("variance", row.Variance, read.Variance)
	} else {
		problems.SameNullable(at, "variance", row.Variance, nil)
	}
	return row.Value != nil && (!isScore || row.Variance != nil)
}

func count(stats *schemas.ReadStats, row *schemas.ReadRow) {
	stats.Count(&schemas.Read{MassMicros: micros(row.LabelMass), Unparsed: text(row.UnparsedReason)})
}

func micros(x float64) int64 { return int64(math.Round(x * schemas.ReadUnit)) }

// readMoments returns mean and variance of a response's reads, nil without any.
func readMoments(reads []*schemas.ReadRow) (mean, variance *big.Rat) {
	if len(reads) == 0 {
		return nil, nil
	}
	var values, variances []int64
	for _, r := range reads {
		values, variances = append(values, micros(*r.Value)), append(variances, micros(*r.Variance))
	}
	return reference.ReadMoments(values, variances)
}

// checkJudged compares the judge's calls about a complete response with those that should have been made. Under
// judge.verdict: read these are on the contested response of a run for judge pairs alone.
func (d *prompt) checkJudged(r *response) {
	settings := &d.shard.Run.Settings
	want, why := settings.Judge.N, ""
	switch rounds := settings.Judge.Rounds; {
	case !settings.ReadsScores():
	case r != d.compared.contested || !settings.Wants(schemas.RoleJudge):
		want, why = 0, "only the contested response is judged under judge.verdict: read"
	case rounds != nil:
		scores := make([]*float64, len(r.judged))
		for _, j := range r.judgments {
			scores[j.row.Replicate] = j.row.Score
		}
		rule := reference.Rounds{First: settings.Judge.N, Most: rounds.Max, Distance: rounds.Distance}
		var stop schemas.Stop
		want, stop = rule.Judged(scores, r.own, r.variance)
		d.shard.Sums.Stats.Judging.Count(stop, want)
		why = fmt.Sprintf("the requests should have stopped after %d judgments (%s)", want, stop)
	}
	at := d.found.At(d.path(shards.Judgments), "response "+r.row.ID)
	for replicate, ok := range r.judged {
		switch {
		case !ok && replicate < want:
			at.Add("replicate %d of the judge has neither a row nor a failure", replicate)
		case ok && replicate >= want:
			at.Add("replicate %d of the judge has a row or a failure, but %s", replicate, why)
		}
	}
}

// checkReadWinner compares a comparison with its read: the winner is the likelier judgment.
func (d *prompt) checkReadWinner(at problems.Location, row *schemas.ComparisonRow) {
	read := d.read[row.ID]
	if read == nil {
		at.Add("it has no row in %s", d.path(shards.Reads))
		return
	}
	problems.Same(at, "response_id", row.ResponseID, read.ResponseID)
	problems.SameNullable(at, "unparsed_reason", row.UnparsedReason, read.UnparsedReason)
	want := schemas.NoWins
	if read.Value != nil {
		switch p := micros(*read.Value); {
		case 2*p > schemas.ReadUnit:
			want = schemas.First
		case 2*p < schemas.ReadUnit:
			want = schemas.Second
		}
		d.shard.Sums.Stats.ComparisonReads.FirstMicros += micros(*read.Value)
	}
	problems.Same(at, "winner", row.Winner, want.String())
	count(&d.shard.Sums.Stats.ComparisonReads, read)
}

// reportStrayReads reports reads of comparisons without a row of their comparison.
func (d *prompt) reportStrayReads() {
	known := map[string]bool{}
	for i := range d.Comparisons {
		known[d.Comparisons[i].ID] = true
	}
	for i := range d.Reads {
		if r := &d.Reads[i]; r.FirstID != nil && !known[r.ID] {
			locate(d, shards.Reads, r).Add("it has no row in %s", d.path(shards.Comparisons))
		}
	}
}
