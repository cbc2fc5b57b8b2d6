package verify

import (
	"math"
	"math/big"

	"coeval/runners/verify/reference"
	"coeval/schemas"
)

// joinRead derives a read from its labels' log-probabilities, and joins it to its response or keeps it for
// its comparison.
func (d *rows) joinRead(row *schemas.ReadRow) {
	s := d.shard
	at := s.reads.row(&d.problems, row)
	checkTokens(at, row.PromptTokens)
	if (row.FirstID == nil) != (row.SecondID == nil) {
		at.add("first_id is %s and second_id is %s, should both be null or both be set", showNullable(row.FirstID), showNullable(row.SecondID))
		return
	}
	if row.FirstID != nil {
		d.joinComparisonRead(at, row)
		return
	}
	settings := &s.run.Settings
	if !settings.ReadsScores() {
		at.add("it is the read of a response, but the config has none")
		return
	}
	at.id("response_id, model and replicate", row.ID, schemas.ReadID(row.ResponseID, row.Model, int(row.Replicate)))
	same(at, "model", row.Model, settings.Judge.Role.Identity())
	labels, _ := settings.Judge.Scale.Labels()
	parsed := d.checkRead(at, row, labels, settings.Judge.ReadMinMass, true)
	r := d.judgedResponse(at, row.ResponseID)
	if r == nil || !markSeen(at, "replicate", r.hasRead, row.Replicate) {
		return
	}
	count(&s.figures.stats.ScoreReads, row)
	if parsed {
		r.reads = append(r.reads, row)
	}
}

func (d *rows) joinComparisonRead(at location, row *schemas.ReadRow) {
	settings := &d.shard.run.Settings
	if !settings.ReadsComparisons() {
		at.add("it is the read of a comparison, but the config has none")
		return
	}
	at.id("first_id, second_id and model", row.ID, schemas.ComparisonID(*row.FirstID, *row.SecondID, row.Model))
	same(at, "model", row.Model, settings.MetaJudge.Role.Identity())
	same(at, "replicate", row.Replicate, 0)
	asked := settings.MetaJudge.Role.Read
	d.checkRead(at, row, asked.Labels, asked.MinMass, false)
	d.read[row.ID] = row
}

// slack is how much a recorded number of a read, which is rounded to a millionth, may differ from ours.
const slack = 0.6e-6

// checkRead derives the columns of a read. It reports whether the read has a value.
func (d *rows) checkRead(at location, row *schemas.ReadRow, labels []string, minMass float64, isScore bool) bool {
	if len(row.Labels) != len(row.LogProbs) {
		at.add("it has %d labels and %d log_probs", len(row.Labels), len(row.LogProbs))
		return false
	}
	read, ok := reference.Token{Labels: row.Labels, LogProbs: row.LogProbs}.Read(labels, minMass)
	if !ok {
		at.add("labels is %q, should be among %q", row.Labels, labels)
		return false
	}
	near := func(column string, got *float64, want float64) {
		if got == nil || !(math.Abs(*got-want) <= slack) {
			at.add("%s is %s, should be %.6f by its log_probs", column, showNullable(got), want)
		}
	}
	near("label_mass", &row.LabelMass, read.Mass)
	if !read.Parsed {
		sameNullable(at, "value", row.Value, nil)
		sameNullable(at, "variance", row.Variance, nil)
		sameNullable(at, "unparsed_reason", row.UnparsedReason, new(reference.LowMass))
		return false
	}
	sameNullable(at, "unparsed_reason", row.UnparsedReason, nil)
	near("value", row.Value, read.Value)
	if isScore {
		near("variance", row.Variance, read.Variance)
	} else {
		sameNullable(at, "variance", row.Variance, nil)
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

// isJudged reports whether a response has judgments: under judge.verdict: read, the contested one of a run
// for judge pairs alone.
func (d *rows) isJudged(r *response) bool {
	settings := &d.shard.run.Settings
	return !settings.ReadsScores() || settings.Wants(schemas.RoleJudge) && r == d.compared.contested
}

// checkReadWinner compares a comparison with its read: the winner is the likelier judgment.
func (d *rows) checkReadWinner(at location, row *schemas.ComparisonRow) {
	read := d.read[row.ID]
	if read == nil {
		at.add("it has no row in %s", d.shard.reads.path)
		return
	}
	same(at, "response_id", row.ResponseID, read.ResponseID)
	sameNullable(at, "unparsed_reason", row.UnparsedReason, read.UnparsedReason)
	want := schemas.NoWins
	if read.Value != nil {
		switch p := micros(*read.Value); {
		case 2*p > schemas.ReadUnit:
			want = schemas.First
		case 2*p < schemas.ReadUnit:
			want = schemas.Second
		}
		d.shard.figures.stats.ComparisonReads.FirstMicros += micros(*read.Value)
	}
	same(at, "winner", row.Winner, want.String())
	count(&d.shard.figures.stats.ComparisonReads, read)
}

// reportStrayReads reports reads of comparisons without a row of their comparison.
func (d *rows) reportStrayReads() {
	known := map[string]bool{}
	for i := range d.comparisons {
		known[d.comparisons[i].ID] = true
	}
	for i := range d.reads {
		if r := &d.reads[i]; r.FirstID != nil && !known[r.ID] {
			d.shard.reads.row(&d.problems, r).add("it has no row in %s", d.shard.comparisons.path)
		}
	}
}
