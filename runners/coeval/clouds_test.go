package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/store/storetest"
	"coeval/runners/summary"
	"coeval/transforms/simulator"
)

// The runs of these tests have their OUT on an object store, at this name.
const cloudOut = "gs://bucket/runs/out"

// download copies the objects below cloudOut to a local folder.
func download(t *testing.T, b *storetest.Bucket) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	for name, data := range b.Objects(t, "runs/out/") {
		full := filepath.Join(out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// completeAt is complete with an environment.
func completeAt(t *testing.T, env []string, args ...string) *summary.Summary {
	t.Helper()
	var s summary.Summary
	if err := json.Unmarshal([]byte(want(t, env, args...)), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// poll looks at the bucket again and again until the function that it returns is called, which
// fails the test if a file had other content under its final name before the end.
func poll(t *testing.T, b *storetest.Bucket) (end func()) {
	t.Helper()
	seen := map[string]map[string]bool{}
	var done atomic.Bool
	var wg sync.WaitGroup
	looks := 0
	wg.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ; !done.Load(); looks++ {
			<-tick.C
			for name, data := range b.Objects(t, "runs/out/") {
				if isFinal(name) {
					if seen[name] == nil {
						seen[name] = map[string]bool{}
					}
					seen[name][string(data)] = true
				}
			}
		}
	})
	return func() {
		done.Store(true)
		wg.Wait()
		final := b.Objects(t, "runs/out/")
		for name, contents := range seen {
			if len(contents) != 1 || !contents[string(final[name])] {
				t.Errorf("%s: a reader saw %d contents, of which the last is one: %t", name, len(contents), contents[string(final[name])])
			}
		}
		t.Logf("%d looks at the bucket saw %d files", looks, len(seen))
	}
}

func isFinal(name string) bool {
	return !strings.HasPrefix(name, ".staging/") && !strings.HasPrefix(name, "journal/") && !strings.HasPrefix(name, "operations/")
}

// undisturbed makes a local run and returns its summary and files.
func undisturbed(t *testing.T, prompts string, args func(url, prompts, out string, more ...string) []string) (*summary.Summary, map[string]string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	s := complete(t, args(newWorker(t, slowly(simulator.Options{})).URL, prompts, out)...)
	return s, files(t, out)
}

// A run on an object store makes the files of a local one; it is proved there; and the same
// command again asks nothing and changes nothing.
func TestRunOnAnObjectStore(t *testing.T) {
	t.Parallel()
	prompts := mixed(t, killedPrompts)
	_, wanted := undisturbed(t, prompts, runOf)
	env, b := storetest.GCSBucket(t, nil)
	w := newWorker(t, slowly(simulator.Options{}))
	args := runOf(w.URL, prompts, cloudOut)
	end := poll(t, b)
	completeAt(t, env.List(), args...)
	end()
	out := download(t, b)
	if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
		t.Errorf("files differ from those of the local run: %s", diff)
	}
	proved(t, out)
	if said := want(t, env.List(), "verify", cloudOut); !strings.Contains(said, "proved") {
		t.Errorf("verify says %q", said)
	}
	asked, journal := w.Stats().Requests, b.Objects(t, "runs/out/journal/")
	again := completeAt(t, env.List(), args...)
	if again.Calls.Generations != 0 || w.Stats().Requests != asked {
		t.Errorf("the second run asked for %d generations, in %d requests", again.Calls.Generations, w.Stats().Requests-asked)
	}
	if diff := cmp.Diff(wanted, files(t, download(t, b))); diff != "" {
		t.Errorf("the second run changed files: %s", diff)
	}
	if diff := cmp.Diff(journal, b.Objects(t, "runs/out/journal/")); diff != "" {
		t.Errorf("the second run changed the journal: %s", diff)
	}

	// A compacted journal holds every call, in fewer files.
	if said := want(t, env.List(), "journal", "compact", cloudOut); !strings.Contains(said, "segments removed") {
		t.Errorf("compact says %q", said)
	}
	again = completeAt(t, env.List(), args...)
	if again.Calls.Generations != 0 {
		t.Errorf("after compaction the run asked for %d generations", again.Calls.Generations)
	}
	if diff := cmp.Diff(wanted, files(t, download(t, b))); diff != "" {
		t.Errorf("after compaction files differ: %s", diff)
	}
}

// Killed at any moment, a run on an object store is finished by the same command.
func TestKilledRunsOnAnObjectStore(t *testing.T) {
	t.Parallel()
	prompts := mixed(t, killedPrompts)
	all, wanted := undisturbed(t, prompts, killedRun)
	r := killMoments(t, 5)
	var kept atomic.Int64
	t.Cleanup(func() {
		if kept.Load() == 0 {
			t.Error("no kill left anything in the journal")
		}
	})
	for i := range killsOr(2) {
		at := 1 + r.Int64N(all.Calls.Requests)
		t.Run(fmt.Sprintf("at request %d", at), func(t *testing.T) {
			t.Parallel()
			env, b := storetest.GCSBucket(t, nil)
			w := newWorker(t, slowly(simulator.Options{}))
			// The first waits until the dead run's lease expires.
			kept.Add(killAndGoOn(t, w, at, all, env, b, killedRun(w.URL, prompts, cloudOut), i > 0))
			if diff := cmp.Diff(wanted, files(t, download(t, b))); diff != "" {
				t.Errorf("files differ from those of the local run: %s", diff)
			}
			if said := want(t, env.List(), "verify", cloudOut); !strings.Contains(said, "proved") {
				t.Errorf("verify says %q", said)
			}
		})
	}
}

// killAndGoOn kills a run when the worker has seen so many requests, gives the same command again,
// and compares its calls with the journal that the dead run left. It returns the number of
// generations in that journal.
func killAndGoOn(t *testing.T, w *worker, at int64, all *summary.Summary, env storetest.Environment, b *storetest.Bucket, args []string, takeOver bool) (left int64) {
	t.Helper()
	p := begin(t, env.List(), args...)
	eventually(t, "requests", func() bool { return w.Stats().Requests >= at || !p.alive() })
	p.kill(t)
	was := w.settled(t)
	left = durableOf(t, b)
	if takeOver {
		args = append(args, "--takeover")
	}
	end := poll(t, b)
	s := completeAt(t, env.List(), args...)
	end()
	if s.Calls.Replayed != left {
		t.Errorf("%d generations were replayed, %d were durable", s.Calls.Replayed, left)
	}
	if got := s.Calls.Replayed + s.Calls.Generations; got != all.Calls.Generations {
		t.Errorf("%d generations, want those of the undisturbed run, %d", got, all.Calls.Generations)
	}
	// Generations that were asked for and are not durable were in flight at the kill.
	if twice, most := w.Stats().AskedTwice-was.AskedTwice, was.Generations-left; twice > most+maxUndurable {
		t.Errorf("%d generations were asked twice; %d were delivered and not durable, and at most %d under way", twice, most, maxUndurable)
	}
	return left
}

// durableOf counts the generations in the bucket's journal.
func durableOf(t *testing.T, b *storetest.Bucket) int64 {
	t.Helper()
	out := download(t, b)
	if _, err := os.Stat(filepath.Join(out, "journal")); errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	return sum(durable(t, out))
}

// failures lets one in twenty storage calls fail.
type failures struct {
	mu            sync.Mutex
	random        *rand.Rand
	failed, calls int
}

func (f *failures) handle(w http.ResponseWriter, r *http.Request, server http.Handler) {
	f.mu.Lock()
	f.calls++
	fails, answered := f.random.IntN(20) == 0, f.random.IntN(2) == 0
	if fails {
		f.failed++
	}
	f.mu.Unlock()
	switch {
	case fails && answered:
		w.WriteHeader(http.StatusServiceUnavailable)
	case fails:
		panic(http.ErrAbortHandler)
	default:
		server.ServeHTTP(w, r)
	}
}

// With one in twenty of its storage calls failing, a run that is killed is finished by the same command,
// and makes the same files.
func TestObjectStoreThatFails(t *testing.T) {
	t.Parallel()
	prompts := mixed(t, killedPrompts)
	all, wanted := undisturbed(t, prompts, killedRun)
	for _, test := range []struct {
		out   string
		serve func(testing.TB, storetest.Fault) (storetest.Environment, *storetest.Bucket)
	}{
		{cloudOut, storetest.GCSBucket}, {"s3://bucket/runs/out", storetest.S3Bucket},
	} {
		t.Run(test.out[:2], func(t *testing.T) {
			t.Parallel()
			f := &failures{random: rand.New(rand.NewPCG(5, 6))}
			env, b := test.serve(t, f.handle)
			w := newWorker(t, slowly(simulator.Options{}))
			args := killedRun(w.URL, prompts, test.out)
			left := killAndGoOn(t, w, all.Calls.Requests*3/4, all, env, b, args, true)
			same := func(when string) {
				t.Helper()
				if diff := cmp.Diff(wanted, files(t, download(t, b))); diff != "" {
					t.Errorf("%s files differ from those of the local run: %s", when, diff)
				}
			}
			same("after the kill")
			again := completeAt(t, env.List(), args...) // reads the journal of the others
			same("when run again")
			if again.Calls.Generations != 0 {
				t.Errorf("run again it asked for %d generations", again.Calls.Generations)
			}
			want(t, env.List(), "verify", test.out)
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.failed == 0 {
				t.Errorf("none of %d storage calls failed", f.calls)
			}
			t.Logf("%d of %d storage calls failed; the kill left %d of %d generations", f.failed, f.calls, left, all.Calls.Generations)
		})
	}
}

// Prompts, journal and files may lie on stores of different kinds.
func TestStoresAreMixed(t *testing.T) {
	t.Parallel()
	gs, b := storetest.GCSBucket(t, nil)
	env := append(gs.List(), storetest.S3(t, nil).List()...)
	input, err := os.ReadFile(promptFile(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(input, []byte("\n"))
	for i, line := range lines[:3] {
		b.Put(t, fmt.Sprintf("prompts/part-%d.jsonl", i), line)
	}
	b.Put(t, "prompts/notes.txt", []byte("no prompts"))
	local := filepath.Join(t.TempDir(), "out")
	w := newWorker(t, simulator.Options{World: uneven()})
	var files []int
	for _, run := range []struct{ prompts, out string }{
		{"gs://bucket/prompts", local},
		{"gs://bucket/prompts/part-*.jsonl", "s3://bucket/out"},
		{"gs://bucket/prompts/", cloudOut},
	} {
		s := completeAt(t, env, runOf(w.URL, run.prompts, run.out)...)
		want(t, env, "verify", run.out)
		files = append(files, s.Files)
	}
	if diff := cmp.Diff([]int{files[0], files[0], files[0]}, files); diff != "" {
		t.Errorf("number of files: %s", diff)
	}
}

// The message about a store that cannot be used is one line, and comes before the first request.
func TestStoresThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	refuse := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"error":{"code":403,"message":"nobody@example.iam lacks storage.objects.create"}}`))
	}
	// Some credentials may not remove objects, or not write over them. A write with a
	// condition on a version is one over a file.
	denied := func(of func(*http.Request) bool) storetest.Fault {
		return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if !of(r) {
				server.ServeHTTP(w, r)
				return
			}
			if strings.HasPrefix(r.URL.Path, "/bucket") {
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte("<Error><Code>AccessDenied</Code><Message>not authorized to perform this</Message></Error>"))
				return
			}
			refuse(w, r, server)
		}
	}
	removals := denied(func(r *http.Request) bool { return r.Method == http.MethodDelete || r.URL.Query().Has("delete") })
	overwrites := denied(func(r *http.Request) bool {
		g := r.URL.Query().Get("ifGenerationMatch")
		return g != "" && g != "0" || r.Header.Get("If-Match") != ""
	})
	unconditional := func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		r.Header.Del("If-Match")
		r.Header.Del("If-None-Match")
		server.ServeHTTP(w, r)
	}
	prompts := promptFile(t, 2)
	keys := storetest.Keys(t)
	noKeys := storetest.Keys(t)
	noKeys["AWS_ACCESS_KEY_ID"] = ""
	noRegion := storetest.Keys(t)
	noRegion["AWS_REGION"] = ""
	noSuchRegion := storetest.Keys(t)
	noSuchRegion["AWS_ENDPOINT_URL_S3"] = "http://s3.no-such-region-1.invalid"
	nobody := storetest.Environment{"GOOGLE_APPLICATION_CREDENTIALS": filepath.Join(t.TempDir(), "none.json"), "STORAGE_EMULATOR_HOST": ""}
	tests := []struct {
		what         string
		env          storetest.Environment
		prompts, out string
		want         string
	}{
		{"wrong bucket", storetest.GCS(t, nil), prompts, "gs://other/out", `there is no bucket "other"`},
		{"wrong bucket of prompts", storetest.GCS(t, nil), "gs://other/*.jsonl", "gs://bucket/out", `there is no bucket "other"`},
		{"wrong bucket of S3", storetest.S3(t, nil), prompts, "s3://other/out", `there is no bucket "other"`},
		{"no permission", storetest.GCS(t, refuse), prompts, cloudOut, `no permission in the bucket "bucket" (403)`},
		{"no permission to remove", storetest.GCS(t, removals), prompts, cloudOut, "a run must be able to remove files in " + cloudOut + ": "},
		{"no permission to remove", storetest.S3(t, removals), prompts, "s3://bucket/out", "a run must be able to remove files in s3://bucket/out: "},
		{"no permission to write over", storetest.GCS(t, overwrites), prompts, cloudOut, "a run must be able to replace files in " + cloudOut + ": "},
		{"no permission to write over", storetest.S3(t, overwrites), prompts, "s3://bucket/out", "a run must be able to replace files in s3://bucket/out: "},
		{"no conditional writes", storetest.S3(t, unconditional), prompts, "s3://bucket/out", "the store of s3://bucket/out ignores the conditions of writes"},
		{"no credentials", nobody, prompts, cloudOut, "no credentials for Google Cloud: set GOOGLE_APPLICATION_CREDENTIALS"},
		{"no credentials for S3", noKeys, prompts, "s3://bucket/out", "no credentials for S3: set AWS_ACCESS_KEY_ID"},
		{"no such region", noSuchRegion, prompts, "s3://bucket/out", `there is no host "s3.no-such-region-1.invalid" to be found`},
		{"no region", noRegion, prompts, "s3://bucket/out", "no region for S3: set AWS_REGION"},
		{"no bucket", keys, prompts, "s3:///out", "the bucket is missing"},
		{"another scheme", keys, prompts, "hdfs://host/out", "no files can be reached by hdfs://"},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, simulator.Options{})
			p := begin(t, test.env.List(), runOf(w.URL, test.prompts, test.out)...)
			code, said := p.wait(t), strings.TrimSpace(p.stderr.String())
			if code == exitDone || !strings.Contains(said, test.want) || strings.Contains(said, "\n") {
				t.Errorf("exit code %d\n%s\nwant one line with %q", code, said, test.want)
			}
			if strings.Contains(said, storetest.Secret) {
				t.Error("it tells the secret key")
			}
			if n := w.Stats().Requests; n != 0 {
				t.Errorf("%d requests were made", n)
			}
		})
	}
}

// One run at a time works on an OUT without locks, too, and one that is taken over stops.
func TestLeaseOfARun(t *testing.T) {
	t.Parallel()
	env, b := storetest.GCSBucket(t, nil)
	w := newWorker(t, simulator.Options{World: uneven()})
	open := w.closeAfter(t, 0)
	args := runOf(w.URL, promptFile(t, 4), cloudOut)
	first := begin(t, env.List(), args...)
	eventually(t, "the first run asks", w.holds)
	second := begin(t, env.List(), args...)
	if code := second.wait(t); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if wanted := fmt.Sprintf("another run works on %s (process %d on ", cloudOut, first.cmd.Process.Pid); !strings.Contains(second.stderr.String(), wanted) {
		t.Errorf("stderr lacks %q:\n%s", wanted, second.stderr.String())
	}
	third := begin(t, env.List(), append(args, "--takeover")...)
	if code := first.wait(t); code != exitFailed {
		t.Errorf("the first run ended with %d, want %d", code, exitFailed)
	}
	if wanted := fmt.Sprintf("another run (process %d on ", third.cmd.Process.Pid); !strings.Contains(first.stderr.String(), wanted) {
		t.Errorf("stderr of the first run lacks %q:\n%s", wanted, first.stderr.String())
	}
	open()
	if code := third.wait(t); code != exitDone {
		t.Errorf("exit code %d of the third run\n%s", code, third.stderr.String())
	}
	proved(t, download(t, b))
}
