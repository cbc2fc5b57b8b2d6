package schemas

import (
	"encoding/json"
	"math"
	"math/bits"
)

// A File is one output file, as run.json names it.
type File struct {
	// Path is below the run's folder, with slashes.
	Path   string `json:"path"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// A Manifest describes the files that Write made of one shard, before they get their final names.
type Manifest struct {
	Shard int    `json:"shard"`
	Files []File `json:"files,omitempty"`
	// Findings and BadLines count the records behind the shard.
	Findings int64 `json:"findings"`
	BadLines int64 `json:"bad_lines"`
	Stats    Stats `json:"stats"`
	// Buckets are the journal's buckets with the answers behind the shard, sorted.
	Buckets []string `json:"buckets,omitempty"`
}

// Run is run.json: everything that config and journal decide about a run. It is written last, so that
// its presence means that the run is complete.
type Run struct {
	// Format is the version of the layout of all files, 1.
	Format int `json:"format"`
	// Simulated reports whether the simulated worker answered.
	Simulated bool `json:"simulated"`
	// Config is the part of the effective config that decides the data.
	Config json.RawMessage `json:"config"`
	Ledger Ledger          `json:"ledger"`
	// PositionWeights are the weights of step 6 over the run; null when a run has none.
	PositionWeights *PositionWeights `json:"position_weights"`
	Stats           Stats            `json:"stats"`
	Files           []File           `json:"files"`
}

// RunFormat is the layout that this version writes.
const RunFormat = 1

// Ledger has the counts that must add up: Lines = Bad + NotDrawn + Merged + Findings, and for each
// requested role Findings = the sum of its outcomes.
type Ledger struct {
	Lines    int64 `json:"lines"`
	Bad      int64 `json:"bad"`
	NotDrawn int64 `json:"not_drawn"`
	Merged   int64 `json:"merged"`
	Findings int64 `json:"findings"`
	// Roles has the outcomes of each requested role.
	Roles map[string]Outcomes `json:"roles"`
}

// Outcomes count the outcomes of a role's prompts.
type Outcomes struct {
	Paired int64 `json:"paired"`
	// Dropped is by reason, Failed by code.
	Dropped map[string]int64 `json:"dropped,omitempty"`
	Failed  map[string]int64 `json:"failed,omitempty"`
}

// Total returns all outcomes together.
func (o Outcomes) Total() int64 { return o.Paired + Sum(o.Dropped) + Sum(o.Failed) }

// Count adds one selection.
func (o *Outcomes) Count(c *Selection) {
	switch c.Outcome {
	case Paired:
		o.Paired++
	case Dropped:
		count(&o.Dropped, c.Reason, 1)
	case Failed:
		count(&o.Failed, c.Reason, 1)
	}
}

func (o *Outcomes) add(p Outcomes) {
	o.Paired += p.Paired
	addCounts(&o.Dropped, p.Dropped)
	addCounts(&o.Failed, p.Failed)
}

// Stats are the figures by which a user judges a run. All are counts and integer sums, so that the sums
// over shards do not depend on their order.
type Stats struct {
	Prompts int64 `json:"prompts"`
	// Outcomes of each requested role.
	Outcomes map[string]Outcomes `json:"outcomes,omitempty"`
	Actor    ActorPairStats      `json:"actor"`
	Judge    JudgePairStats      `json:"judge"`
	// Responses, Judgments and Comparisons count texts.
	Responses   ResponseStats  `json:"responses"`
	Judgments   TextStats      `json:"judgments"`
	Comparisons TextStats      `json:"comparisons"`
	Positions   PositionCounts `json:"positions"`
	// Asking is zero when the comparisons were not requested in rounds, Judging when the judgments of contested responses
	// were not.
	Asking  AskingStats  `json:"asking,omitzero"`
	Judging JudgingStats `json:"judging,omitzero"`
	// ScoreReads and ComparisonReads are zero in a run without reads. Reads of comparisons count in
	// Comparisons, too.
	ScoreReads      ReadStats `json:"score_reads,omitzero"`
	ComparisonReads ReadStats `json:"comparison_reads,omitzero"`
	// FailedCalls counts final failures by stage and code.
	FailedCalls map[string]map[string]int64 `json:"failed_calls,omitempty"`
	// Lengths is the histogram of the prompts' lengths, with the number of prompts with a failed call.
	Lengths map[int]LengthBin `json:"lengths,omitempty"`
}

// ActorPairStats are sums over the actor's pairs.
type ActorPairStats struct {
	Pairs         int64 `json:"pairs"`
	ChosenChars   int64 `json:"chosen_chars"`
	RejectedChars int64 `json:"rejected_chars"`
	// ScoreMarginMicros is the sum of S(chosen) − S(rejected), each rounded to a millionth.
	ScoreMarginMicros int64 `json:"score_margin_micros"`
}

// JudgePairStats are sums over the judge's pairs. They reveal a collapsing judge.
type JudgePairStats struct {
	Pairs         int64 `json:"pairs"`
	ChosenChars   int64 `json:"chosen_chars"`
	RejectedChars int64 `json:"rejected_chars"`
	// HigherChosen counts the pairs whose chosen judgment gave the higher score, LowerChosen
	// the lower.
	HigherChosen int64 `json:"higher_chosen"`
	LowerChosen  int64 `json:"lower_chosen"`
	// ScoreDifference is the sum of score(chosen) − score(rejected) in thousandths.
	ScoreDifference int64 `json:"score_difference"`
	// ChosenScores is the histogram of the chosen judgments' scores in thousandths.
	ChosenScores map[int]int64 `json:"chosen_scores,omitempty"`
}

// ResponseStats count the responses of all models.
type ResponseStats struct {
	// Replicates counts the models' texts, Distinct the texts after merging.
	Replicates int64 `json:"replicates"`
	Distinct   int64 `json:"distinct"`
	Empty      int64 `json:"empty"`
	Truncated  int64 `json:"truncated"`
	Scored     int64 `json:"scored"`
	// Several counts the prompts with more than one replicate of the actor, Constant those among them
	// whose replicates are all one text that is not empty.
	Several  int64 `json:"several"`
	Constant int64 `json:"constant"`
}

// TextStats count texts of one kind and the results of parsing them.
type TextStats struct {
	Texts int64 `json:"texts"`
	// Unparsed is by reason.
	Unparsed map[string]int64 `json:"unparsed,omitempty"`
}

// PositionSums returns the sums behind the position weights of the run: wins in each place, or sums of
// probabilities in millionths where comparisons are reads.
func (s *Stats) PositionSums() PositionCounts {
	r := &s.ComparisonReads
	if r.Reads == 0 {
		return s.Positions
	}
	return PositionCounts{First: r.FirstMicros, Second: (r.Reads-Sum(r.Unparsed))*ReadUnit - r.FirstMicros}
}

// ReadStats count reads.
type ReadStats struct {
	Reads int64 `json:"reads"`
	// Unparsed is by reason.
	Unparsed map[string]int64 `json:"unparsed,omitempty"`
	// MassMicros is the sum of the labels' probabilities, FirstMicros that of the probabilities that the
	// judgment shown first wins, both in millionths.
	MassMicros  int64 `json:"mass_micros"`
	FirstMicros int64 `json:"first_micros,omitempty"`
}

// Count adds a read.
func (a *ReadStats) Count(r *Read) {
	a.Reads++
	a.MassMicros += r.MassMicros
	if r.Unparsed != "" {
		count(&a.Unparsed, r.Unparsed, 1)
	}
}

func (a *ReadStats) add(b *ReadStats) {
	a.Reads += b.Reads
	addCounts(&a.Unparsed, b.Unparsed)
	a.MassMicros += b.MassMicros
	a.FirstMicros += b.FirstMicros
}

// AskingStats are sums over the prompts whose comparisons were requested in rounds.
type AskingStats struct {
	// Stopped counts the prompts by the reason for the end of asking.
	Stopped map[Stop]int64 `json:"stopped,omitempty"`
	// Asked counts the requested comparisons, failed ones included. Possible counts all of them in both orders.
	Asked    int64 `json:"asked"`
	Possible int64 `json:"possible"`
	// RegretMicros and SpreadMicros are the sums of [Asking].Regret and Spread, each rounded to a
	// millionth.
	RegretMicros int64 `json:"regret_micros"`
	SpreadMicros int64 `json:"spread_micros"`
}

// Count adds a prompt with this many distinct judgments.
func (a *AskingStats) Count(s Stop, regret, spread float64, asked, judgments int) {
	count(&a.Stopped, s, 1)
	a.Asked += int64(asked)
	a.Possible += int64(judgments * (judgments - 1))
	a.RegretMicros += int64(math.Round(regret * 1e6))
	a.SpreadMicros += int64(math.Round(spread * 1e6))
}

func (a *AskingStats) add(b *AskingStats) {
	addCounts(&a.Stopped, b.Stopped)
	a.Asked += b.Asked
	a.Possible += b.Possible
	a.RegretMicros += b.RegretMicros
	a.SpreadMicros += b.SpreadMicros
}

// JudgingStats are sums over the prompts whose contested response was judged in rounds.
type JudgingStats struct {
	// Stopped counts the prompts by the reason for the end of asking.
	Stopped map[Stop]int64 `json:"stopped,omitempty"`
	// Asked counts the requested judgments, failed ones included.
	Asked int64 `json:"asked"`
}

// Count adds a prompt.
func (a *JudgingStats) Count(s Stop, asked int) {
	count(&a.Stopped, s, 1)
	a.Asked += int64(asked)
}

func (a *JudgingStats) add(b *JudgingStats) {
	addCounts(&a.Stopped, b.Stopped)
	a.Asked += b.Asked
}

// LengthBin counts the prompts of one length.
type LengthBin struct {
	Prompts int64 `json:"prompts"`
	// Failed counts the prompts with a call that failed for good.
	Failed int64 `json:"failed"`
}

// LengthBinOf returns the bin of a length: eight to each power of two, 0 for the length 0.
func LengthBinOf(chars int) int {
	if chars < 1 {
		return 0
	}
	exponent := bits.Len(uint(chars)) - 1
	return 8*exponent + (8*chars)>>exponent - 8
}

// LengthBinFloor returns the smallest length in a bin.
func LengthBinFloor(bin int) int {
	exponent := bin / 8
	// The smallest chars with 8·chars ≥ (8 + bin mod 8)·2^exponent.
	return ((8+bin%8)<<exponent + 7) / 8
}

// Add adds the figures of u.
func (s *Stats) Add(u *Stats) {
	s.Prompts += u.Prompts
	for role, outcomes := range u.Outcomes {
		sum := s.Outcomes[role]
		sum.add(outcomes)
		s.SetOutcomes(role, sum)
	}
	s.Actor.add(&u.Actor)
	s.Judge.add(&u.Judge)
	s.Responses.add(&u.Responses)
	s.Judgments.add(&u.Judgments)
	s.Comparisons.add(&u.Comparisons)
	s.Positions.First += u.Positions.First
	s.Positions.Second += u.Positions.Second
	s.Asking.add(&u.Asking)
	s.Judging.add(&u.Judging)
	s.ScoreReads.add(&u.ScoreReads)
	s.ComparisonReads.add(&u.ComparisonReads)
	for stage, codes := range u.FailedCalls {
		for code, n := range codes {
			s.CountFailed(stage, code, n)
		}
	}
	for bin, n := range u.Lengths {
		s.countLength(bin, n)
	}
}

// SetOutcomes sets the outcomes of a role.
func (s *Stats) SetOutcomes(role string, o Outcomes) {
	if s.Outcomes == nil {
		s.Outcomes = map[string]Outcomes{}
	}
	s.Outcomes[role] = o
}

// CountFailed adds n calls of a stage that failed for good with a code.
func (s *Stats) CountFailed(stage, code string, n int64) {
	if s.FailedCalls == nil {
		s.FailedCalls = map[string]map[string]int64{}
	}
	codes := s.FailedCalls[stage]
	count(&codes, code, n)
	s.FailedCalls[stage] = codes
}

// CountLength adds one prompt of this length.
func (s *Stats) CountLength(chars int, failed bool) {
	bin := LengthBin{Prompts: 1}
	if failed {
		bin.Failed = 1
	}
	s.countLength(LengthBinOf(chars), bin)
}

func (s *Stats) countLength(bin int, n LengthBin) {
	if s.Lengths == nil {
		s.Lengths = map[int]LengthBin{}
	}
	sum := s.Lengths[bin]
	s.Lengths[bin] = LengthBin{Prompts: sum.Prompts + n.Prompts, Failed: sum.Failed + n.Failed}
}

func (a *ActorPairStats) add(b *ActorPairStats) {
	a.Pairs += b.Pairs
	a.ChosenChars += b.ChosenChars
	a.RejectedChars += b.RejectedChars
	a.ScoreMarginMicros += b.ScoreMarginMicros
}

func (a *JudgePairStats) add(b *JudgePairStats) {
	a.Pairs += b.Pairs
	a.ChosenChars += b.ChosenChars
	a.RejectedChars += b.RejectedChars
	a.HigherChosen += b.HigherChosen
	a.LowerChosen += b.LowerChosen
	a.ScoreDifference += b.ScoreDifference
	addCounts(&a.ChosenScores, b.ChosenScores)
}

// CountChosen adds a pair whose judgments gave these scores, in thousandths.
func (a *JudgePairStats) CountChosen(chosen, rejected int) {
	a.Pairs++
	a.ScoreDifference += int64(chosen - rejected)
	switch {
	case chosen > rejected:
		a.HigherChosen++
	case chosen < rejected:
		a.LowerChosen++
	}
	count(&a.ChosenScores, chosen, 1)
}

func (a *ResponseStats) add(b *ResponseStats) {
	a.Replicates += b.Replicates
	a.Distinct += b.Distinct
	a.Empty += b.Empty
	a.Truncated += b.Truncated
	a.Scored += b.Scored
	a.Several += b.Several
	a.Constant += b.Constant
}

func (a *TextStats) add(b *TextStats) {
	a.Texts += b.Texts
	addCounts(&a.Unparsed, b.Unparsed)
}

// Count adds a text; unparsed is the reason for no result, empty if there is one.
func (a *TextStats) Count(unparsed string) {
	a.Texts++
	if unparsed != "" {
		count(&a.Unparsed, unparsed, 1)
	}
}

// Sum returns the sum of counts.
func Sum[K comparable](counts map[K]int64) int64 {
	var sum int64
	for _, n := range counts {
		sum += n
	}
	return sum
}

func count[K comparable](counts *map[K]int64, key K, n int64) {
	if *counts == nil {
		*counts = map[K]int64{}
	}
	(*counts)[key] += n
}

func addCounts[K comparable](to *map[K]int64, from map[K]int64) {
	for key, n := range from {
		count(to, key, n)
	}
}
