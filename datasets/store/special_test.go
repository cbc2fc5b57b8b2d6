package store_test

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// A pipe, a socket, a device and links to them are named in a sentence at once: opening a pipe
// would wait for a writer for ever.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	pipe, socket := filepath.Join(dir, "pipe.jsonl"), filepath.Join(dir, "socket.jsonl")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	want := map[string]string{pipe: "is a named pipe", socket: "is a socket", "/dev/zero": "is a device"}
	for target, kind := range maps.Clone(want) {
		link := filepath.Join(dir, "link to "+filepath.Base(target))
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		want[link] = kind
	}
	for name, kind := range want {
		_, find := store.Find(t.Context(), name)
		_, open := store.Open(t.Context(), name)
		_, read := store.ReadFile(t.Context(), name)
		_, stat := store.Stat(t.Context(), name)
		for _, err := range []error{find, open, read, stat} {
			if err == nil || !strings.Contains(err.Error(), name+": "+kind+", not a regular file; write its content to a file first") {
				t.Errorf("%s: error %v, want one with %q", name, err, kind)
			}
		}
	}
	if files, err := store.Find(t.Context(), dir); len(files) > 0 || err != nil {
		t.Errorf("the folder has the files %v, %v, want none", files, err)
	}
}

// A file without end costs no memory: whole files are read up to a bound.
func TestReadsAreBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sparse")
	write(t, name, "x")
	for size, read := range map[int64]func(context.Context, string) ([]byte, error){64<<20 + 1: store.ReadSmall, 1<<30 + 1: store.ReadFile} {
		if err := os.Truncate(name, size); err != nil {
			t.Skip(err) // the file system has no holes
		}
		if b, err := read(t.Context(), name); err == nil || !strings.Contains(err.Error(), "is too large; allowed are up to") {
			t.Errorf("%d bytes: %d read, %v", size, len(b), err)
		}
	}
	e, b := storetest.GCSBucket(t, nil)
	use(t, e)
	b.Put(t, "large", make([]byte, 64<<20+1))
	if b, err := store.ReadSmall(t.Context(), "gs://bucket/large"); err == nil || !strings.Contains(err.Error(), "is too large") {
		t.Errorf("%d read, %v", len(b), err)
	}
}
