package upkeep

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// CompactAbove is the number of segments that a bucket may have when a run begins; [Compact] merges
// more.
const CompactAbove = 64

// Compacted counts the work of [Compact].
type Compacted struct {
	// Buckets is the number of rewritten buckets, Segments the number of segments before, and Removed the
	// number of removed segments. Recent is the number of buckets that were left unchanged because of
	// recent writes.
	Buckets  int `json:"buckets"`
	Segments int `json:"segments"`
	Removed  int `json:"removed"`
	Recent   int `json:"recent"`
}

// Compact merges the segments, and the pins, of each bucket that has more than above into one. The
// caller must own the run's lock, and no attempt may be running: Compact removes views together with
// the segments that they list.
//
// No call is lost: the records that the next load would use are durable in the new file before an old
// file is removed. A crash in between leaves both, which agree. Compact leaves out records that no load
// would use. The name of the new file sorts among the old names, so that its records keep their rank
// against the records of shorter prefixes.
//
// On a local disk a worker of a run that has lost the lock may still append without knowing it. Compact
// skips a bucket to which somebody wrote within the quiet time, and keeps late appends all the same. The
// quiet time is as long as a worker may take to notice the loss, which is lock.Expires.
func Compact(ctx context.Context, dir string, above int, quiet time.Duration) (done Compacted, err error) {
	all, err := buckets.ListAll(ctx, dir)
	if err != nil {
		return done, err
	}
	var chosen []*compaction
	var views []string
	for _, b := range all {
		done.Segments += len(b.Segments) + len(b.Pins)
		if len(b.Segments)+len(b.Pins) <= max(above, 1) || len(b.Segments) <= 1 && len(b.Pins) <= 1 {
			continue
		}
		recent, err := recentlyWritten(dir, b.Segments, quiet)
		if err != nil {
			return done, err
		}
		if recent {
			done.Recent++
			continue
		}
		chosen, views = append(chosen, &compaction{Files: b}), append(views, buckets.ViewsOf(all, b.Name)...)
	}
	slices.Sort(views)
	views = slices.Compact(views)
	if err := buckets.CheckViews(ctx, dir, buckets.NewWholeLengths(dir, all), views); err != nil {
		return done, err
	}
	if err := mergeAll(ctx, dir, chosen); err != nil {
		return done, err
	}
	// Views go first: a view that lists missing files counts as a loss.
	if err := store.RemoveFiles(ctx, inFolder(dir, views)); err != nil {
		return done, fmt.Errorf("journal: %w", err)
	}
	for _, b := range chosen {
		removed, err := b.removeMerged(ctx, dir)
		done.Buckets++
		done.Removed += removed
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// A compaction is a bucket with the segments that another file replaces.
type compaction struct {
	*buckets.Files

	merged []buckets.Segment
}

func inFolder(dir string, names []string) []string {
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = store.Join(dir, name)
	}
	return full
}

// mergeAll merges the files of each bucket, and removes nothing.
func mergeAll(ctx context.Context, dir string, chosen []*compaction) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxCompactions)
	for _, b := range chosen {
		group.Go(func() error {
			for _, class := range [][]buckets.Segment{b.Pins, b.Segments} {
				if len(class) <= 1 {
					continue
				}
				name, err := merge(ctx, dir, class)
				if err != nil {
					return err
				}
				for _, s := range class {
					if s.Name != name { // else an interrupted compaction has already written it
						b.merged = append(b.merged, s)
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// maxCompactions is the number of buckets that are compacted in parallel. Each is in memory, and mostly
// waits for the store.
const maxCompactions = 4

// removeMerged removes the files that the merged ones replace, and returns their number.
func (b *compaction) removeMerged(ctx context.Context, dir string) (int, error) {
	var old []string
	for _, s := range b.merged {
		if !isGrowing(dir, s) {
			old = append(old, store.Join(dir, s.Name))
			continue
		}
		renamed, grew, err := renameAway(ctx, dir, s)
		if err != nil {
			return 0, err
		}
		if !grew {
			old = append(old, renamed)
		}
	}
	if err := store.RemoveFiles(ctx, old); err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	return len(old), nil
}

// merge writes the records of several segments of one kind into one, and returns its name.
func merge(ctx context.Context, dir string, class []buckets.Segment) (name string, err error) {
	buckets.Sort(class)
	winners := map[segment.ID]*segment.Record{}
	err = buckets.Read(ctx, dir, class, func(_ int, b []byte) error {
		_, err := segment.Decode(b, nil, func(r *segment.Record) {
			at := r.ID()
			if old := winners[at]; old == nil || r.Better(old) {
				winners[at] = r
			}
		})
		return err
	})
	if err != nil {
		return "", err
	}
	records := make([]segment.Record, 0, len(winners))
	for _, r := range winners {
		records = append(records, *r)
	}
	slices.SortFunc(records, func(a, b segment.Record) int {
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.Key, b.Key), a.Replicate-b.Replicate)
	})
	if name, err = buckets.Write(ctx, dir, path.Join(path.Dir(class[0].Name), segment.MergedStem(path.Base(class[0].Name))), records); err != nil {
		return "", err
	}
	return name, checkMerged(ctx, dir, name, winners)
}

// isGrowing reports whether a segment may still grow. On an object store, and under all other names,
// files stay as they were written.
func isGrowing(dir string, s buckets.Segment) bool {
	return store.HasLocks(dir) && segment.IsAppendable(path.Base(s.Name))
}

// recentlyWritten reports whether a segment was written within the quiet period.
func recentlyWritten(dir string, segments []buckets.Segment, quiet time.Duration) (bool, error) {
	for _, s := range segments {
		if !isGrowing(dir, s) {
			continue
		}
		info, err := os.Stat(store.Join(dir, s.Name))
		if err != nil {
			return false, fmt.Errorf("journal: %w", err)
		}
		if time.Since(info.ModTime()) < quiet {
			return true, nil
		}
	}
	return false, nil
}

// renameAway gives a segment a name that no writer knows, and reports whether it has grown since it was
// read. A writer checks the name of its segment after each frame. If it saved a frame before the
// renaming, renameAway sees the growth. If it writes a frame after the renaming, the writer notices the
// new name and writes the frame again.
func renameAway(ctx context.Context, dir string, s buckets.Segment) (name string, grew bool, err error) {
	base, err := segment.NewName()
	if err != nil {
		return "", false, err
	}
	name = store.Join(dir, path.Dir(s.Name), base+segment.Suffix)
	if err := store.Move(ctx, store.Join(dir, s.Name), name); err != nil {
		return "", false, fmt.Errorf("journal: %w", err)
	}
	is, err := store.Stat(ctx, name)
	if err != nil {
		return "", false, fmt.Errorf("journal: %w", err)
	}
	return name, is.Size != s.Length, nil
}

// checkMerged reads a new segment back before the files that it replaces are removed.
func checkMerged(ctx context.Context, dir, name string, want map[segment.ID]*segment.Record) error {
	full := store.Join(dir, name)
	b, err := store.ReadFile(ctx, full)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	same := 0
	_, err = segment.Decode(b, nil, func(r *segment.Record) {
		if w := want[r.ID()]; w != nil && (w.Prompt != nil || reflect.DeepEqual(w, r)) {
			same++
		}
	})
	if err != nil {
		return fmt.Errorf("journal: %s: %w", full, err)
	}
	if same != len(want) {
		return fmt.Errorf("journal: %s: contains %d of %d records after it was written; nothing was removed", full, same, len(want))
	}
	return nil
}
