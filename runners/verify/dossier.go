package verify

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/score"
)

// dossierRows are what the tables hold of one prompt.
type dossierRows struct {
	prompts      []schemas.PromptRow
	responses    []schemas.ResponseRow
	judgments    []schemas.JudgmentRow
	comparisons  []schemas.ComparisonRow
	failures     []schemas.FailureRow
	actor, judge []schemas.Pair
}

// A dossier is one prompt, put together from its rows.
type dossier struct {
	shard *shard
	notes notes
	id    string
	rows  dossierRows
	// responses are in the order of their rows.
	responses []*response
	// answered has true for each of the actor's replicates with a row or a failure.
	answered []bool
	failed   map[schemas.FailedCalls]int
	trial    trial
}

// A response is a row of raw/responses with its judgments.
type response struct {
	row *schemas.ResponseRow
	// judgments are at most one of each replicate.
	judgments []*judgment
	// judged has true for each of the judge's replicates with a row or a failure.
	judged []bool
	score  schemas.Score
}

// A judgment is a row of raw/judgments with what its text says.
type judgment struct {
	row *schemas.JudgmentRow
	// score is in thousandths, and counts when parsed.
	score            int
	parsed, distinct bool
}

func (d *dossier) check() {
	s := d.shard
	for i := range d.rows.prompts {
		d.checkPrompt(&d.rows.prompts[i])
	}
	d.answered = make([]bool, s.run.settings.Actor.N)
	d.failed = map[schemas.FailedCalls]int{}
	for i := range d.rows.responses {
		d.readResponse(&d.rows.responses[i])
	}
	for i := range d.rows.judgments {
		d.readJudgment(&d.rows.judgments[i])
	}
	for i := range d.rows.failures {
		d.readFailure(&d.rows.failures[i])
	}
	d.checkCalls()
	for _, r := range d.responses {
		d.checkDistinct(r)
		d.checkScore(r)
	}
	d.compare()
	s.figures.countTexts(d)
	if len(d.rows.prompts) == 0 {
		d.notes = notes{} // what its rows lack follows from this
		d.reportStrays()
		return
	}
	d.checkChoices(&d.rows.prompts[0])
}

// reportStrays reports rows of a prompt that is not there.
func (d *dossier) reportStrays() {
	s := d.shard
	var strays []string
	for _, t := range []struct {
		path string
		rows int
	}{
		{s.responses.path, len(d.rows.responses)},
		{s.judgments.path, len(d.rows.judgments)},
		{s.comparisons.path, len(d.rows.comparisons)},
		{s.failures.path, len(d.rows.failures)},
		{s.actor.path, len(d.rows.actor)},
		{s.judge.path, len(d.rows.judge)},
	} {
		if t.rows > 0 {
			strays = append(strays, fmt.Sprintf("%d rows of %s", t.rows, t.path))
		}
	}
	d.notes.add("%s: prompt %s has no row here, but is the prompt_id of %s; it belongs in shard %d",
		s.prompts.path, d.id, strings.Join(strays, ", "), schemas.Shard(d.id, s.run.shards))
}

func (d *dossier) checkPrompt(p *schemas.PromptRow) {
	at := d.shard.prompts.row(&d.notes, p)
	at.id("its messages", p.ID, schemas.PromptID(p.Prompt))
	if n := schemas.Shard(p.ID, d.shard.run.shards); n != d.shard.number {
		at.add("it is in shard %d, should be in shard %d", d.shard.number, n)
	}
	if k := len(p.Prompt); k == 0 || p.Prompt[k-1].Role != "user" {
		at.add("prompt does not end with a message of the user")
	}
	same(at, "chars", p.Chars, conversationChars(p.Prompt))
	if !slices.IsSorted(p.OwnID) || len(slices.Compact(slices.Clone(p.OwnID))) != len(p.OwnID) {
		at.add("own_id is %q, should be sorted, each once", p.OwnID)
	}
	if !strings.HasPrefix(p.Metadata, "{") || !json.Valid([]byte(p.Metadata)) {
		at.add("metadata is %s, should be a JSON object", show(p.Metadata))
	}
}

func conversationChars(messages []schemas.Message) int32 {
	n := 0
	for _, m := range messages {
		n += utf8.RuneCountInString(m.Content)
	}
	return int32(min(n, math.MaxInt32))
}

func charsOf(text string) int32 { return int32(min(utf8.RuneCountInString(text), math.MaxInt32)) }

func (d *dossier) readResponse(row *schemas.ResponseRow) {
	s := d.shard
	at := s.responses.row(&d.notes, row)
	at.id("prompt_id, model and text", row.ID, schemas.ResponseID(row.PromptID, row.Model, row.Text))
	same(at, "model", row.Model, s.run.settings.Actor.Role.Identity())
	same(at, "chars", row.Chars, charsOf(row.Text))
	switch schemas.Status(row.Status) {
	case schemas.Complete, schemas.Empty:
		if status := schemas.Status(row.Status); (row.Text == "") != (status == schemas.Empty) {
			at.add("status is %s, but text has %d characters", status, row.Chars)
		}
	case schemas.Truncated:
	default:
		at.add("status is %s, should be complete, empty or truncated", show(row.Status))
	}
	if len(row.Replicates) == 0 || !slices.IsSorted(row.Replicates) {
		at.add("replicates is %v, should be at least one, in their order", row.Replicates)
	}
	for _, replicate := range row.Replicates {
		cover(at, "replicates", d.answered, replicate)
	}
	d.responses = append(d.responses, &response{row: row, judged: make([]bool, s.run.settings.Judge.N)})
}

// cover marks a replicate of a call as told of, and says whether it was not yet.
func cover(at spot, column string, told []bool, replicate int32) bool {
	switch {
	case replicate < 0 || int(replicate) >= len(told):
		at.add("%s has %d, should be within 0 to %d", column, replicate, len(told)-1)
		return false
	case told[replicate]:
		at.add("%s has %d, which has another row or failure already", column, replicate)
		return false
	}
	told[replicate] = true
	return true
}

func (d *dossier) response(id string) *response {
	for _, r := range d.responses {
		if r.row.ID == id {
			return r
		}
	}
	return nil
}

// judgedResponse returns the response that a row is about, or nil and a problem.
func (d *dossier) judgedResponse(at spot, id string) *response {
	r := d.response(id)
	switch {
	case r == nil:
		at.add("response_id is %s, which is no response to prompt %s", id, d.id)
		return nil
	case r.row.Status != string(schemas.Complete):
		at.add("response_id is %s, a response that is %s: only a complete one is judged", id, r.row.Status)
	}
	return r
}

func (d *dossier) readJudgment(row *schemas.JudgmentRow) {
	s := d.shard
	at := s.judgments.row(&d.notes, row)
	at.id("response_id, model, replicate and text", row.ID, schemas.JudgmentID(row.ResponseID, row.Model, int(row.Replicate), row.Text))
	same(at, "model", row.Model, s.run.settings.Judge.Role.Identity())
	same(at, "chars", row.Chars, charsOf(row.Text))
	s.figures.stats.Judgments.Count(text(row.UnparsedReason))
	j := &judgment{row: row}
	var points *float64
	unparsed := row.UnparsedReason // whether a text was cut off can't be seen in it
	if text(unparsed) != judge.CutOff {
		score, reason := judge.ParseScore(row.Text, "")
		j.score, j.parsed, unparsed = score, reason == "", nullable(reason)
		if j.parsed {
			inPoints := float64(score) / 1000
			points = &inPoints
		}
	}
	sameNullable(at, "score", row.Score, points)
	sameNullable(at, "unparsed_reason", row.UnparsedReason, unparsed)
	if r := d.judgedResponse(at, row.ResponseID); r != nil && cover(at, "replicate", r.judged, row.Replicate) {
		r.judgments = append(r.judgments, j)
	}
}

func (d *dossier) readFailure(row *schemas.FailureRow) {
	at := d.shard.failures.row(&d.notes, row)
	checkCode(at, row)
	sameNullable(at, "source_file", row.SourceFile, nil)
	sameNullable(at, "source_line", row.SourceLine, nil)
	d.failed[schemas.FailedCalls{Stage: row.Stage, Code: row.Code}]++
	if row.Replicate == nil {
		at.add("replicate is null, should be that of the call")
		return
	}
	switch row.Stage {
	case schemas.StageGenerate:
		sameNullable(at, "response_id", row.ResponseID, nil)
		cover(at, "replicate", d.answered, *row.Replicate)
	case schemas.StageJudge:
		if r := d.judgedResponse(at, text(row.ResponseID)); r != nil {
			cover(at, "replicate", r.judged, *row.Replicate)
		}
	case schemas.StageMeta: // the rest is told in compare
		same(at, "replicate", *row.Replicate, 0)
		return
	default:
		at.add("stage is %s, should be generate, judge or meta", show(row.Stage))
	}
	sameNullable(at, "first_id", row.FirstID, nil)
	sameNullable(at, "second_id", row.SecondID, nil)
}

// checkCalls reports the calls of which nothing is told: rows or failures that are gone.
func (d *dossier) checkCalls() {
	at := d.shard.responses.prompt(&d.notes, d.id)
	for replicate, ok := range d.answered {
		if !ok {
			at.add("replicate %d of the actor has neither a row nor a failure", replicate)
		}
	}
	for _, r := range d.responses {
		if r.row.Status != string(schemas.Complete) {
			continue
		}
		for replicate, ok := range r.judged {
			if !ok {
				at := spot{notes: &d.notes, file: d.shard.judgments.path, what: "response " + r.row.ID}
				at.add("replicate %d of the judge has neither a row nor a failure", replicate)
			}
		}
	}
}

// checkDistinct finds, of every parsed text, the judgment with the lowest replicate.
func (d *dossier) checkDistinct(r *response) {
	lowest := map[string]*judgment{}
	for _, j := range r.judgments {
		if other, ok := lowest[j.row.Text]; j.parsed && (!ok || j.row.Replicate < other.row.Replicate) {
			lowest[j.row.Text] = j
		}
	}
	for _, j := range r.judgments {
		j.distinct = j.parsed && lowest[j.row.Text] == j
		same(d.shard.judgments.row(&d.notes, j.row), "distinct", j.row.Distinct, j.distinct)
	}
}

// checkScore computes n, S and V from the texts of the judgments, S on the scale of people
// where the run has a calibration.
func (d *dossier) checkScore(r *response) {
	for _, j := range r.judgments {
		if j.parsed {
			score := int64(j.score)
			r.score.N++
			r.score.Sum += score
			r.score.Squares += score * score
		}
	}
	r.score.Scored = r.score.N >= d.shard.run.settings.Method.MinJudgments
	if c := d.shard.run.settings.Calibration; c != nil && r.score.Scored {
		r.score.Shift = imageOf(c.Points, big.NewRat(r.score.Sum, int64(r.score.N)))*int64(r.score.N) - r.score.Sum
		r.score.Sum += r.score.Shift
	}
	at := d.shard.responses.row(&d.notes, r.row)
	same(at, "parsed_judgments", r.row.ParsedJudgments, int32(r.score.N))
	var mean, variance *float64
	if r.score.Scored {
		s, v := r.score.Mean(), r.score.Variance()
		mean, variance = &s, &v
	}
	sameNullable(at, "score_mean", r.row.ScoreMean, mean)
	sameNullable(at, "score_variance", r.row.ScoreVariance, variance)
}

// imageOf returns what a calibration makes of a mean of thousandths: the line through the
// points around it, of the nearest point where it lies outside, to the nearest thousandth and
// halves up.
func imageOf(points []score.CalibrationPoint, mean *big.Rat) int64 {
	first, last := points[0], points[len(points)-1]
	if mean.Cmp(big.NewRat(int64(first.Score), 1)) <= 0 {
		return int64(first.People)
	}
	if mean.Cmp(big.NewRat(int64(last.Score), 1)) >= 0 {
		return int64(last.People)
	}
	i := slices.IndexFunc(points, func(p score.CalibrationPoint) bool { return mean.Cmp(big.NewRat(int64(p.Score), 1)) < 0 })
	low, high := points[i-1], points[i]
	image := new(big.Rat).Sub(mean, big.NewRat(int64(low.Score), 1))
	image.Mul(image, big.NewRat(int64(high.People-low.People), int64(high.Score-low.Score)))
	image.Add(image, big.NewRat(2*int64(low.People)+1, 2)) // half a thousandth more, and cut off
	return new(big.Int).Quo(image.Num(), image.Denom()).Int64()
}
