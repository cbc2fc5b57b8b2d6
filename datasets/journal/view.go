package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/store"
	"coeval/schemas"
)

// A segment is a file of which the first Length bytes count.
type segment struct {
	// Name is the path below the journal, with slashes.
	Name   string `json:"name"`
	Length int64  `json:"length"`
}

// A listing is the content of a bucket's folder and of the folders of its shorter prefixes.
type listing struct {
	bucket string
	// segments are ordered by file name and have the lengths of their files.
	segments []segment
	// views are the sizes of the views, by their paths below the journal.
	views map[string]int64
}

// list lists the folders in parallel.
func list(ctx context.Context, dir, bucket string, bits PrefixBits) (*listing, error) {
	all := folders(bucket, bits)
	files := make([][]store.File, len(all))
	group, ctx := errgroup.WithContext(ctx)
	for i, folder := range all {
		group.Go(func() (err error) {
			if err = checkNoLink(dir, folder); err == nil {
				files[i], err = store.List(ctx, store.Join(dir, folder)+"/")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	out := &listing{bucket: bucket, views: map[string]int64{}}
	for i, folder := range all {
		for _, f := range files[i] {
			base := path.Base(f.Path)
			if f.Path != store.Join(dir, folder, base) {
				continue // in a folder below it
			}
			name := path.Join(folder, base)
			switch {
			case isSegment(base):
				out.segments = append(out.segments, segment{Name: name, Length: f.Size})
			case isView(base):
				out.views[name] = f.Size
				continue
			default:
				continue
			}
			if err := checkNoLink(dir, name); err != nil {
				return nil, fmt.Errorf("journal: %w", err)
			}
		}
	}
	sortSegments(out.segments)
	return out, nil
}

// checkNoLink returns an error when a local folder or file of a journal is a link: it would lead reads
// and writes to another place.
func checkNoLink(dir, name string) error {
	if !store.HasLocks(dir) {
		return nil
	}
	full := filepath.Join(dir, filepath.FromSlash(name))
	is, err := os.Lstat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !is.IsDir() && !is.Mode().IsRegular():
		return fmt.Errorf("%s is a link or a special file, and a journal has none: remove it", full)
	}
	return nil
}

func sortSegments(s []segment) {
	slices.SortFunc(s, func(a, b segment) int { return strings.Compare(path.Base(a.Name), path.Base(b.Name)) })
}

// A View is what one attempt sees of a bucket, and the segment that it appends to. It may be used
// from many goroutines.
type View struct {
	bucket string
	digest string
	own    *appender

	mu       sync.Mutex
	contents Contents
}

// Load fixes the attempt's view of a bucket and reads in it the records of the prompts for which keep
// returns true; nil keeps all.
func (j *Journal) Load(ctx context.Context, bucket string, keep func(promptID string) bool) (*View, error) {
	contents, l, err := read(ctx, j.dir, bucket, j.bits, keep)
	if err != nil {
		return nil, err
	}
	digest, err := saveView(ctx, j.dir, l)
	if err != nil {
		return nil, err
	}
	name, err := newSegment()
	if err != nil {
		return nil, err
	}
	if !j.parts {
		name += segmentSuffix
	}
	own := &appender{journal: j, name: path.Join(bucket, name)}
	return &View{bucket: bucket, digest: digest, own: own, contents: contents}, nil
}

// Take returns the records of a prompt and drops them, so that their memory is freed with the prompt's.
func (v *View) Take(promptID string) Records {
	v.mu.Lock()
	defer v.mu.Unlock()
	records := v.contents[promptID]
	delete(v.contents, promptID)
	return records
}

// Origin names the files from which the view's records can be read again.
func (v *View) Origin(promptKey string) schemas.Origin {
	o := schemas.Origin{Bucket: v.bucket, View: v.digest, Prompt: promptKey}
	if v.own.started.Load() {
		o.Segment = v.own.name
	}
	return o
}

// Append adds records to the attempt's own segment without waiting; see Ready and Sync.
func (v *View) Append(records ...Record) error { return v.own.append(records) }

// Ready returns when the appended records may be used. On a local disk it waits for the fsync, so that a
// crash loses little more than the requests in flight. On an object store it waits only under
// back-pressure. The end of ctx ends the wait and nothing else.
func (v *View) Ready(ctx context.Context) error { return v.own.ready(ctx) }

// Sync returns when all records of the view are durable. The caller must not pass on results of these
// records before.
func (v *View) Sync(ctx context.Context) error { return v.own.sync(ctx) }

// encode returns the content of the view of a listing and the view's digest.
func (l *listing) encode() (b []byte, digest string, err error) {
	if b, err = json.Marshal(l.segments); err != nil {
		return nil, "", fmt.Errorf("journal: %w", err)
	}
	return b, digestOf(b), nil
}

// saveView writes the list of segments into the bucket's folder, under its digest. An empty list needs
// no file.
func saveView(ctx context.Context, dir string, l *listing) (string, error) {
	if len(l.segments) == 0 {
		return "", nil
	}
	b, digest, err := l.encode()
	if err != nil {
		return "", err
	}
	name := path.Join(l.bucket, digest+viewSuffix)
	if _, ok := l.views[name]; ok {
		return digest, nil
	}
	if err := store.WriteFile(ctx, store.Join(dir, name), b); err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	return digest, nil
}

// readView returns the segments that a view lists.
func readView(ctx context.Context, dir, name string) ([]segment, error) {
	full := store.Join(dir, name)
	b, err := store.ReadFile(ctx, full)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if digestOf(b)+viewSuffix != path.Base(name) {
		return nil, fmt.Errorf("journal: %s: damaged: the content does not have the digest in its name%s", full, salvageHint)
	}
	var segments []segment
	if err := json.Unmarshal(b, &segments); err != nil {
		return nil, fmt.Errorf("journal: %s: damaged: %w%s", full, err, salvageHint)
	}
	return segments, nil
}

// salvageHint ends the message of an error that blocks every run on a journal.
const salvageHint = ": restore the file, or run `coeval journal salvage` to continue without it"

// checkLoss returns an error when a segment is missing, or shorter than at the time of a view.
//
// The earlier views were checked when a view was made of them. Later views list as much or more, so
// that they are not smaller: checkLoss reads only those. It reads none if the journal has not changed
// since the last run.
func (l *listing) checkLoss(ctx context.Context, dir string) error {
	if len(l.views) == 0 {
		return nil
	}
	_, digest, err := l.encode()
	if err != nil {
		return err
	}
	own := path.Join(l.bucket, digest+viewSuffix)
	size, known := l.views[own]
	var read []string
	for view, other := range l.views {
		if view != own && (!known || other >= size) {
			read = append(read, view)
		}
	}
	slices.Sort(read)
	files := &lengths{dir: dir, whole: map[string]int64{}}
	for _, s := range l.segments {
		files.whole[s.Name] = s.Length
	}
	return checkViews(ctx, dir, files, read)
}

// A loss is a segment that a view lists, with the length that is left of it; gone is -1.
type loss struct {
	segment

	left int64
}

func (l *loss) problem(view string) string {
	if l.left < 0 {
		return fmt.Sprintf("lost: there is no such file, and the view %s lists %d bytes of it", path.Base(view), l.Length)
	}
	return fmt.Sprintf("lost: the file has %d whole bytes, and the view %s lists %d", l.left, path.Base(view), l.Length)
}

// lengths are the lengths of the whole frames of files. It reads each file once, when it is needed.
type lengths struct {
	dir string
	// sizes are the sizes of files that were not read yet, whole the lengths of the others.
	sizes, whole map[string]int64
}

func newLengths(dir string, buckets []*bucketFiles) *lengths {
	l := &lengths{dir: dir, sizes: map[string]int64{}, whole: map[string]int64{}}
	for _, b := range buckets {
		for _, s := range slices.Concat(b.pins, b.segments) {
			l.sizes[s.Name] = s.Length
		}
	}
	return l
}

// of returns the length of a file, -1 if it is missing.
func (l *lengths) of(ctx context.Context, name string) (int64, error) {
	if length, ok := l.whole[name]; ok {
		return length, nil
	}
	size, ok := l.sizes[name]
	switch {
	case !ok:
		return -1, nil
	case store.HasLocks(l.dir): // on an object store every file is whole
		b, err := store.ReadFile(ctx, store.Join(l.dir, name))
		if err != nil {
			return 0, fmt.Errorf("journal: %w", err)
		}
		size = int64(wholeFrames(b))
	}
	l.whole[name] = size
	return size, nil
}

// losses returns the segments of a view that are gone or shorter.
func (l *lengths) losses(ctx context.Context, view string, listed []segment) (out []loss, err error) {
	for _, s := range listed {
		left, err := l.of(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		if left < s.Length && (left >= 0 || !l.wasCompacted(view, s.Name)) {
			out = append(out, loss{s, left})
		}
	}
	return out, nil
}

// wasCompacted reports whether a compaction explains that a segment of a shorter prefix is gone. Versions
// up to 2026-11-28 compacted a bucket and left the views of longer prefixes, which list its segments.
func (l *lengths) wasCompacted(view, name string) bool {
	folder, base := path.Split(name)
	if path.Dir(view)+"/" == folder {
		return false
	}
	for _, names := range []map[string]int64{l.sizes, l.whole} {
		for other := range names {
			otherFolder, otherBase := path.Split(other)
			_, whole := digestIn(otherBase)
			if otherFolder == folder && whole && !isPart(otherBase) && otherBase[:2] == base[:2] && otherBase < base {
				return true
			}
		}
	}
	return false
}
