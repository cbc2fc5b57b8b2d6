// Package buckets lists the files of a journal's buckets and finds missing ones.
//
// A bucket's folder contains segments and views. A view lists the segments that existed when a bundle
// attempt loaded the bucket, with their lengths; its name is its digest. A segment that is missing, or
// shorter than a view states, is a [Loss].
package buckets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// IsName reports whether a folder of a journal is a bucket.
func IsName(name string) bool {
	return strings.HasPrefix(name, "b") && strings.Trim(name[1:], "01") == ""
}

// Folders returns the bucket's own folder, and the existing folders of its shorter prefixes.
func Folders(bucket string, bits []int) []string {
	var out []string
	for n := range len(bucket) - 1 {
		if bits == nil || slices.Contains(bits, n) {
			out = append(out, bucket[:n+1])
		}
	}
	return append(out, bucket)
}

// A Segment is a file of which the first Length bytes count.
type Segment struct {
	// Name is the path below the journal, with slashes.
	Name   string `json:"name"`
	Length int64  `json:"length"`
}

// A Listing is the content of a bucket's folder and of the folders of its shorter prefixes.
type Listing struct {
	bucket string
	// Segments are ordered by file name and have the lengths of their files.
	Segments []Segment
	// views are the sizes of the views, by their paths below the journal.
	views map[string]int64
}

// List lists the folders in parallel.
func List(ctx context.Context, dir, bucket string, bits []int) (*Listing, error) {
	all := Folders(bucket, bits)
	files := make([][]store.File, len(all))
	group, ctx := errgroup.WithContext(ctx)
	for i, folder := range all {
		group.Go(func() (err error) {
			if err = CheckNoLink(dir, folder); err == nil {
				files[i], err = store.List(ctx, store.Join(dir, folder)+"/")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	out := &Listing{bucket: bucket, views: map[string]int64{}}
	for i, folder := range all {
		for _, f := range files[i] {
			base := path.Base(f.Path)
			if f.Path != store.Join(dir, folder, base) {
				continue // in a folder below it
			}
			name := path.Join(folder, base)
			switch {
			case segment.IsName(base):
				out.Segments = append(out.Segments, Segment{Name: name, Length: f.Size})
			case IsView(base):
				out.views[name] = f.Size
				continue
			default:
				continue
			}
			if err := CheckNoLink(dir, name); err != nil {
				return nil, fmt.Errorf("journal: %w", err)
			}
		}
	}
	Sort(out.Segments)
	return out, nil
}

// CheckNoLink returns an error when a local folder or file of a journal is a link: it would lead reads
// and writes to another place.
func CheckNoLink(dir, name string) error {
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

// Sort orders segments by their names, which decide which of several records of one key counts.
func Sort(s []Segment) {
	slices.SortFunc(s, func(a, b Segment) int { return strings.Compare(path.Base(a.Name), path.Base(b.Name)) })
}

// Files are the files in a bucket's own folder.
type Files struct {
	Name           string
	Segments, Pins []Segment
	// Views are paths below the journal.
	Views []string
}

// ListAll lists the journal once. The buckets are sorted by name.
func ListAll(ctx context.Context, dir string) ([]*Files, error) {
	files, err := store.List(ctx, store.Join(dir)+"/b")
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	byName := map[string]*Files{}
	for _, f := range files {
		base, bucket := path.Base(f.Path), path.Base(path.Dir(f.Path))
		if !IsName(bucket) || f.Path != store.Join(dir, bucket, base) {
			continue
		}
		b := byName[bucket]
		if b == nil {
			b = &Files{Name: bucket}
			byName[bucket] = b
		}
		s := Segment{Name: path.Join(bucket, base), Length: f.Size}
		switch {
		case IsView(base):
			b.Views = append(b.Views, s.Name)
		case !segment.IsName(base):
			continue
		case strings.HasPrefix(base, segment.PinPrefix):
			b.Pins = append(b.Pins, s)
		default:
			b.Segments = append(b.Segments, s)
		}
		if err := CheckNoLink(dir, s.Name); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *Files) int { return strings.Compare(a.Name, b.Name) }), nil
}

// ViewsOf returns the views that may list segments of a bucket: its own views, and the views of buckets
// whose prefixes begin with its own.
func ViewsOf(buckets []*Files, name string) []string {
	var views []string
	for _, b := range buckets {
		if strings.HasPrefix(b.Name, name) {
			views = append(views, b.Views...)
		}
	}
	return views
}
