package metareward

import (
	"context"
	"fmt"

	"coeval/datasets/journal"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
)

// CheckKept returns an error if out has the run.json of a run with answers, and its journal contains none: a
// run would request and pay for all of them again. A salvaged journal passes, since its loss is known.
func CheckKept(ctx context.Context, out string) error {
	run, err := rundir.ReadRun(ctx, out)
	if err != nil || run == nil || run.Stats.Responses.Replicates == 0 {
		return err
	}
	dir := JournalDir(out)
	switch kept, err := journal.Exists(ctx, dir); {
	case err != nil:
		return err
	case kept:
		return nil
	}
	salvaged, err := store.List(ctx, store.Join(dir, upkeep.DamagedFolder)+"/")
	if err != nil {
		return fmt.Errorf("metareward: %w", err)
	}
	if len(salvaged) > 0 {
		return nil
	}
	return fmt.Errorf("%s has no answers any more, and %s counts %d responses: restore the folder, or choose another --out to request and pay for all answers again",
		dir, store.Join(out, rundir.RunFile), run.Stats.Responses.Replicates)
}
