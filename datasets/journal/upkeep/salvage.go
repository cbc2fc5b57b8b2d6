package upkeep

import (
	"context"
	"fmt"
	"path"
	"strings"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// DamagedFolder is the folder below a journal into which [Salvage] moves damaged files. It is not a
// bucket, so that nothing reads it.
const DamagedFolder = "damaged"

// Salvage makes a damaged journal usable again. The next run requests the lost records, and nothing
// else. The caller must own the run's lock, and no attempt may be running.
//
// Salvage writes the whole records of a damaged segment into a new segment, checks it, and only then
// moves the damaged file to [DamagedFolder]. It moves damaged views and views that list lost segments to
// the same place. It returns the damage that was there, and changes nothing where there is none. A
// salvage that was interrupted can be repeated.
func Salvage(ctx context.Context, dir string) (*Health, error) {
	h, err := Check(ctx, dir)
	if err != nil || len(h.Damages) == 0 {
		return h, err
	}
	for i := range h.Damages {
		if d := &h.Damages[i]; d.kind == damagedSegment {
			if err := salvageSegment(ctx, dir, d.name); err != nil {
				return nil, err
			}
		}
	}
	// Views come second, because they list the damaged files. Some may list lost files.
	all, err := buckets.ListAll(ctx, dir)
	if err != nil {
		return nil, err
	}
	files := buckets.NewWholeLengths(dir, all)
	for _, b := range all {
		for _, view := range b.Views {
			if err := buckets.CheckViews(ctx, dir, files, []string{view}); err == nil {
				continue
			} else if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err := quarantine(ctx, dir, view); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// salvageSegment replaces a damaged segment by one of its whole records. Its name sorts as the damaged
// one's, so that its records keep their rank.
func salvageSegment(ctx context.Context, dir, name string) error {
	full := store.Join(dir, name)
	b, err := store.ReadFile(ctx, full)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	want := map[segment.ID]*segment.Record{}
	var records []segment.Record
	segment.Readable(b, func(r *segment.Record) {
		at := r.ID()
		old := want[at]
		if old == nil || r.Better(old) {
			want[at] = r
		}
	})
	seen := map[segment.ID]bool{}
	segment.Readable(b, func(r *segment.Record) { // in the order of the file
		if at := r.ID(); !seen[at] {
			seen[at] = true
			records = append(records, *want[at])
		}
	})
	if len(records) > 0 {
		salvaged, err := buckets.Write(ctx, dir, path.Join(path.Dir(name), segment.MergedStem(path.Base(name))), records)
		if err != nil {
			return err
		}
		if err := checkMerged(ctx, dir, salvaged, want); err != nil {
			return err
		}
		if salvaged == name {
			return nil
		}
	}
	return quarantine(ctx, dir, name)
}

// quarantine moves a damaged file out of its bucket, into DamagedFolder.
func quarantine(ctx context.Context, dir, name string) error {
	to := store.Join(dir, DamagedFolder, strings.ReplaceAll(name, "/", "-"))
	if err := store.Move(ctx, store.Join(dir, name), to); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
