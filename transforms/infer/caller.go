package infer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/fleet"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/stage"
)

// journaledCaller is the [stage.Caller] of one prompt: it takes generations from the journal, and requests
// the missing ones from the fleet. Its results are appended to the journal, and durable after
// [journal.View.Sync].
type journaledCaller struct {
	run   *runState
	calls *counters.Tally
	// records and view are nil without a journal.
	records journal.Records
	view    *journal.View
	// asked is true once the journal lacked something, so that servers were asked.
	asked atomic.Bool
}

// missing is a range of replicates of one call that the journal lacks.
type missing struct {
	replicateRange

	call *stage.Call
	key  string
	out  []schemas.Generation
}

// replicateRange is a range of contiguous replicates, counted from the call's first, for which one request can ask.
type replicateRange struct{ from, to int }

// contiguous joins replicates in ascending order to ranges.
func contiguous(replicates []int) []replicateRange {
	var out []replicateRange
	for _, i := range replicates {
		if k := len(out) - 1; k >= 0 && out[k].to == i {
			out[k].to++
			continue
		}
		out = append(out, replicateRange{i, i + 1})
	}
	return out
}

// Do implements [stage.Caller].
func (c *journaledCaller) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	var lacking []missing
	for i, key := range stage.Keys(calls) {
		call := &calls[i]
		out[i] = make([]schemas.Generation, call.N)
		for _, r := range contiguous(c.replay(call, key, out[i])) {
			lacking = append(lacking, missing{replicateRange: r, call: call, key: key, out: out[i]})
		}
	}
	if len(lacking) > 0 {
		if c.run.spending.IsReached() {
			return nil, fleet.ErrOverBudget
		}
		c.asked.Store(true)
	}
	roles := byRole(lacking)
	switch len(roles) {
	case 0:
		return out, nil
	case 1: // almost always
		return out, c.ask(ctx, roles[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	for _, one := range roles {
		group.Go(func() error {
			err := c.ask(ctx, one)
			if err != nil && !errors.Is(err, fleet.ErrOverBudget) { // the answers to requests within the budget are durable
				cancel()
			}
			return err
		})
	}
	return out, group.Wait()
}

// byRole cuts ranges where the role changes.
func byRole(lacking []missing) [][]missing {
	var out [][]missing
	for len(lacking) > 0 {
		n := 1
		for n < len(lacking) && lacking[n].call.Role == lacking[0].call.Role {
			n++
		}
		out = append(out, lacking[:n])
		lacking = lacking[n:]
	}
	return out
}

// replay fills in the generations that the journal has, and returns the replicates that it lacks, counted from
// the call's first.
func (c *journaledCaller) replay(call *stage.Call, key string, out []schemas.Generation) []int {
	var lacking []int
	var t schemas.CallTally
	counters := c.run.counters
	for i := range out {
		r, ok := c.records.Get(key, call.First+i)
		if !ok || Retries(c.run.options.RetryFailed, r.Code) {
			lacking = append(lacking, i)
			continue
		}
		out[i] = generationOf(r)
		t.Replayed++
		if r.Code != "" {
			t.Failed++
			t.ReplayedFailed++
			counters.RecordFailure(call.Role.Name, r.Code, r.Message)
		}
	}
	if t.Replayed > 0 {
		c.calls.Add(call.Stage, t)
		counters.Replayed.Add(t.Replayed)
		counters.Failed.Add(t.Failed)
		counters.ReplayedFailed.Add(t.ReplayedFailed)
	}
	return lacking
}

// ask asks the fleet for generations of one role, and returns when they may be used.
func (c *journaledCaller) ask(ctx context.Context, lacking []missing) error {
	f := c.run.fleet
	if err := f.VerifyConstraints(ctx, c.run.options.Prove, c.calls); err != nil {
		return err
	}
	requests := make([]fleet.Request, len(lacking))
	for i := range lacking {
		m := &lacking[i]
		requests[i] = fleet.Request{
			Role: m.call.Role, Stage: m.call.Stage, PromptID: m.call.PromptID, Messages: m.call.Messages,
			Seed: seedOf(m.key, m.call.First+m.from), N: m.to - m.from, CallN: m.call.N,
		}
	}
	err := f.Do(ctx, requests, c.calls, func(i, from int, generations []schemas.Generation, has []bool) error {
		return c.keep(&lacking[i], lacking[i].from+from, generations, has)
	})
	if err != nil || c.view == nil {
		return err
	}
	return c.view.Ready(ctx)
}

// keep counts received generations, and appends them to the journal. From counts from the call's first replicate.
func (c *journaledCaller) keep(m *missing, from int, generations []schemas.Generation, has []bool) error {
	var t schemas.CallTally
	counters := c.run.counters
	records := make([]journal.Record, 0, len(has))
	for i, ok := range has {
		if !ok {
			continue
		}
		g := &generations[i]
		m.out[from+i] = *g
		t.Generations++
		t.CompletionTokens += int64(g.CompletionTokens)
		t.PromptTokens = max(t.PromptTokens, int64(g.PromptTokens))
		if g.Code != "" {
			t.Failed++
			counters.RecordFailure(m.call.Role.Name, g.Code, g.Message)
		}
		records = append(records, recordOf(m.call, m.key, m.call.First+from+i, g))
	}
	c.calls.Add(m.call.Stage, t)
	c.run.spending.Add(t.PromptTokens, t.CompletionTokens)
	counters.Generations.Add(t.Generations)
	counters.Failed.Add(t.Failed)
	if c.view == nil {
		return nil
	}
	return c.view.Append(records...)
}

func recordOf(c *stage.Call, key string, replicate int, g *schemas.Generation) journal.Record {
	return journal.Record{
		Key: key, Replicate: replicate, PromptID: c.PromptID, Role: c.Role.Name,
		Text: g.Text, Reasoning: g.Reasoning, FinishReason: g.FinishReason,
		PromptTokens: g.PromptTokens, CompletionTokens: g.CompletionTokens, LogProbs: g.LogProbs, Code: g.Code, Message: g.Message,
	}
}

func generationOf(r *journal.Record) schemas.Generation {
	return schemas.Generation{
		Text: r.Text, Reasoning: r.Reasoning, FinishReason: r.FinishReason,
		PromptTokens: r.PromptTokens, CompletionTokens: r.CompletionTokens, LogProbs: r.LogProbs, Code: r.Code, Message: r.Message,
	}
}

// seedOf returns 30 bits of the call's key plus the replicate, as servers count the seeds of n choices.
func seedOf(key string, replicate int) int64 {
	high, err := strconv.ParseUint(key[:8], 16, 32)
	if err != nil { // a key is hexadecimal
		panic(fmt.Sprintf("infer: key %q: %v", key, err))
	}
	return int64(high>>2) + int64(replicate)
}

// A Missing error reports that the journal lacks a generation.
type Missing struct {
	PromptID, Stage, Key string
	Replicate            int
}

func (m *Missing) Error() string {
	return fmt.Sprintf("infer: the journal lacks replicate %d of call %s (%s) of prompt %s", m.Replicate, m.Key, m.Stage, m.PromptID)
}

// A Replayer is a [stage.Caller] that reads the journal alone.
type Replayer struct {
	// Get returns the journal's record of a replicate.
	Get func(key string, replicate int) (*journal.Record, bool)
}

// Do implements [stage.Caller]. For a record that the journal lacks its error is a [*Missing].
func (r Replayer) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i, key := range stage.Keys(calls) {
		out[i] = make([]schemas.Generation, calls[i].N)
		for k := range out[i] {
			replicate := calls[i].First + k
			rec, ok := r.Get(key, replicate)
			if !ok {
				return nil, &Missing{PromptID: calls[i].PromptID, Stage: calls[i].Stage, Key: key, Replicate: replicate}
			}
			out[i][k] = generationOf(rec)
		}
	}
	return out, nil
}
