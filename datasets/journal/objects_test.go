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

// The tests of this file use one server of gs:// for the process. What stands before it is
// set by one test at a time.
var (
	intercept atomic.Pointer[storetest.Fault]
	serveOnce sync.Once
	serverEnv storetest.Environment
	folderNo  atomic.Int64
)

// process stands for the test binary, whose server ends with it.
type process struct{ testing.TB }

func (process) Cleanup(func()) {}

// bucket returns a folder of gs:// that is empty.
func bucket(t *testing.T) string {
	t.Helper()
	serveOnce.Do(func() {
		serverEnv = storetest.GCS(process{t}, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if f := intercept.Load(); f != nil {
				(*f)(w, r, server)
				return
			}
			server.ServeHTTP(w, r)
		})
	})
	serverEnv.Set(t)
	return fmt.Sprintf("gs://bucket/%d", folderNo.Add(1))
}

// standBefore puts a fault before the server until the test ends.
func standBefore(t *testing.T, f storetest.Fault) {
	t.Helper()
	intercept.Store(&f)
	t.Cleanup(func() { intercept.Store(nil) })
}

// quickly makes the pauses of this package milliseconds until the test ends. A lease expires as
// late as ever: a machine with much to do may well not renew one for half a second.
func quickly(t *testing.T) {
	t.Helper()
	every, beat := putEvery, leaseBeat
	putEvery, leaseBeat = 20*time.Millisecond, 50*time.Millisecond
	t.Cleanup(func() { putEvery, leaseBeat = every, beat })
}

// expiringSoon is for tests that wait for the end of a lease.
func expiringSoon(t *testing.T) {
	t.Helper()
	quickly(t)
	expires := leaseExpires
	leaseExpires = 500 * time.Millisecond
	t.Cleanup(func() { leaseExpires = expires })
}

// places are a folder of a disk and one of an object store.
func places(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	t.Run("local", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("gs", func(t *testing.T) {
		quickly(t)
		test(t, bucket(t))
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
func TestNoChildIsDurableWithoutItsParent(t *testing.T) {
	quickly(t)
	dir := bucket(t)
	j, err := Open(dir)
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
			contents, err := Read(t.Context(), dir, "b", nil)
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
		if err := v.Append(t.Context(), generation("p", "k", i, "text")); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			if err := v.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			contents, err := Read(t.Context(), dir, "b", nil)
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
	// Six times Sync returned, and nothing was appended meanwhile: at least six parts.
	if got := names(t, dir); len(got) < 6 {
		t.Errorf("the segment has the parts %v", got)
	}
	r, err := NewReplay(t.Context(), dir, v.Origin(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if _, ok := r.Get("k", i); !ok {
			t.Errorf("the replay lacks record %d", i)
		}
	}
}

// A store that refuses to take a part breaks the journal: nothing is put after what is missing,
// and nobody is told that it is durable.
func TestAPartThatCannotBePut(t *testing.T) {
	quickly(t)
	dir := bucket(t)
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		server.ServeHTTP(w, r)
	})
	if err := v.Append(t.Context(), generation("p", "k", 0, "text")); err != nil {
		t.Fatal(err)
	}
	if err := v.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no permission") {
		t.Errorf("Sync: %v", err)
	}
	intercept.Store(nil)
	if err := v.Append(t.Context(), generation("p", "k", 1, "text")); err == nil {
		t.Error("a record was taken after one that is lost")
	}
	if err := j.Close(); err == nil {
		t.Error("Close says that all is well")
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
}

// attempts make a journal in which order matters: two buckets of one prompt, failures that were
// asked again, and a pin.
func attempts(t *testing.T, dir string) {
	t.Helper()
	attempt(t, dir, "b", generation("p", "shared", 0, "first"), failure("cured", "old"), failure("kept", "old"))
	var views []*View
	j, err := Open(dir)
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
		err := v.Append(t.Context(), generation("p", "twice", 0, fmt.Sprint("attempt ", i)), generation("p", fmt.Sprint("own", i), 0, "text"),
			generation("p", "cured", 0, "text"), failure("kept", "new"))
		if err := errors.Join(err, v.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, used := range []int{0, 1} { // the newer pin decides
		r, err := NewReplay(t.Context(), dir, views[used].Origin(""), nil)
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
		dir := bucket(t)
		attempts(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var changes atomic.Int64
		standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.Method != http.MethodGet && changes.Add(1) > int64(stopAt) {
				cancel() // as a kill does: this request and all after it don't happen
				panic(http.ErrAbortHandler)
			}
			server.ServeHTTP(w, r)
		})
		_, err := Compact(ctx, dir, 1)
		intercept.Store(nil)
		cancel()
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

// A damaged segment is not thrown away.
func TestCompactOfADamagedJournal(t *testing.T) {
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

func TestLeaseIsKept(t *testing.T) {
	quickly(t)
	out := bucket(t)
	first, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	_, err = Acquire(t.Context(), out, Acquiring{Waiting: func(who string, _ time.Duration) {
		asked = strings.Contains(who, fmt.Sprintf("process %d on ", os.Getpid()))
	}})
	want := fmt.Sprintf("another run works on %s (process %d on ", out, os.Getpid())
	if err == nil || !strings.HasPrefix(err.Error(), want) || !asked {
		t.Errorf("%v, waiting %t\nwant %q", err, asked, want)
	}
	ctx, cancel := first.Context(t.Context())
	defer cancel()
	if ctx.Err() != nil {
		t.Errorf("the holder lost it: %v", context.Cause(ctx))
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Acquire(t.Context(), out, Acquiring{Waiting: func(string, time.Duration) { t.Error("it waits for a lease that was given back") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

// A run that died renews nothing, and its lease is taken.
func TestLeaseOfTheDead(t *testing.T) {
	expiringSoon(t)
	out := bucket(t)
	dead := &lease{out: out, name: store.Join(out, leaseFile), term: term{holder: thisProcess(), ID: "dead"}}
	if err := dead.write(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestTakeOver(t *testing.T) {
	quickly(t)
	out := bucket(t)
	first, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := first.Context(t.Context())
	defer cancel()
	second, err := Acquire(t.Context(), out, Acquiring{TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if got := fmt.Sprint(context.Cause(ctx)); !strings.Contains(got, "took "+out+" over") {
		t.Errorf("the first run is told %q", got)
	}
	if err := first.Release(); err != nil {
		t.Errorf("Release of what was lost: %v", err)
	}
	if _, err := Acquire(t.Context(), out, Acquiring{}); err == nil {
		t.Error("the first run gave back what is the second's")
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
}

// A holder that can't reach the store stops before another run may begin.
func TestLeaseThatCannotBeRenewed(t *testing.T) {
	expiringSoon(t)
	out := bucket(t)
	l, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := l.Context(t.Context())
	defer cancel()
	standBefore(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	<-ctx.Done()
	if got := fmt.Sprint(context.Cause(ctx)); !strings.Contains(got, "could not be renewed") {
		t.Errorf("the run is told %q", got)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}
