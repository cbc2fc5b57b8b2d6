// Package store is the interface to disks and buckets: it opens, creates, lists, moves and removes files
// by path.
//
// A path is a plain local path, gs://bucket/name for Google Cloud Storage, or s3://bucket/name for S3 and
// stores with its protocol. Every other scheme is an error: the package never takes a path with a scheme
// for the name of a local file.
//
// All drivers keep the contract of an object store:
//
//   - A file exists completely or not at all. Only Close publishes a file that [Create] has begun:
//     readers, listings and crashes never show a part of it. If two writers use one path, each publishes a
//     complete file, and the last one stays.
//   - The publication, move and removal of a file survive a power failure.
//   - Folders are prefixes of names: nobody creates them, and an empty folder does not exist.
//   - A name of the form ".NAME.UUID.partial" is the store's own, and never listed.
//   - A missing file is an error for which errors.Is(err, fs.ErrNotExist) is true.
//   - A read that fails half-way continues after the last byte received. A request that fails for a
//     temporary reason is retried for about half a minute.
//   - Every request to an object store has a time limit. After one minute without an answer it is
//     repeated; after three minutes it fails. A response that stalls for half a minute is cut off. Local
//     disks have no time limit.
//
// The package promises no order between writers. To have one run at a time, take a lock, or use [Swap] on
// stores without locks. A file that is replaced while it is read stays readable in its old version on a
// local disk, and causes an error elsewhere. No function appends to a file.
//
// The clouds' own libraries find credentials and endpoints in the environment; see docs/storage.md. No
// error contains a credential.
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

	"coeval/datasets/store/bucket"
)

// A File is a file's path and size.
type File struct {
	// Path has the form of the request, and opens the file as it is.
	Path string
	// Size is in bytes.
	Size int64
}

// Open opens a file for reading. The context covers all reads.
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

// The largest files that are read whole. A larger one, or one with a hole of that size, was put there by
// somebody else.
const (
	// maxWhole bounds segments of the journal and files of labels.
	maxWhole = 1 << 30
	// maxSmall bounds the files that describe a run: its card, leases, views and records of attempts.
	maxSmall = 64 << 20
)

// ReadFile returns all bytes of a file of up to 1 GiB. It takes one request where requests cost money.
func ReadFile(ctx context.Context, name string) ([]byte, error) { return readUpTo(ctx, name, maxWhole) }

// ReadSmall is ReadFile for JSON files of up to 64 MiB that describe a run. It returns an error for those that
// fail [CheckValues].
func ReadSmall(ctx context.Context, name string) ([]byte, error) {
	b, err := readUpTo(ctx, name, maxSmall)
	if err == nil {
		err = CheckValues(name, b)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// maxValues bounds the values of a file that describes a run. A run of 100,000 files lists 400,000 values of
// them. An empty object takes three bytes of a file and a hundred times as many in memory.
const maxValues = 2 << 20

// CheckValues returns an error if a JSON text has more values than a run writes into one file.
func CheckValues(name string, b []byte) error {
	values, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == ',' || c == '[' || c == '{'):
			values++
		}
	}
	if values > maxValues {
		return fmt.Errorf("store: %s has %d values; allowed are up to %d: no run wrote it", name, values, maxValues)
	}
	return nil
}

func readUpTo(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	d, err := driverOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return d.readFile(ctx, name, maxBytes)
}

func tooLarge(name string, maxBytes int64) error {
	return fmt.Errorf("store: %s is too large; allowed are up to %d bytes", name, maxBytes)
}

// MaxSettingBytes bounds hand-written files: configs, templates, rubrics. A larger file was named by
// mistake.
const MaxSettingBytes = 1 << 20

// ReadSetting is ReadFile for hand-written files. It refuses files of more than [MaxSettingBytes] before
// reading them.
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

// Create begins a file. Until the writer's Close has returned nil, the name has its earlier file, or
// none.
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

// WriteFile writes a file with these bytes.
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

// List returns every file whose path begins with prefix, sorted by path. A prefix that ends in a slash is
// a folder, and the result includes its subfolders. No file is an empty list.
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

// Folders returns the names of a folder's subfolders, sorted and without the parent's path. No subfolder
// is an empty list.
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
	return slices.Compact(names), nil // some stores repeat a folder on each page with a part of it
}

// Find returns the files that a user means by pattern, sorted by path: the file of that name; or the
// files directly in the folder of that name; or the files that match it in the syntax of [path.Match]. A
// file whose name begins with a dot is found only by its name or by a pattern with the dot. No file is
// an empty list.
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

// Move renames a file within a store and replaces the target. It is one step on a local disk, and a copy
// followed by a removal on an object store.
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

// Remove removes a file. A missing file is no error.
func Remove(ctx context.Context, name string) error {
	d, err := driverOf(ctx, name)
	if err != nil {
		return err
	}
	return d.remove(ctx, name)
}

// RemoveFiles removes files of one store, in as few requests as possible. Missing files are no error.
// After an error any of them may remain.
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

// RemoveEmpty removes a folder and its subfolders if they contain no file. It follows no link. An object
// store has no empty folders.
func RemoveEmpty(ctx context.Context, folder string) error {
	d, err := driverOf(ctx, folder)
	if err != nil {
		return err
	}
	return d.removeEmpty(ctx, folder)
}

// Names returns the names directly in a folder, sorted: the names of files, hidden ones and links
// included, and the names of subfolders with a slash at the end. It omits folders that contain no file.
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

// Sweep removes the remains of killed writers in a folder, without its subfolders. No writer may be
// active there.
func Sweep(ctx context.Context, folder string) error {
	d, err := driverOf(ctx, folder)
	if err != nil {
		return err
	}
	return d.sweep(ctx, folder)
}

// A Version identifies one content of a file.
type Version = bucket.Version

// ErrChanged reports that a file no longer has the version passed to [Swap].
var ErrChanged = bucket.ErrChanged

// ReadVersion returns all bytes of a file and their version. It is for stores without locks.
func ReadVersion(ctx context.Context, name string) ([]byte, Version, error) {
	d, err := versionedOf(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return d.readVersion(ctx, name)
}

// Swap replaces one version of a file, or creates the file if old is empty, and returns the new version.
// If the file has another version, or exists already, the error is [ErrChanged], and the file is
// unchanged. It is for stores without locks.
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

// Size returns the number of bytes at the time of opening.
func (r *Reader) Size() int64 { return r.file.size() }

// ReadAt reads len(p) bytes from an offset; see [io.ReaderAt].
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("store: read %s: %w", r.name, err)
	}
	return r.file.ReadAt(p, offset)
}

// Stream returns the bytes from an offset to the end, to be read once and in order, until the reader is
// closed.
func (r *Reader) Stream(offset int64) io.Reader { return r.file.stream(r, offset) }

// Close ends all reads.
func (r *Reader) Close() error { return wrap(r.file.Close()) }

// A Writer writes one file. Use it from one goroutine.
type Writer struct {
	ctx  context.Context
	name string
	// partial is the file before it is published; nil after Close or Abort.
	partial target
}

// Write adds to the file.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	return w.partial.Write(p)
}

// Close publishes the file. After an error the name has its earlier content, or the complete new file if
// only the last sync failed.
func (w *Writer) Close() error {
	if err := w.usable(); err != nil {
		return errors.Join(err, w.Abort())
	}
	t := w.partial
	w.partial = nil
	return t.publish()
}

// Abort discards the file. After Close it does nothing, so that it can be deferred.
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
	// readFile returns an error for a file of more than maxBytes bytes.
	readFile(ctx context.Context, name string, maxBytes int64) ([]byte, error)
	stat(ctx context.Context, name string) (File, error)
	create(ctx context.Context, name string) (target, error)
	// list and find need not sort.
	list(ctx context.Context, prefix string) ([]File, error)
	find(ctx context.Context, pattern string) ([]File, error)
	// folders takes a folder that ends in a slash.
	folders(ctx context.Context, folder string) ([]string, error)
	move(ctx context.Context, from, to string) error
	remove(ctx context.Context, name string) error
	removeFiles(ctx context.Context, names []string) error
	removeEmpty(ctx context.Context, folder string) error
	// names takes a folder that ends in a slash.
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

// target is a driver's file before it is published.
type target interface {
	io.Writer
	publish() error
	discard() error
}

// driverOf returns the driver of a path. It refuses paths without a driver, and all work after the end of
// the context.
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
	return &objects{scheme: scheme, client: schemes[scheme]}, nil
}

func sortFiles(files []File) {
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
}

// wrap adds the package; the errors of package os already name operation and path.
func wrap(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("store: %w", err)
}
