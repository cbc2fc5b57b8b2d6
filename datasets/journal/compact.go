package journal

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/datasets/store"
)

// CompactAbove is how many segments a bucket may have when a run begins before [Compact] makes
// few of them.
const CompactAbove = 64

// Compacted is what [Compact] did.
type Compacted struct {
	// Buckets were rewritten. Segments were there, of which Removed are gone. Recent buckets were
	// left as they are.
	Buckets  int `json:"buckets"`
	Segments int `json:"segments"`
	Removed  int `json:"removed"`
	Recent   int `json:"recent"`
}

// Compact makes one segment of the segments of each bucket that has more than above, and one
// pin of its pins. The caller holds the run's lock, and no attempt is under way: views are
// removed with what they list.
//
// No call is lost: what the next load would use of each key is durable in the new file before
// an old one is removed, and a crash in between leaves both, which agree. Records that no load
// would use are left out. A bucket's file lies within the order of the files that it stands
// for, so that it decides against those of shorter prefixes as they did.
//
// On a disk a worker of a run that lost the lock may not know it yet and still append. A bucket
// where that happened a moment ago is left for another time, and what is appended all the same is
// kept.
func Compact(ctx context.Context, dir string, above int) (Compacted, error) {
	var done Compacted
	files, err := store.List(ctx, store.Join(dir)+"/b")
	if err != nil {
		return done, fmt.Errorf("journal: %w", err)
	}
	byBucket := map[string][]store.File{}
	for _, f := range files {
		if bucket := path.Base(path.Dir(f.Path)); isBucket(bucket) && f.Path == store.Join(dir, bucket, path.Base(f.Path)) {
			byBucket[bucket] = append(byBucket[bucket], f)
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(compactors)
	for bucket, files := range byBucket {
		group.Go(func() error {
			one, err := compactBucket(ctx, dir, bucket, files, above)
			mu.Lock()
			defer mu.Unlock()
			done.Buckets += one.Buckets
			done.Segments += one.Segments
			done.Removed += one.Removed
			done.Recent += one.Recent
			return err
		})
	}
	return done, group.Wait()
}

// compactors is how many buckets are in memory at a time: much of it is waiting for a store.
const compactors = 4

func compactBucket(ctx context.Context, dir, bucket string, files []store.File, above int) (done Compacted, err error) {
	var segments, pins []segment
	var views []string
	for _, f := range files {
		base := path.Base(f.Path)
		s := segment{Name: path.Join(bucket, base), Length: f.Size}
		switch {
		case isView(base):
			views = append(views, f.Path)
		case !isSegment(base):
		case strings.HasPrefix(base, pinPrefix):
			pins = append(pins, s)
		default:
			segments = append(segments, s)
		}
	}
	done.Segments = len(segments) + len(pins)
	if len(segments)+len(pins) <= max(above, 1) || len(segments) <= 1 && len(pins) <= 1 {
		return done, nil
	}
	if recent, err := anyRecent(dir, segments); err != nil || recent {
		done.Recent = 1
		return done, err
	}
	done.Buckets = 1
	var old []string
	for _, class := range [][]segment{pins, segments} {
		if len(class) <= 1 {
			continue
		}
		merged, err := merge(ctx, dir, class)
		if err != nil {
			return done, err
		}
		old = append(old, merged...)
	}
	if err := store.RemoveFiles(ctx, append(views, old...)); err != nil {
		return done, fmt.Errorf("journal: %w", err)
	}
	done.Removed = len(old)
	return done, nil
}

// merge puts the records of several segments of one kind into one, and returns those that it
// stands for.
func merge(ctx context.Context, dir string, class []segment) (old []string, err error) {
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
		return nil, err
	}
	records := make([]Record, 0, len(winners))
	for _, r := range winners {
		records = append(records, *r)
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.Key, b.Key), a.Replicate-b.Replicate)
	})
	name, err := writeRecords(ctx, dir, path.Join(path.Dir(class[0].Name), mergedStem(path.Base(class[0].Name))), records)
	if err != nil {
		return nil, err
	}
	if err := checkMerged(ctx, dir, name, winners); err != nil {
		return nil, err
	}
	for _, s := range class {
		if s.Name == name {
			continue // a compaction that stopped had made it already
		}
		if !mayGrow(dir, s) {
			old = append(old, store.Join(dir, s.Name))
			continue
		}
		retired, grew, err := retire(ctx, dir, s)
		if err != nil {
			return nil, err
		}
		if !grew {
			old = append(old, retired)
		}
	}
	return old, nil
}

// mayGrow says whether a segment is of the kind that is appended to. All others stay as they were put.
func mayGrow(dir string, s segment) bool { return store.HasLocks(dir) && appended(path.Base(s.Name)) }

// quietPeriod is how long a segment that may grow must have stayed as it is: as long as a worker may
// take to see that its run has lost the folder.
var quietPeriod = 30 * time.Second

func anyRecent(dir string, segments []segment) (bool, error) {
	for _, s := range segments {
		if !mayGrow(dir, s) {
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

// retire gives a segment that was read another name, which no writer knows, and says whether it has
// grown since. A writer makes sure of the name of its segment after each frame: what it took for
// kept is seen here, and what comes later it writes anew.
func retire(ctx context.Context, dir string, s segment) (name string, grew bool, err error) {
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

// checkMerged reads a new segment back before those that it stands for are removed.
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
		return fmt.Errorf("journal: %s: holds %d of %d records after it was written; nothing was removed", full, same, len(want))
	}
	return nil
}

// mergedStem begins the name of the file that stands for those of which first is the first:
// directly before it, or beside it where that is a merged one itself.
func mergedStem(first string) string {
	stem := strings.TrimSuffix(first, segmentSuffix)
	length := len(segmentPrefix) + len(uuid.Nil.String())
	if strings.HasPrefix(first, pinPrefix) {
		length = len(pinPrefix) + pinStamp
	}
	return stem[:min(length, len(stem))]
}
