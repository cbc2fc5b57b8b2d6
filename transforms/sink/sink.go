// Package sink writes the files of a run from findings and their selections.
//
// Write rebuilds every dossier: it runs the same stages, with all generations from the journal. It streams
// the rows into Parquet shards in a staging folder, and describes the files in manifests. A missing record,
// or a rebuilt finding that differs from the original, is an error that shows a bug. Commit checks the
// ledger, gives the files their final names, removes those of an earlier run, and writes run.json last.
//
// The package promises:
//
//   - A file under its final name is complete.
//   - The tables of a folder with run.json contain the files of one run only. Other files in an adopted
//     folder stay.
//   - Nothing is committed unless every count adds up.
//   - An attempt that has lost the lock of Out to another attempt commits nothing, and adds no pin to the
//     journal (see [journal.Replay.Pin] and [lock.Fence]).
//   - Each step can be repeated.
//
// OUT is incomplete while Commit works: run.json does not exist then.
//
// Metrics, namespace "sink", counters: prompts, rows, files.
package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/datasets/journal"
	"coeval/datasets/lock"
	"coeval/schemas"
	_ "coeval/transforms/coders"
	"coeval/transforms/judge"
	"coeval/transforms/pairs"
	"coeval/transforms/stage"
	"coeval/transforms/window"
)

func init() {
	// A DoFn here takes a shard or a prompt at a time, so reflection costs nothing that shows. The generic
	// register.DoFn takes a minute to compile for five of them.
	beam.RegisterDoFn(reflect.TypeFor[tallyFn]())
	beam.RegisterDoFn(reflect.TypeFor[shardFn]())
	beam.RegisterDoFn(reflect.TypeFor[markFn]())
	beam.RegisterDoFn(reflect.TypeFor[writeFn]())
	beam.RegisterDoFn(reflect.TypeFor[commitFn]())
	register.Emitter1[schemas.Tally]()
	register.Emitter1[schemas.Manifest]()
	register.Emitter2[int64, schemas.Record]()
	register.Iter1[schemas.Record]()
}

// Options select the tables and their place.
type Options struct {
	// Out is the run's folder. Required.
	Out string `json:"out"`
	// Attempt names the staging folder below Out. Required.
	Attempt string `json:"attempt"`
	// Fence reports whether Out has a lock that must name the attempt. Otherwise no file gets its
	// final name.
	Fence bool `json:"fence,omitempty"`
	// Journal is the folder that dossiers are rebuilt from. Required.
	Journal string `json:"journal"`
	// PrefixBits are the prefix lengths of the journal's buckets; see [journal.FindPrefixBits].
	PrefixBits journal.PrefixBits `json:"prefix_bits"`
	// Shards is the number of files of each table. Required.
	Shards int `json:"shards"`
	// Chain is the chain of stages that the findings came from. Required.
	Chain []stage.Spec `json:"chain"`
	// Roles are the roles to write pairs for. Required.
	Roles []string `json:"roles"`
	// Actor and MetaJudge supply the rows' names of models. Pools maps each further role that answers
	// prompts to its models and their revisions.
	Actor     stage.Role        `json:"actor"`
	Pools     map[string]string `json:"pools,omitempty"`
	MetaJudge stage.Role        `json:"meta_judge"`
	// Judging has the judge's role, and renders the prompts of judge pairs. Required.
	Judging judge.Options `json:"judging"`
	// Pairing has the position weights of the run. Required for the role judge.
	Pairing pairs.JudgeOptions `json:"pairing"`
	// Lines is the number of lines in the scan of the input; a run that reads another
	// number is not committed.
	Lines int64 `json:"lines"`
	// Config is the part of the config that decides the data, a JSON object.
	Config json.RawMessage `json:"config"`
	// Workers is how many shards a bundle writes at a time. Zero means one for each core.
	Workers int `json:"workers,omitempty"`

	fence *lock.Fence
}

// fenced returns an error when Out is another run's.
func (o *Options) fenced(ctx context.Context) error {
	if o.fence == nil {
		return nil
	}
	if err := o.fence.Check(ctx); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

func (o *Options) validate() error {
	var errs []error
	for _, f := range []struct{ name, value string }{{"Out", o.Out}, {"Attempt", o.Attempt}, {"Journal", o.Journal}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("sink: %s is empty; it must be a name", f.name))
		}
	}
	if o.Shards < 1 {
		errs = append(errs, fmt.Errorf("sink: Shards is %d; it must be at least 1", o.Shards))
	}
	if len(o.Roles) == 0 {
		errs = append(errs, errors.New("sink: Roles is empty; allowed are actor and judge"))
	}
	return errors.Join(errs...)
}

// modelOf returns the model that gave a response, with its revision.
func (o *Options) modelOf(r *schemas.Response) string {
	if r.IsActors() {
		return o.Actor.Identity()
	}
	return o.Pools[r.Pool]
}

// reads reports whether the run has a table of reads.
func (o *Options) reads() bool {
	return o.Judging.Reads > 0 || o.wants(schemas.RoleJudge) && o.MetaJudge.Read != nil
}

func (o *Options) wants(role string) bool { return slices.Contains(o.Roles, role) }

// Tally counts the elements before the shuffle that brings them to the files.
//
// It takes a PCollection<schemas.Record> and returns a PCollection<schemas.Tally>, one of each
// bundle.
func Tally(s beam.Scope, records beam.PCollection) beam.PCollection {
	return beam.ParDo(s.Scope("sink.Tally"), &tallyFn{}, records)
}

// Write writes all shards below Out's staging folder.
//
// It takes a PCollection<schemas.Record> and returns a PCollection<schemas.Manifest>, one of
// each shard, including shards without a record. It returns an error if o is invalid.
func Write(s beam.Scope, records beam.PCollection, o Options) (beam.PCollection, error) {
	spec, err := encodeOptions(o)
	if err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("sink.Write")
	keyed := beam.ParDo(s, &shardFn{Shards: o.Shards}, records)
	marks := beam.ParDo(s, &markFn{Shards: o.Shards}, beam.Impulse(s))
	grouped := beam.GroupByKey(s, beam.Flatten(s, keyed, marks))
	return beam.Reshuffle(s, beam.ParDo(s, &writeFn{Spec: spec}, grouped)), nil
}

// Commit checks the ledger and makes the staged files the run's.
//
// It takes a PCollection<schemas.Tally> with the counts of all stages, and the
// PCollection<schemas.Manifest> of Write. It returns an error if o is invalid.
func Commit(s beam.Scope, tallies, manifests beam.PCollection, o Options) error {
	spec, err := encodeOptions(o)
	if err != nil {
		return err
	}
	s = s.Scope("sink.Commit")
	beam.ParDo0(s, &commitFn{Spec: spec}, beam.Impulse(s), beam.SideInput{Input: tallies}, beam.SideInput{Input: manifests})
	return nil
}

func encodeOptions(o Options) (string, error) {
	if err := o.validate(); err != nil {
		return "", err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("sink: %w", err)
	}
	return string(b), nil
}

func decodeOptions(spec string) (*Options, error) {
	var o Options
	if err := json.Unmarshal([]byte(spec), &o); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Fence {
		o.fence = lock.NewFence(o.Out, o.Attempt)
	}
	return &o, nil
}

var (
	promptsCounter = beam.NewCounter("sink", "prompts")
	rowsCounter    = beam.NewCounter("sink", "rows")
	filesCounter   = beam.NewCounter("sink", "files")
)

// tallyFn counts bad lines and selections.
type tallyFn struct {
	tally schemas.Tally
}

// StartBundle starts from nothing.
func (f *tallyFn) StartBundle(_ func(schemas.Tally)) { f.tally = schemas.Tally{} }

// ProcessElement counts one record.
func (f *tallyFn) ProcessElement(r schemas.Record, _ func(schemas.Tally)) {
	one := schemas.Tally{Selections: map[string]int64{}}
	if r.BadLine != nil {
		one.BadLines = 1
	}
	if r.Actor != nil {
		one.Selections[schemas.RoleActor] = 1
	}
	if r.Judge != nil {
		one.Selections[schemas.RoleJudge] = 1
	}
	f.tally.Add(one)
}

// FinishBundle emits the bundle's counts.
func (f *tallyFn) FinishBundle(emit func(schemas.Tally)) { emit(f.tally) }

// shardFn keys a record by its shard.
type shardFn struct {
	Shards int
}

// ProcessElement keys a finding by its prompt, a bad line by its place.
func (f *shardFn) ProcessElement(r schemas.Record) (int64, schemas.Record) {
	if r.BadLine != nil {
		return int64(schemas.Shard(fmt.Sprintf("%s:%d", r.BadLine.File, r.BadLine.Line), f.Shards)), r
	}
	return int64(schemas.Shard(r.Finding.PromptID, f.Shards)), r
}

// markFn gives every shard an empty record, so that each is written.
type markFn struct {
	Shards int
}

// ProcessElement emits the marks.
func (f *markFn) ProcessElement(_ []byte, emit func(int64, schemas.Record)) {
	for shard := range f.Shards {
		emit(int64(shard), schemas.Record{})
	}
}

// writeFn writes shards, several at a time.
type writeFn struct {
	Spec string

	options *Options
	stage   stage.Stage
	window  *window.Window[schemas.Manifest]
}

// Setup decodes the options.
func (f *writeFn) Setup() error {
	var err error
	if f.options, err = decodeOptions(f.Spec); err != nil {
		return err
	}
	f.stage, err = stage.Chain(f.options.Chain)
	return err
}

// StartBundle opens the bundle's window.
func (f *writeFn) StartBundle(ctx context.Context, _ func(schemas.Manifest)) {
	f.window = window.New[schemas.Manifest](func() int { return f.options.Workers }, ctx)
}

// ProcessElement starts to write a shard and emits the manifests that are ready.
func (f *writeFn) ProcessElement(ctx context.Context, shard int64, records func(*schemas.Record) bool, emit func(schemas.Manifest)) (err error) {
	defer f.window.CloseAfter(&err)
	var all []schemas.Record
	for r := (schemas.Record{}); records(&r); r = (schemas.Record{}) {
		if r.Finding != nil || r.BadLine != nil {
			all = append(all, r)
		}
	}
	return f.window.Start(func(ctx context.Context) (schemas.Manifest, error) {
		return writeShard(ctx, f.options, f.stage, int(shard), all)
	}, f.emit(ctx, emit))
}

// FinishBundle waits for the shards that are still being written.
func (f *writeFn) FinishBundle(ctx context.Context, emit func(schemas.Manifest)) (err error) {
	defer f.window.CloseAfter(&err)
	return f.window.Drain(f.emit(ctx, emit))
}

func (f *writeFn) emit(ctx context.Context, emit func(schemas.Manifest)) func(schemas.Manifest) {
	return func(m schemas.Manifest) {
		promptsCounter.Inc(ctx, m.Findings)
		filesCounter.Inc(ctx, int64(len(m.Files)))
		for _, file := range m.Files {
			rowsCounter.Inc(ctx, file.Rows)
		}
		emit(m)
	}
}

// commitFn is the last step of a run.
type commitFn struct {
	Spec string
}

// ProcessElement commits the run, or returns the reason why it cannot.
func (f *commitFn) ProcessElement(ctx context.Context, _ []byte, tallies []schemas.Tally, manifests []schemas.Manifest) error {
	o, err := decodeOptions(f.Spec)
	if err != nil {
		return err
	}
	return commit(ctx, o, tallies, manifests)
}
