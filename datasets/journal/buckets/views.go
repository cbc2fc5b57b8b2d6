package buckets

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"

	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// ViewSuffix ends the name of a view, after its digest.
const ViewSuffix = ".view.json"

var viewName = regexp.MustCompile(`^[0-9a-f]{32}\.view\.json$`)

// IsView reports whether a file is a view, by its name.
func IsView(base string) bool { return viewName.MatchString(base) }

// encode returns the content of the view of a listing and the view's digest.
func (l *Listing) encode() (b []byte, digest string, err error) {
	if b, err = json.Marshal(l.Segments); err != nil {
		return nil, "", fmt.Errorf("journal: %w", err)
	}
	return b, segment.Digest(b), nil
}

// SaveView writes the list of segments into the bucket's folder, under its digest. An empty list needs
// no file.
func SaveView(ctx context.Context, dir string, l *Listing) (string, error) {
	if len(l.Segments) == 0 {
		return "", nil
	}
	b, digest, err := l.encode()
	if err != nil {
		return "", err
	}
	name := path.Join(l.bucket, digest+ViewSuffix)
	if _, ok := l.views[name]; ok {
		return digest, nil
	}
	if err := store.WriteFile(ctx, store.Join(dir, name), b); err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	return digest, nil
}

// ReadView returns the segments that a view lists.
func ReadView(ctx context.Context, dir, name string) ([]Segment, error) {
	full := store.Join(dir, name)
	b, err := store.ReadSmall(ctx, full)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if segment.Digest(b)+ViewSuffix != path.Base(name) {
		return nil, fmt.Errorf("journal: %s: damaged: the content does not have the digest in its name%s", full, SalvageHint)
	}
	var segments []Segment
	if err := json.Unmarshal(b, &segments); err != nil {
		return nil, fmt.Errorf("journal: %s: damaged: %w%s", full, err, SalvageHint)
	}
	return segments, nil
}

// SalvageHint ends the message of an error that blocks every run on a journal.
const SalvageHint = ": restore the file, or run `coeval journal salvage` to continue without it"

// CheckLoss returns an error when a segment is missing, or shorter than at the time of a view.
//
// Every view was checked when the next one was written. A later view lists at least as much, so its file
// is at least as large. CheckLoss therefore reads only views at least as large as the current listing's
// own, and none if the journal is unchanged.
func (l *Listing) CheckLoss(ctx context.Context, dir string) error {
	if len(l.views) == 0 {
		return nil
	}
	_, digest, err := l.encode()
	if err != nil {
		return err
	}
	own := path.Join(l.bucket, digest+ViewSuffix)
	size, known := l.views[own]
	var read []string
	for view, other := range l.views {
		if view != own && (!known || other >= size) {
			read = append(read, view)
		}
	}
	slices.Sort(read)
	files := &WholeLengths{dir: dir, whole: map[string]int64{}}
	for _, s := range l.Segments {
		files.whole[s.Name] = s.Length
	}
	return CheckViews(ctx, dir, files, read)
}

// A Loss is a segment that a view lists, with its remaining length; -1 means that the file is missing.
// If a larger file has replaced it, the length covers the whole frames within the listed length.
type Loss struct {
	Segment

	Left int64
}

// Problem describes the loss to a user.
func (l *Loss) Problem(view string) string {
	if l.Left < 0 {
		return fmt.Sprintf("lost: there is no such file, and the view %s lists %d bytes of it", path.Base(view), l.Length)
	}
	return fmt.Sprintf("lost: the file has %d whole bytes, and the view %s lists %d", l.Left, path.Base(view), l.Length)
}

// WholeLengths are the lengths of the whole frames of files. It reads each file once, when it is needed.
type WholeLengths struct {
	dir string
	// sizes are the sizes of files that were not read yet, whole the lengths of the others.
	sizes, whole map[string]int64
}

// NewWholeLengths returns the lengths of all files in the buckets of a journal.
func NewWholeLengths(dir string, buckets []*Files) *WholeLengths {
	l := &WholeLengths{dir: dir, sizes: map[string]int64{}, whole: map[string]int64{}}
	for _, b := range buckets {
		for _, s := range slices.Concat(b.Pins, b.Segments) {
			l.sizes[s.Name] = s.Length
		}
	}
	return l
}

// of returns the length of a file, -1 if it is missing.
func (l *WholeLengths) of(ctx context.Context, name string) (int64, error) {
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
		size = int64(segment.WholeLength(b))
	}
	l.whole[name] = size
	return size, nil
}

// Losses returns the segments of a view that are gone or shorter.
func (l *WholeLengths) Losses(ctx context.Context, view string, listed []Segment) (out []Loss, err error) {
	for _, s := range listed {
		left, err := l.of(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		if left > s.Length && store.HasLocks(l.dir) {
			if left, err = l.wholeBefore(ctx, s); err != nil {
				return nil, err
			}
		}
		if left < s.Length && (left >= 0 || !l.wasCompacted(view, s.Name)) {
			out = append(out, Loss{s, left})
		}
	}
	return out, nil
}

// wholeBefore returns the length of the whole frames within the listed length of a file that has grown since.
// It is shorter than the listed length when another file has taken the name: then no frame ends there.
func (l *WholeLengths) wholeBefore(ctx context.Context, s Segment) (int64, error) {
	b, err := store.ReadFile(ctx, store.Join(l.dir, s.Name))
	if err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	return int64(segment.WholeLength(b[:min(int64(len(b)), s.Length)])), nil
}

// wasCompacted reports whether a compaction explains that a segment of a shorter prefix is gone. Versions
// up to 2026-11-28 compacted a bucket and left the views of longer prefixes, which list its segments.
func (l *WholeLengths) wasCompacted(view, name string) bool {
	folder, base := path.Split(name)
	if path.Dir(view)+"/" == folder {
		return false
	}
	for _, names := range []map[string]int64{l.sizes, l.whole} {
		for other := range names {
			otherFolder, otherBase := path.Split(other)
			_, whole := segment.DigestIn(otherBase)
			if otherFolder == folder && whole && !segment.IsPart(otherBase) && otherBase[:2] == base[:2] && otherBase < base {
				return true
			}
		}
	}
	return false
}

// CheckViews returns an error when one of the views is damaged or lists more than is there.
func CheckViews(ctx context.Context, dir string, l *WholeLengths, views []string) error {
	for _, view := range views {
		listed, err := ReadView(ctx, dir, view)
		if err != nil {
			return err
		}
		lost, err := l.Losses(ctx, view, listed)
		if err != nil {
			return err
		}
		if len(lost) > 0 {
			return fmt.Errorf("journal: %s: %s%s", store.Join(dir, lost[0].Name), lost[0].Problem(view), SalvageHint)
		}
	}
	return nil
}
