package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"coeval/datasets/shards"
	"coeval/runners/verify/reference"
	"coeval/schemas"
)

// figures are the sums over the tables.
type figures struct {
	files, rows int64
	// bad counts the bad lines, tableRows the rows of each table.
	bad       int64
	tableRows map[shards.Table]int64
	stats     schemas.Stats
	// judgments and comparisons count the findings about their texts.
	judgments, comparisons Reading
	// digests are the SHA-256 of the files that could be read, by path.
	digests map[string]string
	// torn are the raw files that could not be read in order: their rows are missing in the figures.
	torn []string
}

func (f *figures) add(g *figures) {
	f.files += g.files
	f.rows += g.rows
	f.bad += g.bad
	f.stats.Add(&g.stats)
	f.judgments.add(g.judgments)
	f.comparisons.add(g.comparisons)
	f.torn = append(f.torn, g.torn...)
	for path, digest := range g.digests {
		f.addDigest(path, digest)
	}
	for name, rows := range g.tableRows {
		f.addTableRows(name, rows)
	}
}

func (f *figures) addFile(path, digest string) {
	if digest != "" {
		f.files++
		f.addDigest(path, digest)
	}
}

func (f *figures) addDigest(path, digest string) {
	if f.digests == nil {
		f.digests = map[string]string{}
	}
	f.digests[path] = digest
}

func (f *figures) addRows(name shards.Table, rows int64) {
	f.rows += rows
	f.addTableRows(name, rows)
}

func (f *figures) addTableRows(name shards.Table, rows int64) {
	if f.tableRows == nil {
		f.tableRows = map[shards.Table]int64{}
	}
	f.tableRows[name] += rows
}

// countTexts counts a prompt's responses and failures; its judgments and comparisons are
// counted as they are read.
func (f *figures) countTexts(d *rows) {
	own, texts, empty := 0, 0, 0 // of the actor
	for _, r := range d.joined {
		f.stats.Responses.Replicates += int64(len(r.row.Replicates))
		if r.pool == "" {
			own += len(r.row.Replicates)
			texts++
			if schemas.Status(r.row.Status) == schemas.Empty {
				empty++
			}
		}
		f.stats.Responses.Distinct++
		switch schemas.Status(r.row.Status) {
		case schemas.Empty:
			f.stats.Responses.Empty++
		case schemas.Truncated:
			f.stats.Responses.Truncated++
		}
		if r.mean != nil {
			f.stats.Responses.Scored++
		}
	}
	if own > 1 {
		f.stats.Responses.Several++
		if texts == 1 && empty == 0 {
			f.stats.Responses.Constant++
		}
	}
	for key, calls := range d.failed {
		f.stats.CountFailed(key.Stage, key.Code, int64(calls))
	}
}

func (f *figures) countFinding(r *Reading, reason string, finding reference.Finding) {
	switch {
	case reason == reference.CutOff:
		r.CutOff++
	case finding == reference.Unconfirmed:
		r.Unconfirmed++
	case finding == reference.Confirmed:
		r.Confirmed++
	}
}

func (f *figures) countVerdict(winner schemas.Winner, unparsed string) {
	f.stats.Comparisons.Count(unparsed)
	switch winner {
	case schemas.First:
		f.stats.Positions.First++
	case schemas.Second:
		f.stats.Positions.Second++
	}
}

// countPrompt counts the outcomes in a row of raw/prompts.
func (f *figures) countPrompt(p *schemas.PromptRow, failed bool) {
	f.stats.Prompts++
	f.stats.CountLength(int(conversationChars(p.Prompt)), failed)
	for _, recorded := range []struct {
		role            string
		outcome, reason *string
	}{{schemas.RoleActor, p.ActorOutcome, p.ActorReason}, {schemas.RoleJudge, p.JudgeOutcome, p.JudgeReason}} {
		if recorded.outcome != nil {
			outcomes := f.stats.Outcomes[recorded.role]
			outcomes.Count(&schemas.Choice{Outcome: schemas.Outcome(*recorded.outcome), Reason: text(recorded.reason)})
			f.stats.SetOutcomes(recorded.role, outcomes)
		}
	}
}

// countPairs counts the pairs that follow from the raw tables.
func (f *figures) countPairs(actor, judge *schemas.Pair) {
	if actor != nil {
		f.stats.Actor.Pairs++
		f.stats.Actor.ChosenChars += int64(actor.ChosenChars)
		f.stats.Actor.RejectedChars += int64(actor.RejectedChars)
		f.stats.Actor.ScoreMarginMicros += int64(math.Round(actor.ScoreMargin * 1e6))
	}
	if judge != nil {
		f.stats.Judge.CountChosen(inThousandths(judge.ChosenScore), inThousandths(judge.RejectedScore))
		f.stats.Judge.ChosenChars += int64(judge.ChosenChars)
		f.stats.Judge.RejectedChars += int64(judge.RejectedChars)
	}
}

func inThousandths(points float64) int { return int(math.Round(points * 1000)) }

// checkFigures compares the ledger, the position weights and the figures of run.json with each other
// and with the tables.
func (r *run) checkFigures(sum *figures, found *problems) {
	l := &r.Manifest.Ledger
	if want := l.Bad + l.NotDrawn + l.Merged + l.Findings; l.Lines != want {
		found.add("%s: ledger.lines is %d, should be bad + not_drawn + merged + findings = %d + %d + %d + %d = %d",
			runFile, l.Lines, l.Bad, l.NotDrawn, l.Merged, l.Findings, want)
	}
	for _, role := range slices.Sorted(maps.Keys(l.Roles)) {
		o := l.Roles[role]
		if o.Total() != l.Findings {
			found.add("%s: ledger.roles.%s has %d paired + %d dropped + %d failed = %d, should be findings = %d",
				runFile, role, o.Paired, schemas.Sum(o.Dropped), schemas.Sum(o.Failed), o.Total(), l.Findings)
		}
		if !r.Settings.Wants(role) {
			found.add("%s: ledger.roles has %s, which config.roles does not ask for", runFile, role)
		}
	}
	if len(sum.torn) > 0 {
		found.add("%s: ledger, position_weights and stats were not compared with the tables, as %d of them can't be read in order, the first %s",
			runFile, len(sum.torn), sum.torn[0])
		return
	}
	want := *l // no other file determines lines, not_drawn and merged
	want.Bad, want.Findings, want.Roles = sum.bad, sum.tableRows[shards.Prompts], sum.stats.Outcomes
	sameFigures(found, "ledger", l, &want)
	sameFigures(found, "stats", &r.Manifest.Stats, &sum.stats)
	r.checkWeights(sum.stats.PositionSums(), found)
}

// checkWeights computes w1 = win2nd/(win1st + win2nd) and w2 = win1st/(win1st + win2nd).
func (r *run) checkWeights(positions schemas.PositionCounts, found *problems) {
	got, want := r.Manifest.PositionWeights, r.wantedWeights(positions)
	if (got == nil) != (want == nil) || got != nil && *got != *want {
		found.add("%s: position_weights is %s, should be %s", runFile, showNullable(got), showNullable(want))
	}
}

// wantedWeights returns the weights of the whole run, nil for a run without them.
func (r *run) wantedWeights(positions schemas.PositionCounts) *schemas.PositionWeights {
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

// maxFigures is the number of differing figures of an object that are listed: a histogram has
// hundreds.
const maxFigures = 12

// sameFigures compares two objects number by number. A missing number is 0.
func sameFigures[T any](found *problems, name string, got, want *T) {
	recorded, err := numbers(name, got)
	if err != nil {
		found.add("%s: %s can't be compared: %v", runFile, name, err)
		return
	}
	derived, err := numbers(name, want)
	if err != nil {
		found.add("%s: %s can't be compared: %v", runFile, name, err)
		return
	}
	keys := maps.Clone(recorded)
	maps.Copy(keys, derived)
	var differ problems
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if recorded[key] != derived[key] {
			differ.add("%s: %s is %d, the tables give %d", runFile, key, recorded[key], derived[key])
		}
	}
	found.joinFirst(&differ, maxFigures)
}

// numbers returns the integers of an object, each under the JSON names that lead to it.
func numbers[T any](name string, object *T) (map[string]int64, error) {
	b, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	found := map[string]int64{}
	return found, flatten(name, b, found)
}

func flatten(name string, value json.RawMessage, to map[string]int64) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) == nil {
		for key, field := range fields {
			if err := flatten(name+"."+key, field, to); err != nil {
				return err
			}
		}
		return nil
	}
	var number int64
	if err := json.Unmarshal(value, &number); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	to[name] = number
	return nil
}
