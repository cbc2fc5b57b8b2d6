package journal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal/segment"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// attempts make a journal in which order matters: two buckets of one prompt, failures that were
// asked again, and a pin.
func attempts(t *testing.T, dir string) {
	t.Helper()
	attempt(t, dir, "b", generation("p", "shared", 0, "first"), failure("cured", "old"), failure("kept", "old"))
	var views []*View
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v, err := j.Load(t.Context(), "b0", nil)
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
	}
	for i, v := range views {
		err := v.Append(generation("p", "twice", 0, fmt.Sprint("attempt ", i)), generation("p", fmt.Sprint("own", i), 0, "text"),
			generation("p", "cured", 0, "text"), failure("kept", "new"))
		if err := errors.Join(err, v.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, used := range []int{0, 1} { // the newer pin decides
		r, err := NewReplay(t.Context(), dir, nil, views[used].Origin(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"twice", "kept", "cured"} {
			r.Get(key, 0)
		}
		if err := r.Pin(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		attempt(t, dir, "b0", generation("p", "later", i, "text"))
	}
}

var decided = map[string]string{
	"shared0": "first", "cured0": "text", "kept0": "new", "twice0": "attempt 1", "own00": "text", "own10": "text",
	"later0": "text", "later1": "text", "later2": "text",
}

// A journal gives the same records before and after, with one segment and one pin in each bucket.
func TestCompactLosesNothing(t *testing.T) {
	places(t, func(t *testing.T, dir string) {
		attempts(t, dir)
		if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
			t.Fatalf("before: %s", diff)
		}
		shorter := texts(t, dir, "b")
		if done, err := upkeep.Compact(t.Context(), dir, upkeep.CompactAbove, 0); err != nil || done.Removed > 0 {
			t.Errorf("a small journal was compacted: %+v, %v", done, err)
		}
		for i := range 2 {
			done, err := upkeep.Compact(t.Context(), dir, 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			// In b0: two attempts and three later segments; a pin of each replay.
			if i == 0 && done.Removed != 7 || i == 1 && done.Removed != 0 {
				t.Errorf("%d. time: %+v", i+1, done)
			}
			if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
				t.Errorf("after: %s", diff)
			}
			if diff := cmp.Diff(shorter, texts(t, dir, "b")); diff != "" {
				t.Errorf("the shorter prefix: %s", diff)
			}
		}
		attempt(t, dir, "b0", generation("p", "after", 0, "text"))
		if done, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil || done.Removed != 2 {
			t.Errorf("with one more segment: %+v, %v", done, err)
		}
		if got := texts(t, dir, "b0")["after0"]; got != "text" {
			t.Errorf("what came later is %q", got)
		}
	})
}

// Wherever compaction stops, all is there, and the next one goes on.
func TestCompactThatStops(t *testing.T) {
	quickly(t)
	for stopAt := range 12 {
		dir := storetest.Folder(t)
		attempts(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var changes atomic.Int64
		var under sync.RWMutex // held by requests that are under way when it stops
		mend := storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			under.RLock()
			defer under.RUnlock()
			if r.Method != http.MethodGet && changes.Add(1) > int64(stopAt) {
				cancel() // as a kill does: this request and all after it don't happen
				panic(http.ErrAbortHandler)
			}
			server.ServeHTTP(w, r)
		})
		_, err := upkeep.Compact(ctx, dir, 1, 0)
		cancel()
		under.Lock()
		under.Unlock() //nolint:gocritic,staticcheck // nothing is done meanwhile: it is waited for
		// A write of a killed program may arrive late. It is refused, and the next one goes elsewhere.
		left := map[string][]byte{}
		for _, name := range names(t, dir) {
			b, err := store.ReadFile(t.Context(), store.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			left[name] = b
		}
		mend()
		dir = storetest.Folder(t)
		for name, b := range left {
			if err := store.WriteFile(t.Context(), store.Join(dir, name), b); err != nil {
				t.Fatal(err)
			}
		}
		// Two files are written, seven segments and at least one view removed: ten changes or more.
		if err == nil && stopAt < 10 {
			t.Errorf("stopped at change %d, and no error", stopAt)
		}
		if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
			t.Errorf("stopped at change %d: %s", stopAt, diff)
		}
		if _, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
			t.Errorf("stopped at change %d and went on: %s", stopAt, diff)
		}
	}
}

// Compaction removes objects concurrently: its duration does not grow in proportion to their number.
func TestCompactRemovesSideBySide(t *testing.T) {
	quickly(t)
	dir := storetest.Folder(t)
	const parts = 12
	for i := range parts {
		attempt(t, dir, "b", generation("p", "k", i, "text"))
	}
	// The first removal is answered when a second one has come.
	var removing atomic.Int64
	second := make(chan struct{})
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodDelete {
			switch removing.Add(1) {
			case 1:
				select {
				case <-second:
				case <-r.Context().Done():
					return
				}
			case 2:
				close(second)
			}
		}
		server.ServeHTTP(w, r)
	})
	if done, err := upkeep.Compact(t.Context(), dir, 1, 0); err != nil || done.Removed != parts {
		t.Errorf("%+v, %v", done, err)
	}
	if got := len(texts(t, dir, "b")); got != parts {
		t.Errorf("%d of %d records are left", got, parts)
	}
}

// Attempts that do not know yet that their run has lost the folder continue appending while another run
// compacts it. Every record that was reported as saved stays in the journal.
func TestCompactBesideWriters(t *testing.T) {
	dir := t.TempDir()
	var writers sync.WaitGroup
	const attempts, each = 4, 12
	// A frame is written again at most maxReopens times. So a compaction waits until each writer has
	// saved a record since the one before, however slow the machine is.
	var saved [attempts]chan struct{}
	for i := range attempts {
		saved[i] = make(chan struct{}, 1)
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeJournal(t, j) })
		v, err := j.Load(t.Context(), "b", nil)
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			defer close(saved[i])
			for n := range each {
				if err := keep(t.Context(), v, generation("p", fmt.Sprint("k", i, "-"), n, "text")); err != nil {
					t.Error(err)
				}
				select {
				case saved[i] <- struct{}{}:
				default:
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writers.Wait()
		close(done)
	}()
	removed := 0
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		for _, c := range saved {
			<-c
		}
		compacted, err := upkeep.Compact(t.Context(), dir, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		removed += compacted.Removed
	}
	if got := len(texts(t, dir, "b")); got != attempts*each || removed == 0 {
		t.Errorf("%d of %d records are there, %d segments were removed", got, attempts*each, removed)
	}
}

// Buckets that somebody wrote to a moment ago are left alone.
func TestCompactOfARecentBucket(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		attempt(t, dir, "b", generation("p", "k", i, "text"))
	}
	before := names(t, dir)
	if done, err := upkeep.Compact(t.Context(), dir, 1, time.Minute); err != nil || done.Removed > 0 || done.Recent != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if diff := cmp.Diff(before, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	for _, name := range before {
		long := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := upkeep.Compact(t.Context(), dir, 1, time.Minute); err != nil || done.Removed != 2 || done.Recent != 0 {
		t.Errorf("later: %+v, %v", done, err)
	}
}

// A damaged segment is not thrown away.
func TestCompactOfADamagedJournal(t *testing.T) {
	dir := t.TempDir()
	attempts(t, dir)
	before := names(t, dir)
	for _, name := range before {
		if strings.HasPrefix(path.Base(name), "s-") && strings.HasPrefix(name, "b0/") {
			full := filepath.Join(dir, name)
			b, err := os.ReadFile(full)
			if err != nil {
				t.Fatal(err)
			}
			damaged := slices.Clone(b)
			damaged[len(b)/2] ^= 0x10
			// With a whole frame after it this is not an incomplete end.
			if err := os.WriteFile(full, append(damaged, b...), 0o600); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if _, err := upkeep.Compact(t.Context(), dir, 1, 0); err == nil {
		t.Error("damage is no error")
	}
	after := map[string]bool{}
	for _, name := range names(t, dir) {
		after[name] = true
	}
	for _, name := range before {
		if !after[name] && !strings.HasPrefix(path.Base(name), segment.PinPrefix) {
			t.Errorf("%s is gone", name)
		}
	}
}
