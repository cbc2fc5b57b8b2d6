package schemas

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
)

// A Finding has the numbers and IDs of a dossier without its texts. Stages emit findings, and the selection
// of pairs and the files are made from them.
type Finding struct {
	PromptID string `json:"prompt_id"`
	// Origin names the journal records behind the dossier.
	Origin Origin `json:"origin"`
	// Responses are the distinct responses, in the dossier's order.
	Responses []ResponseFinding `json:"responses,omitempty"`
	// ContestedID is the response whose judgments were compared; empty for none.
	ContestedID string `json:"contested_id,omitempty"`
	// Judgments are the contested response's distinct parsed judgments, in ID order.
	Judgments []JudgmentFinding `json:"judgments,omitempty"`
	// Verdicts is the n×n matrix of the comparisons of Judgments; see [Finding.Verdict].
	// It is empty when no comparison was requested.
	Verdicts string `json:"verdicts,omitempty"`
	// Reads is the same matrix of the probabilities that the first-shown judgment wins, in millionths,
	// −1 without one; see [Finding.Win]. It is empty when the comparisons are texts.
	Reads []int64 `json:"reads,omitempty"`
	// Asking is set when the comparisons were requested in rounds.
	Asking *Asking `json:"asking,omitempty"`
	// OverBudget is the field of the dossier.
	OverBudget bool `json:"over_budget,omitempty"`
	// Failed counts the final failures of calls by stage and code, sorted.
	Failed []FailedCalls `json:"failed,omitempty"`
}

// Origin names the journal records behind a finding.
type Origin struct {
	// Bucket is the journal folder, View the digest of the list of segments read in it, Segment the
	// file that the bundle attempt wrote, and Prompt the key of the prompt's record.
	Bucket  string `json:"bucket"`
	View    string `json:"view"`
	Segment string `json:"segment"`
	Prompt  string `json:"prompt"`
}

// ResponseFinding has the numbers of one response.
type ResponseFinding struct {
	ID string `json:"id"`
	// Pool is the pool of the response; empty for the actor's.
	Pool   string `json:"pool,omitempty"`
	Status Status `json:"status"`
	Chars  int    `json:"chars"`
	Score  Score  `json:"score"`
	// FailedJudgments counts its judgments whose calls failed for good.
	FailedJudgments int `json:"failed_judgments,omitempty"`
}

// JudgmentFinding has the numbers of one judgment.
type JudgmentFinding struct {
	ID    string `json:"id"`
	Score int    `json:"score"`
	Chars int    `json:"chars"`
	// Fingerprint is a digest of the text with collapsed white space.
	Fingerprint string `json:"fingerprint"`
}

// FailedCalls counts a prompt's calls of one stage that failed for good with one code.
type FailedCalls struct {
	Stage string `json:"stage"`
	Code  string `json:"code"`
	Calls int    `json:"calls"`
}

// Verdict returns the winner of the comparison that showed judgment m first and n second.
func (f *Finding) Verdict(m, n int) Winner {
	if f.Verdicts == "" {
		return Missing
	}
	return Winner(f.Verdicts[m*len(f.Judgments)+n])
}

// Win returns the probability in millionths that judgment m, shown first, is better than n: that of a
// read, or 1 or 0 by a verdict. It returns false if the comparison has no winner.
func (f *Finding) Win(m, n int) (micros int64, ok bool) {
	if len(f.Reads) > 0 {
		micros = f.Reads[m*len(f.Judgments)+n]
		return micros, micros >= 0
	}
	switch f.Verdict(m, n) {
	case First:
		return ReadUnit, true
	case Second:
		return 0, true
	}
	return 0, false
}

// NewFinding returns the finding of a dossier, without its origin.
func NewFinding(d *Dossier) Finding {
	f := Finding{PromptID: d.Prompt.ID, OverBudget: d.OverBudget, ContestedID: d.ContestedID, Failed: countFailed(d.Failures)}
	lost := map[string]int{}
	for i := range d.Failures {
		if s := d.Failures[i].Stage; s == StageJudge || s == StageReads {
			lost[d.Failures[i].ResponseID]++
		}
	}
	for i := range d.Responses {
		r := &d.Responses[i]
		f.Responses = append(f.Responses, ResponseFinding{
			ID: r.ID, Pool: r.Pool, Status: r.Status, Chars: r.Chars(), Score: r.Score, FailedJudgments: lost[r.ID],
		})
	}
	contested := d.Contested()
	if contested == nil {
		return f
	}
	f.Judgments = judgmentFindings(contested)
	f.Verdicts, f.Asking = verdictMatrix(f.Judgments, d), d.Asking
	f.Reads = readMatrix(f.Judgments, d)
	return f
}

// readMatrix places the reads by their IDs. It returns nil without any.
func readMatrix(judgments []JudgmentFinding, d *Dossier) []int64 {
	var cells []int64
	n := len(judgments)
	at := make(map[string]int, n)
	for i, j := range judgments {
		at[j.ID] = i
	}
	for i := range d.Comparisons {
		c := &d.Comparisons[i]
		if c.Read == nil {
			continue
		}
		if cells == nil {
			cells = slices.Repeat([]int64{-1}, n*n)
		}
		first, ok1 := at[c.FirstID]
		second, ok2 := at[c.SecondID]
		if ok1 && ok2 && c.Read.Unparsed == "" {
			cells[first*n+second] = c.Read.ValueMicros
		}
	}
	return cells
}

func judgmentFindings(r *Response) []JudgmentFinding {
	var found []JudgmentFinding
	for _, j := range r.DistinctJudgments() {
		found = append(found, JudgmentFinding{
			ID: j.ID, Score: j.Score, Chars: len([]rune(j.Text)), Fingerprint: Digest(Collapse(j.Text)),
		})
	}
	return found
}

// DistinctJudgments returns the judgments that the meta-judge compares, in ID order.
func (r *Response) DistinctJudgments() []*Judgment {
	var distinct []*Judgment
	for i := range r.Judgments {
		if r.Judgments[i].Distinct {
			distinct = append(distinct, &r.Judgments[i])
		}
	}
	sort.Slice(distinct, func(a, b int) bool { return distinct[a].ID < distinct[b].ID })
	return distinct
}

// verdictMatrix places every comparison by its IDs, never by its position in a list.
func verdictMatrix(judgments []JudgmentFinding, d *Dossier) string {
	if len(d.Comparisons) == 0 {
		return ""
	}
	n := len(judgments)
	at := make(map[string]int, n)
	for i, j := range judgments {
		at[j.ID] = i
	}
	unseen := Missing
	if d.Asking != nil {
		unseen = NotAsked
	}
	cells := bytes.Repeat([]byte{byte(unseen)}, n*n)
	place := func(firstID, secondID string, w Winner) {
		first, ok1 := at[firstID]
		second, ok2 := at[secondID]
		if ok1 && ok2 {
			cells[first*n+second] = byte(w)
		}
	}
	for i := range d.Failures {
		if f := &d.Failures[i]; f.Stage == StageMeta {
			place(f.FirstID, f.SecondID, Missing)
		}
	}
	for i := range d.Comparisons {
		c := &d.Comparisons[i]
		place(c.FirstID, c.SecondID, c.Winner)
	}
	return string(cells)
}

func countFailed(failures []Failure) []FailedCalls {
	counts := map[FailedCalls]int{}
	for _, f := range failures {
		counts[FailedCalls{Stage: f.Stage, Code: f.Code}]++
	}
	var out []FailedCalls
	for key, n := range counts {
		key.Calls = n
		out = append(out, key)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Stage != out[j].Stage {
			return out[i].Stage < out[j].Stage
		}
		return out[i].Code < out[j].Code
	})
	return out
}

// Outcome is the result of a prompt for one role.
type Outcome string

// Every prompt has exactly one outcome for each requested role.
const (
	Paired  Outcome = "paired"
	Dropped Outcome = "dropped"
	Failed  Outcome = "failed"
)

// The reasons for dropping a pair. Several may apply; the first counts.
const (
	// OverBudget is a prompt that lacks answers because a bound on requests was reached.
	OverBudget = "over_budget"

	TooFewScored = "too_few_scored"
	EqualScores  = "equal_scores"
	Margin       = "margin"
	// NoGap drops an actor pair of the method temporal whose chosen response scores no higher than
	// the rejected one.
	NoGap               = "no_gap"
	ChosenTooLong       = "chosen_too_long"
	NotContested        = "not_contested"
	TooFewJudgments     = "too_few_judgments"
	TooFewVerdicts      = "too_few_verdicts"
	EqualElo            = "equal_elo"
	EqualTexts          = "equal_texts"
	EqualJudgmentScores = "equal_judgment_scores"
	JudgmentTooLong     = "judgment_too_long"
	// Direction and ClassCap drop pairs of a run that has too many of their kind.
	Direction = "direction"
	ClassCap  = "class_cap"
)

// DropReasons lists each role's reasons in the order of their checks.
var DropReasons = map[string][]string{
	RoleActor: {OverBudget, TooFewScored, EqualScores, NoGap, Margin, ChosenTooLong},
	RoleJudge: {OverBudget, NotContested, TooFewJudgments, TooFewVerdicts, EqualElo, EqualTexts, EqualJudgmentScores, JudgmentTooLong, Direction, ClassCap},
}

// A Selection is the pair selected for a role, or the reason why there is none.
type Selection struct {
	Outcome Outcome `json:"outcome"`
	// Reason is the drop reason, or the code of the failure; empty when paired.
	Reason string `json:"reason,omitempty"`
	// ChosenID and RejectedID are responses for the actor, judgments for the judge. They are set
	// when paired.
	ChosenID   string `json:"chosen_id,omitempty"`
	RejectedID string `json:"rejected_id,omitempty"`
	// Elo has eps of the finding's judgments, in their order. It is set for the judge only, and
	// only when computed.
	Elo []float64 `json:"elo,omitempty"`
}

// PositionCounts counts the comparisons that the first-shown and the second-shown
// judgment won.
type PositionCounts struct {
	First  int64 `json:"first"`
	Second int64 `json:"second"`
}

// A BalanceCell is a kind of judge pair: the score of the chosen judgment in thousandths of a
// point, whether that is above (1), equal to (0) or below (-1) the rejected one's, and the part
// of the hash of the prompt's ID.
type BalanceCell struct{ Score, Direction, Bucket int }

// MarshalText returns the cell as a key of JSON: 4500/1/17.
func (c BalanceCell) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d/%d/%d", c.Score, c.Direction, c.Bucket), nil
}

// UnmarshalText is the inverse of MarshalText.
func (c *BalanceCell) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d/%d/%d", &c.Score, &c.Direction, &c.Bucket)
	return err
}

// BalanceCounts counts the judge pairs of a run by their kind.
type BalanceCounts struct {
	Cells map[BalanceCell]int64 `json:"cells"`
}

// PositionWeights are the weights of a win in first and in second place.
type PositionWeights struct {
	First  float64 `json:"first"`
	Second float64 `json:"second"`
}

// A Record is the input of the files: a finding with its selections, or a bad line of the input.
type Record struct {
	Finding *Finding `json:"finding,omitempty"`
	// Actor and Judge are nil when the role was not requested, or is not yet decided.
	Actor *Selection `json:"actor,omitempty"`
	Judge *Selection `json:"judge,omitempty"`
	// BadLine is set instead of all others.
	BadLine *Failure `json:"bad_line,omitempty"`
}
