package infer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
)

// priorities say who goes first at the limiter: later stages, so that dossiers finish; the other way
// round when no more prompts come.
var priorities = map[string]int{schemas.StageMeta: 2, schemas.StageJudge: 1, schemas.StageGenerate: 0}

// asker gets the generations of one prompt from the journal, and from the fleet what is not
// there. What it returns is in the journal, and durable after [journal.View.Sync].
type asker struct {
	process *process
	calls   *callCounts
	// records and view are nil without a journal.
	records journal.Records
	view    *journal.View
	// asked reports that the journal lacked something, so that servers were asked.
	asked atomic.Bool
}

// Do implements [Caller].
func (a *asker) Do(ctx context.Context, calls []Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	var missing []part
	for i, key := range stage.Keys(calls) {
		c := &calls[i]
		out[i] = make([]schemas.Generation, c.N)
		for _, run := range runs(a.replay(c, key, out[i])) {
			missing = append(missing, part{call: c, key: key, span: run, out: out[i]})
		}
	}
	if len(missing) > 0 {
		a.asked.Store(true)
	}
	for len(missing) > 0 {
		// The calls of a stage have one role, so mostly this is all of them.
		n := 1
		for n < len(missing) && missing[n].call.Role == missing[0].call.Role {
			n++
		}
		if err := a.askAll(ctx, missing[:n]); err != nil {
			return nil, err
		}
		missing = missing[n:]
	}
	return out, nil
}

// part is a run of replicates of one call.
type part struct {
	span

	call *Call
	key  string
	out  []schemas.Generation
}

// replay fills in what the journal holds and returns the replicates that it doesn't.
func (a *asker) replay(c *Call, key string, out []schemas.Generation) []int {
	var missing []int
	var t schemas.CallTally
	for i := range out {
		r, ok := a.records.Get(key, i)
		if !ok || Retries(a.process.options.RetryFailed, r.Code) {
			missing = append(missing, i)
			continue
		}
		out[i] = generationOf(r)
		t.Replayed++
		if r.Code != "" {
			t.Failed++
		}
	}
	if t.Replayed > 0 {
		a.calls.add(c.Stage, t)
		a.process.watch.replayed.Add(t.Replayed)
		a.process.watch.failed.Add(t.Failed)
	}
	return missing
}

// span is a run of contiguous replicates, which one request with n can ask for.
type span struct{ from, to int }

func runs(replicates []int) []span {
	var out []span
	for _, i := range replicates {
		if k := len(out) - 1; k >= 0 && out[k].to == i {
			out[k].to++
			continue
		}
		out = append(out, span{i, i + 1})
	}
	return out
}

// askAll asks for parts of one role, in as few requests as its endpoints allow. All stand in
// line at once; a goroutine begins when a request has its permits.
func (a *asker) askAll(ctx context.Context, parts []part) error {
	fleet, c := a.process.fleet, parts[0].call
	if err := a.process.proveAll(ctx, a.calls); err != nil {
		return err
	}
	endpoints, err := fleet.of(c.Role)
	if err != nil {
		return err
	}
	endpoints, parts, err = a.cut(ctx, endpoints, parts)
	if err != nil {
		return err
	}
	sizes := make([]int, len(parts))
	for i := range parts {
		sizes[i] = parts[i].to - parts[i].from
	}
	whole := ctx
	group, ctx := errgroup.WithContext(whole)
	ticket := fleet.limiter.Enqueue(servers(endpoints), requests(c.Stage, c.PromptID, sizes))
	largest := request{role: c.Role, stage: c.Stage, n: slices.Max(sizes)}
	for i := range parts {
		g, wider, err := fleet.take(ctx, ticket, endpoints, &largest)
		if err != nil {
			ticket.Cancel()
			return cmp.Or(group.Wait(), err) // the cause, not its echo
		}
		endpoints = wider
		group.Go(func() error { return a.askUntilWhole(ctx, wider, g, &parts[i]) })
	}
	if err := group.Wait(); err != nil || a.view == nil {
		return err
	}
	return a.view.Ready(whole)
}

// cut splits parts that are larger than the requests that the endpoints take, and leaves out
// endpoints that don't answer.
func (a *asker) cut(ctx context.Context, endpoints []*endpoint, parts []part) ([]*endpoint, []part, error) {
	fleet := a.process.fleet
	out := make([]part, 0, len(parts))
	var usable []*endpoint
	for _, p := range parts {
		n := 1
		if p.to-p.from > 1 {
			n = p.call.N // so that a server is probed for one number only
		}
		var err error
		if usable, n, err = fleet.batch(ctx, endpoints, p.call.Role, n, a.calls); err != nil {
			return nil, nil, err
		}
		if most := fleet.options.MaxInFlight; most > 0 {
			n = min(n, most)
		}
		for from := p.from; from < p.to; from += n {
			piece := p
			piece.span = span{from, min(from+n, p.to)}
			out = append(out, piece)
		}
	}
	return usable, out, nil
}

// askUntilWhole asks for a part, again for the replicates that a server left out, and puts
// every answer into the journal. It ends: an answer without any choice is a fault, of which a
// request may meet few. The first request has the permits of g.
func (a *asker) askUntilWhole(ctx context.Context, endpoints []*endpoint, g *schedule.Grant, p *part) error {
	for missing := []span{p.span}; len(missing) > 0; g = nil {
		at := missing[0]
		missing = missing[1:]
		generations, has, err := a.process.fleet.ask(ctx, endpoints, g, request{
			role: p.call.Role, stage: p.call.Stage, promptID: p.call.PromptID, messages: p.call.Messages,
			seed: seed(p.key, at.from), n: at.to - at.from,
		}, a.calls)
		if err != nil {
			return err
		}
		var left []int
		for i, ok := range has {
			if ok {
				p.out[at.from+i] = generations[i]
			} else {
				left = append(left, at.from+i)
			}
		}
		err = a.keep(p.call, p.key, at.from, generations, has)
		a.process.watch.kept()
		if err != nil {
			return err
		}
		missing = append(missing, runs(left)...)
	}
	return nil
}

// keep counts the generations that came and puts them into the journal.
func (a *asker) keep(c *Call, key string, from int, generations []schemas.Generation, has []bool) error {
	var t schemas.CallTally
	records := make([]journal.Record, 0, len(has))
	for i, ok := range has {
		if !ok {
			continue
		}
		g := &generations[i]
		t.Generations++
		t.CompletionTokens += int64(g.CompletionTokens)
		t.PromptTokens = max(t.PromptTokens, int64(g.PromptTokens))
		if g.Code != "" {
			t.Failed++
		}
		records = append(records, recordOf(c, key, from+i, g))
	}
	a.calls.add(c.Stage, t)
	a.process.watch.generations.Add(t.Generations)
	a.process.watch.failed.Add(t.Failed)
	if a.view == nil {
		return nil
	}
	return a.view.Append(records...)
}

func recordOf(c *Call, key string, replicate int, g *schemas.Generation) journal.Record {
	return journal.Record{
		Key: key, Replicate: replicate, PromptID: c.PromptID, Role: c.Role.Name,
		Text: g.Text, Reasoning: g.Reasoning, FinishReason: g.FinishReason,
		PromptTokens: g.PromptTokens, CompletionTokens: g.CompletionTokens, Code: g.Code, Message: g.Message,
	}
}

func generationOf(r *journal.Record) schemas.Generation {
	return schemas.Generation{
		Text: r.Text, Reasoning: r.Reasoning, FinishReason: r.FinishReason,
		PromptTokens: r.PromptTokens, CompletionTokens: r.CompletionTokens, Code: r.Code, Message: r.Message,
	}
}

// seed is 30 bits of the call's key plus the replicate, as servers count the seeds of n choices.
func seed(key string, replicate int) int64 {
	high, err := strconv.ParseUint(key[:8], 16, 32)
	if err != nil { // a key is hex
		panic(fmt.Sprintf("infer: key %q: %v", key, err))
	}
	return int64(high>>2) + int64(replicate)
}

// A Missing error says that the journal lacks a generation.
type Missing struct {
	PromptID, Stage, Key string
	Replicate            int
}

func (m *Missing) Error() string {
	return fmt.Sprintf("infer: the journal lacks replicate %d of call %s (%s) of prompt %s", m.Replicate, m.Key, m.Stage, m.PromptID)
}

// Replayer is a Caller that has the journal alone.
type Replayer struct {
	// Get returns the journal's record of a replicate.
	Get func(key string, replicate int) (*journal.Record, bool)
}

// Do implements [Caller]. The error of what is not there is a [*Missing].
func (r Replayer) Do(_ context.Context, calls []Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i, key := range stage.Keys(calls) {
		out[i] = make([]schemas.Generation, calls[i].N)
		for k := range out[i] {
			rec, ok := r.Get(key, k)
			if !ok {
				return nil, &Missing{PromptID: calls[i].PromptID, Stage: calls[i].Stage, Key: key, Replicate: k}
			}
			out[i][k] = generationOf(rec)
		}
	}
	return out, nil
}
