// Package operation summarizes the attempts of a run: time, calls, faults and cost of each stage.
package operation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/runners/estimate"
	"coeval/runners/runs"
	"coeval/runners/summary"
	"coeval/schemas"
)

// Operation sums up all attempts at a run that left figures.
type Operation struct {
	// Unreadable names the files of attempts that can't be read: their figures are missing here.
	Unreadable []string   `json:"unreadable,omitempty"`
	Attempts   []*attempt `json:"-"`
	// Unfinished is how many of them did not go to the end.
	Unfinished int `json:"unfinished_attempts"`
	// Last is the attempt that began last, nil without attempts.
	Last *attempt `json:"-"`
	// Longest is the attempt with the most generations, nil when none requested any.
	Longest *attempt `json:"-"`
	// Seconds is the time of all attempts, Asking that from their first requests to their last
	// answers.
	Seconds float64 `json:"seconds"`
	Asking  float64 `json:"asking_seconds"`
	// Stages are the calls by stage, in the order of the stages, and All is their sum.
	Stages []StageCalls `json:"stages"`
	All    StageCalls   `json:"all"`
	// Troubles are requests that were sent again, and final failures of the data as it is now.
	Troubles []Trouble `json:"troubles"`
	// Pairs are the pairs of all roles, 0 when there are none.
	Pairs  int64           `json:"pairs"`
	Prices estimate.Prices `json:"prices"`
}

// StageCalls are a stage's calls in all attempts.
type StageCalls struct {
	Stage string `json:"stage"`
	schemas.CallTally
	// Seconds is the stage's part of the time of requests: as large as its part of the
	// generations in flight. RequestSeconds is the mean time of a request. Null where no attempt
	// measured it.
	Seconds        *float64 `json:"seconds"`
	RequestSeconds *float64 `json:"request_seconds"`
	// Tokens and Hours are the costs at the given prices; null without prices.
	Tokens *float64 `json:"cost_by_tokens"`
	Hours  *float64 `json:"cost_by_hours"`
}

// Trouble counts the retries and failures of a stage by code.
type Trouble struct {
	Stage   string `json:"stage"`
	Code    string `json:"code"`
	Retries int64  `json:"retries"`
	Failed  int64  `json:"failed"`
}

// Of returns the time, calls and costs of a run.
func Of(ctx context.Context, r *runs.Run, prices estimate.Prices) (*Operation, error) {
	attempts, unreadable, err := readAttempts(ctx, r.Dir)
	if err != nil {
		return nil, err
	}
	o := newOperation(attempts, r.Manifest, prices)
	o.Unreadable = unreadable
	return o, nil
}

// attempt is a file of operations/.
type attempt = summary.Operation

// readAttempts returns the attempts in the order of their names, which begin with their start, and the
// files that can't be read.
func readAttempts(ctx context.Context, dir string) (attempts []*attempt, unreadable []string, err error) {
	files, err := rundir.AttemptFiles(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		b, err := store.ReadSmall(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		var a attempt
		if err := json.Unmarshal(b, &a); err != nil {
			unreadable = append(unreadable, fmt.Sprintf("%s: %v", f, err))
			continue
		}
		attempts = append(attempts, &a)
	}
	return attempts, unreadable, nil
}

func newOperation(attempts []*attempt, run *schemas.Run, prices estimate.Prices) *Operation {
	o := &Operation{Attempts: attempts, Prices: prices, All: StageCalls{Stage: "all"}}
	byStage := map[string]*StageCalls{}
	for _, a := range attempts {
		if o.Last == nil || a.Started.After(o.Last.Started) {
			o.Last = a
		}
		if a.Unfinished {
			o.Unfinished++
		}
		o.Seconds += a.Seconds
		o.Asking += a.AskingSeconds
		all := sum(a)
		for stage, calls := range a.Calls {
			s := byStage[stage]
			if s == nil {
				s = &StageCalls{Stage: stage}
				byStage[stage] = s
			}
			s.CallTally = s.Plus(calls)
			if all.GenerationMicros > 0 {
				s.Seconds = plus(s.Seconds, a.AskingSeconds*float64(calls.GenerationMicros)/float64(all.GenerationMicros))
			}
		}
		if all.GenerationMicros > 0 {
			o.All.Seconds = plus(o.All.Seconds, a.AskingSeconds)
		}
		if all.Generations > 0 && (o.Longest == nil || all.Generations > sum(o.Longest).Generations) {
			o.Longest = a
		}
		o.All.CallTally = o.All.Plus(all)
	}
	for _, stage := range slices.SortedFunc(maps.Keys(byStage), byOrder) {
		s := byStage[stage]
		if s.Seconds != nil {
			s.Hours = prices.Hours(*s.Seconds)
		}
		s.addCosts(prices)
		o.Stages = append(o.Stages, *s)
	}
	o.All.Hours = prices.Hours(o.Asking) // also of attempts that did not measure their stages
	o.All.addCosts(prices)
	o.Troubles = troubles(byStage, run.Stats.FailedCalls)
	for _, outcomes := range run.Ledger.Roles {
		o.Pairs += outcomes.Paired
	}
	return o
}

// addCosts fills in the figures that follow from the counts.
func (s *StageCalls) addCosts(prices estimate.Prices) {
	s.Tokens = prices.Tokens(s.PromptTokens, s.CompletionTokens)
	if s.RequestMicros > 0 && s.Requests > 0 {
		mean := float64(s.RequestMicros) / 1e6 / float64(s.Requests)
		s.RequestSeconds = &mean
	}
}

func sum(a *attempt) schemas.CallTally {
	var all schemas.CallTally
	for _, calls := range a.Calls {
		all = all.Plus(calls)
	}
	return all
}

// byOrder sorts other calls, for example probes of servers, after the stages.
func byOrder(a, b string) int {
	at := func(stage string) int {
		if i := slices.Index(schemas.Stages, stage); i >= 0 {
			return i
		}
		return len(schemas.Stages)
	}
	return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a, b))
}

// unknownCode is the code of retries by versions that did not record codes.
const unknownCode = "not recorded"

func troubles(calls map[string]*StageCalls, failed map[string]map[string]int64) []Trouble {
	found := map[[2]string]*Trouble{}
	at := func(stage, code string) *Trouble {
		key := [2]string{stage, code}
		if found[key] == nil {
			found[key] = &Trouble{Stage: stage, Code: code}
		}
		return found[key]
	}
	for stage, c := range calls {
		for code, n := range c.RetriesByCode {
			at(stage, code).Retries += n
		}
		if rest := c.Retries - schemas.Sum(c.RetriesByCode); rest > 0 {
			at(stage, unknownCode).Retries += rest
		}
	}
	for stage, codes := range failed {
		for code, n := range codes {
			at(stage, code).Failed += n
		}
	}
	var out []Trouble
	for _, t := range found {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Trouble) int { return cmp.Or(byOrder(a.Stage, b.Stage), cmp.Compare(a.Code, b.Code)) })
	return out
}

// plus adds to a number that may not be there yet.
func plus(x *float64, more float64) *float64 {
	if x != nil {
		more += *x
	}
	return &more
}
