package journal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// quickly makes the pauses of this package milliseconds until the test ends.
func quickly(t *testing.T) {
	t.Helper()
	set(t, &putEvery, 20*time.Millisecond)
}

// set changes one of the package's times until the test ends.
func set(t *testing.T, which *time.Duration, to time.Duration) {
	t.Helper()
	was := *which
	*which = to
	t.Cleanup(func() { *which = was })
}

// places are a folder of a disk and one of an object store.
func places(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	t.Run("local", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("gs", func(t *testing.T) {
		quickly(t)
		test(t, storetest.Folder(t))
	})
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	files, err := store.List(t.Context(), dir+"/")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimPrefix(f.Path, dir+"/"))
	}
	return out
}

// At any time the durable records have no gap: a record is never durable without all earlier ones.
func TestNoChildIsDurableWithoutItsParent(t *testing.T) { places(t, noChildWithoutParent) }

func noChildWithoutParent(t *testing.T, dir string) {
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			contents, err := Read(t.Context(), dir, nil, "b", nil)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range len(contents["p"]) {
				if _, ok := contents["p"].Get("k", i); !ok {
					t.Errorf("%d records are durable, and not the one before the last of them, %d", len(contents["p"]), i)
					return
				}
			}
		}
	})
	const records = 300
	for i := range records {
		if err := v.Append(generation("p", "k", i, "text")); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			if err := v.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			contents, err := Read(t.Context(), dir, nil, "b", nil)
			if err != nil || len(contents["p"]) <= i {
				t.Errorf("after Sync %d records are there, %v; %d were appended", len(contents["p"]), err, i+1)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// Six times Sync returned, and nothing was appended meanwhile: at least six parts where it has parts.
	if got := names(t, dir); len(got) < 6 && !store.HasLocks(dir) {
		t.Errorf("the segment has the parts %v", got)
	}
	r, err := NewReplay(t.Context(), dir, nil, v.Origin(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if _, ok := r.Get("k", i); !ok {
			t.Errorf("the replay lacks record %d", i)
		}
	}
}

// A failed write ends its segment: nothing follows the missing part, and no caller learns that it is
// durable. A view that is loaded later continues in the same journal.
func TestSegmentThatCannotBeWritten(t *testing.T) {
	places(t, func(t *testing.T, dir string) {
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		load := func() *View {
			t.Helper()
			v, err := j.Load(t.Context(), "b", nil)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		v, idle := load(), load()
		want, mend := refuseWrites(t, dir)
		err = keep(t.Context(), v, generation("p", "k", 0, "lost"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		mend()
		if err := v.Append(generation("p", "k", 1, "after what is lost")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a record after one that is lost: %v; want %q", err, want)
		}
		// Another view of before has nothing that is lost, and one of later begins anew.
		for i, v := range []*View{idle, load()} {
			if err := keep(t.Context(), v, generation("p", "k", 2+i, "text")); err != nil {
				t.Errorf("view %d: %v", i, err)
			}
		}
		if err := j.Close(); err != nil {
			t.Errorf("Close tells again what Append and Sync have told: %v", err)
		}
		if diff := cmp.Diff(map[string]string{"k2": "text", "k3": "text"}, texts(t, dir, "b")); diff != "" {
			t.Error(diff)
		}
	})
}

// refuseWrites fails all writes of segments of the bucket "b" until mend is called, and returns the
// text of the error.
func refuseWrites(t *testing.T, dir string) (want string, mend func()) {
	t.Helper()
	if !store.HasLocks(dir) {
		mend = storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			server.ServeHTTP(w, r)
		})
		return "no permission", mend
	}
	blocked := filepath.Join(dir, "b") // a file where the folder has to be
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return "is a file where a folder is needed", func() {
		if err := os.Remove(blocked); err != nil {
			t.Error(err)
		}
	}
}

// Close returns an error that no caller has received.
func TestCloseTellsOfLoss(t *testing.T) {
	places(t, func(t *testing.T, dir string) {
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := j.Load(t.Context(), "b", nil)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := refuseWrites(t, dir)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := v.Append(generation("p", "k", 0, "lost")); err != nil {
			t.Error(err)
		}
		if err := v.Ready(gone); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := j.Close(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Close: %v; want %q", err, want)
		}
	})
}

// Flush waits for no clock, and not for a context that ended for somebody else.
func TestFlush(t *testing.T) {
	places(t, func(t *testing.T, dir string) {
		putEvery = time.Hour // quickly puts it back
		t.Cleanup(func() { putEvery = 2 * time.Second })
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeJournal(t, j)
		want := map[string]string{}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 3 {
			v, err := j.Load(t.Context(), "b", nil)
			if err != nil {
				t.Fatal(err)
			}
			for k := range 2 {
				if err := v.Append(generation("p", "k", 2*i+k, "text")); err != nil {
					t.Fatal(err)
				}
				if err := v.Ready(gone); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				want[fmt.Sprint("k", 2*i+k)] = "text"
			}
		}
		if err := j.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, texts(t, dir, "b")); diff != "" {
			t.Error(diff)
		}
	})
}

// Loading a bucket takes one listing for each length of prefix in the journal, mostly one. The records
// of shorter prefixes are read too.
func TestListingsOfALoad(t *testing.T) {
	quickly(t)
	dir := storetest.Folder(t)
	attempt(t, dir, "b01101", generation("p", "k", 0, "own"))
	attempt(t, dir, "b01", generation("p", "k", 1, "of an earlier run"))
	found, err := FindPrefixBits(t.Context(), dir)
	if diff := cmp.Diff(PrefixBits{2, 5}, found); diff != "" || err != nil {
		t.Fatalf("%s%v", diff, err)
	}
	var listings, reads atomic.Int64
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		switch {
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o"):
			listings.Add(1)
		case r.Method == http.MethodGet:
			reads.Add(1)
		}
		server.ServeHTTP(w, r)
	})
	for _, test := range []struct {
		bucket          string
		bits            PrefixBits
		listings, reads int64
	}{
		{"b01101", found, 2, 2},
		{"b01101", nil, 6, 2},
		{"b01100", found, 2, 1},         // a folder that isn't there yet
		{"b01101", PrefixBits{5}, 1, 1}, // as in a journal of one run
		{"b01101", PrefixBits{}, 1, 1},  // as when the run began with none
	} {
		for _, name := range names(t, dir) {
			if buckets.IsView(path.Base(name)) { // of other lengths of prefixes
				if err := store.Remove(t.Context(), store.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		listings.Store(0)
		reads.Store(0)
		j, err := Open(dir, test.bits)
		if err != nil {
			t.Fatal(err)
		}
		v, err := j.Load(t.Context(), test.bucket, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(len(v.Take("p"))); got != test.reads {
			t.Errorf("%s with %v: %d records, want %d", test.bucket, test.bits, got, test.reads)
		}
		if listings.Load() != test.listings || reads.Load() != test.reads {
			t.Errorf("%s with %v: %d listings and %d reads, want %d and %d", test.bucket, test.bits, listings.Load(), reads.Load(), test.listings, test.reads)
		}
		closeJournal(t, j)
	}
}
