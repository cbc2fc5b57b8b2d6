// Package schemas defines the records of a Meta-Rewarding run: the texts about a prompt, the decisions made
// from them, and the rows of every file that a run writes.
//
// The terms are the terms of the method. A prompt gets responses from the actor, and a response gets
// judgments from the judge. The meta-judge compares two judgments twice, once in each order. A [Dossier]
// has all texts about one prompt, a [Finding] its numbers and IDs without the texts. A [Selection] is
// the pair selected for a role, or the reason why there is none.
//
// Scores are integer thousandths of a rubric point from the parser to the selection, so equality is exact.
// The rows of files have them in points. All text in a record is valid UTF-8.
package schemas

import (
	"strings"
	"unicode/utf8"
)

// The roles of a run. An actor pair trains the actor, a judge pair trains the judge. The meta-judge is
// not trained.
const (
	RoleActor     = "actor"
	RoleJudge     = "judge"
	RoleMetaJudge = "meta_judge"
	// RolePast and RoleFuture answer the prompts beside the actor: earlier and later checkpoints,
	// whose responses may stand in actor pairs. The run only requests their responses.
	RolePast   = "past"
	RoleFuture = "future"
	// RolePairwise compares two answers in an arena. It is not part of a run.
	RolePairwise = "pairwise_judge"
)

// The stages of a dossier, as failures and counts name them.
const (
	StagePrompts  = "prompts"
	StageGenerate = "generate"
	// StagePast and StageFuture are the answers of the roles past and future.
	StagePast   = "generate_past"
	StageFuture = "generate_future"
	StageJudge  = "judge"
	// StageReads are the judge's reads of one token each.
	StageReads    = "judge_reads"
	StageMeta     = "meta"
	StagePairwise = "pairwise"
)

// Stages lists the stages of a run that make calls, in the order of their work.
var Stages = []string{StageGenerate, StagePast, StageFuture, StageReads, StageJudge, StageMeta}

// A Message is one turn of a conversation. Role is system, user or assistant.
type Message struct {
	Role    string `json:"role"    parquet:"role,dict"`
	Content string `json:"content" parquet:"content"`
}

// A Prompt is one conversation to answer. Its ID depends on Messages alone.
type Prompt struct {
	ID       string    `json:"id"`
	Messages []Message `json:"messages"`
	// OwnIDs are the input's IDs of these messages, sorted.
	OwnIDs []string `json:"own_ids,omitempty"`
	// File and Line are the source of the prompt. Of several sources they are the least.
	File string `json:"file"`
	Line int64  `json:"line"`
	// Metadata is a JSON object with the input's other fields, "{}" when it has none.
	Metadata string `json:"metadata"`
}

// Generation is one finished replicate of a call: a text, or the final failure to get one.
type Generation struct {
	// Text is the model's text, unchanged, think tags included.
	Text string
	// Reasoning is the text that the server returned separately (reasoning_content).
	Reasoning    string
	FinishReason string
	// PromptTokens are the request's, CompletionTokens this choice's share of the completion.
	PromptTokens     int
	CompletionTokens int
	// LogProbs are the natural logarithms of the probabilities that a read found, by label; nil for a text.
	LogProbs map[string]float64
	// Code is set when the call failed for good. Message explains it.
	Code    string
	Message string
}

// Status reports whether a response can be judged.
type Status string

// The statuses of a response. Only a complete one is judged.
const (
	Complete  Status = "complete"
	Empty     Status = "empty"
	Truncated Status = "truncated"
)

// A Response is one distinct text of a model, with all its replicates.
type Response struct {
	ID string `json:"id"`
	// Pool is the role that gave it, past or future; empty for the actor.
	Pool       string `json:"pool,omitempty"`
	Replicates []int  `json:"replicates"`
	// Text is trimmed and, under strip_reasoning, free of think tags. Reasoning is the removed part.
	Text      string `json:"text"`
	Reasoning string `json:"reasoning,omitempty"`
	Status    Status `json:"status"`
	// PromptTokens are the prompt tokens of the first replicate.
	PromptTokens int        `json:"prompt_tokens"`
	Judgments    []Judgment `json:"judgments,omitempty"`
	// Reads are the judge's reads of one token each, in the order of their replicates.
	Reads []Read `json:"reads,omitempty"`
	// Score has the exact sums of the parsed judgments' scores.
	Score Score `json:"score"`
}

// IsActors reports whether the actor gave the response.
func (r *Response) IsActors() bool { return r.Pool == "" }

// Chars is the response's length in Unicode code points.
func (r *Response) Chars() int { return utf8.RuneCountInString(r.Text) }

// A Read is the result of a read: the probabilities of its labels as the next token. From them follows a score, or the
// probability that the judgment shown first wins.
type Read struct {
	// Replicate counts the reads of a response. It is 0 for a comparison.
	Replicate int `json:"replicate,omitempty"`
	// LogProbs are the natural logarithms of the labels' probabilities. A label is missing if the server
	// reported no probability for it.
	LogProbs map[string]float64 `json:"log_probs,omitempty"`
	// MassMicros is the sum of the labels' probabilities in millionths.
	MassMicros int64 `json:"mass_micros"`
	// ValueMicros is the expected value in millionths under the probabilities normalized over the labels:
	// the probability of the judgment shown first, or a score in points. VarianceMicros is the variance
	// of a score. Both are valid only when Unparsed is empty.
	ValueMicros    int64 `json:"value_micros"`
	VarianceMicros int64 `json:"variance_micros"`
	// Unparsed is the reason why the read has no value; empty if it has one.
	Unparsed     string `json:"unparsed,omitempty"`
	PromptTokens int    `json:"prompt_tokens"`
}

// ReadUnit is 1 in the units of a read's value.
const ReadUnit = 1_000_000

// Score has the sums of n parsed scores in thousandths; the zero Score is unscored.
type Score struct {
	// N is the number of parsed scores, Sum n times the mean S, Squares the sum of the squares of the
	// scores as written by the judge.
	N       int   `json:"n"`
	Sum     int64 `json:"sum"`
	Squares int64 `json:"squares"`
	// Shift is the amount that a calibration added to the sum of the scores as written, else 0.
	Shift int64 `json:"shift,omitempty"`
	// Scored reports whether N reached min_judgments.
	Scored bool `json:"scored"`
}

// Mean returns S_k in rubric points.
func (s Score) Mean() float64 { return float64(s.Sum) / float64(s.N) / 1000 }

// Written returns the sum of the scores as written by the judge.
func (s Score) Written() int64 { return s.Sum - s.Shift }

// Variance returns the population variance V_k = (n·Σs² − (Σs)²)/n² of the scores as written,
// in squared rubric points.
func (s Score) Variance() float64 {
	n := int64(s.N)
	return float64(n*s.Squares-s.Written()*s.Written()) / float64(n*n) / 1e6
}

// A Judgment is one text of the judge on a response.
type Judgment struct {
	ID        string `json:"id"`
	Replicate int    `json:"replicate"`
	Text      string `json:"text"`
	Reasoning string `json:"reasoning,omitempty"`
	// Score is in thousandths of a point and valid only when Unparsed is empty.
	Score int `json:"score"`
	// Unparsed is the reason why the text has no score; empty if it has one.
	Unparsed string `json:"unparsed,omitempty"`
	// Distinct marks the lowest replicate of equal parsed texts. The meta-judge compares distinct
	// judgments alone.
	Distinct     bool `json:"distinct,omitempty"`
	PromptTokens int  `json:"prompt_tokens"`
}

// Winner is the outcome of one comparison.
type Winner byte

// The results of a comparison. Missing is a comparison that failed for good. NotAsked is one that was
// left out because the selection was settled without it.
const (
	NotAsked Winner = '.'
	Missing  Winner = '-'
	NoWins   Winner = '0'
	First    Winner = '1'
	Second   Winner = '2'
)

// String returns first, second, none or missing.
func (w Winner) String() string {
	switch w {
	case First:
		return "first"
	case Second:
		return "second"
	case NoWins:
		return "none"
	case NotAsked:
		return "not requested"
	default:
		return "missing"
	}
}

// A Stop is the reason why a prompt's remaining comparisons, or judgments, were not requested.
type Stop string

// The reasons to stop the rounds.
const (
	StopSettled  Stop = "settled"   // the expected regret of both picks is small enough
	StopBound    Stop = "bound"     // budget.max_comparisons or budget.max_judgments was reached
	StopAllPairs Stop = "all_pairs" // every pair was asked
	StopDistant  Stop = "distant"   // the score of a judgment lies far from the mean of the reads
)

// Judging describes the end of judgments of the contested response that were requested in rounds.
type Judging struct {
	Stopped Stop `json:"stopped"`
	// Asked counts the requested judgments, failed ones included.
	Asked int `json:"asked"`
}

// Asking describes the end of comparisons that were requested in rounds.
type Asking struct {
	Stopped Stop `json:"stopped"`
	// Regret is the expected loss in logits of the picks after the last round: E[max ε − ε_best] +
	// E[ε_worst − min ε]. Spread is E[max ε − min ε]. Both are rounded to 1e-9.
	Regret float64 `json:"regret"`
	Spread float64 `json:"spread"`
}

// A Comparison is one verdict of the meta-judge on two judgments, shown in this order, or one verdict of
// an arena's judge on two responses.
type Comparison struct {
	ID        string `json:"id"`
	FirstID   string `json:"first_id"`
	SecondID  string `json:"second_id"`
	Text      string `json:"text"`
	Reasoning string `json:"reasoning,omitempty"`
	Winner    Winner `json:"winner"`
	// Replicate and Verdict are set in an arena only: Verdict is the winner with a degree, as A>>B.
	Replicate int    `json:"replicate,omitempty"`
	Verdict   string `json:"verdict,omitempty"`
	Unparsed  string `json:"unparsed,omitempty"`
	// Read is set when the comparison is a read; Winner is then the likelier one.
	Read *Read `json:"read,omitempty"`
	// Round counts from 1 where comparisons are requested in rounds. Zero means all at once.
	Round        int `json:"round,omitempty"`
	PromptTokens int `json:"prompt_tokens"`
}

// A Failure is a bad line of the input, or the final failure of a call.
type Failure struct {
	Stage   string `json:"stage"`
	Code    string `json:"code"`
	Message string `json:"message"`
	// File and Line are set for a bad line.
	File string `json:"file,omitempty"`
	Line int64  `json:"line,omitempty"`
	// PromptID, ResponseID, FirstID and SecondID name the subject of the call.
	PromptID   string `json:"prompt_id,omitempty"`
	ResponseID string `json:"response_id,omitempty"`
	FirstID    string `json:"first_id,omitempty"`
	SecondID   string `json:"second_id,omitempty"`
	Replicate  int    `json:"replicate"`
}

// A Dossier is a prompt with all texts about it.
type Dossier struct {
	Prompt Prompt `json:"prompt"`
	// Responses are distinct within their pool: the actor's, then those of past and future, each in
	// the order of their first replicate.
	Responses []Response `json:"responses,omitempty"`
	// ContestedID names the response whose judgments are compared; empty for none.
	ContestedID string `json:"contested_id,omitempty"`
	// Judging is set when the judgments of the contested response were requested in rounds.
	Judging *Judging `json:"judging,omitempty"`
	// Comparisons are on the contested response, in the order of (first, second) ID.
	Comparisons []Comparison `json:"comparisons,omitempty"`
	// Asking is set when the comparisons were requested in rounds.
	Asking *Asking `json:"asking,omitempty"`
	// OverBudget is true if a bound on requests left the prompt without an answer that it needs. Such
	// a dossier has nothing but its prompt.
	OverBudget bool      `json:"over_budget,omitempty"`
	Failures   []Failure `json:"failures,omitempty"`
}

// Contested returns the contested response, or nil.
func (d *Dossier) Contested() *Response {
	for i := range d.Responses {
		if d.ContestedID != "" && d.Responses[i].ID == d.ContestedID {
			return &d.Responses[i]
		}
	}
	return nil
}

// Fail adds the final failure of one replicate of a call.
func (d *Dossier) Fail(stage string, replicate int, g Generation, ids Failure) {
	ids.Stage, ids.Code, ids.Message, ids.PromptID, ids.Replicate = stage, g.Code, g.Message, d.Prompt.ID, replicate
	d.Failures = append(d.Failures, ids)
}

// Collapse returns s with each run of white space replaced by one space. A pair of texts that differ in
// white space alone would teach a model nothing useful.
func Collapse(s string) string { return strings.Join(strings.Fields(s), " ") }
