package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"coeval/datasets/store"
)

// recordSize is larger than any record. All records are padded to it, so that one write replaces the
// whole record and no reader sees parts of two.
const recordSize = 1024

// maxRecord bounds the size of a lock file, which may come from anyone.
const maxRecord = 64 << 10

// maxOpens is how often a lock file is opened again after another process removed it.
const maxOpens = 3

// A lockFile is a locked file of a local disk.
type lockFile struct {
	file   *os.File
	record leaseRecord
}

// acquireFile locks the lock file below out and writes the record into it.
func acquireFile(out string, record leaseRecord) (*lockFile, error) {
	name := Name(out)
	if err := store.MakeFolder(filepath.Dir(name)); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for range maxOpens {
		f, err := openLock(name)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("another run works on %s%s: wait until it ends, or choose another --out", out, holderIn(f)), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock: %s: %w", name, err), f.Close())
		}
		if named, err := os.Lstat(name); err == nil {
			if is, err := f.Stat(); err == nil && os.SameFile(named, is) {
				l := &lockFile{file: f, record: record}
				if err := l.write(); err != nil {
					return nil, errors.Join(err, f.Close())
				}
				return l, nil
			}
		}
		if err := f.Close(); err != nil { // another process removed it after the opening
			return nil, fmt.Errorf("lock: %w", err)
		}
	}
	return nil, fmt.Errorf("lock: %s is removed again and again by another process", name)
}

// openLock opens or creates the lock file. It follows no link, waits for no writer of a FIFO, and never
// changes the mode of an existing file.
func openLock(name string) (*os.File, error) {
	if folder, err := os.Lstat(filepath.Dir(name)); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	} else if !folder.IsDir() {
		return nil, fmt.Errorf("%s is not a folder but %s: remove it, or choose another --out", filepath.Dir(name), kindOf(folder))
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o666)
	if err != nil {
		if is, statErr := os.Lstat(name); statErr == nil && !is.Mode().IsRegular() {
			return nil, fmt.Errorf("the lock %s is %s: remove it, or choose another --out", name, kindOf(is))
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err = checkLock(name, f); err == nil {
		err = checkContent(name, f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkLock returns an error unless the open file was created by this user and has one name.
func checkLock(name string, f *os.File) error {
	is, err := f.Stat()
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if !is.Mode().IsRegular() {
		return fmt.Errorf("the lock %s is %s: remove it, or choose another --out", name, kindOf(is))
	}
	sys, ok := is.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if int64(sys.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("the lock %s belongs to another user (uid %d): choose another --out", name, sys.Uid)
	}
	if sys.Nlink > 1 {
		return fmt.Errorf("the lock %s is a file that has another name as well (a hard link): remove it, or choose another --out", name)
	}
	return nil
}

// checkContent returns an error when the open file cannot be a lock. A crash may leave an empty file, or
// zeros instead of the record.
func checkContent(name string, f *os.File) error {
	start := make([]byte, len(recordStart))
	n, err := f.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("lock: %w", err)
	}
	if start = bytes.Trim(start[:n], "\x00"); !strings.HasPrefix(recordStart, string(start)) {
		return fmt.Errorf("%s is not a lock of a run: move it away, or choose another --out", name)
	}
	return nil
}

// recordStart begins every record.
const recordStart = `{"pid":`

// kindOf names the kind of a file for a message.
func kindOf(is os.FileInfo) string {
	switch mode := is.Mode(); {
	case mode&os.ModeSymlink != 0:
		return "a link"
	case mode.IsDir():
		return "a folder"
	case mode&os.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&os.ModeSocket != 0:
		return "a socket"
	case mode&os.ModeDevice != 0:
		return "a device"
	}
	return "a regular file"
}

// write replaces the content of the lock file.
func (l *lockFile) write() error {
	b, err := json.Marshal(&l.record)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	b = append(b, bytes.Repeat([]byte("\n"), max(recordSize-len(b), 0))...)
	if _, err := l.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	// The rest of an earlier, longer content would make the record unreadable.
	if err := errors.Join(l.file.Truncate(int64(len(b))), l.file.Sync()); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// holderIn returns the owner named in the lock file, in parentheses; "" if it names none.
func holderIn(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxRecord))
	var h holder
	if err != nil || json.Unmarshal(b, &h) != nil {
		return ""
	}
	return " (" + h.String() + ")"
}

// release marks the lock as released and unlocks it.
func (l *lockFile) release() error {
	l.record.Released = true
	err := l.write()
	if closeErr := l.file.Close(); closeErr != nil { // closing unlocks
		err = errors.Join(err, fmt.Errorf("lock: %w", closeErr))
	}
	return err
}
