package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

// partialSuffix ends the name of a file that is being written. The name begins with a dot.
const partialSuffix = ".partial"

// local is the driver of plain paths.
type local struct{}

// localSource is an open local file.
type localSource struct {
	*os.File

	length int64
}

// ReadAt reads from the file.
func (s *localSource) ReadAt(p []byte, offset int64) (int, error) {
	n, err := s.File.ReadAt(p, offset)
	return n, wrap(err)
}

func (s *localSource) size() int64 { return s.length }

func (s *localSource) stream(r *Reader, offset int64) io.Reader {
	return io.NewSectionReader(r, offset, s.length-offset)
}

// localTarget is a local file under a temporary name until it is published.
type localTarget struct {
	*os.File

	name string
}

func (local) open(_ context.Context, name string) (source, error) {
	info, err := os.Stat(name) // before opening, which blocks on a pipe and fails on a socket
	if err == nil {
		err = refuseSpecial(name, info)
	}
	if err != nil {
		return nil, wrap(err)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // in case a pipe took its place
	if err != nil {
		return nil, wrap(err)
	}
	info, err = f.Stat()
	if err == nil {
		err = refuseSpecial(name, info)
	}
	if err != nil {
		return nil, errors.Join(wrap(err), f.Close())
	}
	return &localSource{File: f, length: info.Size()}, nil
}

func (d local) readFile(ctx context.Context, name string, maxBytes int64) (data []byte, err error) {
	s, err := d.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, wrap(s.Close())) }()
	if s.size() > maxBytes {
		return nil, tooLarge(name, maxBytes)
	}
	data = make([]byte, s.size())
	if _, err := io.ReadFull(io.NewSectionReader(s, 0, s.size()), data); err != nil {
		return nil, fmt.Errorf("store: read %s: %w", name, err)
	}
	return data, nil
}

func (local) stat(_ context.Context, name string) (File, error) {
	info, err := os.Stat(name)
	if err == nil {
		err = refuseSpecial(name, info)
	}
	if err != nil {
		return File{}, wrap(err)
	}
	return File{Path: name, Size: info.Size()}, nil
}

// refuseSpecial treats a folder as an object store does: no file has that name. A pipe, a socket or a
// device has no size and cannot be read at an offset.
func refuseSpecial(name string, info fs.FileInfo) error {
	var kind string
	switch mode := info.Mode(); {
	case mode.IsDir():
		return &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("is a folder, not a file: %w", fs.ErrNotExist)}
	case mode.IsRegular():
		return nil
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	default:
		kind = "a special file"
	}
	return &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("is %s, not a regular file; write its content to a file first", kind)}
}

func (local) create(_ context.Context, name string) (target, error) {
	folder, base := filepath.Split(name)
	if err := makeFolder(folder); err != nil {
		return nil, err
	}
	// The name is new and the file is opened with the user's umask, unlike os.CreateTemp's.
	partial := folder + "." + base + "." + uuid.NewString() + partialSuffix
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, wrap(err)
	}
	return &localTarget{File: f, name: name}, nil
}

// Write adds to the file.
func (t *localTarget) Write(p []byte) (int, error) {
	n, err := t.File.Write(p)
	return n, wrap(err)
}

func (t *localTarget) publish() error {
	err := errors.Join(t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), t.name)
	}
	if err != nil {
		return errors.Join(wrap(err), removeLocal(t.Name()))
	}
	return syncFolder(filepath.Dir(t.name))
}

func (t *localTarget) discard() error {
	return errors.Join(wrap(t.Close()), removeLocal(t.Name()))
}

func (local) list(ctx context.Context, prefix string) ([]File, error) {
	folder, _ := filepath.Split(prefix)
	return listFolder(ctx, nil, folder, prefix)
}

// listFolder adds the files below folder, which ends in a slash or is empty. A link to a file
// counts as the file; a link to a folder is not followed, since it may lead back up.
func listFolder(ctx context.Context, files []File, folder, prefix string) ([]File, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store: list %s: %w", prefix, err)
	}
	entries, err := readFolder(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := folder + e.Name()
		if e.IsDir() {
			if below := name + "/"; strings.HasPrefix(below, prefix) {
				if files, err = listFolder(ctx, files, below, prefix); err != nil {
					return nil, err
				}
			}
			continue
		}
		if strings.HasPrefix(name, prefix) && !isPartial(e.Name()) {
			if files, err = appendFile(files, name, e); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// readFolder returns a folder's entries, none if the folder is missing.
func readFolder(folder string) ([]fs.DirEntry, error) {
	if folder == "" {
		folder = "."
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, wrap(err)
}

// appendFile adds an entry if it is a file, or a link to one. It omits a file that was removed after
// its folder was read. A dangling link is an error.
func appendFile(files []File, name string, e fs.DirEntry) ([]File, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && e.Type().IsRegular():
		return files, nil
	case err != nil:
		return nil, wrap(err)
	case !info.Mode().IsRegular():
		return files, nil
	}
	return append(files, File{Path: name, Size: info.Size()}), nil
}

func (local) folders(_ context.Context, folder string) ([]string, error) {
	entries, err := readFolder(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (local) find(_ context.Context, pattern string) ([]File, error) {
	info, err := os.Stat(pattern)
	switch {
	case err == nil && info.IsDir():
		return filesIn(pattern)
	case err == nil:
		if err := refuseSpecial(pattern, info); err != nil {
			return nil, wrap(err)
		}
		return []File{{Path: pattern, Size: info.Size()}}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, wrap(err)
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("store: the pattern %s is not valid: %w", pattern, err)
	}
	var files []File
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, wrap(err)
		}
		base := filepath.Base(name)
		hidden := strings.HasPrefix(base, ".") && !strings.HasPrefix(filepath.Base(pattern), ".")
		if info.Mode().IsRegular() && !hidden && !isPartial(base) {
			files = append(files, File{Path: name, Size: info.Size()})
		}
	}
	return files, nil
}

func filesIn(folder string) ([]File, error) {
	if !strings.HasSuffix(folder, "/") {
		folder += "/"
	}
	entries, err := readFolder(folder)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if files, err = appendFile(files, folder+e.Name(), e); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (local) sweep(_ context.Context, folder string) error {
	entries, err := readFolder(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isPartial(e.Name()) {
			continue
		}
		if err := removeLocal(filepath.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isPartial reports whether a name has the form of a file that is being written.
func isPartial(base string) bool {
	stem, ok := strings.CutSuffix(base, partialSuffix)
	if !ok || !strings.HasPrefix(base, ".") {
		return false
	}
	dot := strings.LastIndexByte(stem, '.')
	return dot > 0 && len(stem)-dot-1 == len(uuid.Nil.String()) && uuid.Validate(stem[dot+1:]) == nil
}

func (d local) move(ctx context.Context, from, to string) error {
	if _, err := d.stat(ctx, from); err != nil {
		return err
	}
	target := filepath.Dir(to)
	if err := makeFolder(target); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return wrap(err)
	}
	return errors.Join(syncFolder(target), syncFolder(filepath.Dir(from)))
}

func (local) remove(_ context.Context, name string) error { return removeLocal(name) }

func (local) removeFiles(ctx context.Context, names []string) error {
	folders := map[string]bool{}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("store: remove %s: %w", name, err)
		}
		if err := unlink(name); err != nil {
			return err
		}
		folders[filepath.Dir(name)] = true
	}
	for folder := range folders {
		if err := syncFolder(folder); err != nil {
			return err
		}
	}
	return nil
}

func removeLocal(name string) error {
	if err := unlink(name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// unlink removes a file, if it exists. The removal is not yet durable.
func unlink(name string) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		return fmt.Errorf("store: remove %s: it is a folder", name)
	}
	if err == nil {
		err = os.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap(err)
	}
	return nil
}

func (d local) removeEmpty(ctx context.Context, folder string) error {
	info, err := os.Lstat(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return wrap(err)
	}
	entries, err := readFolder(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := d.removeEmpty(ctx, filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	// The system refuses to remove a folder with content.
	err = os.Remove(folder)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(wrap(err), syncFolder(filepath.Dir(filepath.Clean(folder))))
}

func (local) names(ctx context.Context, folder string) ([]string, error) {
	entries, err := readFolder(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
			continue
		}
		found, err := containsFile(ctx, filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		if found {
			names = append(names, e.Name()+"/")
		}
	}
	return names, nil
}

// containsFile reports whether anything but folders lies below a folder.
func containsFile(ctx context.Context, folder string) (bool, error) {
	found := false
	err := filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrPermission), err == nil && !e.IsDir(): // a folder of another user counts as full
			found = true
			return fs.SkipAll
		case err != nil:
			return err
		}
		return ctx.Err()
	})
	return found, wrap(err)
}

// MakeFolder creates a local folder and its missing parents, durably.
func MakeFolder(folder string) error { return makeFolder(folder) }

// SyncFolder makes the names in a local folder durable. A missing folder has none.
func SyncFolder(folder string) error { return syncFolder(folder) }

// makeFolder creates a folder and its missing parents, each durable in its parent.
func makeFolder(folder string) error {
	folder = filepath.Clean(folder)
	info, err := os.Stat(folder)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("store: %s is a file where a folder is needed", folder)
	case !errors.Is(err, fs.ErrNotExist):
		return wrap(err)
	}
	above := filepath.Dir(folder)
	if err := makeFolder(above); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return wrap(err)
	}
	return syncFolder(above)
}

// syncFolder makes the names in a folder durable. A missing folder has none.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return wrap(err)
	}
	return wrap(errors.Join(d.Sync(), d.Close()))
}
