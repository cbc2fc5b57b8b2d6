package sink

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"coeval/schemas"
	"coeval/transforms/judge"
)

// writeRows writes a dossier's rows of all tables.
func (w *dossierWriter) writeRows(d *schemas.Dossier, r *schemas.Record) error {
	t := w.tables
	if r.Actor != nil && r.Actor.Outcome == schemas.Paired {
		pair, err := actorPair(w.options, d, r.Actor)
		if err != nil {
			return err
		}
		if err := t.actor.write([]schemas.Pair{*pair}); err != nil {
			return err
		}
	}
	if r.Judge != nil && r.Judge.Outcome == schemas.Paired {
		pair, err := judgePair(w.options, d, r, w.asked)
		if err != nil {
			return err
		}
		if err := t.judge.write([]schemas.Pair{*pair}); err != nil {
			return err
		}
	}
	if err := t.prompts.write([]schemas.PromptRow{promptRow(d, r)}); err != nil {
		return err
	}
	if err := t.responses.write(responseRows(d, w.options.modelOf)); err != nil {
		return err
	}
	if err := t.judgments.write(judgmentRows(d, r, w.options.Judging.Role.Identity())); err != nil {
		return err
	}
	if err := t.comparisons.write(comparisonRows(d, w.options.MetaJudge.Identity())); err != nil {
		return err
	}
	if t.reads != nil {
		if err := t.reads.write(readRows(d, w.options)); err != nil {
			return err
		}
	}
	failures := make([]schemas.FailureRow, len(d.Failures))
	for i := range d.Failures {
		failures[i] = failureRow(&d.Failures[i])
	}
	return t.failures.write(failures)
}

func assistant(text string) []schemas.Message {
	return []schemas.Message{{Role: "assistant", Content: text}}
}

// newPair sets the fields that the pairs of both roles share.
func newPair(role string, d *schemas.Dossier, c *schemas.Selection, chosen, rejected string) *schemas.Pair {
	return &schemas.Pair{
		ID: schemas.PairID(role, c.ChosenID, c.RejectedID), PromptID: d.Prompt.ID,
		Chosen: assistant(chosen), Rejected: assistant(rejected),
		ChosenID: c.ChosenID, RejectedID: c.RejectedID,
		ChosenChars: chars(chosen), RejectedChars: chars(rejected),
		OwnID: d.Prompt.OwnIDs, Metadata: d.Prompt.Metadata,
	}
}

// actorPair is the DPO example that trains the actor.
func actorPair(o *Options, d *schemas.Dossier, c *schemas.Selection) (*schemas.Pair, error) {
	chosen, rejected := response(d, c.ChosenID), response(d, c.RejectedID)
	if chosen == nil || rejected == nil {
		return nil, fmt.Errorf("the actor's selection names response %s or %s, which the dossier lacks", c.ChosenID, c.RejectedID)
	}
	p := newPair(schemas.RoleActor, d, c, chosen.Text, rejected.Text)
	p.Prompt = d.Prompt.Messages
	p.ChosenModel, p.RejectedModel = new(o.modelOf(chosen)), new(o.modelOf(rejected))
	p.ChosenScore, p.RejectedScore = chosen.Score.Mean(), rejected.Score.Mean()
	p.ScoreMargin = scoreMargin(chosen.Score, rejected.Score)
	if o.Judging.Reads == 0 { // the variance of a read is not one of repeated scores
		p.MarginSE = marginSE(chosen.Score, rejected.Score)
	}
	return p, nil
}

// scoreMargin is S(chosen) − S(rejected) with one rounding only.
func scoreMargin(chosen, rejected schemas.Score) float64 {
	c, r := int64(chosen.N), int64(rejected.N)
	return float64(chosen.Sum*r-rejected.Sum*c) / float64(c*r*1000)
}

// marginSE returns the standard error of the difference of two mean scores,
//
//	√(V_c/(n_c − 1) + V_r/(n_r − 1))
//
// with V the population variance of n scores: V/(n − 1) is the squared standard error of their mean. It
// returns nil if a response has a single score. With a calibration it is on the judge's own scale.
func marginSE(chosen, rejected schemas.Score) *float64 {
	if chosen.N < 2 || rejected.N < 2 {
		return nil
	}
	se := math.Sqrt(chosen.Variance()/float64(chosen.N-1) + rejected.Variance()/float64(rejected.N-1))
	return &se
}

// judgePair is the DPO example that trains the judge: its prompt is the judge's prompt, byte for byte.
func judgePair(o *Options, d *schemas.Dossier, r *schemas.Record, asked judge.Template) (*schemas.Pair, error) {
	contested := d.Contested()
	if contested == nil {
		return nil, fmt.Errorf("a judge pair without a contested response")
	}
	chosen, rejected := judgment(contested, r.Judge.ChosenID), judgment(contested, r.Judge.RejectedID)
	if chosen == nil || rejected == nil {
		return nil, fmt.Errorf("the judge's selection names judgment %s or %s, which the dossier lacks", r.Judge.ChosenID, r.Judge.RejectedID)
	}
	p := newPair(schemas.RoleJudge, d, r.Judge, chosen.Text, rejected.Text)
	var err error
	if p.Prompt, err = asked.Messages(&d.Prompt, contested.Text); err != nil {
		return nil, err
	}
	p.ResponseID = &contested.ID
	p.ChosenModel = new(o.Judging.Role.Identity())
	p.RejectedModel = p.ChosenModel
	p.ChosenScore, p.RejectedScore = points(chosen.Score), points(rejected.Score)
	p.ScoreMargin = points(chosen.Score - rejected.Score)
	p.ChosenElo, p.RejectedElo = elo(r, chosen.ID), elo(r, rejected.ID)
	return p, nil
}

// points makes rubric points of thousandths.
func points(thousandths int) float64 { return float64(thousandths) / 1000 }

func chars(text string) int32 {
	return int32(min(utf8.RuneCountInString(text), math.MaxInt32))
}

func response(d *schemas.Dossier, id string) *schemas.Response {
	for i := range d.Responses {
		if d.Responses[i].ID == id {
			return &d.Responses[i]
		}
	}
	return nil
}

func judgment(r *schemas.Response, id string) *schemas.Judgment {
	for i := range r.Judgments {
		if r.Judgments[i].ID == id {
			return &r.Judgments[i]
		}
	}
	return nil
}

// elo returns eps of a judgment, nil when none was computed.
func elo(r *schemas.Record, judgmentID string) *float64 {
	if r.Judge == nil || len(r.Judge.Elo) == 0 {
		return nil
	}
	for i := range r.Finding.Judgments {
		if r.Finding.Judgments[i].ID == judgmentID {
			return &r.Judge.Elo[i]
		}
	}
	return nil
}

func promptRow(d *schemas.Dossier, r *schemas.Record) schemas.PromptRow {
	row := schemas.PromptRow{
		ID: d.Prompt.ID, Prompt: d.Prompt.Messages, OwnID: d.Prompt.OwnIDs,
		SourceFile: d.Prompt.File, SourceLine: d.Prompt.Line, Metadata: d.Prompt.Metadata,
		Chars: int32(promptChars(d.Prompt.Messages)), ContestedResponseID: nullable(d.ContestedID),
	}
	if a := d.Asking; a != nil {
		row.AskingStopped, row.ExpectedRegret, row.ExpectedSpread = nullable(string(a.Stopped)), &a.Regret, &a.Spread
	}
	if r.Actor != nil {
		row.ActorOutcome, row.ActorReason = nullable(string(r.Actor.Outcome)), nullable(r.Actor.Reason)
	}
	if r.Judge != nil {
		row.JudgeOutcome, row.JudgeReason = nullable(string(r.Judge.Outcome)), nullable(r.Judge.Reason)
	}
	return row
}

func promptChars(messages []schemas.Message) int {
	n := 0
	for _, m := range messages {
		n += utf8.RuneCountInString(m.Content)
	}
	return n
}

func responseRows(d *schemas.Dossier, model func(*schemas.Response) string) []schemas.ResponseRow {
	rows := make([]schemas.ResponseRow, len(d.Responses))
	for i := range d.Responses {
		r := &d.Responses[i]
		row := &rows[i]
		*row = schemas.ResponseRow{
			ID: r.ID, PromptID: d.Prompt.ID, Model: model(r), Text: r.Text, Reasoning: nullable(r.Reasoning),
			Status: string(r.Status), Chars: chars(r.Text),
			PromptTokens:    int32(r.PromptTokens),
			ParsedJudgments: int32(r.Score.N), Contested: r.ID == d.ContestedID,
		}
		for _, replicate := range r.Replicates {
			row.Replicates = append(row.Replicates, int32(replicate))
		}
		if r.Score.Scored {
			mean, variance := r.Score.Mean(), r.Score.Variance()
			row.ScoreMean, row.ScoreVariance = &mean, &variance
		}
	}
	return rows
}

func judgmentRows(d *schemas.Dossier, record *schemas.Record, model string) []schemas.JudgmentRow {
	var rows []schemas.JudgmentRow
	for i := range d.Responses {
		r := &d.Responses[i]
		for k := range r.Judgments {
			j := &r.Judgments[k]
			row := schemas.JudgmentRow{
				ID: j.ID, PromptID: d.Prompt.ID, ResponseID: r.ID, Replicate: int32(j.Replicate), Model: model,
				Text: j.Text, Reasoning: nullable(j.Reasoning), Chars: chars(j.Text),
				UnparsedReason: nullable(j.Unparsed), Distinct: j.Distinct,
				PromptTokens: int32(j.PromptTokens),
			}
			if j.Unparsed == "" {
				score := points(j.Score)
				row.Score = &score
			}
			if r.ID == d.ContestedID {
				row.Elo = elo(record, j.ID)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func comparisonRows(d *schemas.Dossier, model string) []schemas.ComparisonRow {
	rows := make([]schemas.ComparisonRow, len(d.Comparisons))
	for i := range d.Comparisons {
		c := &d.Comparisons[i]
		rows[i] = schemas.ComparisonRow{
			ID: c.ID, PromptID: d.Prompt.ID, ResponseID: d.ContestedID, FirstID: c.FirstID, SecondID: c.SecondID,
			Model: model, Text: c.Text, Reasoning: nullable(c.Reasoning),
			Winner: c.Winner.String(), UnparsedReason: nullable(c.Unparsed),
			PromptTokens: int32(c.PromptTokens),
		}
		if c.Round > 0 {
			rows[i].Round = new(int32(c.Round))
		}
	}
	return rows
}

// readRows returns the reads of the judge and of the meta-judge.
func readRows(d *schemas.Dossier, o *Options) []schemas.ReadRow {
	var rows []schemas.ReadRow
	for i := range d.Responses {
		r := &d.Responses[i]
		for k := range r.Reads {
			row := readRow(d, &r.Reads[k], o.Judging.Role.Identity())
			row.ID, row.ResponseID = schemas.ReadID(r.ID, row.Model, r.Reads[k].Replicate), r.ID
			if row.Value != nil {
				row.Variance = new(float64(r.Reads[k].VarianceMicros) / schemas.ReadUnit)
			}
			rows = append(rows, row)
		}
	}
	for i := range d.Comparisons {
		if c := &d.Comparisons[i]; c.Read != nil {
			row := readRow(d, c.Read, o.MetaJudge.Identity())
			row.ID, row.ResponseID, row.FirstID, row.SecondID = c.ID, d.ContestedID, &c.FirstID, &c.SecondID
			rows = append(rows, row)
		}
	}
	return rows
}

func readRow(d *schemas.Dossier, r *schemas.Read, model string) schemas.ReadRow {
	row := schemas.ReadRow{
		PromptID: d.Prompt.ID, Replicate: int32(r.Replicate), Model: model, LabelMass: float64(r.MassMicros) / schemas.ReadUnit,
		UnparsedReason: nullable(r.Unparsed), PromptTokens: int32(r.PromptTokens),
	}
	for _, label := range slices.Sorted(maps.Keys(r.LogProbs)) {
		row.Labels, row.LogProbs = append(row.Labels, label), append(row.LogProbs, r.LogProbs[label])
	}
	if r.Unparsed == "" {
		row.Value = new(float64(r.ValueMicros) / schemas.ReadUnit)
	}
	return row
}

func failureRow(f *schemas.Failure) schemas.FailureRow {
	row := schemas.FailureRow{
		Stage: f.Stage, Code: f.Code, Message: f.Message, SourceFile: nullable(f.File),
		PromptID: nullable(f.PromptID), ResponseID: nullable(f.ResponseID),
		FirstID: nullable(f.FirstID), SecondID: nullable(f.SecondID),
	}
	if f.File != "" {
		row.SourceLine = &f.Line
	} else {
		replicate := int32(f.Replicate)
		row.Replicate = &replicate
	}
	return row
}

// nullable makes null of an empty string.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
