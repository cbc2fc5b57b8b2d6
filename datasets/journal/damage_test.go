package journal

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// replaced puts other bytes under a name, and the old ones back when the function ends.
func replaced(t *testing.T, name string, with []byte, look func()) {
	t.Helper()
	was, err := store.ReadFile(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.WriteFile(t.Context(), name, with); err != nil {
		t.Fatal(err)
	}
	look()
	if err := store.WriteFile(t.Context(), name, was); err != nil {
		t.Fatal(err)
	}
}

// firstFrame returns the length of the first frame of a segment.
func firstFrame(b []byte) int {
	for n := range b {
		if at := segment.WholeLength(b[:n]); at > 0 {
			return at
		}
	}
	return len(b)
}

// damages are the possible changes of a file that was put whole: cut anywhere, emptied, a bit flipped,
// bytes added.
func damages(whole []byte) map[string][]byte {
	out := map[string][]byte{"one more byte": append(bytes.Clone(whole), 0)}
	for _, cut := range []int{0, 1, len(whole) / 3, len(whole) / 2, len(whole) - 1} {
		out[fmt.Sprint("cut at ", cut)] = whole[:cut]
	}
	for _, at := range []int{0, 4, 5, len(whole) / 3, len(whole) / 2, len(whole) - 1} {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x10
		out[fmt.Sprint("a bit flipped at ", at)] = flipped
	}
	return out
}

// refused fails the test if a damaged journal is read as if it were well.
func refused(t *testing.T, what, dir, name string) {
	t.Helper()
	_, err := Read(t.Context(), dir, nil, "b", nil)
	if err == nil {
		t.Errorf("%s: %s is read as if nothing were missing", path.Base(name), what)
		return
	}
	if said := err.Error(); !strings.Contains(said, name) || !strings.Contains(said, "damaged") || !strings.Contains(said, "offset ") || !strings.HasSuffix(said, buckets.SalvageHint) {
		t.Errorf("%s: %s: %v: names no file and offset", path.Base(name), what, err)
	}
}

// A part in a bucket is put whole, so that one which isn't is damage and not an incomplete end: its calls
// were paid for and must not be asked again silently.
func TestDamagedParts(t *testing.T) {
	quickly(t)
	dir := storetest.Folder(t)
	attempt(t, dir, "b", generation("p", "k", 0, strings.Repeat("first ", 50)))
	attempt(t, dir, "b", generation("p", "k", 1, strings.Repeat("second ", 50)))
	for _, name := range names(t, dir) {
		if !strings.HasSuffix(name, segment.Suffix) {
			continue
		}
		full := store.Join(dir, name)
		whole, err := store.ReadFile(t.Context(), full)
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range damages(whole) {
			replaced(t, full, bad, func() { refused(t, what, dir, full) })
		}
	}
	if diff := cmp.Diff(map[string]string{"k0": strings.Repeat("first ", 50), "k1": strings.Repeat("second ", 50)}, texts(t, dir, "b")); diff != "" {
		t.Error(diff)
	}
}

// Of several frames one may be missing without a trace in the others.
func TestCompactedSegmentWithoutItsLastFrames(t *testing.T) {
	dir := t.TempDir()
	const perFrame = 2000 // of a segment that is written whole
	for half := range 2 {
		records := make([]Record, perFrame)
		for i := range records {
			records[i] = generation("p", "k", half*perFrame+i, "text")
		}
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := j.Load(t.Context(), "b", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Append(records...); err != nil {
			t.Fatal(err)
		}
		closeJournal(t, j)
	}
	if done, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil || done.Removed != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	all := names(t, dir)
	if len(all) != 1 {
		t.Fatalf("there are %v", all)
	}
	full := store.Join(dir, all[0])
	whole, err := store.ReadFile(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	first := firstFrame(whole)
	if first == len(whole) {
		t.Fatalf("a first frame of %d bytes in %d, %v", first, len(whole), err)
	}
	replaced(t, full, whole[:first], func() { refused(t, "cut between two frames", dir, full) })
	for what, bad := range damages(whole) {
		replaced(t, full, bad, func() { refused(t, what, dir, full) })
	}
}

// Older journals have no digests in their names. Their bytes are checked against zstd's own checksums.
func TestJournalsWithoutDigests(t *testing.T) {
	quickly(t)
	dir := storetest.Folder(t)
	attempts(t, dir)
	for _, name := range names(t, dir) {
		base := path.Base(name)
		digest, ok := segment.DigestIn(base)
		if buckets.IsView(base) { // it lists the names that the files have now
			if err := store.Remove(t.Context(), store.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if !ok {
			continue
		}
		old := "-00000000-0000-4000-8000-000000000000" // as of a pin or of a compacted segment
		if strings.Contains(base, ".0") {
			old = ""
		}
		to := store.Join(dir, path.Dir(name), strings.Replace(base, "-"+digest, old, 1))
		if err := store.Move(t.Context(), store.Join(dir, name), to); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
		t.Fatal(diff)
	}
	for _, name := range names(t, dir) {
		if path.Dir(name) != "b" || !strings.HasSuffix(name, segment.Suffix) {
			continue
		}
		full := store.Join(dir, name)
		whole, err := store.ReadFile(t.Context(), full)
		if err != nil {
			t.Fatal(err)
		}
		for _, cut := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
			replaced(t, full, whole[:cut], func() { refused(t, fmt.Sprint("cut at ", cut), dir, full) })
		}
	}
	if done, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil || done.Removed != 7 {
		t.Errorf("%+v, %v", done, err)
	}
	if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
		t.Error(diff)
	}
}
