// Package infer runs the stages of the method on prompts. It takes each answer from the journal, or requests
// it from a server and records it.
//
// RunStages runs all stages in one DoFn, and Apply does so without a journal. The DoFn keeps a sliding
// window of prompts in progress: a prompt passes all stages without a shuffle and without waiting for
// other prompts. For example, the judge works on some prompts while the actor still writes responses to
// others.
//
//	Beam            bundle's goroutine      prompt's own goroutine        journal          fleet
//	  │ StartBundle       │                          │                       │               │
//	  ├──────────────────►│ join the run             │                       │               │
//	  │ ProcessElement    │                          │                       │               │
//	  ├──────────────────►│ window.Start ───────────►│ Load the bucket ─────►│               │
//	  │                   │ (window full:            │ run the stages:       │               │
//	  │                   │  emit finished ones)     │  Caller.Do            │               │
//	  │                   │                          ├─ replay ─────────────►│               │
//	  │                   │                          ├─ missing calls ───────┼── Do ────────►│
//	  │                   │                          │◄──────────────────────┼── deliver ────┤
//	  │                   │                          ├─ Append ─────────────►│               │
//	  │                   │                          ├─ Ready ──────────────►│ (once per Do) │
//	  │                   │                          │ finding: Sync ───────►│ (durable)     │
//	  │                   │◄──── finding ────────────┤                       │               │
//	  │◄───── emit ───────┤                          │                       │               │
//	  │ FinishBundle      │ Drain                    │                       │               │
//
// Each distinct prompt ID of the input becomes one element of the output. A finding is emitted only when the
// journal has saved every generation that it depends on. A saved generation is not requested again. When an
// error of a call stops the run, infer sends no new request. It waits at most 20 seconds for the answers in
// flight. After that it cancels the calls that are still in flight. It also cancels calls in flight when the
// bundle fails for another reason. It waits at most 30 seconds for the journal to save the answers that have
// arrived. An error that stops the run ends all its bundles in this process. A bundle that a runner restarts
// later reads the journal and continues. The package does not promise an output order. It does not promise
// equal texts from a server that ignores seeds.
//
// [Options.Bounds] limit all requests together. When a bound is reached, each prompt that still lacks an
// answer becomes a finding with OverBudget set. Its answers so far are in the journal.
//
// Package fleet describes the requests to servers, and the reaction to their answers.
//
// Metrics, namespace "infer", all counters: prompts, merged, requests, retries, generations,
// replayed, failed.
package infer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/datasets/journal"
	"coeval/schemas"
	_ "coeval/transforms/coders"
	"coeval/transforms/fleet"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/stage"
	"coeval/transforms/window"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[findFn]())
	beam.RegisterDoFn(reflect.TypeFor[applyFn]())
	register.Iter1[schemas.Prompt]()
	register.Emitter1[schemas.Record]()
	register.Emitter1[schemas.Tally]()
	register.Emitter1[schemas.Dossier]()
}

// Outputs are the collections of RunStages.
type Outputs struct {
	// Records has one record with a finding for each distinct prompt. PCollection<schemas.Record>
	Records beam.PCollection
	// Tallies counts merged prompts, findings and calls. PCollection<schemas.Tally>
	Tallies beam.PCollection
}

// RunStages runs a chain of stages on every prompt of every bucket.
//
// It takes a PCollection<KV<string, schemas.Prompt>> keyed by the journal's bucket. Prompts with the
// same ID are merged: their own IDs are joined, and the smallest file and line stay. It returns an error
// if the chain or o is invalid.
func RunStages(s beam.Scope, prompts beam.PCollection, chain []stage.Spec, o Options) (Outputs, error) {
	spec, err := encodeWork(chain, o)
	if err != nil {
		return Outputs{}, err
	}
	s = s.Scope("infer.RunStages")
	records, tallies := beam.ParDo2(s, &findFn{Work: spec}, beam.GroupByKey(s, prompts))
	return Outputs{Records: records, Tallies: tallies}, nil
}

// Apply runs a chain of stages on every dossier.
//
// It takes a PCollection<schemas.Dossier> and returns one of the same length. It returns an error if
// the chain or o is invalid. It uses no journal: it repeats its calls each time.
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

// work is the configuration of a DoFn. It travels as JSON.
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

// bundleRun is a bundle's part of the run in this process.
type bundleRun struct {
	options Options
	run     *runState
	chain   stage.Stage
	calls   *counters.Tally
	// fed is the fleet that counts the bundle among the sources of prompts.
	fed *fleet.Fleet
}

func newBundleRun(encoded string) (*bundleRun, error) {
	var w work
	if err := json.Unmarshal([]byte(encoded), &w); err != nil {
		return nil, fmt.Errorf("infer: %w", err)
	}
	chain, err := stage.Chain(w.Chain)
	if err != nil {
		return nil, err
	}
	return &bundleRun{options: w.Options.withDefaults(), chain: chain}, nil
}

// join finds or starts the run in this process. It is called when a bundle starts and not in Setup:
// Flink waits for ever after an error there.
func (b *bundleRun) join(ctx context.Context) error {
	s, err := Attach(b.options.Attempt).join(ctx, b.options)
	if err != nil {
		return err
	}
	b.run = s
	if b.calls == nil { // the counters outlive a state
		b.calls = s.counters.NewTally()
	}
	b.expectPrompts(true)
	return nil
}

// expectPrompts reports to the fleet whether the bundle may bring more prompts.
func (b *bundleRun) expectPrompts(more bool) {
	f := b.run.fleet
	if b.fed != nil && (b.fed != f || !more) {
		b.fed.Feed(-1)
		b.fed = nil
	}
	if more && b.fed == nil {
		f.Feed(1)
		b.fed = f
	}
}

// abandon is for a bundle that failed: it brings no more prompts.
func (b *bundleRun) abandon() { b.expectPrompts(false) }

// advance runs the chain on a dossier, with the view's records of it.
func (b *bundleRun) advance(ctx context.Context, d *schemas.Dossier, view *journal.View, records journal.Records) error {
	defer b.run.fleet.ForgetPrompt(d.Prompt.ID)
	c := &journaledCaller{run: b.run, calls: b.calls, records: records, view: view}
	b.run.counters.Begun.Add(1)
	err := b.chain(ctx, c, d)
	if errors.Is(err, fleet.ErrOverBudget) {
		*d = schemas.Dossier{Prompt: d.Prompt, OverBudget: true}
		err = nil
	}
	if err != nil {
		if ctx.Err() == nil {
			b.run.fleet.Settle(ctx)
		}
		b.run.fail(err)
		return err
	}
	if c.asked.Load() {
		b.run.counters.Asked.Add(1)
	}
	b.run.counters.Prompts.Add(1)
	return nil
}

// takeCalls returns the bundle's calls, and the fleet's own calls with them.
func (b *bundleRun) takeCalls() map[string]schemas.CallTally {
	calls := b.calls.Take()
	for stage, own := range b.run.fleet.TakeOwn() {
		calls[stage] = calls[stage].Plus(own)
	}
	return calls
}

// findFn makes a finding of each prompt.
type findFn struct {
	Work string

	bundle   *bundleRun
	window   *window.Window[schemas.Finding]
	merged   int64
	findings int64
}

// Setup decodes the configuration.
func (f *findFn) Setup() error {
	var err error
	f.bundle, err = newBundleRun(f.Work)
	return err
}

// StartBundle opens the bundle's window. It ends with the bundle's context or the run's.
func (f *findFn) StartBundle(ctx context.Context, _ func(schemas.Record), _ func(schemas.Tally)) error {
	if err := f.bundle.join(ctx); err != nil {
		return err
	}
	f.window = window.New[schemas.Finding](f.bundle.run.window, f.bundle.run.ctx, ctx)
	f.merged, f.findings = 0, 0
	return nil
}

// ProcessElement starts the work on a bucket's prompts and emits findings that are ready.
func (f *findFn) ProcessElement(ctx context.Context, bucket string, prompts func(*schemas.Prompt) bool, emit func(schemas.Record), _ func(schemas.Tally)) (err error) {
	defer f.window.CloseAfter(&err, f.bundle.abandon, f.bundle.run.flush)
	distinct, merged := merge(prompts)
	f.merged += merged
	mergedCounter.Inc(ctx, merged)
	wanted := make(map[string]bool, len(distinct))
	for i := range distinct {
		wanted[distinct[i].ID] = true
	}
	view := f.bundle.run.load(f.window.Context(), bucket, wanted)
	for _, p := range distinct {
		if err := f.window.Start(f.find(p, view), f.emit(ctx, emit)); err != nil {
			return f.bundle.run.rootCause(err)
		}
	}
	return nil
}

// FinishBundle emits the other findings, and the bundle's tally.
func (f *findFn) FinishBundle(ctx context.Context, emit func(schemas.Record), tally func(schemas.Tally)) (err error) {
	defer f.window.CloseAfter(&err, f.bundle.abandon, f.bundle.run.flush)
	f.bundle.expectPrompts(false)
	if err := f.window.Drain(f.emit(ctx, emit)); err != nil {
		return f.bundle.run.rootCause(err)
	}
	t := schemas.Tally{Merged: f.merged, Findings: f.findings, Calls: f.bundle.takeCalls()}
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

// find returns the work on one prompt.
func (f *findFn) find(p schemas.Prompt, load func() (*journal.View, error)) func(context.Context) (schemas.Finding, error) {
	return func(ctx context.Context) (schemas.Finding, error) {
		view, err := load()
		if err != nil {
			return schemas.Finding{}, err
		}
		d := schemas.Dossier{Prompt: p}
		if view == nil {
			err := f.bundle.advance(ctx, &d, nil, nil)
			return schemas.NewFinding(&d), err
		}
		records, key := view.Take(p.ID), journal.PromptKey(&p)
		if _, ok := records.Get(key, 0); !ok {
			err := view.Append(journal.Record{Key: key, PromptID: p.ID, Prompt: &p})
			if err == nil {
				err = view.Ready(ctx)
			}
			if err != nil {
				f.bundle.run.fail(err)
				return schemas.Finding{}, err
			}
		}
		if err := f.bundle.advance(ctx, &d, view, records); err != nil {
			return schemas.Finding{}, err
		}
		// A finding is emitted once the records behind it are durable.
		if err := view.Sync(ctx); err != nil {
			f.bundle.run.fail(err)
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

	bundle *bundleRun
	window *window.Window[schemas.Dossier]
}

// Setup decodes the configuration.
func (f *applyFn) Setup() error {
	var err error
	f.bundle, err = newBundleRun(f.Work)
	return err
}

// StartBundle opens the bundle's window.
func (f *applyFn) StartBundle(ctx context.Context, _ func(schemas.Dossier)) error {
	if err := f.bundle.join(ctx); err != nil {
		return err
	}
	f.window = window.New[schemas.Dossier](f.bundle.run.window, f.bundle.run.ctx, ctx)
	return nil
}

// ProcessElement starts the chain on a dossier and emits finished ones.
func (f *applyFn) ProcessElement(ctx context.Context, d schemas.Dossier, emit func(schemas.Dossier)) (err error) {
	defer f.window.CloseAfter(&err, f.bundle.abandon)
	return f.bundle.run.rootCause(f.window.Start(f.advance(d), f.emit(ctx, emit)))
}

// FinishBundle emits the other dossiers.
func (f *applyFn) FinishBundle(ctx context.Context, emit func(schemas.Dossier)) (err error) {
	defer f.window.CloseAfter(&err, f.bundle.abandon)
	f.bundle.expectPrompts(false)
	if err := f.window.Drain(f.emit(ctx, emit)); err != nil {
		return f.bundle.run.rootCause(err)
	}
	countCalls(ctx, f.bundle.calls.Take())
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
		err := f.bundle.advance(ctx, &d, nil, nil)
		return d, err
	}
}
