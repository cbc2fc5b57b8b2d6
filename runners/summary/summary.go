// Package summary writes the text that coeval run prints at its end: pairs, responses, failures, calls, and
// warnings. Each warning names the setting to change.
//
// [New] needs run.json and the figures of the attempt only. [Summary.AddFailures] reads one table.
package summary

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// Operation is the record of one attempt, operations/ATTEMPT.json: everything that is not part of the
// data.
type Operation struct {
	Attempt string `json:"attempt"`
	// Unfinished reports whether the attempt has not finished. Its figures were saved from time to
	// time, so that those of a killed attempt lack its last work.
	Unfinished bool      `json:"unfinished,omitempty"`
	Started    time.Time `json:"started"`
	Seconds    float64   `json:"seconds"`
	// AskingSeconds is the time from the first request to the last answer, 0 without a request.
	AskingSeconds float64                      `json:"asking_seconds"`
	Runner        string                       `json:"runner"`
	Machine       Machine                      `json:"machine"`
	Version       string                       `json:"version"`
	Config        config.Config                `json:"config"`
	Calls         map[string]schemas.CallTally `json:"calls"`
	// SlotUse is the share of busy slots, null without a request. SlotUseOf names the slots: those of
	// the simulated worker, or the permits of this program.
	SlotUse   *float64 `json:"slot_use"`
	SlotUseOf string   `json:"slot_use_of,omitempty"`
	// Series is the load over time.
	Series   []Point  `json:"series,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// UnknownFinishes counts texts by unknown finish reasons. These texts count as cut off.
	UnknownFinishes map[string]int64 `json:"unknown_finishes,omitempty"`
	// BadLines counts the bad lines of the input by code.
	BadLines map[string]int64 `json:"bad_lines,omitempty"`
}

// Machine is the machine of an attempt.
type Machine struct {
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	Cores int    `json:"cores"`
}

// Point is the load at one time.
type Point struct {
	Seconds     float64 `json:"seconds"`
	Prompts     int64   `json:"prompts"`
	Requests    int64   `json:"requests"`
	Generations int64   `json:"generations"`
	InFlight    int64   `json:"in_flight"`
	// Permits is the number of permits at that time.
	Permits int64 `json:"permits,omitempty"`
	// InFlightByStage splits the load by stage.
	InFlightByStage map[string]int64 `json:"in_flight_by_stage,omitempty"`
}

// Summary is the object that --json prints.
type Summary struct {
	Out       string `json:"out"`
	Simulated bool   `json:"simulated"`
	Prompts   int64  `json:"prompts"`
	Lines     int64  `json:"lines"`
	BadLines  int64  `json:"bad_lines"`
	// BadLinesByCode counts the bad lines by cause.
	BadLinesByCode map[string]int64 `json:"bad_lines_by_code"`
	Merged         int64            `json:"merged"`
	// Actor and Judge are null if the role was not requested.
	Actor *Role `json:"actor"`
	Judge *Role `json:"judge"`
	// Responses counts the actor's texts.
	Responses Responses `json:"responses"`
	// UnknownFinishes counts this attempt's texts by unknown finish reasons.
	UnknownFinishes map[string]int64 `json:"unknown_finishes"`
	Calls           Calls            `json:"calls"`
	// Unparsed is the share of judgments and comparisons without a score or verdict.
	Unparsed        float64            `json:"unparsed"`
	UnparsedByStage map[string]float64 `json:"unparsed_by_stage"`
	UnparsedReasons map[string]int64   `json:"unparsed_reasons"`
	// FailedCalls counts final failures by stage and code.
	FailedCalls map[string]map[string]int64 `json:"failed_calls"`
	// FailureMessage is the most frequent message of the failed calls, null if not looked up.
	FailureMessage *FailureMessage `json:"failure_message"`
	// FailedByLength is the share of prompts with a failed call in each quarter of the prompts by
	// length.
	FailedByLength []Quarter `json:"failed_by_length"`
	Collapse       *Collapse `json:"collapse"`
	// Asking is set when comparisons were requested until settled.
	Asking *Asking `json:"asking,omitempty"`
	// Judging is set when contested responses were judged in rounds.
	Judging *Judging `json:"judging,omitempty"`
	// Reads is set when scores or comparisons were reads.
	Reads     *Reads   `json:"reads,omitempty"`
	SlotUse   *float64 `json:"slot_use"`
	SlotUseOf string   `json:"slot_use_of,omitempty"`
	Seconds   float64  `json:"seconds"`
	Files     int      `json:"files"`
	Bytes     int64    `json:"bytes"`
	Warnings  []string `json:"warnings"`
}

// Role counts the outcomes of a role's prompts.
type Role struct {
	Paired          int64            `json:"paired"`
	Dropped         int64            `json:"dropped"`
	Failed          int64            `json:"failed"`
	DroppedByReason map[string]int64 `json:"dropped_by_reason"`
	FailedByCode    map[string]int64 `json:"failed_by_code"`
	// LengthDifference is the signed mean of length(chosen) − length(rejected) in characters,
	// MeanLength the mean length of both.
	LengthDifference float64 `json:"length_difference"`
	MeanLength       float64 `json:"mean_length"`
	// ScoreMargin is the mean of score(chosen) − score(rejected) in points.
	ScoreMargin float64 `json:"score_margin"`
}

// Calls are the calls of the attempt.
type Calls struct {
	Requests         int64 `json:"requests"`
	Retries          int64 `json:"retries"`
	Generations      int64 `json:"generations"`
	Replayed         int64 `json:"replayed"`
	Failed           int64 `json:"failed"`
	ReplayedFailed   int64 `json:"replayed_failed"`
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// Asking describes the comparisons under a budget.
type Asking struct {
	// Asked counts the requested comparisons, Possible those without a budget.
	Asked    int64 `json:"asked"`
	Possible int64 `json:"possible"`
	// Stopped counts the prompts by the reason for the end of their rounds.
	Stopped map[schemas.Stop]int64 `json:"stopped"`
	// Regret is the expected loss of the picks against the best and the worst judgment, as a share of
	// the expected distance between these two.
	Regret float64 `json:"regret"`
}

func askingOf(a *schemas.AskingStats) *Asking {
	if len(a.Stopped) == 0 {
		return nil
	}
	return &Asking{Asked: a.Asked, Possible: a.Possible, Stopped: a.Stopped, Regret: share(float64(a.RegretMicros), a.SpreadMicros)}
}

// Why returns the reasons for the end of the rounds with the numbers of prompts, the most frequent first.
func (a *Asking) Why() string { return why(a.Stopped) }

func why(stopped map[schemas.Stop]int64) string {
	names := map[string]int64{}
	for stop, n := range stopped {
		names[string(stop)] = n
	}
	return counts(names)
}

// Judging describes the judgments of contested responses in rounds.
type Judging struct {
	// Asked counts the judgments, and Responses the responses that they are on.
	Asked     int64 `json:"asked"`
	Responses int64 `json:"responses"`
	// Stopped counts the responses by the reason for the end of their rounds.
	Stopped map[schemas.Stop]int64 `json:"stopped"`
}

func judgingOf(j *schemas.JudgingStats) *Judging {
	if len(j.Stopped) == 0 {
		return nil
	}
	return &Judging{Asked: j.Asked, Responses: schemas.Sum(j.Stopped), Stopped: j.Stopped}
}

// Each returns the mean number of judgments of a response.
func (j *Judging) Each() float64 { return share(float64(j.Asked), j.Responses) }

// Why is [Asking.Why] for judgments.
func (j *Judging) Why() string { return why(j.Stopped) }

// Reads describes the reads of a run. Kinds that it has none of are zero.
type Reads struct {
	Scores      ReadFigures `json:"scores"`
	Comparisons ReadFigures `json:"comparisons"`
}

// ReadFigures describe reads of one kind.
type ReadFigures struct {
	Reads int64 `json:"reads"`
	// Unparsed is the share of reads without a value, Mass the mean of the labels' probabilities.
	Unparsed float64 `json:"unparsed"`
	Mass     float64 `json:"mass"`
}

func readsOf(st *schemas.Stats) *Reads {
	if st.ScoreReads.Reads+st.ComparisonReads.Reads == 0 {
		return nil
	}
	figures := func(r *schemas.ReadStats) ReadFigures {
		return ReadFigures{Reads: r.Reads, Unparsed: share(float64(schemas.Sum(r.Unparsed)), r.Reads), Mass: share(float64(r.MassMicros)/schemas.ReadUnit, r.Reads)}
	}
	return &Reads{Scores: figures(&st.ScoreReads), Comparisons: figures(&st.ComparisonReads)}
}

// Text describes the reads in one line.
func (r *Reads) Text() string {
	var parts []string
	for _, kind := range []struct {
		name    string
		figures ReadFigures
	}{{"scores", r.Scores}, {"comparisons", r.Comparisons}} {
		if f := kind.figures; f.Reads > 0 {
			parts = append(parts, fmt.Sprintf("%s of %s (labels have %s of the probability, %s unparsed)", humanize.Comma(f.Reads), kind.name, percent(f.Mass), percent(f.Unparsed)))
		}
	}
	return strings.Join(parts, ", ")
}

// Collapse shows whether the judge pairs teach anything besides high scores.
type Collapse struct {
	// Pairs is the number of judge pairs.
	Pairs int64 `json:"pairs"`
	// HigherChosen is the share of pairs whose chosen judgment gave the higher score.
	HigherChosen float64 `json:"higher_chosen"`
	// ScoreDifference is the mean of score(chosen) − score(rejected) in points.
	ScoreDifference float64 `json:"score_difference"`
	// ChosenScores is the share of each score, in points, among chosen judgments.
	ChosenScores []ScoreShare `json:"chosen_scores"`
	// KeptByDirections and KeptByClassCap are the numbers of pairs that the two settings against a
	// collapse keep at the values in the warnings.
	KeptByDirections int64 `json:"kept_by_directions"`
	KeptByClassCap   int64 `json:"kept_by_class_cap"`
}

// ScoreShare is one bar of the histogram of chosen scores.
type ScoreShare struct {
	Score float64 `json:"score"`
	Share float64 `json:"share"`
}

// Quarter is a quarter of the prompts by length.
type Quarter struct {
	// FromChars is the smallest length in it, within an eighth.
	FromChars int     `json:"from_chars"`
	Prompts   int64   `json:"prompts"`
	Failed    float64 `json:"failed"`
}

// New returns the summary of a complete run and of its last attempt.
func New(run *schemas.Run, op *Operation) *Summary {
	st := &run.Stats
	s := &Summary{
		Out: op.Config.Output.Dir, Simulated: run.Simulated,
		Prompts: run.Ledger.Findings, Lines: run.Ledger.Lines, BadLines: run.Ledger.Bad, BadLinesByCode: op.BadLines, Merged: run.Ledger.Merged, UnknownFinishes: op.UnknownFinishes,
		Calls: callsOf(op.Calls), FailedCalls: st.FailedCalls, FailedByLength: quarters(st.Lengths),
		SlotUse: op.SlotUse, SlotUseOf: op.SlotUseOf, Seconds: op.Seconds, Files: len(run.Files),
	}
	for _, f := range run.Files {
		s.Bytes += f.Bytes
	}
	s.unparsed(st)
	s.Responses, s.Reads = responsesOf(&st.Responses), readsOf(st)
	if o, ok := run.Ledger.Roles[schemas.RoleActor]; ok {
		a := st.Actor
		s.Actor = newRole(o, a.Pairs, a.ChosenChars, a.RejectedChars, float64(a.ScoreMarginMicros)/1e6)
	}
	if o, ok := run.Ledger.Roles[schemas.RoleJudge]; ok {
		j := st.Judge
		s.Judge = newRole(o, j.Pairs, j.ChosenChars, j.RejectedChars, float64(j.ScoreDifference)/1e3)
		s.Collapse = collapse(&j)
		s.Asking, s.Judging = askingOf(&st.Asking), judgingOf(&st.Judging)
	}
	s.Warnings = append(warnings(s, run, &op.Config), op.Warnings...)
	return s
}

func newRole(o schemas.Outcomes, pairs, chosen, rejected int64, margin float64) *Role {
	return &Role{
		Paired: o.Paired, Dropped: schemas.Sum(o.Dropped), Failed: schemas.Sum(o.Failed),
		DroppedByReason: o.Dropped, FailedByCode: o.Failed,
		LengthDifference: share(float64(chosen-rejected), pairs),
		MeanLength:       share(float64(chosen+rejected), 2*pairs),
		ScoreMargin:      share(margin, pairs),
	}
}

// share returns part / whole, 0 if whole is 0.
func share(part float64, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return part / float64(whole)
}

func callsOf(byStage map[string]schemas.CallTally) Calls {
	var t schemas.CallTally
	for _, c := range byStage {
		t = t.Plus(c)
	}
	return Calls{
		Requests: t.Requests, Retries: t.Retries, Generations: t.Generations, Replayed: t.Replayed,
		Failed: t.Failed, ReplayedFailed: t.ReplayedFailed, PromptTokens: t.PromptTokens, CompletionTokens: t.CompletionTokens,
	}
}

func (s *Summary) unparsed(st *schemas.Stats) {
	judgments, comparisons := schemas.Sum(st.Judgments.Unparsed), schemas.Sum(st.Comparisons.Unparsed)
	s.Unparsed = share(float64(judgments+comparisons), st.Judgments.Texts+st.Comparisons.Texts)
	s.UnparsedByStage = map[string]float64{
		schemas.StageJudge: share(float64(judgments), st.Judgments.Texts),
		schemas.StageMeta:  share(float64(comparisons), st.Comparisons.Texts),
	}
	s.UnparsedReasons = map[string]int64{}
	for reason, n := range st.Judgments.Unparsed {
		s.UnparsedReasons[schemas.StageJudge+"."+reason] = n
	}
	for reason, n := range st.Comparisons.Unparsed {
		s.UnparsedReasons[schemas.StageMeta+"."+reason] = n
	}
}

// The values in the warnings about a collapse.
const (
	cureDirections = 0.1
	cureClassCap   = 0.4
)

func collapse(j *schemas.JudgePairStats) *Collapse {
	if j.Pairs == 0 {
		return nil
	}
	c := &Collapse{
		Pairs:           j.Pairs,
		HigherChosen:    share(float64(j.HigherChosen), j.Pairs),
		ScoreDifference: share(float64(j.ScoreDifference)/1e3, j.Pairs),
	}
	c.KeptByDirections = pairs.KeptByDirections(j.HigherChosen, j.Pairs-j.HigherChosen-j.LowerChosen, j.LowerChosen, cureDirections)
	c.KeptByClassCap = pairs.KeptByClassCap(slices.Collect(maps.Values(j.ChosenScores)), cureClassCap)
	for score, n := range j.ChosenScores {
		c.ChosenScores = append(c.ChosenScores, ScoreShare{Score: float64(score) / 1e3, Share: share(float64(n), j.Pairs)})
	}
	slices.SortFunc(c.ChosenScores, func(a, b ScoreShare) int { return int(math.Round((a.Score - b.Score) * 1e3)) })
	return c
}

// quarters divides the histogram of lengths into four parts of about equal size.
func quarters(lengths map[int]schemas.LengthBin) []Quarter {
	var total int64
	bins := make([]int, 0, len(lengths))
	for bin, n := range lengths {
		total += n.Prompts
		bins = append(bins, bin)
	}
	slices.Sort(bins)
	var out []Quarter
	var seen int64
	for _, bin := range bins {
		n := lengths[bin]
		if k := len(out); k == 0 || seen*4 >= total*int64(k) && k < 4 {
			out = append(out, Quarter{FromChars: schemas.LengthBinFloor(bin)})
		}
		q := &out[len(out)-1]
		q.Prompts += n.Prompts
		q.Failed += float64(n.Failed)
		seen += n.Prompts
	}
	for i := range out {
		out[i].Failed = share(out[i].Failed, out[i].Prompts)
	}
	return out
}
