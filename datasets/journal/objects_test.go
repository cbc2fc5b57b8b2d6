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

// atOnce lets what was just written be compacted until the test ends.
func atOnce(t *testing.T) {
	t.Helper()
	set(t, &quietPeriod, 0)
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

// Whenever somebody looks, what is durable has no gap: a record is never there without those
// that were appended before it.
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

// A write that fails ends its segment: nothing is put after what is missing, and nobody is told
// that it is durable. What is loaded later goes on in the same journal.
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

// refuseWrites lets no segment of the bucket "b" be written until mend is called, and returns what
// the error says.
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

// Close tells what nobody else was told.
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

// What a journal decides is the same before and after, and it has one segment and one pin in
// each bucket.
func TestCompactLosesNothing(t *testing.T) {
	atOnce(t)
	places(t, func(t *testing.T, dir string) {
		attempts(t, dir)
		if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
			t.Fatalf("before: %s", diff)
		}
		shorter := texts(t, dir, "b")
		if done, err := Compact(t.Context(), dir, CompactAbove); err != nil || done.Removed > 0 {
			t.Errorf("a small journal was compacted: %+v, %v", done, err)
		}
		for i := range 2 {
			done, err := Compact(t.Context(), dir, 1)
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
		if done, err := Compact(t.Context(), dir, 1); err != nil || done.Removed != 2 {
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
		_, err := Compact(ctx, dir, 1)
		cancel()
		under.Lock()
		under.Unlock() //nolint:gocritic,staticcheck // nothing is done meanwhile: it is waited for
		// What a killed program has sent may come late. It is refused, and then goes on elsewhere.
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
		if _, err := Compact(t.Context(), dir, 1); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(decided, texts(t, dir, "b0")); diff != "" {
			t.Errorf("stopped at change %d and went on: %s", stopAt, diff)
		}
	}
}

// Compaction asks for the removal of objects side by side: what it waits for does not grow with
// their number alone.
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
	if done, err := Compact(t.Context(), dir, 1); err != nil || done.Removed != parts {
		t.Errorf("%+v, %v", done, err)
	}
	if got := len(texts(t, dir, "b")); got != parts {
		t.Errorf("%d of %d records are left", got, parts)
	}
}

// Attempts that do not know yet that their run has lost the folder continue appending while another run
// compacts it. Every record that was reported as saved stays in the journal.
func TestCompactBesideWriters(t *testing.T) {
	atOnce(t)
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
		compacted, err := Compact(t.Context(), dir, 1)
		if err != nil {
			t.Fatal(err)
		}
		removed += compacted.Removed
	}
	if got := len(texts(t, dir, "b")); got != attempts*each || removed == 0 {
		t.Errorf("%d of %d records are there, %d segments were removed", got, attempts*each, removed)
	}
}

// A segment that grew after it was read stays, under another name.
func TestRetireOfASegmentThatGrew(t *testing.T) {
	dir := t.TempDir()
	attempt(t, dir, "b", generation("p", "k", 0, "text"))
	name := names(t, dir)[0]
	is, err := store.Stat(t.Context(), store.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	retired, grew, err := renameAway(t.Context(), dir, segment{Name: name, Length: is.Size - 1})
	if err != nil || !grew || retired == store.Join(dir, name) {
		t.Errorf("%s is now %s, grew is %t, %v", name, retired, grew, err)
	}
	if diff := cmp.Diff(map[string]string{"k0": "text"}, texts(t, dir, "b")); diff != "" {
		t.Error(diff)
	}
}

// Buckets that somebody wrote to a moment ago are left alone.
func TestCompactOfARecentBucket(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		attempt(t, dir, "b", generation("p", "k", i, "text"))
	}
	before := names(t, dir)
	if done, err := Compact(t.Context(), dir, 1); err != nil || done.Removed > 0 || done.Recent != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if diff := cmp.Diff(before, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	for _, name := range before {
		long := time.Now().Add(-quietPeriod)
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := Compact(t.Context(), dir, 1); err != nil || done.Removed != 2 || done.Recent != 0 {
		t.Errorf("later: %+v, %v", done, err)
	}
}

// A damaged segment is not thrown away.
func TestCompactOfADamagedJournal(t *testing.T) {
	atOnce(t)
	dir := t.TempDir()
	attempts(t, dir)
	before := names(t, dir)
	for _, name := range before {
		if strings.HasPrefix(path.Base(name), segmentPrefix) && strings.HasPrefix(name, "b0/") {
			full := filepath.Join(dir, name)
			b, err := os.ReadFile(full)
			if err != nil {
				t.Fatal(err)
			}
			damaged := slices.Clone(b)
			damaged[len(b)/2] ^= 0x10
			// With a whole frame after it this is no torn end.
			if err := os.WriteFile(full, append(damaged, b...), 0o600); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if _, err := Compact(t.Context(), dir, 1); err == nil {
		t.Error("damage is no error")
	}
	after := map[string]bool{}
	for _, name := range names(t, dir) {
		after[name] = true
	}
	for _, name := range before {
		if !after[name] && !strings.HasPrefix(path.Base(name), pinPrefix) {
			t.Errorf("%s is gone", name)
		}
	}
}

// Loading a bucket takes one listing for each length of prefix that the journal has, mostly one;
// what shorter prefixes hold is read all the same.
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
			if isView(path.Base(name)) { // of other lengths of prefixes
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
