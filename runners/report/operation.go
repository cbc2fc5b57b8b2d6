package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"coeval/datasets/store"
	"coeval/runners/estimate"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/sink"
)

// operation is what all attempts at the run took together.
type operation struct {
	Attempts []*attempt
	// Longest is the attempt with the most generations, nil when none asked for any.
	Longest *attempt
	// Stages are what was asked for, in the order of the stages, and All their sum.
	Stages []stageCalls
	All    stageCalls
	// Troubles are requests that were asked again, and final failures of the data as it is now.
	Troubles []trouble
	Seconds  float64
	Asking   float64
	// Pairs are those of all roles, 0 when there are none.
	Pairs  int64
	Prices estimate.Prices
}

// stageCalls are a stage's calls in all attempts.
type stageCalls struct {
	Stage string
	schemas.CallTally
	// Seconds is the stage's part of the time of asking: as large as its part of the
	// generations in flight. Nil where no attempt measured it.
	Seconds *float64
	// Tokens and Hours are what it costs at the prices that were given; nil without them.
	Tokens, Hours *float64
}

// Request returns how long a request takes in the mean, in seconds; nil when it was not measured.
func (s *stageCalls) Request() *float64 {
	if s.RequestMicros == 0 || s.Requests == 0 {
		return nil
	}
	mean := float64(s.RequestMicros) / 1e6 / float64(s.Requests)
	return &mean
}

// trouble counts what went wrong with a stage's requests by code.
type trouble struct {
	Stage, Code     string
	Retries, Failed int64
}

// attempt is a file of operations/.
type attempt = summary.Operation

// readAttempts returns the attempts in the order in which they began.
func readAttempts(ctx context.Context, dir string) ([]*attempt, error) {
	files, err := store.List(ctx, store.Join(dir, sink.OperationsFolder)+"/")
	if err != nil {
		return nil, err
	}
	var attempts []*attempt
	for _, f := range files {
		name := path.Base(f.Path)
		if !strings.HasSuffix(name, ".json") || strings.Count(name, ".") != 1 || name == "lease.json" {
			continue // counts of an attempt that was not complete, and who has the folder
		}
		b, err := store.ReadFile(ctx, f.Path)
		if err != nil {
			return nil, err
		}
		var a attempt
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, fmt.Errorf("%s can't be read: %w; without the file the report leaves section 5 out", f.Path, err)
		}
		attempts = append(attempts, &a)
	}
	return attempts, nil
}

func newOperation(attempts []*attempt, run *schemas.Run, prices estimate.Prices) *operation {
	o := &operation{Attempts: attempts, Prices: prices, All: stageCalls{Stage: "all"}}
	byStage := map[string]*stageCalls{}
	for _, a := range attempts {
		o.Seconds += a.Seconds
		o.Asking += a.AskingSeconds
		all := sum(a)
		for stage, calls := range a.Calls {
			s := byStage[stage]
			if s == nil {
				s = &stageCalls{Stage: stage}
				byStage[stage] = s
			}
			s.CallTally = s.Plus(calls)
			if all.GenerationMicros > 0 {
				part := a.AskingSeconds * float64(calls.GenerationMicros) / float64(all.GenerationMicros)
				s.Seconds, o.All.Seconds = over(s.Seconds, part), over(o.All.Seconds, part)
			}
		}
		if all.Generations > 0 && (o.Longest == nil || all.Generations > sum(o.Longest).Generations) {
			o.Longest = a
		}
		o.All.CallTally = o.All.Plus(all)
	}
	for _, stage := range slices.SortedFunc(maps.Keys(byStage), byOrder) {
		s := byStage[stage]
		s.Tokens = prices.Tokens(s.PromptTokens, s.CompletionTokens)
		if s.Seconds != nil {
			s.Hours = prices.Hours(*s.Seconds)
		}
		o.Stages = append(o.Stages, *s)
	}
	o.All.Tokens, o.All.Hours = prices.Tokens(o.All.PromptTokens, o.All.CompletionTokens), prices.Hours(o.Asking)
	o.Troubles = troubles(byStage, run.Stats.FailedCalls)
	return o
}

func sum(a *attempt) schemas.CallTally {
	var all schemas.CallTally
	for _, calls := range a.Calls {
		all = all.Plus(calls)
	}
	return all
}

// stageOrder is that in which a prompt goes through the stages.
var stageOrder = []string{schemas.StageGenerate, schemas.StageJudge, schemas.StageMeta}

// byOrder puts what is no stage of the method, as probes of servers, last.
func byOrder(a, b string) int {
	at := func(stage string) int {
		if i := slices.Index(stageOrder, stage); i >= 0 {
			return i
		}
		return len(stageOrder)
	}
	return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a, b))
}

// notTold is the code of retries from before attempts told their codes.
const notTold = "not recorded"

func troubles(calls map[string]*stageCalls, failed map[string]map[string]int64) []trouble {
	found := map[[2]string]*trouble{}
	at := func(stage, code string) *trouble {
		key := [2]string{stage, code}
		if found[key] == nil {
			found[key] = &trouble{Stage: stage, Code: code}
		}
		return found[key]
	}
	for stage, c := range calls {
		for code, n := range c.RetriesByCode {
			at(stage, code).Retries += n
		}
		if rest := c.Retries - schemas.Sum(c.RetriesByCode); rest > 0 {
			at(stage, notTold).Retries += rest
		}
	}
	for stage, codes := range failed {
		for code, n := range codes {
			at(stage, code).Failed += n
		}
	}
	var out []trouble
	for _, t := range found {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b trouble) int { return cmp.Or(byOrder(a.Stage, b.Stage), cmp.Compare(a.Code, b.Code)) })
	return out
}

// pairsOf counts the pairs of all roles.
func pairsOf(s *summary.Summary) int64 {
	var n int64
	for _, r := range roles(s) {
		n += r.role.Paired
	}
	return n
}

// over adds to a number that may not be there yet.
func over(x *float64, more float64) *float64 {
	if x != nil {
		more += *x
	}
	return &more
}
