package infer

import (
	"context"
	"fmt"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/stage"
	"coeval/transforms/window"
)

// Dossiers runs the chain on dossiers of distinct prompts outside of a pipeline, and leaves in
// each what the chain adds. It returns the counts of calls by stage.
//
// It is for what is small enough to be held in memory and wants the texts back: a pipeline
// would send them through a shuffle. The rest is as in [Findings]: the same fleet, limiter and
// window; calls that o.Journal holds in buckets of this many bits are not made, and what is
// returned is durable there. [Watch], [Fatal] and [Settle] tell and do the same, and [Close] has
// to be called. It returns an error if the chain or o is invalid, or the run has to stop.
func Dossiers(ctx context.Context, dossiers []schemas.Dossier, bits int, chain []stage.Spec, o Options) (map[string]schemas.CallTally, error) {
	encoded, err := encodeWork(chain, o)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(encoded)
	if err != nil {
		return nil, err
	}
	if err := e.join(ctx); err != nil {
		return nil, err
	}
	wanted := map[string]map[string]bool{}
	for i := range dossiers {
		id := dossiers[i].Prompt.ID
		bucket := journal.Bucket(id, bits)
		if wanted[bucket] == nil {
			wanted[bucket] = map[string]bool{}
		}
		if wanted[bucket][id] {
			return nil, fmt.Errorf("infer: prompt %s has two dossiers", id)
		}
		wanted[bucket][id] = true
	}
	e.feeds(true)
	defer e.failed()
	w := window.New[struct{}](e.process.window, e.process.ctx, ctx)
	defer w.Close()
	loads := make(map[string]func() (*journal.View, error), len(wanted))
	for bucket, ids := range wanted {
		loads[bucket] = e.process.load(w.Context(), bucket, ids)
	}
	done := func(struct{}) {}
	for i := range dossiers {
		d := &dossiers[i]
		work := func(ctx context.Context) (struct{}, error) {
			return struct{}{}, e.advance(ctx, d, loads[journal.Bucket(d.Prompt.ID, bits)])
		}
		if err := w.Start(work, done); err != nil {
			return nil, e.process.cause(err)
		}
	}
	e.feeds(false)
	if err := w.Drain(done); err != nil {
		return nil, e.process.cause(err)
	}
	calls := e.calls.take()
	for stage, own := range e.process.fleet.own.take() {
		calls[stage] = calls[stage].Plus(own)
	}
	return calls, nil
}

// advance runs the chain on a dossier with what the journal has of it, and returns when all
// that it added is durable.
func (e *engine) advance(ctx context.Context, d *schemas.Dossier, load func() (*journal.View, error)) error {
	view, err := load()
	if err != nil {
		return err
	}
	if view == nil {
		return e.run(ctx, d, nil, nil)
	}
	if err := e.run(ctx, d, view, view.Take(d.Prompt.ID)); err != nil {
		return err
	}
	if err := view.Sync(ctx); err != nil {
		e.process.died(err)
		return err
	}
	return nil
}
