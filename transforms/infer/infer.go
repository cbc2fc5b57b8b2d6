// Package infer asks the workers: it runs a chain of stages on every prompt, makes their calls
// to the fleet, and keeps every answer in the journal.
//
// All stages run in one DoFn. It keeps a sliding window of prompts in flight, so that a prompt
// goes from its first response to its last comparison without a shuffle and without a barrier:
// the judge works on some prompts while the actor still writes on others. Calls, not elements,
// are limited, by one limiter for the process, and later stages go first until no more prompts come.
//
// It promises that every prompt of its input ends as one element of its output, that what is
// emitted is durable in the journal, that a call whose answer the journal holds is not made,
// and that a bundle which fails leaves no call behind, and what was answered durable, as far as
// that can be had within half a minute. What ends a run ends all its bundles in the process; a
// runner that starts one again there begins anew, with the journal. It does not promise an order, nor that
// a worker which ignores seeds says the same twice.
//
// How many generations each endpoint is asked for at a time is found out while they are asked
// for. The calls of one prompt prefer one endpoint, whose prefix cache serves what
// they have in common, and any other that would stand idle takes them.
//
// # What an answer means
//
//	200                    the choices, with null content as "", a byte that is no UTF-8 as U+FFFD,
//	                       and a refusal as the text where there is no other; those that are left
//	                       out, or that the server gave up (finish_reason abort, error), are asked
//	                       for again
//	200, content_filter    that choice failed for good; likewise a 400 or 403 that says so
//	400, 422, other 4xx    the call failed for good: context_length or bad_request; so does a 5xx
//	                       that says that the context is too long
//	413                    the call failed for good: too_large
//	429, 503, 408          full: asked again after Retry-After or a backoff, elsewhere where there is
//	                       room, for as long as the run is patient and then until it was turned
//	                       away 200 times while others had answers: then server_error
//	other 5xx; 503 of a    asked again, elsewhere first, up to Options.Tries times, then the call
//	gateway that lost its  failed for good: server_error, connection, timeout or malformed. While
//	server; 200 with an    no endpoint answers at all this does not count, and after
//	error, HTML or other   Options.Patience the run ends; a server whose metrics tell of running
//	bodies; no choice at   requests and that says full is waited for
//	all; resets, DNS, TLS,
//	timeouts, silence
//	401 to 405, 2xx, 3xx,  the run ends with a sentence that says what to do
//	no such model
//
// # How many are asked for at a time
//
// Each endpoint has a limit of generations in flight (pace), which aims at some choices waiting at
// the server for those that run. What else was tried, or left after looking at it, and why:
//
//   - AIMD on 429 or 503 alone, as most clients have it, finds nothing at a server that queues
//     without bound, as vLLM does. It is what is left here where a server says full and tells nothing
//     else.
//   - Vegas, and the gradient limiters after it, compare latencies with the least or the mean of
//     before. The mix of stages moves latencies more than a queue does, and the least is learnt under
//     the queue of the start. Vegas was tried: 16 slots had 20 to 170 times as many waiting as
//     running, and where the first answers were the quick ones the limit starved itself.
//   - BBR's way, to look for the least in flight that brings the most answers, is what is done where
//     a server tells nothing but answers: use 0.95 to 0.98, with up to 6 choices waiting for each slot.
//   - A limit on permits that are held until the answer, with n for a request of n choices, idles
//     slots or queues as the mix changes: use 0.93 at a mean queue of 0.25 slots. With permits given
//     back as choices are probably done it is 0.98 at 0.18.
//
// Figures are of virtual time, 256 slots, K=7, N=11 (go test -run Pace). Make chaos measures the rest.
//
// Before a run ends, what is in flight elsewhere may come, for a while: it is paid for. No API key
// is in any message. A role's verdicts can be enforced: see [Verdict].
//
// Metrics, namespace "infer", all counters: prompts, merged, requests, retries, generations,
// replayed, failed.
package infer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/datasets/journal"
	"coeval/schemas"
	_ "coeval/transforms/coders"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
	"coeval/transforms/window"
)

func init() {
	register.DoFn5x1[context.Context, string, func(*schemas.Prompt) bool, func(schemas.Record), func(schemas.Tally), error](&findFn{})
	register.DoFn3x1[context.Context, schemas.Dossier, func(schemas.Dossier), error](&applyFn{})
	register.Iter1[schemas.Prompt]()
	register.Emitter1[schemas.Record]()
	register.Emitter1[schemas.Tally]()
	register.Emitter1[schemas.Dossier]()
}

// Outputs are what Findings makes.
type Outputs struct {
	// Records has one record with a finding for each distinct prompt. PCollection<schemas.Record>
	Records beam.PCollection
	// Tallies counts merged prompts, findings and calls. PCollection<schemas.Tally>
	Tallies beam.PCollection
}

// Findings runs the chain on every prompt of every bucket.
//
// It takes a PCollection<KV<string, schemas.Prompt>> keyed by the journal's bucket. Prompts
// with the same ID are merged: own IDs are joined, the least file and line stay. It returns an
// error if the chain or o is invalid.
func Findings(s beam.Scope, prompts beam.PCollection, chain []stage.Spec, o Options) (Outputs, error) {
	spec, err := encodeWork(chain, o)
	if err != nil {
		return Outputs{}, err
	}
	s = s.Scope("infer.Findings")
	records, tallies := beam.ParDo2(s, &findFn{Work: spec}, beam.GroupByKey(s, prompts))
	return Outputs{Records: records, Tallies: tallies}, nil
}

// Apply runs the chain on every dossier.
//
// It takes a PCollection<schemas.Dossier> and returns one of the same length. It returns an
// error if the chain or o is invalid. It keeps no journal: its calls are made anew each time.
func Apply(s beam.Scope, dossiers beam.PCollection, chain []stage.Spec, o Options) (beam.PCollection, error) {
	spec, err := encodeWork(chain, o)
	if err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("infer.Apply")
	return beam.ParDo(s, &applyFn{Work: spec}, dossiers), nil
}

var (
	promptsCounter     = beam.NewCounter("infer", "prompts")
	mergedCounter      = beam.NewCounter("infer", "merged")
	requestsCounter    = beam.NewCounter("infer", "requests")
	retriesCounter     = beam.NewCounter("infer", "retries")
	generationsCounter = beam.NewCounter("infer", "generations")
	replayedCounter    = beam.NewCounter("infer", "replayed")
	failedCounter      = beam.NewCounter("infer", "failed")
)

func countCalls(ctx context.Context, calls map[string]schemas.CallTally) {
	var sum schemas.CallTally
	for _, c := range calls {
		sum = sum.Plus(c)
	}
	requestsCounter.Inc(ctx, sum.Requests)
	retriesCounter.Inc(ctx, sum.Retries)
	generationsCounter.Inc(ctx, sum.Generations)
	replayedCounter.Inc(ctx, sum.Replayed)
	failedCounter.Inc(ctx, sum.Failed)
}

// work is what a DoFn of this package does; it travels as JSON.
type work struct {
	Chain   []stage.Spec `json:"chain"`
	Options Options      `json:"options"`
}

func encodeWork(chain []stage.Spec, o Options) (string, error) {
	if err := o.validate(); err != nil {
		return "", err
	}
	if _, err := stage.Chain(chain); err != nil {
		return "", err
	}
	b, err := json.Marshal(work{Chain: chain, Options: o})
	if err != nil {
		return "", fmt.Errorf("infer: %w", err)
	}
	return string(b), nil
}

// engine is a DoFn's part of the process.
type engine struct {
	options Options
	process *process
	stage   Stage
	calls   *callCounts
	fed     *schedule.Limiter // which counts the bundle among those that may get more prompts
}

// feeds says whether more prompts may come.
func (e *engine) feeds(more bool) {
	l := e.process.fleet.limiter
	if e.fed != nil && (e.fed != l || !more) {
		e.fed.Feed(-1)
		e.fed = nil
	}
	if more && e.fed == nil {
		l.Feed(1)
		e.fed = l
	}
}

// failed is for a bundle that ended in an error: it gets no more prompts.
func (e *engine) failed() { e.feeds(false) }

func newEngine(encoded string) (*engine, error) {
	var w work
	if err := json.Unmarshal([]byte(encoded), &w); err != nil {
		return nil, fmt.Errorf("infer: %w", err)
	}
	run, err := stage.Chain(w.Chain)
	if err != nil {
		return nil, err
	}
	return &engine{options: w.Options.withDefaults(), stage: run, calls: &callCounts{}}, nil
}

// join makes the engine one of the process that works on the run now. It is called when a bundle
// starts and not in Setup: of an error there Flink waits for the worker in vain.
func (e *engine) join(ctx context.Context) error {
	p, err := processOf(ctx, e.options)
	if err != nil {
		return err
	}
	e.process = p
	if e.calls.whole == nil { // the watch outlives the process
		e.calls.whole = &p.watch.calls
	}
	return nil
}

// run runs the chain on a dossier, with what the view holds of it.
func (e *engine) run(ctx context.Context, d *schemas.Dossier, view *journal.View, records journal.Records) error {
	defer e.process.fleet.limiter.ForgetPrompt(d.Prompt.ID)
	a := &asker{process: e.process, calls: e.calls, records: records, view: view}
	e.process.watch.begun.Add(1)
	err := e.stage(ctx, a, d)
	if err != nil {
		if ctx.Err() == nil {
			e.process.fleet.settle(ctx)
		}
		e.process.died(err)
		return err
	}
	if a.asked.Load() {
		e.process.watch.asked.Add(1)
	}
	e.process.watch.prompts.Add(1)
	return nil
}

// findFn makes a finding of each prompt.
type findFn struct {
	Work string

	engine   *engine
	window   *window.Window[schemas.Finding]
	merged   int64
	findings int64
}

// Setup reads what is to be done.
func (f *findFn) Setup() error {
	var err error
	f.engine, err = newEngine(f.Work)
	return err
}

// StartBundle opens the bundle's window. It ends with the bundle's context or the process's.
func (f *findFn) StartBundle(ctx context.Context, _ func(schemas.Record), _ func(schemas.Tally)) error {
	if err := f.engine.join(ctx); err != nil {
		return err
	}
	f.engine.feeds(true)
	f.window = window.New[schemas.Finding](f.engine.process.window, f.engine.process.ctx, ctx)
	f.merged, f.findings = 0, 0
	return nil
}

// ProcessElement starts the work on a bucket's prompts and emits findings that are ready.
func (f *findFn) ProcessElement(ctx context.Context, bucket string, prompts func(*schemas.Prompt) bool, emit func(schemas.Record), _ func(schemas.Tally)) (err error) {
	defer f.window.CloseAfter(&err, f.engine.failed, f.engine.process.flush)
	distinct, merged := merge(prompts)
	f.merged += merged
	mergedCounter.Inc(ctx, merged)
	wanted := make(map[string]bool, len(distinct))
	for i := range distinct {
		wanted[distinct[i].ID] = true
	}
	view := f.engine.process.load(f.window.Context(), bucket, wanted)
	for _, p := range distinct {
		if err := f.window.Start(f.find(p, view), f.emit(ctx, emit)); err != nil {
			return f.engine.process.cause(err)
		}
	}
	return nil
}

// FinishBundle emits what is still under way, and the bundle's tally.
func (f *findFn) FinishBundle(ctx context.Context, emit func(schemas.Record), tally func(schemas.Tally)) (err error) {
	defer f.window.CloseAfter(&err, f.engine.failed, f.engine.process.flush)
	f.engine.feeds(false)
	if err := f.window.Drain(f.emit(ctx, emit)); err != nil {
		return f.engine.process.cause(err)
	}
	calls := f.engine.calls.take()
	for stage, own := range f.engine.process.fleet.own.take() {
		calls[stage] = calls[stage].Plus(own)
	}
	t := schemas.Tally{Merged: f.merged, Findings: f.findings, Calls: calls}
	countCalls(ctx, t.Calls)
	tally(t)
	return nil
}

func (f *findFn) emit(ctx context.Context, emit func(schemas.Record)) func(schemas.Finding) {
	return func(found schemas.Finding) {
		promptsCounter.Inc(ctx, 1)
		f.findings++
		emit(schemas.Record{Finding: &found})
	}
}

func (f *findFn) find(p schemas.Prompt, load func() (*journal.View, error)) func(context.Context) (schemas.Finding, error) {
	return func(ctx context.Context) (schemas.Finding, error) {
		view, err := load()
		if err != nil {
			return schemas.Finding{}, err
		}
		d := schemas.Dossier{Prompt: p}
		if view == nil {
			err := f.engine.run(ctx, &d, nil, nil)
			return schemas.NewFinding(&d), err
		}
		records, key := view.Take(p.ID), journal.PromptKey(&p)
		if _, ok := records.Get(key, 0); !ok {
			err := view.Append(journal.Record{Key: key, PromptID: p.ID, Prompt: &p})
			if err == nil {
				err = view.Ready(ctx)
			}
			if err != nil {
				f.engine.process.died(err)
				return schemas.Finding{}, err
			}
		}
		if err := f.engine.run(ctx, &d, view, records); err != nil {
			return schemas.Finding{}, err
		}
		// No finding leaves before what it was made of is durable.
		if err := view.Sync(ctx); err != nil {
			f.engine.process.died(err)
			return schemas.Finding{}, err
		}
		found := schemas.NewFinding(&d)
		found.Origin = view.Origin(key)
		return found, nil
	}
}

// merge returns the distinct prompts in ID order and how many lines were merged into others.
func merge(prompts func(*schemas.Prompt) bool) ([]schemas.Prompt, int64) {
	var all []schemas.Prompt
	var p schemas.Prompt
	for prompts(&p) {
		all = append(all, p)
		p = schemas.Prompt{}
	}
	slices.SortFunc(all, func(a, b schemas.Prompt) int {
		if c := strings.Compare(a.ID, b.ID); c != 0 {
			return c
		}
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return int(a.Line - b.Line)
	})
	distinct := all[:0]
	for _, p := range all {
		if k := len(distinct) - 1; k >= 0 && distinct[k].ID == p.ID {
			distinct[k].OwnIDs = append(slices.Clip(distinct[k].OwnIDs), p.OwnIDs...)
			continue
		}
		distinct = append(distinct, p)
	}
	for i := range distinct {
		slices.Sort(distinct[i].OwnIDs)
		distinct[i].OwnIDs = slices.Compact(distinct[i].OwnIDs)
	}
	return distinct, int64(len(all) - len(distinct))
}

// applyFn runs the chain on dossiers.
type applyFn struct {
	Work string

	engine *engine
	window *window.Window[schemas.Dossier]
}

// Setup reads what is to be done.
func (f *applyFn) Setup() error {
	var err error
	f.engine, err = newEngine(f.Work)
	return err
}

// StartBundle opens the bundle's window.
func (f *applyFn) StartBundle(ctx context.Context, _ func(schemas.Dossier)) error {
	if err := f.engine.join(ctx); err != nil {
		return err
	}
	f.engine.feeds(true)
	f.window = window.New[schemas.Dossier](f.engine.process.window, f.engine.process.ctx, ctx)
	return nil
}

// ProcessElement starts the chain on a dossier and emits those that are ready.
func (f *applyFn) ProcessElement(ctx context.Context, d schemas.Dossier, emit func(schemas.Dossier)) (err error) {
	defer f.window.CloseAfter(&err, f.engine.failed)
	return f.engine.process.cause(f.window.Start(f.advance(d), f.emit(ctx, emit)))
}

// FinishBundle emits what is still under way.
func (f *applyFn) FinishBundle(ctx context.Context, emit func(schemas.Dossier)) (err error) {
	defer f.window.CloseAfter(&err, f.engine.failed)
	f.engine.feeds(false)
	if err := f.window.Drain(f.emit(ctx, emit)); err != nil {
		return f.engine.process.cause(err)
	}
	countCalls(ctx, f.engine.calls.take())
	return nil
}

func (f *applyFn) emit(ctx context.Context, emit func(schemas.Dossier)) func(schemas.Dossier) {
	return func(d schemas.Dossier) {
		promptsCounter.Inc(ctx, 1)
		emit(d)
	}
}

func (f *applyFn) advance(d schemas.Dossier) func(context.Context) (schemas.Dossier, error) {
	return func(ctx context.Context) (schemas.Dossier, error) {
		err := f.engine.run(ctx, &d, nil, nil)
		return d, err
	}
}
