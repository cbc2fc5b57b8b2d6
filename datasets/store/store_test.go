package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/store"
)

// conformance is the contract of every driver. Each test gets a folder that does not exist yet.
var conformance = map[string]func(t *testing.T, folder string){
	"read":         testRead,
	"large":        testLarge,
	"create":       testCreate,
	"abort":        testAbort,
	"cancel":       testCancel,
	"list":         testList,
	"folders":      testFolders,
	"find":         testFind,
	"move":         testMove,
	"remove":       testRemove,
	"odd names":    testOddNames,
	"not there":    testNotThere,
	"last one won": testTwoWriters,
}

func TestConformance(t *testing.T) {
	for name, test := range conformance {
		t.Run("local/"+name, func(t *testing.T) { test(t, store.Join(t.TempDir(), "new", "folder")) })
	}
	for scheme, serve := range servers {
		t.Run(scheme, func(t *testing.T) {
			serve(t, nil)
			for name, test := range conformance {
				t.Run(name, func(t *testing.T) { test(t, folderOf(t, scheme)) })
			}
			t.Run("swap", func(t *testing.T) { testSwap(t, folderOf(t, scheme)) })
		})
	}
}

func testRead(t *testing.T, folder string) {
	ctx := t.Context()
	name := store.Join(folder, "a.txt")
	write(t, name, "0123456789")
	r, err := store.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != 10 {
		t.Errorf("Size = %d, want 10", r.Size())
	}
	part := make([]byte, 4)
	if n, err := r.ReadAt(part, 3); n != 4 || err != nil || string(part) != "3456" {
		t.Errorf("ReadAt(3) = %d, %v, %q", n, err, part)
	}
	if n, err := r.ReadAt(part, 8); n != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt(8) = %d, %v, want 2, EOF", n, err)
	}
	rest, err := io.ReadAll(r.Stream(7))
	if err != nil || string(rest) != "789" {
		t.Errorf("Stream(7) = %q, %v", rest, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if whole := read(t, name); whole != "0123456789" {
		t.Errorf("ReadFile = %q", whole)
	}
	if f, err := store.Stat(ctx, name); err != nil || f != (store.File{Path: name, Size: 10}) {
		t.Errorf("Stat = %v, %v", f, err)
	}
}

// testLarge writes and reads a file of more than an upload's part and a reader's blocks, at
// offsets on both sides of their borders.
func testLarge(t *testing.T, folder string) { testSize(t, folder, 20<<20+7) }

func testSize(t *testing.T, folder string, size int) {
	t.Helper()
	name := store.Join(folder, "large")
	// Nothing repeats at the size of a part or a block: 997 is prime.
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i%997) ^ byte(i>>20)
	}
	w, err := store.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 3 << 20 {
		if _, err := w.Write(data[at:min(at+3<<20, len(data))]); err != nil {
			t.Fatal(err)
		}
		if got := list(t, folder+"/"); len(got) != 0 {
			t.Fatalf("before Close the listing has %v", got)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := store.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 1<<20 - 3, 8<<20 - 3, int64(size) - 10} {
		part := make([]byte, 8)
		if _, err := r.ReadAt(part, offset); err != nil || !bytes.Equal(part, data[offset:offset+8]) {
			t.Errorf("ReadAt(%d) = %v, %v", offset, part, err)
		}
	}
	rest, err := io.ReadAll(r.Stream(5))
	if err != nil || !bytes.Equal(rest, data[5:]) {
		t.Errorf("Stream(5) gave %d bytes, %v, and they are not the file's", len(rest), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	to := store.Join(folder, "moved")
	if err := store.Move(t.Context(), name, to); err != nil {
		t.Fatal(err)
	}
	if read(t, to) != string(data) {
		t.Error("ReadFile of the moved file gives other bytes")
	}
}

func testFolders(t *testing.T, folder string) {
	for _, name := range []string{"b/2", "b/10", "a", "bb/c/d"} {
		write(t, store.Join(folder, name), name)
	}
	for _, name := range []string{folder, folder + "/"} {
		got, err := store.Folders(t.Context(), name)
		if diff := cmp.Diff([]string{"b", "bb"}, got); diff != "" || err != nil {
			t.Errorf("Folders(%s): %v (-want +got):\n%s", name, err, diff)
		}
	}
	if got, err := store.Folders(t.Context(), folder+"/none"); len(got) != 0 || err != nil {
		t.Errorf("Folders of nothing = %v, %v", got, err)
	}
}

// testSwap is of the stores that have no locks.
func testSwap(t *testing.T, folder string) {
	ctx, name := t.Context(), store.Join(folder, "lease")
	if _, _, err := store.ReadVersion(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadVersion of nothing: %v", err)
	}
	first, err := store.Swap(ctx, name, "", []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Swap(ctx, name, "", []byte("another")); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a second file under the name: %v, want ErrChanged", err)
	}
	second, err := store.Swap(ctx, name, first, []byte("second"))
	if err != nil || second == first {
		t.Fatalf("Swap = %q, %v; the version before was %q", second, err, first)
	}
	if _, err := store.Swap(ctx, name, first, []byte("late")); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a change of what is no more: %v, want ErrChanged", err)
	}
	if data, v, err := store.ReadVersion(ctx, name); string(data) != "second" || v != second || err != nil {
		t.Errorf("ReadVersion = %q, %q, %v", data, v, err)
	}
}

func testCreate(t *testing.T, folder string) {
	ctx := t.Context()
	name := store.Join(folder, "a.txt")
	w, err := store.Create(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.Write([]byte("ab")); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, folder+"/"); len(got) != 0 {
		t.Errorf("before Close the listing has %v", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Close: %v", err)
	}
	if got := read(t, name); got != "ababab" {
		t.Errorf("read %q", got)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write after Close gave no error")
	}
	if err := w.Close(); err == nil {
		t.Error("a second Close gave no error")
	}
	write(t, name, "new")
	if got := read(t, name); got != "new" {
		t.Errorf("after a second writer: %q", got)
	}
	write(t, store.Join(folder, "empty"), "")
	if got := read(t, store.Join(folder, "empty")); got != "" {
		t.Errorf("empty file: %q", got)
	}
}

func testAbort(t *testing.T, folder string) {
	name := store.Join(folder, "a.txt")
	write(t, name, "old")
	w, err := store.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("second Abort: %v", err)
	}
	if got := read(t, name); got != "old" {
		t.Errorf("after Abort the file holds %d bytes", len(got))
	}
	if got := list(t, folder); len(got) != 1 {
		t.Errorf("after Abort there are %v", got)
	}
}

func testCancel(t *testing.T, folder string) {
	ctx, cancel := context.WithCancel(t.Context())
	name := store.Join(folder, "a.txt")
	w, err := store.Create(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v, want canceled", err)
	}
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v, want canceled", err)
	}
	if _, err := store.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a canceled Close: %v, want nothing there", err)
	}
	if _, err := store.List(ctx, folder); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v, want canceled", err)
	}
}

func testList(t *testing.T, folder string) {
	for _, name := range []string{"b/2", "b/10", "a", "b.txt", "c/d/e", "b/.hidden"} {
		write(t, store.Join(folder, name), name)
	}
	all := []string{"a 1", "b.txt 5", "b/.hidden 9", "b/10 4", "b/2 3", "c/d/e 5"}
	tests := []struct {
		prefix string
		want   []string
	}{
		{"/", all},
		{"/b", []string{"b.txt 5", "b/.hidden 9", "b/10 4", "b/2 3"}},
		{"/b/", []string{"b/.hidden 9", "b/10 4", "b/2 3"}},
		{"/b/1", []string{"b/10 4"}},
		{"/c/d", []string{"c/d/e 5"}},
		{"/none", nil},
		{"/none/below", nil},
	}
	for _, test := range tests {
		var got []string
		for _, f := range list(t, folder+test.prefix) {
			got = append(got, fmt.Sprint(strings.TrimPrefix(f.Path, folder+"/"), " ", f.Size))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("List(%s) (-want +got):\n%s", test.prefix, diff)
		}
	}
}

func testFind(t *testing.T, folder string) {
	for _, name := range []string{"b/2.jsonl", "b/10.jsonl", "b/c/3.jsonl", "b/.hidden", "x[1].jsonl", "d/2.jsonl"} {
		write(t, store.Join(folder, name), name)
	}
	tests := []struct {
		pattern string
		want    []string
	}{
		{"b", []string{"b/10.jsonl", "b/2.jsonl"}},
		{"b/", []string{"b/10.jsonl", "b/2.jsonl"}},
		{"b/2.jsonl", []string{"b/2.jsonl"}},
		{"*/2.jsonl", []string{"b/2.jsonl", "d/2.jsonl"}},
		{"b/[0-9]?.jsonl", []string{"b/10.jsonl"}},
		{"x[1].jsonl", []string{"x[1].jsonl"}},
		{"*", []string{"x[1].jsonl"}},
		{"b/*", []string{"b/10.jsonl", "b/2.jsonl"}},
		{"b/.*", []string{"b/.hidden"}},
		{"none", nil},
	}
	for _, test := range tests {
		files, err := store.Find(t.Context(), folder+"/"+test.pattern)
		if err != nil {
			t.Errorf("Find(%s): %v", test.pattern, err)
		}
		var got []string
		for _, f := range files {
			got = append(got, strings.TrimPrefix(f.Path, folder+"/"))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Find(%s) (-want +got):\n%s", test.pattern, diff)
		}
	}
	if _, err := store.Find(t.Context(), folder+"/[a"); err == nil {
		t.Error("a broken pattern gave no error")
	}
}

func testMove(t *testing.T, folder string) {
	ctx := t.Context()
	from, to := store.Join(folder, "staging/a"), store.Join(folder, "final/b")
	write(t, from, "new")
	write(t, to, "old")
	if err := store.Move(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); got != "new" {
		t.Errorf("moved file holds %q", got)
	}
	if _, err := store.Stat(ctx, from); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v, want nothing there", err)
	}
	if err := store.Move(ctx, from, to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second Move: %v, want fs.ErrNotExist", err)
	}
}

func testRemove(t *testing.T, folder string) {
	ctx := t.Context()
	for _, name := range []string{"s/a", "s/b/c", "t"} {
		write(t, store.Join(folder, name), name)
	}
	for range 2 {
		if err := store.Remove(ctx, store.Join(folder, "t")); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	killed, err := store.Create(ctx, store.Join(folder, "s/killed"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.RemoveFiles(ctx, []string{store.Join(folder, "s/a"), store.Join(folder, "s/b/c")}); err != nil {
			t.Errorf("RemoveFiles: %v", err)
		}
		if err := store.Sweep(ctx, store.Join(folder, "s")); err != nil {
			t.Errorf("Sweep: %v", err)
		}
		if err := store.RemoveEmpty(ctx, store.Join(folder, "s")); err != nil {
			t.Errorf("RemoveEmpty: %v", err)
		}
	}
	if err := killed.Abort(); err != nil {
		t.Errorf("Abort of a file that was removed: %v", err)
	}
	if got := list(t, folder+"/"); len(got) != 0 {
		t.Errorf("there are still %v", got)
	}

	var names []string
	for i := range 40 {
		name := store.Join(folder, fmt.Sprintf("many/%d/a+b %d", i%3, i))
		write(t, name, "x")
		names = append(names, name)
	}
	keep := names[len(names)-1]
	names[len(names)-1] = store.Join(folder, "many/none")
	for range 2 { // of the second time none is there
		if err := store.RemoveFiles(ctx, names); err != nil {
			t.Errorf("RemoveFiles: %v", err)
		}
	}
	if got := list(t, folder+"/"); len(got) != 1 || got[0].Path != keep {
		t.Errorf("left are %v, want %s", got, keep)
	}
	if err := store.RemoveFiles(ctx, nil); err != nil {
		t.Errorf("RemoveFiles of nothing: %v", err)
	}
}

func testOddNames(t *testing.T, folder string) {
	for _, base := range []string{"with space", "100%", "a#b?c", "Ünï-код", "a+b&c=d", "...", strings.Repeat("x", 200)} {
		name := store.Join(folder, base)
		write(t, name, base)
		if got := read(t, name); got != base {
			t.Errorf("%q holds %q", base, got)
		}
	}
	if got := list(t, folder+"/"); len(got) != 7 {
		t.Errorf("listed %v, want 7 files", got)
	}
}

func testNotThere(t *testing.T, folder string) {
	ctx := t.Context()
	write(t, store.Join(folder, "sub/file"), "x")
	for _, name := range []string{"none", "sub", "none/below"} {
		name = store.Join(folder, name)
		if _, err := store.Open(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s): %v, want fs.ErrNotExist", name, err)
		}
		if _, err := store.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%s): %v, want fs.ErrNotExist", name, err)
		}
	}
}

func testTwoWriters(t *testing.T, folder string) {
	name := store.Join(folder, "a")
	var writers []*store.Writer
	for i := range 2 {
		w, err := store.Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(w, "writer %d", i); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	for _, i := range []int{1, 0} {
		if err := writers[i].Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, name); got != "writer 0" {
		t.Errorf("read %q, want the text of the last to close", got)
	}
}

func TestPathsThatNoDriverServes(t *testing.T) {
	t.Chdir(t.TempDir())
	tests := map[string]string{
		"gcs://bucket/a":   "store: gcs://bucket/a: no files can be reached by gcs://: give a local path, gs://BUCKET/NAME or s3://BUCKET/NAME",
		"https://host/a":   "store: https://host/a: no files can be reached by https://: give a local path, gs://BUCKET/NAME or s3://BUCKET/NAME",
		"":                 "store: the path is empty",
		"a\x00b":           `store: the path "a\x00b" has a NUL byte in it`,
		"file:///tmp/some": "store: file:///tmp/some: give the local path without file://",
		"gs://b/a/../../c": `store: the path "gs://b/a/../../c" has a part "..", which an object store does not resolve: write the folder itself`,
		"s3://b/..":        `store: the path "s3://b/.." has a part "..", which an object store does not resolve: write the folder itself`,
	}
	for name, want := range tests {
		ctx := t.Context()
		_, openErr := store.Open(ctx, name)
		_, createErr := store.Create(ctx, name)
		_, statErr := store.Stat(ctx, name)
		_, listErr := store.List(ctx, name)
		_, findErr := store.Find(ctx, name)
		for _, err := range []error{
			openErr, createErr, statErr, listErr, findErr,
			store.Remove(ctx, name), store.RemoveEmpty(ctx, name), store.Move(ctx, name, "x"), store.Move(ctx, "x", name),
		} {
			if err == nil || err.Error() != want {
				t.Errorf("%q: error %v, want %q", name, err, want)
			}
		}
	}
}

func TestJoin(t *testing.T) {
	tests := []struct{ want, folder, name string }{
		{"out/a/b", "out/", "a/b"},
		{"/out/a", "/out", "a"},
		{"a", "", "a"},
		{"gs://bucket/out/a", "gs://bucket/out/", "a"},
		{"gs://bucket/../other/a", "gs://bucket/../other", "a"}, // and no driver takes it
		{"s3://bucket", "s3://bucket/", ""},
	}
	for _, test := range tests {
		if got := store.Join(test.folder, test.name); got != test.want {
			t.Errorf("Join(%q, %q) = %q, want %q", test.folder, test.name, got, test.want)
		}
	}
}

// A name in the working folder, links, and the permissions of a user's umask are matters of
// the local driver alone.
func TestLocal(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx := t.Context()
	write(t, "here", "x")
	if got := read(t, "here"); got != "x" {
		t.Errorf("read %q", got)
	}
	if err := os.WriteFile("plain", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	made, want := stat(t, "here"), stat(t, "plain")
	if made.Mode() != want.Mode() {
		t.Errorf("mode %v, want that of any new file, %v", made.Mode(), want.Mode())
	}
	if err := os.Symlink("here", "link"); err != nil {
		t.Fatal(err)
	}
	if got := list(t, "li"); len(got) != 1 || got[0].Size != 1 {
		t.Errorf("a link to a file is listed as %v", got)
	}
	if err := os.Symlink("nowhere", "broken"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Find(ctx, "."); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a link to nowhere gave %v, want an error that names it", err)
	}
	if _, err := store.Create(ctx, "here/below"); err == nil {
		t.Error("a file below a file gave no error")
	}
	if err := store.Remove(ctx, "."); err == nil {
		t.Error("Remove of a folder gave no error")
	}
	if _, err := store.Swap(ctx, "here", "", nil); err == nil {
		t.Error("Swap of a local file gave no error")
	}
	if _, err := store.Open(ctx, os.DevNull); err == nil {
		t.Error("a device gave no error")
	}
}

// Any path that a user types names the intended file, or is refused.
func TestParsePath(t *testing.T) {
	for _, test := range []struct{ path, want, refused string }{
		{"out", "out", ""},
		{"../out", "../out", ""},
		{"/a/b c", "/a/b c", ""},
		{"./~out", "./~out", ""},
		{"2026-11-28T10:00", "2026-11-28T10:00", ""},
		{"gs://bucket", "gs://bucket", ""},
		{"s3://bucket/a/", "s3://bucket/a/", ""},
		{"file:///tmp/some%20folder", "/tmp/some folder", ""},
		{"file://localhost/tmp", "/tmp", ""},
		{"", "", "is empty"},
		{"a\x00", "", "NUL"},
		{"a\xff", "", "UTF-8"},
		{"~", "", "only a shell expands"},
		{"~/out", "", "only a shell expands"},
		{"~someone/out", "", "only a shell expands"},
		{"file://out/a", "", "names no local file"},
		{"file://", "", "names no local file"},
		{"file:///a%ff", "", "names no local file"},
		{"file:///a%zz", "", "not a valid URL"},
		{"file:/tmp", "", "without two slashes"},
		{"s3:bucket", "", "without two slashes: write s3://…"},
		{"GS:/bucket/a", "", "without two slashes: write gs://…"},
		{"S3://bucket/a", "", "no files can be reached by S3://"},
		{"hdfs://name/a", "", "no files can be reached by hdfs://"},
		{"gs://", "", "bucket is missing"},
		{"gs:///a", "", "bucket is missing"},
		{"s3://../a", "", "bucket is missing"},
		{"s3://b/../a", "", "does not resolve"},
		{"s3://b/a/..", "", "does not resolve"},
		{"gs://b/./a", "", `has a part ".", which an object store does not resolve`},
		{"gs://My_old.Bucket-1/a b@c:d", "gs://My_old.Bucket-1/a b@c:d", ""},
		{"gs://Bucket Name/a", "", `has the bucket "Bucket Name"`},
		{"s3://b?versionId=1/a", "", "has the bucket"},
		{"s3://user:swordfish4711@bucket/a", "", `the path "s3://(not shown: it looks like a secret)@bucket/a" has more than a bucket`},
		{"s3://b\n/a", "", `has the bucket "b\n"`},
		{"s3://AK:wJalr/K7MD@b/a", "", `the path "s3://(not shown: it looks like a secret)@b/a" has more than a bucket`},
		{"gs://b//a", "", "an empty part between two slashes: write gs://b/a"},
		{"gs://b/a//c", "", "an empty part between two slashes: write gs://b/a/c"},
	} {
		got, err := store.ParsePath(test.path)
		if got != test.want || (err == nil) != (test.refused == "") || err != nil && !strings.Contains(err.Error(), test.refused) {
			t.Errorf("ParsePath(%q) = %q, %v; want %q, %q", test.path, got, err, test.want, test.refused)
		}
	}
}

// Opening a named pipe is an error at once: nobody may write to it, ever.
func TestNamedPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.ReadFile(t.Context(), name); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
}

// Names with the ending of partial files belong to the store only in the form that it gives them.
func TestSweepLeavesOthers(t *testing.T) {
	folder := t.TempDir()
	own := ".a.6ba7b810-9dad-41d1-80b4-00c04fd430c8.partial"
	others := []string{".partial", ".a.partial", ".download.mp4.partial", ".a.6ba7b810.partial", "a.6ba7b810-9dad-41d1-80b4-00c04fd430c8.partial"}
	for _, name := range append(others, own) {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Sweep(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	names, err := store.Names(t.Context(), folder)
	slices.Sort(others)
	if err != nil || !slices.Equal(names, others) {
		t.Errorf("left are %q, %v; want %q", names, err, others)
	}
}

// Only folders that contain nothing are removed, and no link is followed.
func TestRemoveEmpty(t *testing.T) {
	folder, elsewhere := t.TempDir(), t.TempDir()
	for _, name := range []string{"s/a/b", "s/c/d"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(elsewhere, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(folder, "s", "c", "link")); err != nil {
		t.Fatal(err)
	}
	if names, err := store.Names(t.Context(), folder); err != nil || !slices.Equal(names, []string{"s/"}) {
		t.Errorf("%q, %v: a link is not nothing", names, err)
	}
	if err := store.RemoveEmpty(t.Context(), filepath.Join(folder, "s")); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"s/a": false, "s/c/d": false, "s/c/link": true} {
		if _, err := os.Lstat(filepath.Join(folder, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "empty")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func stat(t *testing.T, name string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestPartialsAreNotListed(t *testing.T) {
	folder := t.TempDir()
	w, err := store.Create(t.Context(), filepath.Join(folder, "a"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	})
	for _, pattern := range []string{folder, folder + "/.a*"} {
		files, err := store.Find(t.Context(), pattern)
		if err != nil || len(files) != 0 {
			t.Errorf("Find(%s) = %v, %v, want nothing", pattern, files, err)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := store.WriteFile(t.Context(), name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := store.ReadFile(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func list(t *testing.T, prefix string) []store.File {
	t.Helper()
	files, err := store.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return files
}
