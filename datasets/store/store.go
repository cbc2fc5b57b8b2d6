// Package store is the seam to where files lie: it opens, creates, lists, moves and
// removes them by path.
//
// A path is a plain local path, gs://bucket/name for Google Cloud Storage, or s3://bucket/name
// for S3 and what speaks its protocol. Every other scheme is refused with a sentence; a path
// never falls back to a local file of that name.
//
// The contract is that of an object store, and all drivers keep it:
//
//   - A file is whole or not there. What [Create] returns is published by Close and by
//     nothing else; a reader, a listing and a crash never show a part of it. Two writers of
//     one path each publish a whole file, and the last one stays.
//   - What was published, moved or removed stays so after a power cut.
//   - Folders are prefixes of names: they need not be made, and an empty one is the same as none.
//   - A name of the form ".NAME.UUID.partial" is the store's own, and never listed.
//   - A file that is not there is an error for which errors.Is(err, fs.ErrNotExist) holds.
//   - A read that fails half-way goes on where it stopped, and a request that a store could not
//     serve just now is made again for about half a minute.
//   - No request to an object store waits for ever: one that is not answered within a minute is
//     made again, and is an error after three; an answer that stops coming is given up after half
//     a minute. How long a local disk may take is the operating system's matter.
//
// It does not promise an order between writers; who needs one run at a time takes a lock, or
// where there are none uses [Swap]. A file that is replaced while it is read goes on to be
// read as it was (local) or is an error (elsewhere). Nothing here appends to a file.
//
// Credentials and endpoints are the clouds' own matter: their libraries find them in the
// environment, as README tells. No error holds one.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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
	d, err := driverOf(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := d.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Reader{ctx: ctx, name: name, file: f}, nil
}

// ReadFile returns all bytes of a file. It takes one request where requests are paid for.
func ReadFile(ctx context.Context, name string) ([]byte, error) {
	d, err := driverOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return d.readFile(ctx, name)
}

// MaxSettingBytes bounds files that people write by hand: configs, templates, rubrics. A larger file
// was named by mistake.
const MaxSettingBytes = 1 << 20

// ReadSetting is ReadFile for a file that people write by hand. It refuses one of more than
// [MaxSettingBytes] before it reads it.
func ReadSetting(ctx context.Context, name string) ([]byte, error) {
	f, err := Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if f.Size > MaxSettingBytes {
		return nil, fmt.Errorf("store: %s has %d bytes; allowed are up to %d", name, f.Size, MaxSettingBytes)
	}
	return ReadFile(ctx, name)
}

// Stat returns the size of a file.
func Stat(ctx context.Context, name string) (File, error) {
	d, err := driverOf(ctx, name)
	if err != nil {
		return File{}, err
	}
	return d.stat(ctx, name)
}

// Create begins a file. Nothing is there under its name, or the file of before stays there,
// until the writer's Close has returned nil.
func Create(ctx context.Context, name string) (*Writer, error) {
	d, err := driverOf(ctx, name)
	if err != nil {
		return nil, err
	}
	t, err := d.create(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Writer{ctx: ctx, name: name, partial: t}, nil
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
	d, err := driverOf(ctx, prefix)
	if err != nil {
		return nil, err
	}
	files, err := d.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	sortFiles(files)
	return files, nil
}

// Folders returns the names of the folders that lie in a folder, sorted and without what is
// above them. No folder at all is an empty list.
func Folders(ctx context.Context, folder string) ([]string, error) {
	d, err := driverOf(ctx, folder)
	if err != nil {
		return nil, err
	}
	names, err := d.folders(ctx, strings.TrimSuffix(folder, "/")+"/")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil // some stores name a folder on each page that has a part of it
}

// Find returns the files that a user means by pattern, sorted by path: the file of that
// name; or the files that lie in the folder of that name, but not those of its subfolders; or
// the files that match it in the syntax of [path.Match]. A file whose name begins with a dot
// is found only by its name or by a pattern that has the dot. No file at all is an empty list.
func Find(ctx context.Context, pattern string) ([]File, error) {
	d, err := driverOf(ctx, pattern)
	if err != nil {
		return nil, err
	}
	files, err := d.find(ctx, pattern)
	if err != nil {
		return nil, err
	}
	sortFiles(files)
	return files, nil
}

// Move gives a file another name in the same store, over the file that was there. It is one
// step on a local disk, and a copy with a removal after it on an object store.
func Move(ctx context.Context, from, to string) error {
	d, err := driverOf(ctx, from)
	if err != nil {
		return err
	}
	if _, err := driverOf(ctx, to); err != nil {
		return err
	}
	if schemePattern.FindString(from) != schemePattern.FindString(to) {
		return fmt.Errorf("store: %s can't be moved to %s, which is another store", from, to)
	}
	return d.move(ctx, from, to)
}

// Remove removes a file. It is no error if there is none.
func Remove(ctx context.Context, name string) error {
	d, err := driverOf(ctx, name)
	if err != nil {
		return err
	}
	return d.remove(ctx, name)
}

// RemoveFiles removes files of one store, in as few requests as that takes. It is no error if some
// are not there. After an error any of them may be left.
func RemoveFiles(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	d, err := driverOf(ctx, names[0])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := driverOf(ctx, name); err != nil {
			return err
		}
		if schemePattern.FindString(name) != schemePattern.FindString(names[0]) {
			return fmt.Errorf("store: %s and %s are of two stores", names[0], name)
		}
	}
	return d.removeFiles(ctx, names)
}

// RemoveEmpty removes a folder and those below it that contain nothing. It follows no link. In an
// object store there are no empty folders.
func RemoveEmpty(ctx context.Context, folder string) error {
	d, err := driverOf(ctx, folder)
	if err != nil {
		return err
	}
	return d.removeEmpty(ctx, folder)
}

// Names returns the names that lie directly in a folder, sorted: those of files, hidden ones and
// links included, and with a slash at the end those of folders. A folder without a file below it is
// left out.
func Names(ctx context.Context, folder string) ([]string, error) {
	d, err := driverOf(ctx, folder)
	if err != nil {
		return nil, err
	}
	names, err := d.names(ctx, strings.TrimSuffix(folder, "/")+"/")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Sweep removes what writers that were killed left in a folder, those below it left out. None
// may be at work there.
func Sweep(ctx context.Context, folder string) error {
	d, err := driverOf(ctx, folder)
	if err != nil {
		return err
	}
	return d.sweep(ctx, folder)
}

// A Version names one content of a file.
type Version string

// ErrChanged says that a file no longer has the version that a [Swap] names.
var ErrChanged = errors.New("somebody else changed it")

// ReadVersion returns all bytes of a file and the version that they are. It is for stores
// without locks.
func ReadVersion(ctx context.Context, name string) ([]byte, Version, error) {
	d, err := versionedOf(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return d.readVersion(ctx, name)
}

// Swap puts new bytes in the place of one version of a file, or makes the file if old is
// empty, and returns the version that they are. When the file has another version by then,
// or is there already, the error is [ErrChanged], and nothing has happened. It is for stores
// without locks.
func Swap(ctx context.Context, name string, old Version, data []byte) (Version, error) {
	d, err := versionedOf(ctx, name)
	if err != nil {
		return "", err
	}
	return d.swap(ctx, name, old, data)
}

func versionedOf(ctx context.Context, name string) (*objects, error) {
	d, err := driverOf(ctx, name)
	if err != nil {
		return nil, err
	}
	o, ok := d.(*objects)
	if !ok {
		return nil, fmt.Errorf("store: %s: a local file has locks and no versions", name)
	}
	return o, nil
}

// A Reader is an open file. ReadAt may be called by several goroutines at once.
type Reader struct {
	ctx  context.Context
	name string
	file source
}

// Size returns the number of bytes that the file had when it was opened.
func (r *Reader) Size() int64 { return r.file.size() }

// ReadAt reads len(p) bytes from an offset; see [io.ReaderAt].
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("store: read %s: %w", r.name, err)
	}
	return r.file.ReadAt(p, offset)
}

// Stream returns the bytes from an offset to the end, to be read once and in order, until
// the reader is closed.
func (r *Reader) Stream(offset int64) io.Reader { return r.file.stream(r, offset) }

// Close ends the reading.
func (r *Reader) Close() error { return wrap(r.file.Close()) }

// A Writer makes one file. It belongs to one goroutine.
type Writer struct {
	ctx  context.Context
	name string
	// partial is the file until it is published; nil after Close or Abort.
	partial target
}

// Write adds to the file.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	return w.partial.Write(p)
}

// Close publishes the file. After an error the name holds what it held before, or the whole
// new file if only the last sync failed.
func (w *Writer) Close() error {
	if err := w.usable(); err != nil {
		return errors.Join(err, w.Abort())
	}
	t := w.partial
	w.partial = nil
	return t.publish()
}

// Abort gives the file up and leaves nothing of it. After Close it does nothing, so that it
// can be deferred.
func (w *Writer) Abort() error {
	if w.partial == nil {
		return nil
	}
	t := w.partial
	w.partial = nil
	return t.discard()
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

// driver is one kind of store. Paths are complete, with their scheme.
type driver interface {
	open(ctx context.Context, name string) (source, error)
	readFile(ctx context.Context, name string) ([]byte, error)
	stat(ctx context.Context, name string) (File, error)
	create(ctx context.Context, name string) (target, error)
	// list and find need not sort.
	list(ctx context.Context, prefix string) ([]File, error)
	find(ctx context.Context, pattern string) ([]File, error)
	// folders is given a folder that ends in a slash.
	folders(ctx context.Context, folder string) ([]string, error)
	move(ctx context.Context, from, to string) error
	remove(ctx context.Context, name string) error
	removeFiles(ctx context.Context, names []string) error
	removeEmpty(ctx context.Context, folder string) error
	// names is given a folder that ends in a slash.
	names(ctx context.Context, folder string) ([]string, error)
	sweep(ctx context.Context, folder string) error
}

// source is an open file of a driver.
type source interface {
	io.ReaderAt
	io.Closer
	size() int64
	stream(r *Reader, offset int64) io.Reader
}

// target is a file of a driver that is being written.
type target interface {
	io.Writer
	publish() error
	discard() error
}

// driverOf returns the driver that serves a path. It refuses a path that none serves, and any
// work after the context's end.
func driverOf(ctx context.Context, name string) (driver, error) {
	scheme := schemePattern.FindString(name)
	switch {
	case name == "":
		return nil, errors.New("store: the path is empty")
	case strings.ContainsRune(name, 0):
		return nil, fmt.Errorf("store: the path %q has a NUL byte in it", name)
	case scheme == fileScheme: // [ParsePath] resolves it
		return nil, fmt.Errorf("store: %s: give the local path without %s", name, scheme)
	case scheme != "" && schemes[scheme] == nil:
		return nil, fmt.Errorf("store: %w", unknownScheme(name, scheme))
	}
	if scheme != "" {
		if err := checkDots(name, strings.TrimPrefix(name, scheme)); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store: %s: %w", name, err)
	}
	if scheme == "" {
		return local{}, nil
	}
	return &objects{scheme: scheme, connect: schemes[scheme]}, nil
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
