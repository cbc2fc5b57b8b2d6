package infer

import (
	"context"
	"fmt"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/stage"
	"coeval/transforms/window"
)

// RunInProcess runs a chain of stages on dossiers of distinct prompts without a pipeline, and leaves
// the results in them. It returns the counts of calls by stage.
//
// It is for dossiers that fit into memory and whose texts the caller needs: a pipeline would send them
// through a shuffle. Otherwise it works like [RunStages]: with the same fleet and window, it does not
// make calls that o.Journal has in buckets of this many bits, and its results are durable there. The
// caller must close the [Run]. It returns an error if the chain or o is invalid, or the run has to stop.
func RunInProcess(ctx context.Context, dossiers []schemas.Dossier, bits int, chain []stage.Spec, o Options) (map[string]schemas.CallTally, error) {
	encoded, err := encodeWork(chain, o)
	if err != nil {
		return nil, err
	}
	b, err := newBundleRun(encoded)
	if err != nil {
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
	if err := b.join(ctx); err != nil {
		return nil, err
	}
	defer b.abandon()
	w := window.New[struct{}](b.run.window, b.run.ctx, ctx)
	defer w.Close()
	loads := make(map[string]func() (*journal.View, error), len(wanted))
	for bucket, ids := range wanted {
		loads[bucket] = b.run.load(w.Context(), bucket, ids)
	}
	done := func(struct{}) {}
	for i := range dossiers {
		d := &dossiers[i]
		work := func(ctx context.Context) (struct{}, error) {
			return struct{}{}, b.advanceDurably(ctx, d, loads[journal.Bucket(d.Prompt.ID, bits)])
		}
		if err := w.Start(work, done); err != nil {
			return nil, b.run.rootCause(err)
		}
	}
	b.expectPrompts(false)
	if err := w.Drain(done); err != nil {
		return nil, b.run.rootCause(err)
	}
	return b.takeCalls(), nil
}

// advanceDurably runs the chain on a dossier, and returns when all that it added is durable.
func (b *bundleRun) advanceDurably(ctx context.Context, d *schemas.Dossier, load func() (*journal.View, error)) error {
	view, err := load()
	if err != nil {
		return err
	}
	if view == nil {
		return b.advance(ctx, d, nil, nil)
	}
	if err := b.advance(ctx, d, view, view.Take(d.Prompt.ID)); err != nil {
		return err
	}
	if err := view.Sync(ctx); err != nil {
		b.run.fail(err)
		return err
	}
	return nil
}
