package journal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/datasets/store"
)

// CompactAbove is the number of segments that a bucket may have when a run begins; [Compact] merges
// more.
const CompactAbove = 64

// Compacted counts the work of [Compact].
type Compacted struct {
	// Buckets is the number of rewritten buckets, Segments the number of segments before, Removed
	// the number of removed ones, and Recent the number of buckets that were left unchanged because of
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
// against those of shorter prefixes.
//
// On a local disk a worker of a run that has lost the lock may still append without knowing it. Compact
// skips a bucket with recent writes, and keeps late appends all the same.
func Compact(ctx context.Context, dir string, above int) (done Compacted, err error) {
	buckets, err := listBuckets(ctx, dir)
	if err != nil {
		return done, err
	}
	var chosen []*bucketFiles
	var views []string
	for _, b := range buckets {
		done.Segments += len(b.segments) + len(b.pins)
		if len(b.segments)+len(b.pins) <= max(above, 1) || len(b.segments) <= 1 && len(b.pins) <= 1 {
			continue
		}
		recent, err := recentlyWritten(dir, b.segments)
		if err != nil {
			return done, err
		}
		if recent {
			done.Recent++
			continue
		}
		chosen, views = append(chosen, b), append(views, viewsOf(buckets, b.name)...)
	}
	slices.Sort(views)
	views = slices.Compact(views)
	if err := checkViews(ctx, dir, newLengths(dir, buckets), views); err != nil {
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

// mergeAll merges the files of each bucket, and removes nothing.
func mergeAll(ctx context.Context, dir string, buckets []*bucketFiles) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxCompactions)
	for _, b := range buckets {
		group.Go(func() error {
			for _, class := range [][]segment{b.pins, b.segments} {
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

// bucketFiles are the files in a bucket's own folder.
type bucketFiles struct {
	name           string
	segments, pins []segment
	// views are paths below the journal.
	views []string
	// merged are the segments that another file replaces.
	merged []segment
}

// listBuckets lists the journal once. The buckets are sorted by name.
func listBuckets(ctx context.Context, dir string) ([]*bucketFiles, error) {
	files, err := store.List(ctx, store.Join(dir)+"/b")
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	byName := map[string]*bucketFiles{}
	for _, f := range files {
		base, bucket := path.Base(f.Path), path.Base(path.Dir(f.Path))
		if !isBucket(bucket) || f.Path != store.Join(dir, bucket, base) {
			continue
		}
		b := byName[bucket]
		if b == nil {
			b = &bucketFiles{name: bucket}
			byName[bucket] = b
		}
		s := segment{Name: path.Join(bucket, base), Length: f.Size}
		switch {
		case isView(base):
			b.views = append(b.views, s.Name)
		case !isSegment(base):
			continue
		case strings.HasPrefix(base, pinPrefix):
			b.pins = append(b.pins, s)
		default:
			b.segments = append(b.segments, s)
		}
		if err := checkNoLink(dir, s.Name); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *bucketFiles) int { return strings.Compare(a.name, b.name) }), nil
}

// viewsOf returns the views that may list segments of a bucket: its own, and those of the buckets whose
// prefixes begin with its own.
func viewsOf(buckets []*bucketFiles, name string) []string {
	var views []string
	for _, b := range buckets {
		if strings.HasPrefix(b.name, name) {
			views = append(views, b.views...)
		}
	}
	return views
}

func inFolder(dir string, names []string) []string {
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = store.Join(dir, name)
	}
	return full
}

// checkViews returns an error when one of the views is damaged or lists more than is there.
func checkViews(ctx context.Context, dir string, l *lengths, views []string) error {
	for _, view := range views {
		listed, err := readView(ctx, dir, view)
		if err != nil {
			return err
		}
		lost, err := l.losses(ctx, view, listed)
		if err != nil {
			return err
		}
		if len(lost) > 0 {
			return fmt.Errorf("journal: %s: %s%s", store.Join(dir, lost[0].Name), lost[0].problem(view), salvageHint)
		}
	}
	return nil
}

// removeMerged removes the files that the merged ones replace, and returns their number.
func (b *bucketFiles) removeMerged(ctx context.Context, dir string) (int, error) {
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
func merge(ctx context.Context, dir string, class []segment) (name string, err error) {
	sortSegments(class)
	winners := map[id]*Record{}
	err = readSegments(ctx, dir, class, func(_ int, b []byte) error {
		_, err := decodeSegment(b, nil, func(r *Record) {
			at := id{r.Key, r.Replicate}
			if old := winners[at]; old == nil || r.better(old) {
				winners[at] = r
			}
		})
		return err
	})
	if err != nil {
		return "", err
	}
	records := make([]Record, 0, len(winners))
	for _, r := range winners {
		records = append(records, *r)
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.Key, b.Key), a.Replicate-b.Replicate)
	})
	if name, err = writeRecords(ctx, dir, path.Join(path.Dir(class[0].Name), mergedStem(path.Base(class[0].Name))), records); err != nil {
		return "", err
	}
	return name, checkMerged(ctx, dir, name, winners)
}

// isGrowing reports whether a segment may still grow. On an object store, and under all other names,
// files stay as they were written.
func isGrowing(dir string, s segment) bool {
	return store.HasLocks(dir) && isAppendable(path.Base(s.Name))
}

// quietPeriod is how long a growing segment must have been left alone before it is compacted: as long
// as a worker may take to notice that its run has lost the folder, which is lock.Expires.
var quietPeriod = 30 * time.Second

// recentlyWritten reports whether a segment was written within the quiet period.
func recentlyWritten(dir string, segments []segment) (bool, error) {
	for _, s := range segments {
		if !isGrowing(dir, s) {
			continue
		}
		info, err := os.Stat(store.Join(dir, s.Name))
		if err != nil {
			return false, fmt.Errorf("journal: %w", err)
		}
		if time.Since(info.ModTime()) < quietPeriod {
			return true, nil
		}
	}
	return false, nil
}

// renameAway gives a segment a name that no writer knows, and reports whether it has grown since it was
// read. A writer checks the name of its segment after each frame. A frame that it considers saved shows
// here as growth, and it writes a later frame again.
func renameAway(ctx context.Context, dir string, s segment) (name string, grew bool, err error) {
	base, err := newSegment()
	if err != nil {
		return "", false, err
	}
	name = store.Join(dir, path.Dir(s.Name), base+segmentSuffix)
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
func checkMerged(ctx context.Context, dir, name string, want map[id]*Record) error {
	full := store.Join(dir, name)
	b, err := store.ReadFile(ctx, full)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	same := 0
	_, err = decodeSegment(b, nil, func(r *Record) {
		if w := want[id{r.Key, r.Replicate}]; w != nil && (w.Prompt != nil || *w == *r) {
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

// mergedStem returns the beginning of the name of the file that replaces several files, given the name
// of the first of them. It sorts directly before that file, or beside it when that is a merged one.
func mergedStem(first string) string {
	stem := strings.TrimSuffix(first, segmentSuffix)
	length := len(segmentPrefix) + len(uuid.Nil.String())
	if strings.HasPrefix(first, pinPrefix) {
		length = len(pinPrefix) + pinStamp
	}
	return stem[:min(length, len(stem))]
}
