package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	set(t, &putEvery, 20*time.Millisecond)
	set(t, &leaseBeat, 50*time.Millisecond)
}

// set changes one of the package's times until the test ends.
func set(t *testing.T, which *time.Duration, to time.Duration) {
	t.Helper()
	was := *which
	*which = to
	t.Cleanup(func() { *which = was })
}

// expiringSoon is for tests that wait for the end of a lease.
func expiringSoon(t *testing.T) {
	t.Helper()
	quickly(t)
	set(t, &leaseExpires, 500*time.Millisecond)
}

// atOnce lets what was just written be compacted until the test ends.
func atOnce(t *testing.T) {
	t.Helper()
	set(t, &settled, 0)
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
		standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			server.ServeHTTP(w, r)
		})
		return "no permission", func() { intercept.Store(nil) }
	}
	blocked := filepath.Join(dir, "b") // a file where the folder has to be
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return "not a directory", func() {
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
		dir := bucket(t)
		attempts(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var changes atomic.Int64
		var under sync.RWMutex // held by requests that are under way when it stops
		standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
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
		intercept.Store(nil)
		dir = bucket(t)
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
	dir := bucket(t)
	const parts = 12
	for i := range parts {
		attempt(t, dir, "b", generation("p", "k", i, "text"))
	}
	// The first removal is answered when a second one has come.
	var removing atomic.Int64
	second := make(chan struct{})
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
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

// Attempts that don't know yet that their run has lost the folder go on appending while another
// run compacts it: what they were told is kept stays there.
func TestCompactBesideWriters(t *testing.T) {
	atOnce(t)
	dir := t.TempDir()
	var writers sync.WaitGroup
	const attempts, each = 4, 12
	for i := range attempts {
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
			for n := range each {
				if err := keep(t.Context(), v, generation("p", fmt.Sprint("k", i, "-"), n, "text")); err != nil {
					t.Error(err)
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
	retired, grew, err := retire(t.Context(), dir, segment{Name: name, Length: is.Size - 1})
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
		long := time.Now().Add(-settled)
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

// leaseOf returns the lease of a folder that is held by a run of this ID, which does not renew it.
func leaseOf(t *testing.T, out, id string) *lease {
	t.Helper()
	l := &lease{out: out, name: store.Join(out, leaseFile), term: term{holder: thisProcess(""), ID: id}}
	if err := l.write(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return l
}

// A run that died renews nothing, and its lease is taken.
func TestLeaseOfTheDead(t *testing.T) {
	expiringSoon(t)
	out := bucket(t)
	leaseOf(t, out, "dead")
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

// A renewal that arrived and whose answer did not is the holder's own, and no other run's, also
// when it can't be told at once whose it is.
func TestLeaseWhoseAnswerIsLost(t *testing.T) {
	quickly(t)
	set(t, &leaseExpires, 3*time.Second)
	out := bucket(t)
	l, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := l.Context(t.Context())
	defer cancel()
	const faulty = 8
	var puts atomic.Int64
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		switch r.Method {
		case http.MethodPost:
			if n := puts.Add(1); n <= faulty && n%4 == 1 {
				server.ServeHTTP(httptest.NewRecorder(), r)
				<-r.Context().Done() // until the client gives up
				return
			}
		case http.MethodGet:
			if n := puts.Load(); n <= faulty && n%4 == 2 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
		}
		server.ServeHTTP(w, r)
	})
	// Two answers are lost, and the lease is renewed after each.
	for renewed := int64(0); puts.Load() <= faulty && ctx.Err() == nil; {
		is, _, err := readTerm(t.Context(), l.lease.name)
		if err != nil {
			continue // refused
		}
		if is.Beat < renewed {
			t.Fatalf("beat %d after %d", is.Beat, renewed)
		}
		renewed = is.Beat
	}
	if ctx.Err() != nil {
		t.Errorf("the holder lost its lease to itself: %v", context.Cause(ctx))
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if is, _, err := readTerm(t.Context(), l.lease.name); err != nil || !is.Released {
		t.Errorf("after Release the lease is %+v, %v", is, err)
	}
}

// A store that refuses a renewal while the lease is as it was has given it to nobody.
func TestLeaseThatNobodyElseHas(t *testing.T) {
	quickly(t)
	out := bucket(t)
	l, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := l.Context(t.Context())
	defer cancel()
	const refusals = 3
	var puts atomic.Int64
	renewed := make(chan struct{})
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost {
			switch n := puts.Add(1); {
			case n <= refusals:
				w.WriteHeader(http.StatusPreconditionFailed)
				return
			case n == refusals+2: // the one before was renewed
				close(renewed)
			}
		}
		server.ServeHTTP(w, r)
	})
	select {
	case <-renewed:
	case <-ctx.Done():
		t.Errorf("the holder lost its lease to itself: %v", context.Cause(ctx))
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

// A holder that renews its lease between the look of who takes it over and the write that does so
// loses it all the same; another run that took it there keeps it.
func TestTakeOverOfWhatIsRenewed(t *testing.T) {
	quickly(t)
	for _, test := range []struct{ who, id, want string }{
		{"the holder", "first", ""},
		{"another", "another", "another run works on"},
	} {
		t.Run(test.who, func(t *testing.T) {
			out := bucket(t)
			var mu sync.Mutex
			holder := leaseOf(t, out, "first")
			var renewed atomic.Bool
			standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if r.Method == http.MethodPost && renewed.CompareAndSwap(false, true) {
					mu.Lock()
					defer mu.Unlock()
					holder.term.ID, holder.term.Beat = test.id, 1
					b, err := json.Marshal(&holder.term)
					if err != nil {
						t.Error(err)
					}
					if _, err = store.Swap(t.Context(), holder.name, holder.version, b); err != nil {
						t.Error(err)
					}
				}
				server.ServeHTTP(w, r)
			})
			beat := func(string, time.Duration) { // the other renews its own
				mu.Lock()
				defer mu.Unlock()
				_, v, err := readTerm(t.Context(), holder.name)
				if err != nil {
					t.Error(err)
				}
				holder.term.Beat++
				holder.version = v
				if err := holder.write(t.Context(), v); err != nil {
					t.Error(err)
				}
			}
			second, err := Acquire(t.Context(), out, Acquiring{TakeOver: true, Waiting: beat})
			if test.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.want) {
					t.Fatalf("%v\nwant %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := second.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A store that refuses to change what nobody else has changed is told of, and not asked on and on.
func TestTakeOverThatIsRefused(t *testing.T) {
	quickly(t)
	out := bucket(t)
	leaseOf(t, out, "first")
	var writes atomic.Int64
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost {
			writes.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, "changed", http.StatusPreconditionFailed)
			return
		}
		server.ServeHTTP(w, r)
	})
	_, err := Acquire(t.Context(), out, Acquiring{TakeOver: true})
	if !errors.Is(err, errUnwritten) {
		t.Errorf("%v, want %v", err, errUnwritten)
	}
	if n := writes.Load(); n > 4 {
		t.Errorf("it was written %d times", n)
	}
}

// A store that writes over a file whatever its version keeps no leases, and no run begins there.
func TestStoreWithoutConditions(t *testing.T) {
	quickly(t)
	out := bucket(t)
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		q := r.URL.Query()
		q.Del("ifGenerationMatch")
		r.URL.RawQuery = q.Encode()
		server.ServeHTTP(w, r)
	})
	_, err := Acquire(t.Context(), out, Acquiring{})
	if want := "the store of " + out + " ignores the conditions of writes"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %q", err, want)
	}
	l, err := Acquire(t.Context(), out, Acquiring{Waiting: func(string, time.Duration) { t.Error("it waits for a lease that was given back") }})
	if err == nil {
		t.Errorf("a second run began: %v", l.Release())
	}
}

// What a lease costs when nobody else has it: to look, to take, to renew at once, to see that an
// older version of it can't be written over, to remove nothing, and to give it back.
func TestCostOfALease(t *testing.T) {
	quickly(t)
	set(t, &leaseBeat, time.Hour)
	out := bucket(t)
	var mu sync.Mutex
	requests := map[string]int{}
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		mu.Lock()
		requests[r.Method]++
		mu.Unlock()
		server.ServeHTTP(w, r)
	})
	l, err := Acquire(t.Context(), out, Acquiring{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{http.MethodGet: 3, http.MethodPost: 4, http.MethodDelete: 1}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// Workers see who has the lock: their own run, also when the program that began it is gone, or
// another, or nobody.
func TestFence(t *testing.T) {
	places(t, func(t *testing.T, out string) {
		set(t, &fenceFresh, 0)
		check := func(attempt, want string) {
			t.Helper()
			err := NewFence(out, attempt).Check(t.Context())
			var lost *Lost
			switch {
			case want == "" && err == nil:
			case want == "" || !errors.As(err, &lost) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), attempt+" stops"):
				t.Errorf("attempt %s is told %v, want %q", attempt, err, want)
			}
		}
		check("first", "is gone")
		first, err := Acquire(t.Context(), out, Acquiring{Attempt: "first"})
		if err != nil {
			t.Fatal(err)
		}
		check("first", "")
		check("second", "another run (process")
		if err := first.Release(); err != nil {
			t.Fatal(err)
		}
		check("first", "was ended")
		second, err := Acquire(t.Context(), out, Acquiring{Attempt: "second"})
		if err != nil {
			t.Fatal(err)
		}
		check("first", "another run (process")
		check("second", "")
		if err := second.Release(); err != nil {
			t.Fatal(err)
		}
	})
}

// A watching worker is told when another run takes the folder, and goes on while a store that
// can't be asked may come back.
func TestFenceWatches(t *testing.T) {
	quickly(t)
	out := bucket(t)
	first, err := Acquire(t.Context(), out, Acquiring{Attempt: "first"})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- NewFence(out, "first").Watch(t.Context()) }()
	second, err := Acquire(t.Context(), out, Acquiring{Attempt: "second", TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	var lost *Lost
	if err := <-told; !errors.As(err, &lost) {
		t.Errorf("the worker is told %v", err)
	}
	var refused atomic.Int64
	standBefore(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		refused.Add(1)
		w.WriteHeader(http.StatusForbidden)
	})
	set(t, &fenceBlind, 300*time.Millisecond)
	began := time.Now()
	err = NewFence(out, "second").Watch(t.Context())
	if err == nil || errors.As(err, &lost) || !strings.Contains(err.Error(), "can't be told") {
		t.Errorf("a worker that can't ask is told %v", err)
	}
	if took := time.Since(began); took < fenceBlind || refused.Load() < 2 {
		t.Errorf("it gave up after %s and %d questions, and not %s", took, refused.Load(), fenceBlind)
	}
	intercept.Store(nil)
	if err := errors.Join(first.Release(), second.Release()); err != nil {
		t.Fatal(err)
	}
}

// A look that gets no answer holds up nobody for ever: who asks may leave, who waits is told, and
// all wait for one look.
func TestFenceWithoutAnswer(t *testing.T) {
	quickly(t)
	out := bucket(t)
	lock, err := Acquire(t.Context(), out, Acquiring{Attempt: "first"})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	intercepted, open := make(chan struct{}), make(chan struct{})
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodGet {
			if asked.Add(1) == 1 {
				close(intercepted)
			}
			<-open
		}
		server.ServeHTTP(w, r)
	})
	f := NewFence(out, "first")
	ctx, leave := context.WithCancel(t.Context())
	var left sync.WaitGroup
	left.Go(func() {
		if err := f.Check(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("who left is told %v", err)
		}
	})
	<-intercepted
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Check(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who asks beside it and is gone is told %v", err)
	}
	answer := fenceAnswer
	set(t, &fenceAnswer, 50*time.Millisecond)
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "can't be told: no answer for 50ms") {
		t.Errorf("who waits is told %v", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d looks at a time", n)
	}
	leave()
	left.Wait()
	fenceAnswer = answer
	close(open)
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("when the answer has come: %v", err)
	}
	intercept.Store(nil)
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}

// Loading a bucket takes one listing for each length of prefix that the journal has, mostly one;
// what shorter prefixes hold is read all the same.
func TestListingsOfALoad(t *testing.T) {
	quickly(t)
	dir := bucket(t)
	attempt(t, dir, "b01101", generation("p", "k", 0, "own"))
	attempt(t, dir, "b01", generation("p", "k", 1, "of an earlier run"))
	found, err := FindLengths(t.Context(), dir)
	if diff := cmp.Diff(Lengths{2, 5}, found); diff != "" || err != nil {
		t.Fatalf("%s%v", diff, err)
	}
	var listings, reads atomic.Int64
	standBefore(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
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
		lengths         Lengths
		listings, reads int64
	}{
		{"b01101", found, 2, 2},
		{"b01101", nil, 6, 2},
		{"b01100", found, 2, 1},      // a folder that isn't there yet
		{"b01101", Lengths{5}, 1, 1}, // as in a journal of one run
		{"b01101", Lengths{}, 1, 1},  // as when the run began with none
	} {
		listings.Store(0)
		reads.Store(0)
		j, err := Open(dir, test.lengths)
		if err != nil {
			t.Fatal(err)
		}
		v, err := j.Load(t.Context(), test.bucket, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(len(v.Take("p"))); got != test.reads {
			t.Errorf("%s with %v: %d records, want %d", test.bucket, test.lengths, got, test.reads)
		}
		if listings.Load() != test.listings || reads.Load() != test.reads {
			t.Errorf("%s with %v: %d listings and %d reads, want %d and %d", test.bucket, test.lengths, listings.Load(), reads.Load(), test.listings, test.reads)
		}
		closeJournal(t, j)
	}
}
