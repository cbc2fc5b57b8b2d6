package rows

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"coeval/datasets/shards"
	"coeval/runners/verify/endings"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
	"coeval/runners/verify/rows/sums"
	"coeval/schemas"
	"coeval/transforms/score"
)

// Prompt are the rows of one prompt in all tables.
type Prompt struct {
	ID           string
	Prompts      []schemas.PromptRow
	Responses    []schemas.ResponseRow
	Judgments    []schemas.JudgmentRow
	Comparisons  []schemas.ComparisonRow
	Failures     []schemas.FailureRow
	Reads        []schemas.ReadRow
	Actor, Judge []schemas.Pair
	// ActorUnreadable and JudgeUnreadable report that the prompt's pairs can't be read. Then they are not
	// checked.
	ActorUnreadable, JudgeUnreadable bool
}

// prompt joins the rows of one prompt and collects the problems in them.
type prompt struct {
	*Prompt

	shard *Shard
	found problems.List
	// joined are the responses with their judgments, in the order of their rows.
	joined []*response
	// answered reports for each stage and each replicate of its model whether it has a row or a failure.
	answered map[string][]bool
	failed   map[schemas.FailedCalls]int
	compared comparisons
	// read are the reads of comparisons by the comparison's ID.
	read map[string]*schemas.ReadRow
}

// A response is a row of raw/responses with its judgments.
type response struct {
	row *schemas.ResponseRow
	// pool is past or future; empty for a response of the actor.
	pool string
	// judgments has at most one for each replicate.
	judgments []*judgment
	// judged reports for each replicate of the judge whether it has a row or a failure.
	judged []bool
	// reads are the parsed reads. hasRead reports for each replicate whether it has a row or a failure.
	reads   []*schemas.ReadRow
	hasRead []bool
	// failed counts the judge's calls that failed.
	failed int
	// mean and variance are nil for a response that is not scored.
	mean, variance *big.Rat
	// own is the mean on the judge's scale.
	own *big.Rat
}

// A judgment is a row of raw/judgments.
type judgment struct {
	row *schemas.JudgmentRow
	// isDistinct: it is parsed, and no other parsed judgment with its text has a lower replicate.
	isDistinct bool
}

func (j *judgment) isParsed() bool { return j.row.Score != nil }

// locate returns the location of a row of the prompt.
func locate[T shards.Row](d *prompt, table shards.Table, row *T) problems.Location {
	return d.found.At(d.path(table), Name(row))
}

// locate returns the location of the prompt's rows in a table.
func (d *prompt) locate(table shards.Table) problems.Location {
	return d.found.At(d.path(table), "prompt "+d.ID)
}

func (d *prompt) path(table shards.Table) string { return d.shard.path(table) }

func (d *prompt) check() {
	s := d.shard
	for i := range d.Prompts {
		d.checkPrompt(&d.Prompts[i])
	}
	if len(d.Prompts) > 0 && isOverBudget(&d.Prompts[0]) {
		d.checkOverBudget(&d.Prompts[0])
		return
	}
	d.answered = map[string][]bool{schemas.StageGenerate: make([]bool, s.Run.Settings.Actor.N)}
	for _, p := range s.Run.Settings.Actor.Pools {
		d.answered[stageOf(p.Role.Name)] = make([]bool, p.N)
	}
	d.failed = map[schemas.FailedCalls]int{}
	for i := range d.Responses {
		d.joinResponse(&d.Responses[i])
	}
	d.read = map[string]*schemas.ReadRow{}
	for i := range d.Reads {
		d.joinRead(&d.Reads[i])
	}
	for i := range d.Judgments {
		d.joinJudgment(&d.Judgments[i])
	}
	for i := range d.Failures {
		d.joinFailure(&d.Failures[i])
	}
	for _, r := range d.joined {
		d.checkDistinct(r)
		d.checkScore(r)
	}
	d.checkCompared()
	d.checkCalls()
	s.Sums.CountTexts(d.texts(), d.failed)
	if len(d.Prompts) == 0 {
		d.found = problems.List{} // the missing prompt explains them
		d.reportStrays()
		return
	}
	d.checkSelections(&d.Prompts[0])
}

// texts returns the responses as they are counted.
func (d *prompt) texts() []sums.Text {
	out := make([]sums.Text, len(d.joined))
	for i, r := range d.joined {
		out[i] = sums.Text{Row: r.row, Own: r.pool == "", Scored: r.mean != nil}
	}
	return out
}

// isOverBudget reports whether a bound on requests left the prompt without pairs.
func isOverBudget(p *schemas.PromptRow) bool {
	return text(p.ActorReason) == schemas.OverBudget || text(p.JudgeReason) == schemas.OverBudget
}

// checkOverBudget checks a prompt that is over budget: no role has a pair, and no other table a row of
// it. That a bound was reached depends on when answers came, which no table records.
func (d *prompt) checkOverBudget(p *schemas.PromptRow) {
	s := d.shard
	at := locate(d, shards.Prompts, p)
	want := func(role string) schemas.Selection {
		if s.Run.Settings.Wants(role) {
			return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.OverBudget}
		}
		return schemas.Selection{}
	}
	checkOutcome(at, schemas.RoleActor, p.ActorOutcome, p.ActorReason, want(schemas.RoleActor))
	checkOutcome(at, schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason, want(schemas.RoleJudge))
	problems.SameNullable(at, "contested_response_id", p.ContestedResponseID, nil)
	problems.SameNullable(at, "asking_stopped", p.AskingStopped, nil)
	problems.SameNullable(at, "expected_regret", p.ExpectedRegret, nil)
	problems.SameNullable(at, "expected_spread", p.ExpectedSpread, nil)
	if otherRows := d.otherRows(); len(otherRows) > 0 {
		at.Add("it is over budget, but has %s, should have none", strings.Join(otherRows, ", "))
	}
	s.Sums.CountPrompt(p, conversationChars(p.Prompt), false)
}

// reportStrays reports the rows of a prompt that raw/prompts lacks.
func (d *prompt) reportStrays() {
	s := d.shard
	d.found.Add("%s: prompt %s has no row here, but is the prompt_id of %s; it belongs in shard %d",
		d.path(shards.Prompts), d.ID, strings.Join(d.otherRows(), ", "), schemas.Shard(d.ID, s.Run.Shards))
}

// otherRows lists the rows of the prompt outside raw/prompts.
func (d *prompt) otherRows() []string {
	var otherRows []string
	for _, t := range []struct {
		path string
		rows int
	}{
		{d.path(shards.Responses), len(d.Responses)},
		{d.path(shards.Judgments), len(d.Judgments)},
		{d.path(shards.Comparisons), len(d.Comparisons)},
		{d.path(shards.Failures), len(d.Failures)},
		{d.path(shards.Reads), len(d.Reads)},
		{d.path(shards.Actor), len(d.Actor)},
		{d.path(shards.Judge), len(d.Judge)},
	} {
		if t.rows > 0 {
			otherRows = append(otherRows, fmt.Sprintf("%d rows of %s", t.rows, t.path))
		}
	}
	return otherRows
}

func (d *prompt) checkPrompt(p *schemas.PromptRow) {
	at := locate(d, shards.Prompts, p)
	at.ID("its messages", p.ID, schemas.PromptID(p.Prompt))
	if n := schemas.Shard(p.ID, d.shard.Run.Shards); n != d.shard.Number {
		at.Add("it is in shard %d, should be in shard %d", d.shard.Number, n)
	}
	if k := len(p.Prompt); k == 0 || p.Prompt[k-1].Role != "user" {
		at.Add("prompt does not end with a message of the user")
	}
	problems.Same(at, "chars", p.Chars, conversationChars(p.Prompt))
	if !slices.IsSorted(p.OwnID) || len(slices.Compact(slices.Clone(p.OwnID))) != len(p.OwnID) {
		at.Add("own_id is %q, should be sorted and without duplicates", p.OwnID)
	}
	if !strings.HasPrefix(p.Metadata, "{") || !json.Valid([]byte(p.Metadata)) {
		at.Add("metadata is %s, should be a JSON object", problems.Show(p.Metadata))
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

// checkTokens reports a negative number of prompt tokens. No other file determines the number itself.
func checkTokens(at problems.Location, tokens int32) {
	if tokens < 0 {
		at.Add("prompt_tokens is %d, should be 0 or more", tokens)
	}
}

func (d *prompt) joinResponse(row *schemas.ResponseRow) {
	s := d.shard
	at := locate(d, shards.Responses, row)
	at.ID("prompt_id, model and text", row.ID, schemas.ResponseID(row.PromptID, row.Model, row.Text))
	pool := d.poolOf(at, row.Model)
	problems.Same(at, "chars", row.Chars, charsOf(row.Text))
	checkTokens(at, row.PromptTokens)
	switch schemas.Status(row.Status) {
	case schemas.Complete, schemas.Empty:
		if status := schemas.Status(row.Status); (row.Text == "") != (status == schemas.Empty) {
			at.Add("status is %s, but text has %d characters", status, row.Chars)
		}
	case schemas.Truncated:
	default:
		at.Add("status is %s, should be complete, empty or truncated", problems.Show(row.Status))
	}
	if len(row.Replicates) == 0 || !slices.IsSorted(row.Replicates) {
		at.Add("replicates is %v, should be a sorted list of at least one", row.Replicates)
	}
	for _, replicate := range row.Replicates {
		markSeen(at, "replicates", d.answered[stageOf(pool)], replicate)
	}
	d.joined = append(d.joined, &response{
		row: row, pool: pool, judged: make([]bool, s.Run.Settings.Judge.MaxN()), hasRead: make([]bool, s.Run.Settings.Judge.Reads),
	})
}

// stageOf returns the stage that gives the responses of a pool.
func stageOf(pool string) string {
	if pool == "" {
		return schemas.StageGenerate
	}
	return schemas.StageGenerate + "_" + pool
}

// poolOf returns the pool of a response by its model. A model that the config doesn't name is a
// problem.
func (d *prompt) poolOf(at problems.Location, model string) string {
	actor := &d.shard.Run.Settings.Actor
	if model == actor.Role.Identity() {
		return ""
	}
	known := []string{actor.Role.Identity()}
	for _, p := range actor.Pools {
		if model == p.Role.Identity() {
			return p.Role.Name
		}
		known = append(known, p.Role.Identity())
	}
	at.Add("model is %s, should be %s", problems.Show(model), strings.Join(known, " or "))
	return ""
}

// markSeen marks a replicate as seen and reports whether it is new.
func markSeen(at problems.Location, column string, seen []bool, replicate int32) bool {
	switch {
	case replicate < 0 || int(replicate) >= len(seen):
		at.Add("%s has %d, should be within 0 to %d", column, replicate, len(seen)-1)
		return false
	case seen[replicate]:
		at.Add("%s has %d, which has another row or failure already", column, replicate)
		return false
	}
	seen[replicate] = true
	return true
}

func (d *prompt) response(id string) *response {
	for _, r := range d.joined {
		if r.row.ID == id {
			return r
		}
	}
	return nil
}

// judgedResponse returns the response that a row is about. If there is none it reports a problem and
// returns nil.
func (d *prompt) judgedResponse(at problems.Location, id string) *response {
	r := d.response(id)
	switch {
	case r == nil:
		at.Add("response_id is %s, which is no response to prompt %s", id, d.ID)
		return nil
	case r.row.Status != string(schemas.Complete):
		at.Add("response_id is %s, a response that is %s: only a complete one is judged", id, r.row.Status)
	}
	return r
}

func (d *prompt) joinJudgment(row *schemas.JudgmentRow) {
	s := d.shard
	at := locate(d, shards.Judgments, row)
	at.ID("response_id, model, replicate and text", row.ID, schemas.JudgmentID(row.ResponseID, row.Model, int(row.Replicate), row.Text))
	problems.Same(at, "model", row.Model, s.Run.Settings.Judge.Role.Identity())
	problems.Same(at, "chars", row.Chars, charsOf(row.Text))
	checkTokens(at, row.PromptTokens)
	s.Sums.Stats.Judgments.Count(text(row.UnparsedReason))
	s.Sums.Judgments.Count(text(row.UnparsedReason), func() endings.Finding {
		finding, said := s.Run.scores.Score(row.Text, row.Score, text(row.UnparsedReason))
		if finding == endings.Wrong {
			at.Add("score is %s, should be %s by the end of its text (unparsed_reason is %s)", problems.ShowNullable(row.Score), said, problems.ShowNullable(row.UnparsedReason))
		}
		return finding
	}())
	if row.Score != nil && math.Abs(*row.Score*1000-math.Round(*row.Score*1000)) > 1e-6 {
		at.Add("score is %v, should have at most 3 decimals", *row.Score)
	}
	if r := d.judgedResponse(at, row.ResponseID); r != nil && markSeen(at, "replicate", r.judged, row.Replicate) {
		r.judgments = append(r.judgments, &judgment{row: row})
	}
}

func (d *prompt) joinFailure(row *schemas.FailureRow) {
	at := locate(d, shards.Failures, row)
	checkCode(at, row)
	problems.SameNullable(at, "source_file", row.SourceFile, nil)
	problems.SameNullable(at, "source_line", row.SourceLine, nil)
	d.failed[schemas.FailedCalls{Stage: row.Stage, Code: row.Code}]++
	if row.Replicate == nil {
		at.Add("replicate is null, should be that of the call")
		return
	}
	switch row.Stage {
	case schemas.StageGenerate, schemas.StagePast, schemas.StageFuture:
		seen, asked := d.answered[row.Stage]
		if !asked {
			at.Add("stage is %s, but config lacks this role", problems.Show(row.Stage))
			return
		}
		problems.SameNullable(at, "response_id", row.ResponseID, nil)
		markSeen(at, "replicate", seen, *row.Replicate)
	case schemas.StageJudge:
		if r := d.judgedResponse(at, text(row.ResponseID)); r != nil {
			markSeen(at, "replicate", r.judged, *row.Replicate)
			r.failed++
		}
	case schemas.StageReads:
		if r := d.judgedResponse(at, text(row.ResponseID)); r != nil {
			markSeen(at, "replicate", r.hasRead, *row.Replicate)
			r.failed++
		}
	case schemas.StageMeta: // checkCompared places it
		problems.Same(at, "replicate", *row.Replicate, 0)
		return
	default:
		at.Add("stage is %s, should be generate, generate_past, generate_future, judge, judge_reads or meta", problems.Show(row.Stage))
	}
	problems.SameNullable(at, "first_id", row.FirstID, nil)
	problems.SameNullable(at, "second_id", row.SecondID, nil)
}

// checkCalls reports calls that have neither a row nor a failure.
func (d *prompt) checkCalls() {
	at := d.locate(shards.Responses)
	for _, stage := range slices.Sorted(maps.Keys(d.answered)) {
		role := schemas.RoleActor
		if _, pool, ok := strings.Cut(stage, "_"); ok {
			role = pool
		}
		for replicate, ok := range d.answered[stage] {
			if !ok {
				at.Add("replicate %d of %s has neither a row nor a failure", replicate, called(role))
			}
		}
	}
	for _, r := range d.joined {
		if r.row.Status != string(schemas.Complete) {
			continue
		}
		for replicate, ok := range r.hasRead {
			if !ok {
				at := d.found.At(d.path(shards.Reads), "response "+r.row.ID)
				at.Add("read %d of the judge has neither a row nor a failure", replicate)
			}
		}
		d.checkJudged(r)
	}
}

// called names a role in a sentence.
func called(role string) string {
	if role == schemas.RoleActor {
		return "the actor"
	}
	return role
}

// checkDistinct finds the judgment with the lowest replicate of every parsed text.
func (d *prompt) checkDistinct(r *response) {
	lowest := map[string]*judgment{}
	for _, j := range r.judgments {
		if other, ok := lowest[j.row.Text]; j.isParsed() && (!ok || j.row.Replicate < other.row.Replicate) {
			lowest[j.row.Text] = j
		}
	}
	for _, j := range r.judgments {
		j.isDistinct = j.isParsed() && lowest[j.row.Text] == j
		problems.Same(locate(d, shards.Judgments, j.row), "distinct", j.row.Distinct, j.isDistinct)
	}
}

// checkScore computes n, S and V from the scores of a response's judgments. With a calibration S is on
// people's scale.
func (d *prompt) checkScore(r *response) {
	settings := &d.shard.Run.Settings
	var parsed int
	if settings.ReadsScores() {
		parsed = len(r.reads)
		r.mean, r.variance = readMoments(r.reads)
	} else {
		var points []float64
		for _, j := range r.judgments {
			if j.isParsed() {
				points = append(points, *j.row.Score)
			}
		}
		if parsed = len(points); parsed >= settings.Method.MinJudgments {
			r.mean, r.variance = reference.Moments(points)
		}
	}
	r.own = r.mean
	if c := settings.Calibration; c != nil && r.mean != nil {
		r.mean = big.NewRat(imageOf(c.Points, new(big.Rat).Mul(r.mean, big.NewRat(1000, 1))), 1000)
	}
	at := locate(d, shards.Responses, r.row)
	problems.Same(at, "parsed_judgments", r.row.ParsedJudgments, int32(parsed))
	problems.SameNumber(at, "score_mean", r.row.ScoreMean, floatOf(r.mean))
	problems.SameNumber(at, "score_variance", r.row.ScoreVariance, floatOf(r.variance))
}

func floatOf(r *big.Rat) *float64 {
	if r == nil {
		return nil
	}
	f, _ := r.Float64()
	return &f
}

// imageOf returns the image of a mean in thousandths under a calibration: linear between the points,
// that of the nearest point outside of them, rounded to the nearest thousandth with halves up.
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
	image.Add(image, big.NewRat(2*int64(low.People)+1, 2)) // half a thousandth more, then cut off
	return new(big.Int).Quo(image.Num(), image.Denom()).Int64()
}
