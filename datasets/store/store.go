// Package store is the seam to where files lie: it opens, creates, lists, moves and
// removes them by path.
//
// A path is a plain local path. The schemes gs:// and s3:// are known and refused with a
// sentence, as is every other scheme; a path never falls back to a local file of that name.
//
// The contract is that of an object store, so that a driver for one can stand behind the
// same functions:
//
//   - A file is whole or not there. What [Create] returns is published by Close and by
//     nothing else; a reader, a listing and a crash never show a part of it. Two writers of
//     one path each publish a whole file, and the last one stays.
//   - What was published, moved or removed stays so after a power cut.
//   - Folders are prefixes of names: they need not be made, and an empty one is the same as none.
//   - A name that begins with a dot and ends in ".partial" is the store's own, and never listed.
//   - A file that is not there is an error for which errors.Is(err, fs.ErrNotExist) holds.
//
// It does not promise that a file stays the same while it is read, nor an order between
// writers; who needs one run at a time takes a lock. Nothing here appends to a file.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"sort"
	"strings"
)

// A File is a name with the size of what it holds.
type File struct {
	// Path is in the form that was asked for: it opens the file as it is.
	Path string
	// Size is in bytes.
	Size int64
}

// Open opens a file for reading. The context covers all that is read from it.
func Open(ctx context.Context, name string) (*Reader, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	return openLocal(ctx, name)
}

// ReadFile returns all bytes of a file.
func ReadFile(ctx context.Context, name string) (data []byte, err error) {
	r, err := Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data = make([]byte, r.Size())
	if _, err := io.ReadFull(r.Stream(0), data); err != nil {
		return nil, fmt.Errorf("store: read %s: %w", name, err)
	}
	return data, nil
}

// Stat returns the size of a file.
func Stat(ctx context.Context, name string) (File, error) {
	if err := check(ctx, name); err != nil {
		return File{}, err
	}
	return statLocal(name)
}

// Create begins a file. Nothing is there under its name, or the file of before stays there,
// until the writer's Close has returned nil.
func Create(ctx context.Context, name string) (*Writer, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	return createLocal(ctx, name)
}

// WriteFile makes a file of these bytes.
func WriteFile(ctx context.Context, name string, data []byte) (err error) {
	w, err := Create(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Abort()) }()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}

// List returns every file whose path begins with prefix, sorted by path. A prefix that ends
// in a slash is a folder with all that is below it. No file at all is an empty list.
func List(ctx context.Context, prefix string) ([]File, error) {
	if err := check(ctx, prefix); err != nil {
		return nil, err
	}
	files, err := listLocal(ctx, prefix)
	if err != nil {
		return nil, err
	}
	sortFiles(files)
	return files, nil
}

// Find returns the files that a user means by pattern, sorted by path: the file of that
// name; or the files that lie in the folder of that name, but not those of its subfolders; or
// the files that match it in the syntax of [path.Match]. A file whose name begins with a dot
// is found only by its name or by a pattern that has the dot. No file at all is an empty list.
func Find(ctx context.Context, pattern string) ([]File, error) {
	if err := check(ctx, pattern); err != nil {
		return nil, err
	}
	files, err := findLocal(pattern)
	if err != nil {
		return nil, err
	}
	sortFiles(files)
	return files, nil
}

// Move gives a file another name, over the file that was there. It is one step on a local
// disk, and a copy with a removal after it on an object store.
func Move(ctx context.Context, from, to string) error {
	if err := errors.Join(check(ctx, from), check(ctx, to)); err != nil {
		return err
	}
	return moveLocal(from, to)
}

// Remove removes a file. It is no error if there is none.
func Remove(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	return removeLocal(name)
}

// RemoveAll removes every file below a folder, and what writers that were killed left there.
func RemoveAll(ctx context.Context, folder string) error {
	if err := check(ctx, folder); err != nil {
		return err
	}
	return removeAllLocal(folder)
}

// Sweep removes what writers that were killed left in a folder, those below it left out. None
// may be at work there.
func Sweep(ctx context.Context, folder string) error {
	if err := check(ctx, folder); err != nil {
		return err
	}
	return sweepLocal(folder)
}

// Join puts names below a folder, which may be a URL.
func Join(folder string, names ...string) string {
	scheme := schemePattern.FindString(folder)
	rest := path.Join(append([]string{strings.TrimPrefix(folder, scheme)}, names...)...)
	return scheme + rest
}

// A Reader is an open file. ReadAt may be called by several goroutines at once.
type Reader struct {
	ctx  context.Context
	name string
	file *os.File
	size int64
}

// Size returns the number of bytes that the file had when it was opened.
func (r *Reader) Size() int64 { return r.size }

// ReadAt reads len(p) bytes from an offset; see [io.ReaderAt].
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("store: read %s: %w", r.name, err)
	}
	n, err := r.file.ReadAt(p, offset)
	return n, wrap(err)
}

// Stream returns the bytes from an offset to the end, to be read once and in order, until
// the reader is closed.
func (r *Reader) Stream(offset int64) io.Reader {
	return io.NewSectionReader(r, offset, r.size-offset)
}

// Close ends the reading.
func (r *Reader) Close() error { return wrap(r.file.Close()) }

// A Writer makes one file. It belongs to one goroutine.
type Writer struct {
	ctx  context.Context
	name string
	// partial is the file until it is published; nil after Close or Abort.
	partial *os.File
}

// Write adds to the file.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	n, err := w.partial.Write(p)
	return n, wrap(err)
}

// Close publishes the file. After an error the name holds what it held before, or the whole
// new file if only the last sync failed.
func (w *Writer) Close() error {
	if err := w.usable(); err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.publishLocal()
}

// Abort gives the file up and leaves nothing of it. After Close it does nothing, so that it
// can be deferred.
func (w *Writer) Abort() error {
	if w.partial == nil {
		return nil
	}
	return w.discardLocal()
}

func (w *Writer) usable() error {
	if w.partial == nil {
		return fmt.Errorf("store: write %s: %w", w.name, os.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("store: write %s: %w", w.name, err)
	}
	return nil
}

var schemePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// check refuses a path that no driver serves, and any work after the context's end.
func check(ctx context.Context, name string) error {
	scheme := schemePattern.FindString(name)
	switch {
	case name == "":
		return errors.New("store: the path is empty")
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("store: the path %q has a NUL byte in it", name)
	case scheme == "gs://" || scheme == "s3://":
		return fmt.Errorf("store: %s: %s is not supported yet; give a local path", name, scheme)
	case scheme != "":
		return fmt.Errorf("store: %s: no files can be reached by %s; give a local path", name, scheme)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: %s: %w", name, err)
	}
	return nil
}

func sortFiles(files []File) {
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
}

// wrap names the package; the errors of package os name operation and path themselves.
func wrap(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("store: %w", err)
}
