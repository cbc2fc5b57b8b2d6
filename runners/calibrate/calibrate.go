// Package calibrate compares a judge with people. It measures agreement on pairs, rank correlation and
// the calibration of the judge's certainty, and fits a map from its scores to the human scale.
//
// The judge scores single responses, so its scores do not depend on the position of a response in the
// file of labels. Human labels may depend on the position. The judge's preference in a pair is the
// response with the higher mean S. Two responses to one prompt form a pair, too, if each has a
// label with a score.
//
// [infer.RunInProcess] requests the judgments outside a pipeline, because labels are few and the only output
// is figures. The calls go through the same fleet to the same journal, under the lock of OUT, and
// have the same keys as a run's. So a run and a calibration share answers. A second calibration sends no
// request, and another judge costs only its own calls.
//
// [Of] is a function of labels, judgments and settings: with the same labels and settings, the same journal
// gives the same figures. Intervals come from a bootstrap with a fixed seed. runners/readers/calibration.py
// computes every figure again in Python.
package calibrate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"coeval/datasets/labels"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/runners/calibrate/isotonic"
	"coeval/schemas"
	"coeval/transforms/score"
	"coeval/transforms/stage"
)

// File is the name of the figures in the folder with their journal.
const File = "calibration.json"

// version is the form of the figures.
const version = 1

// Figures compare a judge with a set of labels. A pointer is null if its figure can't be computed.
type Figures struct {
	Version   int    `json:"version"`
	Simulated bool   `json:"simulated"`
	Judge     Judge  `json:"judge"`
	Labels    Labels `json:"labels"`
	// Unparsed counts the judgments without a score, FailedCalls the failed calls by code.
	Unparsed    Unparsed         `json:"unparsed"`
	FailedCalls map[string]int64 `json:"failed_calls,omitempty"`
	// Agreement, Reliability and Curve cover the pairs with two scored responses.
	Agreement   *Agreement       `json:"agreement"`
	Reliability *Reliability     `json:"reliability"`
	Curve       []isotonic.Block `json:"curve,omitempty"`
	Ranks       Ranks            `json:"ranks"`
	// Fit is the fit to people's scores. It is null for preferences, which name the better response and
	// not the distance, so that no scale can be fitted to them.
	Fit       *Fit      `json:"fit"`
	Bootstrap Bootstrap `json:"bootstrap"`
	// Verdicts compare reads with judgments in words; null unless both were requested.
	Verdicts *Verdicts `json:"verdicts,omitempty"`
	// Responses, Pairs and Scores are the data behind all figures.
	Responses []Response `json:"responses"`
	Pairs     []Pair     `json:"pairs"`
	Scores    []Score    `json:"scores,omitempty"`
}

// Judge identifies the judge and its settings.
type Judge struct {
	score.CalibratedJudge

	// MinJudgments is the number of parsed judgments that a scored response needs.
	MinJudgments int `json:"min_judgments"`
	// Reads is true if scores are of one token each; Judgments then counts them.
	Reads bool `json:"reads,omitempty"`
}

// Identity is the judge's name with its revision, as in a run's tables.
func (j *Judge) Identity() string {
	r := stage.Role{Model: j.Model, Revision: j.Revision}
	return r.Identity()
}

// Labels counts people's labels.
type Labels struct {
	score.CalibrationLabels

	Kind labels.Kind `json:"kind"`
	// Scale is people's scale before its mapping to 0 to 5; empty for pairs.
	Scale   string `json:"scale,omitempty"`
	Labels  int    `json:"labels"`
	Prompts int    `json:"prompts"`
	// Responses counts the distinct responses, Unscored those with too few parsed judgments.
	Responses int `json:"responses"`
	Unscored  int `json:"unscored"`
}

// Unparsed counts judgments without a score.
type Unparsed struct {
	Judgments int64            `json:"judgments"`
	Unparsed  int64            `json:"unparsed"`
	Share     float64          `json:"share"`
	Reasons   map[string]int64 `json:"reasons,omitempty"`
}

// Estimate is a figure with its interval, null if too few resamples have the figure.
type Estimate struct {
	Value float64  `json:"value"`
	Low   *float64 `json:"low"`
	High  *float64 `json:"high"`
}

// Agreement is the share of pairs on which the judge and people prefer the same response.
type Agreement struct {
	// Pairs counts the pairs with two scored responses, Unscored the others, which are in no figure.
	Pairs    int `json:"pairs"`
	Unscored int `json:"unscored"`
	// JudgeTies counts the pairs of equal S, PeopleTies people's ties, BothTie the pairs with both.
	JudgeTies  int `json:"judge_ties"`
	PeopleTies int `json:"people_ties"`
	BothTie    int `json:"both_tie"`
	// WithoutTies is the share of the pairs without ties, Decided, on which both agree. WithTies
	// covers all pairs: equal verdicts count 1, a tie against a winner a half.
	Decided     int       `json:"decided"`
	WithoutTies *Estimate `json:"without_ties"`
	WithTies    *Estimate `json:"with_ties"`
	// ByLength and ByPosition are WithTies of the pairs that people decided: by the winner's excess
	// length, and by its position in the file.
	ByLength   []Slice `json:"by_length"`
	ByPosition []Slice `json:"by_position"`
	// PeopleFirst and JudgeFirst are the shares of the first response in the file among the winners.
	PeopleFirst *float64 `json:"people_first"`
	JudgeFirst  *float64 `json:"judge_first"`
}

// Slice is the agreement on a part of the pairs; null without any.
type Slice struct {
	Name  string   `json:"name"`
	Pairs int      `json:"pairs"`
	Agree *float64 `json:"agree"`
}

// Reliability compares the judge's certainty with its agreement with people.
//
// Take a pair with n₁ and n₂ parsed judgments. The predicted probability that a response wins is the
// share of the n₁·n₂ pairs of one judgment of each in which its score is the higher one, with equal
// scores counting half. The confidence c ≥ ½ is the probability of the favoured response. y is 1 if
// people prefer that response, ½ for a tie, 0 otherwise, and ½ if none is favoured. With the pairs in
// ten equal bins of c from ½ to 1 (a bin includes its lower bound, the last both),
//
//	error = Σ_bins (pairs of the bin / all pairs) · |mean y − mean c|
//
// which is the expected calibration error (Naeini et al., 2015) of a choice of two. It doesn't depend
// on the order of the responses.
type Reliability struct {
	Pairs int     `json:"pairs"`
	Error float64 `json:"error"`
	// Bins are the bins with pairs.
	Bins []Bin `json:"bins"`
}

// Bin has the pairs with a confidence of From to To.
type Bin struct {
	From      float64 `json:"from"`
	To        float64 `json:"to"`
	Pairs     int     `json:"pairs"`
	Predicted float64 `json:"predicted"`
	Observed  float64 `json:"observed"`
}

// Ranks are rank correlations. For scored labels they compare S with people's score. For preferences they
// compare the difference of both S with the label (1, 0, −1), every pair in both orders, so that the
// order in the file has no influence.
type Ranks struct {
	// Of is the number of labels with a score.
	Of       int       `json:"of"`
	Spearman *Estimate `json:"spearman"`
	// Kendall is τ_b.
	Kendall *Estimate `json:"kendall"`
}

// Fit is the isotonic regression of people's scores on S: of all monotonic maps, the one with the smallest
// sum of squares. Each block's fitted value is placed at the block's mean S, and the map is linear between
// blocks (centred isotonic regression, Oron and Flournoy, 2017). The plain regression has steps, which
// would make ties.
type Fit struct {
	Labels int              `json:"labels"`
	Blocks []isotonic.Block `json:"blocks"`
	// Bias is the mean of S − people's score, Error its root mean square. Mapped is the same error
	// of labels under maps that were fitted to the others: in five parts by prompt, with the i-th
	// prompt by ID in part i mod 5. Null with fewer than five prompts.
	Bias   float64  `json:"bias"`
	Error  float64  `json:"error"`
	Mapped *float64 `json:"mapped"`
	// Points are the map: the blocks in thousandths. Problem is the reason why there is none.
	Points  []score.CalibrationPoint `json:"points,omitempty"`
	Problem string                   `json:"problem,omitempty"`
}

// Bootstrap describes the intervals: percentiles over resamples of the prompts, each with all its labels.
type Bootstrap struct {
	Resamples int     `json:"resamples"`
	Seed      uint64  `json:"seed"`
	Level     float64 `json:"level"`
}

// Response is a distinct response with the judge's scores.
type Response struct {
	PromptID string `json:"prompt_id"`
	Chars    int    `json:"chars"`
	// Scores are the scores of the parsed judgments in points, in their order; Mean is S, null when
	// unscored.
	Scores []score.Points `json:"scores"`
	Mean   *float64       `json:"mean"`

	sums schemas.Score
}

// Pair is two responses by their indexes in Responses, with the winners.
type Pair struct {
	// Line is the line of the label. For two scored labels it is the first one's, Other the second's.
	Line   int64 `json:"line"`
	Other  int64 `json:"other,omitempty"`
	First  int   `json:"first"`
	Second int   `json:"second"`
	// People and Judge are first, second or tie; Judge is empty when a response is unscored.
	People Verdict `json:"people"`
	Judge  Verdict `json:"judge,omitempty"`
	// Agree is 1, a half or 0; null when a response is unscored.
	Agree *float64 `json:"agree"`
}

// Verdict is the winner of a pair.
type Verdict string

// The verdicts on a pair.
const (
	First  Verdict = "first"
	Second Verdict = "second"
	Tie    Verdict = "tie"
)

// sign is 1 for the first, −1 for the second, 0 for a tie.
func (v Verdict) sign() float64 {
	switch v {
	case First:
		return 1
	case Second:
		return -1
	default:
		return 0
	}
}

func verdictOf(order int) Verdict { return []Verdict{Second, Tie, First}[order+1] }

// Score is people's score of a response.
type Score struct {
	Line     int64   `json:"line"`
	Response int     `json:"response"`
	People   float64 `json:"people"`
}

// Asked describes the settings of the judge.
type Asked struct {
	Judge     Judge
	Simulated bool
	Scale     labels.Scale
	// Resamples is the number of resamples. Zero means 1,000.
	Resamples int
}

// maxLabels is the largest number of a prompt's scored labels that are paired with each other.
const maxLabels = 50

// Of computes the figures. The dossiers are the dossiers of the set, judged and scored.
func Of(set *labels.Set, dossiers []schemas.Dossier, a Asked) *Figures {
	f := &Figures{
		Version: version, Simulated: a.Simulated, Judge: a.Judge,
		Labels: Labels{
			CalibrationLabels: score.CalibrationLabels{File: set.File, SHA256: set.SHA256},
			Kind:              set.Kind, Labels: len(set.Pairs) + len(set.Scores), Prompts: len(set.Prompts),
		},
		Bootstrap: Bootstrap{Resamples: cmp.Or(a.Resamples, 1000), Level: 0.95},
	}
	places := f.addResponses(dossiers)
	for _, p := range set.Pairs {
		f.addPair(Pair{Line: p.Line, First: places[text{p.PromptID, p.First}], Second: places[text{p.PromptID, p.Second}], People: peopleOf(p.Preferred)})
	}
	if set.Kind == labels.Scores {
		f.Labels.Scale = a.Scale.String()
		f.addScores(set, places)
	}
	usable := slices.DeleteFunc(slices.Clone(f.Pairs), func(p Pair) bool { return p.Agree == nil })
	if len(f.Pairs) > 0 {
		f.Agreement = f.agreement(usable)
	}
	if len(usable) > 0 {
		if !f.Judge.Reads { // one read has no share of wins
			f.Reliability = f.reliability(usable)
		}
		f.Curve = f.curve(usable)
	}
	f.bootstrap()
	return f
}

func peopleOf(w schemas.Winner) Verdict {
	switch w {
	case schemas.First:
		return First
	case schemas.Second:
		return Second
	default:
		return Tie
	}
}

// text identifies a response by its prompt and its words.
type text struct{ promptID, text string }

func (f *Figures) addResponses(dossiers []schemas.Dossier) map[text]int {
	places := map[text]int{}
	f.Unparsed.Reasons = map[string]int64{}
	for i := range dossiers {
		d := &dossiers[i]
		for k := range d.Responses {
			r := &d.Responses[k]
			places[text{d.Prompt.ID, r.Text}] = len(f.Responses)
			out := Response{PromptID: d.Prompt.ID, Chars: r.Chars(), Scores: []score.Points{}, sums: r.Score}
			for _, j := range r.Judgments {
				if f.Judge.Reads {
					break
				}
				f.Unparsed.Judgments++
				if j.Unparsed != "" {
					f.Unparsed.Unparsed++
					f.Unparsed.Reasons[j.Unparsed]++
					continue
				}
				out.Scores = append(out.Scores, score.Points(j.Score))
			}
			if f.Judge.Reads {
				f.addReads(&out, r)
			}
			if r.Score.Scored {
				mean := out.mean()
				out.Mean = &mean
			} else {
				f.Labels.Unscored++
			}
			f.Responses = append(f.Responses, out)
		}
		for _, failed := range d.Failures {
			if f.FailedCalls == nil {
				f.FailedCalls = map[string]int64{}
			}
			f.FailedCalls[failed.Code]++
		}
	}
	f.Labels.Responses = len(f.Responses)
	f.Unparsed.Share = share(f.Unparsed.Unparsed, f.Unparsed.Judgments)
	return places
}

// addReads adds the reads of a response in the place of judgments.
func (f *Figures) addReads(out *Response, r *schemas.Response) {
	const perThousandth = schemas.ReadUnit / 1000
	for i := range r.Reads {
		read := &r.Reads[i]
		f.Unparsed.Judgments++
		if read.Unparsed != "" {
			f.Unparsed.Unparsed++
			f.Unparsed.Reasons[read.Unparsed]++
			continue
		}
		out.Scores = append(out.Scores, score.Points((read.ValueMicros+perThousandth/2)/perThousandth))
	}
}

// mean is S with one rounding, so that equal means are equal floats.
func (r *Response) mean() float64 { return float64(r.sums.Sum) / float64(1000*r.sums.N) }

func share[N int | int64](part, whole N) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// addPair adds a pair with the judge's verdict.
func (f *Figures) addPair(p Pair) {
	a, b := f.Responses[p.First].sums, f.Responses[p.Second].sums
	if a.Scored && b.Scored {
		p.Judge = verdictOf(cmp.Compare(a.Sum*int64(b.N), b.Sum*int64(a.N)))
		agree := 0.0
		switch {
		case p.Judge == p.People:
			agree = 1
		case p.Judge == Tie || p.People == Tie:
			agree = 0.5
		}
		p.Agree = &agree
	}
	f.Pairs = append(f.Pairs, p)
}

// addScores adds the labels, the fit to them, and the pairs that they make.
func (f *Figures) addScores(set *labels.Set, places map[text]int) {
	byPrompt := map[string][]Score{}
	for _, s := range set.Scores {
		own := Score{Line: s.Line, Response: places[text{s.PromptID, s.Response}], People: s.Points}
		f.Scores = append(f.Scores, own)
		others := byPrompt[s.PromptID]
		if len(others) == maxLabels {
			continue
		}
		for _, other := range others {
			if other.Response != own.Response {
				f.addPair(Pair{
					Line: other.Line, Other: own.Line, First: other.Response, Second: own.Response,
					People: verdictOf(cmp.Compare(other.People, own.People)),
				})
			}
		}
		byPrompt[s.PromptID] = append(others, own)
	}
	f.Fit = f.fit()
}

// Write writes the figures into the folder whose journal they came from.
func (f *Figures) Write(ctx context.Context, out string) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	return rundir.WriteOwn(ctx, store.Join(out, File), append(b, '\n'), IsFigures)
}

// IsFigures recognizes the file of [Figures.Write] by its beginning.
func IsFigures(start []byte) bool {
	start = bytes.TrimSpace(start)
	return bytes.HasPrefix(start, []byte("{")) && bytes.Contains(start, []byte(`"simulated":`)) && bytes.Contains(start, []byte(`"judge": {`))
}

// Read returns the figures in a folder, nil without any.
func Read(ctx context.Context, out string) (*Figures, error) {
	name := store.Join(out, File)
	b, err := store.ReadSmall(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var f Figures
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", name, err)
	}
	if f.Version != version {
		return nil, fmt.Errorf("%s: version is %d; this program reads version %d", name, f.Version, version)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("%s: %w; run coeval calibrate to write it again", name, err)
	}
	return &f, nil
}

// check returns an error for figures that were edited inconsistently.
func (f *Figures) check() error {
	is := func(place int) bool { return place >= 0 && place < len(f.Responses) }
	for i, p := range f.Pairs {
		if !is(p.First) || !is(p.Second) {
			return fmt.Errorf("pairs[%d] is of responses %d and %d; there are %d", i, p.First, p.Second, len(f.Responses))
		}
	}
	for i, s := range f.Scores {
		if !is(s.Response) {
			return fmt.Errorf("scores[%d] is of response %d; there are %d", i, s.Response, len(f.Responses))
		}
	}
	return nil
}

// Calibration returns the map for judge.calibration, or the reason why there is none.
func (f *Figures) Calibration(date string) (*score.Calibration, error) {
	if f.Fit == nil {
		return nil, errors.New("preferences name the better response and not the distance: a map needs labels with scores")
	}
	if f.Fit.Problem != "" {
		return nil, errors.New(f.Fit.Problem)
	}
	prompts, responses := map[string]bool{}, map[int]bool{}
	for _, s := range f.Scores {
		if r := &f.Responses[s.Response]; r.Mean != nil {
			prompts[r.PromptID], responses[s.Response] = true, true
		}
	}
	c := &score.Calibration{
		Version: score.CalibrationVersion, Date: date, Judge: f.Judge.CalibratedJudge,
		Responses: len(responses), Prompts: len(prompts), Labels: f.Labels.CalibrationLabels, Points: f.Fit.Points,
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}
