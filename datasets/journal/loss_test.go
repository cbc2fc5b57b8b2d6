package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// removeFile removes a file of a journal and returns how to bring it back.
func removeFile(t *testing.T, full string) (restore func()) {
	t.Helper()
	b, err := store.ReadFile(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Remove(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := store.WriteFile(t.Context(), full, b); err != nil {
			t.Fatal(err)
		}
	}
}

// segments returns the names of all segments below a journal.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, name := range names(t, dir) {
		if segment.IsName(path.Base(name)) {
			out = append(out, name)
		}
	}
	return out
}

// loses checks that reading, loading, planning and compacting name the lost file, and ask nothing.
func loses(t *testing.T, what, dir, bucket, full string) {
	t.Helper()
	_, readErr := Read(t.Context(), dir, nil, bucket, nil)
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeJournal(t, j)
	_, loadErr := j.Load(t.Context(), bucket, nil)
	before := names(t, dir)
	if _, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil && !strings.Contains(err.Error(), full) {
		t.Errorf("%s: Compact: %v", what, err)
	}
	if diff := cmp.Diff(before, names(t, dir)); diff != "" {
		t.Errorf("%s: Compact has removed what shows the loss:\n%s", what, diff)
	}
	for which, err := range map[string]error{"Read": readErr, "Load": loadErr} {
		if err == nil || !strings.Contains(err.Error(), full) || !strings.Contains(err.Error(), "lost") || !strings.Contains(err.Error(), "salvage") {
			t.Errorf("%s: %s: %v; want an error that names %s", what, which, err, full)
		}
	}
}

// A missing, emptied or shortened segment that a view lists is always an error, in the bucket and in
// its shorter prefixes. Its calls are never made again silently.
func TestLostSegments(t *testing.T) {
	places(t, func(t *testing.T, dir string) {
		attempt(t, dir, "b0", generation("p", "k", 0, strings.Repeat("first ", 50)))
		attempt(t, dir, "b01", generation("p", "k", 1, strings.Repeat("second ", 50)))
		attempt(t, dir, "b01", generation("p", "k", 2, strings.Repeat("third ", 50)))
		attempt(t, dir, "b01") // fixes a view of all
		all := segments(t, dir)
		if len(all) != 3 {
			t.Fatalf("there are %v", all)
		}
		for _, name := range all {
			full := store.Join(dir, name)
			whole, err := store.ReadFile(t.Context(), full)
			if err != nil {
				t.Fatal(err)
			}
			restore := removeFile(t, full)
			loses(t, "gone", dir, "b01", full)
			restore()
			if store.HasLocks(dir) {
				another, err := segment.EncodeFrames([]Record{generation("p", "k", 9, uuid.NewString()+strings.Repeat(uuid.NewString(), 50))})
				if err != nil {
					t.Fatal(err)
				}
				replaced(t, full, another, func() { loses(t, "another, larger file", dir, "b01", full) })
			}
			if !store.HasLocks(dir) {
				continue // a part that is cut is damage: TestDamagedParts
			}
			for _, cut := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
				replaced(t, full, whole[:cut], func() { loses(t, fmt.Sprint("cut at ", cut), dir, "b01", full) })
			}
		}
		want := map[string]string{"k0": strings.Repeat("first ", 50), "k1": strings.Repeat("second ", 50), "k2": strings.Repeat("third ", 50)}
		if diff := cmp.Diff(want, texts(t, dir, "b01")); diff != "" {
			t.Error(diff)
		}
		// A compaction removes files on purpose, together with the views that list them.
		if _, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, texts(t, dir, "b01")); diff != "" {
			t.Error(diff)
		}
	})
}

// A compaction of 2026-11-28 left the views of longer prefixes, which list the segments that it
// merged: that is no loss.
func TestCompactionsOfBefore(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		attempt(t, dir, "b0", generation("p", "k", i, "text"))
	}
	attempt(t, dir, "b01", generation("p", "k", 3, "text"))
	attempt(t, dir, "b01")
	views := map[string][]byte{}
	for _, name := range names(t, dir) {
		if path.Dir(name) == "b01" && buckets.IsView(path.Base(name)) {
			b, err := store.ReadFile(t.Context(), store.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			views[name] = b
		}
	}
	if done, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil || done.Removed != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	for name, b := range views {
		if err := store.WriteFile(t.Context(), store.Join(dir, name), b); err != nil {
			t.Fatal(err)
		}
	}
	if got := texts(t, dir, "b01"); len(got) != 4 {
		t.Errorf("read were %v", got)
	}
	if h, err := upkeep.Check(t.Context(), dir); err != nil || len(h.Damages) != 0 {
		t.Errorf("%+v, %v", h, err)
	}
}

// A crash may tear the last frame after a run's last view: that is no loss.
func TestGrowthIsNoLoss(t *testing.T) {
	dir := t.TempDir()
	attempt(t, dir, "b", generation("p", "k", 0, "first"))
	attempt(t, dir, "b") // fixes a view
	o := attemptInFrames(t, dir, "b", []Record{generation("p", "k", 1, "second")}, []Record{generation("p", "k", 2, "third")})
	name := filepath.Join(dir, o.Segment)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"k0": "first", "k1": "second"}, texts(t, dir, "b")); diff != "" {
		t.Error(diff)
	}
	h, err := upkeep.Check(t.Context(), dir)
	if err != nil || len(h.Damages) != 0 || h.IncompleteBytes == 0 || h.Generations != 2 {
		t.Errorf("%+v, %v", h, err)
	}
}

// A salvaged journal has every undamaged record and no damage. The result names the lost records.
func TestSalvage(t *testing.T) {
	places(t, func(t *testing.T, dir string) {
		var want map[string]string
		build := func(t *testing.T, folder string) string {
			dir := store.Join(dir, folder)
			want = map[string]string{}
			for i := range 4 {
				text := strings.Repeat(fmt.Sprint("text ", i, " "), 40)
				frames := [][]Record{{generation("p", "k", 3*i, text)}, {generation("p", "k", 3*i+1, text)}, {generation("q", "k", 3*i+2, text)}}
				attemptInFrames(t, dir, "b", frames...)
				for k := range 3 {
					want[fmt.Sprint("k", 3*i+k)] = text
				}
			}
			attempt(t, dir, "b")
			return dir
		}
		change := func(t *testing.T, full string, with func([]byte) []byte) {
			b, err := store.ReadFile(t.Context(), full)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.WriteFile(t.Context(), full, with(bytes.Clone(b))); err != nil {
				t.Fatal(err)
			}
		}
		damage := map[string]func(t *testing.T, dir string) (file string, lost []string){
			"the middle": func(t *testing.T, dir string) (string, []string) {
				name := segments(t, dir)[1]
				change(t, store.Join(dir, name), func(b []byte) []byte { b[len(b)/2] ^= 0x55; return b })
				if store.HasLocks(dir) {
					return name, []string{"k4"}
				}
				return name, []string{"k1"} // one part for each frame
			},
			"a file": func(t *testing.T, dir string) (string, []string) {
				name := segments(t, dir)[0]
				if err := store.Remove(t.Context(), store.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				if store.HasLocks(dir) {
					return name, []string{"k0", "k1", "k2"}
				}
				return name, []string{"k0"}
			},
			"all of a file": func(t *testing.T, dir string) (string, []string) {
				name := segments(t, dir)[0]
				change(t, store.Join(dir, name), func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) })
				if store.HasLocks(dir) {
					return name, []string{"k0", "k1", "k2"}
				}
				return name, []string{"k0"}
			},
			"a view": func(t *testing.T, dir string) (string, []string) {
				for _, name := range names(t, dir) {
					if buckets.IsView(path.Base(name)) {
						change(t, store.Join(dir, name), func(b []byte) []byte { b[3] ^= 1; return b })
						return name, nil
					}
				}
				t.Fatal("no view")
				return "", nil
			},
		}
		for what, plant := range damage {
			t.Run(what, func(t *testing.T) {
				dir := build(t, strings.ReplaceAll(what, " ", "-"))
				if h, err := upkeep.Check(t.Context(), dir); err != nil || len(h.Damages) != 0 || h.Generations != 12 {
					t.Fatalf("before: %+v, %v", h, err)
				}
				file, lost := plant(t, dir)
				before := names(t, dir)
				h, err := upkeep.Check(t.Context(), dir)
				if err != nil || len(h.Damages) != 1 || h.Damages[0].File != store.Join(dir, file) {
					t.Fatalf("Check: %+v, %v; want %s", h, err, file)
				}
				if diff := cmp.Diff(before, names(t, dir)); diff != "" {
					t.Errorf("Check has changed the journal:\n%s", diff)
				}
				if h, err = upkeep.Salvage(t.Context(), dir); err != nil || len(h.Damages) != 1 {
					t.Fatalf("Salvage: %+v, %v", h, err)
				}
				for _, key := range lost {
					delete(want, key)
				}
				if diff := cmp.Diff(want, texts(t, dir, "b")); diff != "" {
					t.Errorf("after Salvage:\n%s", diff)
				}
				if h, err := upkeep.Check(t.Context(), dir); err != nil || len(h.Damages) != 0 {
					t.Errorf("after Salvage: %+v, %v", h, err)
				}
				// A run goes on, and the journal stays whole.
				attempt(t, dir, "b", generation("p", "k", 20, "new"))
				attempt(t, dir, "b")
				want["k20"] = "new"
				if diff := cmp.Diff(want, texts(t, dir, "b")); diff != "" {
					t.Error(diff)
				}
				if exists, err := FindPrefixBits(t.Context(), dir); err != nil || len(exists) != 1 {
					t.Errorf("buckets of %v, %v", exists, err)
				}
			})
		}
	})
}

// Links in a journal lead nowhere: neither reads nor writes follow one.
func TestLinksInAJournal(t *testing.T) {
	elsewhere := t.TempDir()
	attempt(t, elsewhere, "b", generation("p", "k", 0, "text"))
	segment := segments(t, elsewhere)[0]
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(elsewhere, "b"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeJournal(t, j)
		if _, err := j.Load(t.Context(), "b", nil); err == nil || !strings.Contains(err.Error(), "is a link") {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("a bucket")
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, segment), filepath.Join(dir, segment)); err != nil {
		t.Fatal(err)
	}
	check("a segment")
	if _, err := upkeep.Compact(t.Context(), dir, 1, 0); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("Compact: %v", err)
	}
}

// While a store is away, Healthy blocks callers that want to send requests. When the store is back, it
// returns.
func TestHealthy(t *testing.T) {
	quickly(t)
	set(t, &maxUnsaved, 50*time.Millisecond)
	dir := storetest.Folder(t)
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Healthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	var gone atomic.Bool
	gone.Store(true)
	blocked := make(chan struct{})
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if gone.Load() {
			select {
			case <-blocked:
			case <-r.Context().Done():
			}
		}
		server.ServeHTTP(w, r)
	})
	if err := v.Append(generation("p", "k", 0, "text")); err != nil {
		t.Fatal(err)
	}
	for j.lateBatch() == nil && t.Context().Err() == nil {
		runtime.Gosched()
	}
	// From now on nobody may ask, until the store is back.
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() { waits <- j.Healthy(ctx) }()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("whoever leaves gets %v", err)
	}
	go func() { waits <- j.Healthy(t.Context()) }()
	select {
	case err := <-waits:
		t.Errorf("more may be asked while nothing is saved: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	gone.Store(false)
	close(blocked)
	if err := <-waits; err != nil {
		t.Errorf("when the store is back: %v", err)
	}
	if err := v.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
}
