package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"coeval/runners/verify/reference"
	"coeval/schemas"
	"coeval/transforms/score"
)

// promptRows are the rows of one prompt in all tables.
type promptRows struct {
	prompts      []schemas.PromptRow
	responses    []schemas.ResponseRow
	judgments    []schemas.JudgmentRow
	comparisons  []schemas.ComparisonRow
	failures     []schemas.FailureRow
	reads        []schemas.ReadRow
	actor, judge []schemas.Pair
}

// rows joins the rows of one prompt and collects the problems in them.
type rows struct {
	promptRows

	shard    *shard
	problems problems
	id       string
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
}

// A judgment is a row of raw/judgments.
type judgment struct {
	row *schemas.JudgmentRow
	// isDistinct: it is parsed, and no other parsed judgment with its text has a lower replicate.
	isDistinct bool
}

func (j *judgment) isParsed() bool { return j.row.Score != nil }

func (d *rows) check() {
	s := d.shard
	for i := range d.prompts {
		d.checkPrompt(&d.prompts[i])
	}
	if len(d.prompts) > 0 && isOverBudget(&d.prompts[0]) {
		d.checkOverBudget(&d.prompts[0])
		return
	}
	d.answered = map[string][]bool{schemas.StageGenerate: make([]bool, s.run.Settings.Actor.N)}
	for _, p := range s.run.Settings.Actor.Pools {
		d.answered[stageOf(p.Role.Name)] = make([]bool, p.N)
	}
	d.failed = map[schemas.FailedCalls]int{}
	for i := range d.responses {
		d.joinResponse(&d.responses[i])
	}
	d.read = map[string]*schemas.ReadRow{}
	for i := range d.reads {
		d.joinRead(&d.reads[i])
	}
	for i := range d.judgments {
		d.joinJudgment(&d.judgments[i])
	}
	for i := range d.failures {
		d.joinFailure(&d.failures[i])
	}
	for _, r := range d.joined {
		d.checkDistinct(r)
		d.checkScore(r)
	}
	d.checkCompared()
	d.checkCalls()
	s.figures.countTexts(d)
	if len(d.prompts) == 0 {
		d.problems = problems{} // the missing prompt explains them
		d.reportStrays()
		return
	}
	d.checkChoices(&d.prompts[0])
}

// isOverBudget reports whether a bound on requests left the prompt without pairs.
func isOverBudget(p *schemas.PromptRow) bool {
	return text(p.ActorReason) == schemas.OverBudget || text(p.JudgeReason) == schemas.OverBudget
}

// checkOverBudget checks a prompt that is over budget: no role has a pair, and no other table a row of
// it. That a bound was reached depends on when answers came, which no table records.
func (d *rows) checkOverBudget(p *schemas.PromptRow) {
	s := d.shard
	at := s.prompts.row(&d.problems, p)
	want := func(role string) schemas.Choice {
		if s.run.Settings.Wants(role) {
			return schemas.Choice{Outcome: schemas.Dropped, Reason: schemas.OverBudget}
		}
		return schemas.Choice{}
	}
	checkOutcome(at, schemas.RoleActor, p.ActorOutcome, p.ActorReason, want(schemas.RoleActor))
	checkOutcome(at, schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason, want(schemas.RoleJudge))
	sameNullable(at, "contested_response_id", p.ContestedResponseID, nil)
	sameNullable(at, "asking_stopped", p.AskingStopped, nil)
	sameNullable(at, "expected_regret", p.ExpectedRegret, nil)
	sameNullable(at, "expected_spread", p.ExpectedSpread, nil)
	if strays := d.strays(); len(strays) > 0 {
		at.add("it is over budget, but has %s, should have none", strings.Join(strays, ", "))
	}
	s.figures.countPrompt(p, false)
}

// reportStrays reports the rows of a prompt that raw/prompts lacks.
func (d *rows) reportStrays() {
	s := d.shard
	d.problems.add("%s: prompt %s has no row here, but is the prompt_id of %s; it belongs in shard %d",
		s.prompts.path, d.id, strings.Join(d.strays(), ", "), schemas.Shard(d.id, s.run.Shards))
}

// strays lists the rows of the prompt outside raw/prompts.
func (d *rows) strays() []string {
	s := d.shard
	var strays []string
	for _, t := range []struct {
		path string
		rows int
	}{
		{s.responses.path, len(d.responses)},
		{s.judgments.path, len(d.judgments)},
		{s.comparisons.path, len(d.comparisons)},
		{s.failures.path, len(d.failures)},
		{s.reads.path, len(d.reads)},
		{s.actor.path, len(d.actor)},
		{s.judge.path, len(d.judge)},
	} {
		if t.rows > 0 {
			strays = append(strays, fmt.Sprintf("%d rows of %s", t.rows, t.path))
		}
	}
	return strays
}

func (d *rows) checkPrompt(p *schemas.PromptRow) {
	at := d.shard.prompts.row(&d.problems, p)
	at.id("its messages", p.ID, schemas.PromptID(p.Prompt))
	if n := schemas.Shard(p.ID, d.shard.run.Shards); n != d.shard.number {
		at.add("it is in shard %d, should be in shard %d", d.shard.number, n)
	}
	if k := len(p.Prompt); k == 0 || p.Prompt[k-1].Role != "user" {
		at.add("prompt does not end with a message of the user")
	}
	same(at, "chars", p.Chars, conversationChars(p.Prompt))
	if !slices.IsSorted(p.OwnID) || len(slices.Compact(slices.Clone(p.OwnID))) != len(p.OwnID) {
		at.add("own_id is %q, should be sorted and without duplicates", p.OwnID)
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

// checkTokens reports a negative number of prompt tokens. No other file determines the number itself.
func checkTokens(at location, tokens int32) {
	if tokens < 0 {
		at.add("prompt_tokens is %d, should be 0 or more", tokens)
	}
}

func (d *rows) joinResponse(row *schemas.ResponseRow) {
	s := d.shard
	at := s.responses.row(&d.problems, row)
	at.id("prompt_id, model and text", row.ID, schemas.ResponseID(row.PromptID, row.Model, row.Text))
	pool := d.poolOf(at, row.Model)
	same(at, "chars", row.Chars, charsOf(row.Text))
	checkTokens(at, row.PromptTokens)
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
		at.add("replicates is %v, should be a sorted list of at least one", row.Replicates)
	}
	for _, replicate := range row.Replicates {
		markSeen(at, "replicates", d.answered[stageOf(pool)], replicate)
	}
	d.joined = append(d.joined, &response{
		row: row, pool: pool, judged: make([]bool, s.run.Settings.Judge.N), hasRead: make([]bool, s.run.Settings.Judge.Reads),
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
func (d *rows) poolOf(at location, model string) string {
	actor := &d.shard.run.Settings.Actor
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
	at.add("model is %s, should be %s", show(model), strings.Join(known, " or "))
	return ""
}

// markSeen marks a replicate as seen and reports whether it is new.
func markSeen(at location, column string, seen []bool, replicate int32) bool {
	switch {
	case replicate < 0 || int(replicate) >= len(seen):
		at.add("%s has %d, should be within 0 to %d", column, replicate, len(seen)-1)
		return false
	case seen[replicate]:
		at.add("%s has %d, which has another row or failure already", column, replicate)
		return false
	}
	seen[replicate] = true
	return true
}

func (d *rows) response(id string) *response {
	for _, r := range d.joined {
		if r.row.ID == id {
			return r
		}
	}
	return nil
}

// judgedResponse returns the response that a row is about. If there is none it reports a problem and
// returns nil.
func (d *rows) judgedResponse(at location, id string) *response {
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

func (d *rows) joinJudgment(row *schemas.JudgmentRow) {
	s := d.shard
	at := s.judgments.row(&d.problems, row)
	at.id("response_id, model, replicate and text", row.ID, schemas.JudgmentID(row.ResponseID, row.Model, int(row.Replicate), row.Text))
	same(at, "model", row.Model, s.run.Settings.Judge.Role.Identity())
	same(at, "chars", row.Chars, charsOf(row.Text))
	checkTokens(at, row.PromptTokens)
	s.figures.stats.Judgments.Count(text(row.UnparsedReason))
	s.figures.countFinding(&s.figures.judgments, text(row.UnparsedReason), func() reference.Finding {
		finding, said := s.run.scores.Score(row.Text, row.Score, text(row.UnparsedReason))
		if finding == reference.Wrong {
			at.add("score is %s, should be %s by the end of its text (unparsed_reason is %s)", showNullable(row.Score), said, showNullable(row.UnparsedReason))
		}
		return finding
	}())
	if row.Score != nil && math.Abs(*row.Score*1000-math.Round(*row.Score*1000)) > 1e-6 {
		at.add("score is %v, should have at most 3 decimals", *row.Score)
	}
	if r := d.judgedResponse(at, row.ResponseID); r != nil && markSeen(at, "replicate", r.judged, row.Replicate) {
		r.judgments = append(r.judgments, &judgment{row: row})
	}
}

func (d *rows) joinFailure(row *schemas.FailureRow) {
	at := d.shard.failures.row(&d.problems, row)
	checkCode(at, row)
	sameNullable(at, "source_file", row.SourceFile, nil)
	sameNullable(at, "source_line", row.SourceLine, nil)
	d.failed[schemas.FailedCalls{Stage: row.Stage, Code: row.Code}]++
	if row.Replicate == nil {
		at.add("replicate is null, should be that of the call")
		return
	}
	switch row.Stage {
	case schemas.StageGenerate, schemas.StagePast, schemas.StageFuture:
		seen, asked := d.answered[row.Stage]
		if !asked {
			at.add("stage is %s, but config lacks this role", show(row.Stage))
			return
		}
		sameNullable(at, "response_id", row.ResponseID, nil)
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
		same(at, "replicate", *row.Replicate, 0)
		return
	default:
		at.add("stage is %s, should be generate, generate_past, generate_future, judge, judge_reads or meta", show(row.Stage))
	}
	sameNullable(at, "first_id", row.FirstID, nil)
	sameNullable(at, "second_id", row.SecondID, nil)
}

// checkCalls reports calls that have neither a row nor a failure.
func (d *rows) checkCalls() {
	at := d.shard.responses.prompt(&d.problems, d.id)
	for _, stage := range slices.Sorted(maps.Keys(d.answered)) {
		role := schemas.RoleActor
		if _, pool, ok := strings.Cut(stage, "_"); ok {
			role = pool
		}
		for replicate, ok := range d.answered[stage] {
			if !ok {
				at.add("replicate %d of %s has neither a row nor a failure", replicate, called(role))
			}
		}
	}
	for _, r := range d.joined {
		if r.row.Status != string(schemas.Complete) {
			continue
		}
		for replicate, ok := range r.hasRead {
			if !ok {
				at := location{problems: &d.problems, file: d.shard.reads.path, what: "response " + r.row.ID}
				at.add("read %d of the judge has neither a row nor a failure", replicate)
			}
		}
		isJudged := d.isJudged(r)
		for replicate, ok := range r.judged {
			at := location{problems: &d.problems, file: d.shard.judgments.path, what: "response " + r.row.ID}
			switch {
			case !ok && isJudged:
				at.add("replicate %d of the judge has neither a row nor a failure", replicate)
			case ok && !isJudged:
				at.add("replicate %d of the judge has a row or a failure, but only the contested response is judged under judge.verdict: read", replicate)
			}
		}
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
func (d *rows) checkDistinct(r *response) {
	lowest := map[string]*judgment{}
	for _, j := range r.judgments {
		if other, ok := lowest[j.row.Text]; j.isParsed() && (!ok || j.row.Replicate < other.row.Replicate) {
			lowest[j.row.Text] = j
		}
	}
	for _, j := range r.judgments {
		j.isDistinct = j.isParsed() && lowest[j.row.Text] == j
		same(d.shard.judgments.row(&d.problems, j.row), "distinct", j.row.Distinct, j.isDistinct)
	}
}

// checkScore computes n, S and V from the scores of a response's judgments. With a calibration S is on
// people's scale.
func (d *rows) checkScore(r *response) {
	settings := &d.shard.run.Settings
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
	if c := settings.Calibration; c != nil && r.mean != nil {
		r.mean = big.NewRat(imageOf(c.Points, new(big.Rat).Mul(r.mean, big.NewRat(1000, 1))), 1000)
	}
	at := d.shard.responses.row(&d.problems, r.row)
	same(at, "parsed_judgments", r.row.ParsedJudgments, int32(parsed))
	sameNumber(at, "score_mean", r.row.ScoreMean, floatOf(r.mean))
	sameNumber(at, "score_variance", r.row.ScoreVariance, floatOf(r.variance))
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
