package infer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"coeval/datasets/journal"
	"coeval/datasets/lock"
	"coeval/datasets/store/storetest"
	"coeval/schemas"
	"coeval/transforms/simulator"
	"coeval/transforms/stage"
)

// bundleOf returns the DoFn of a worker whose chain is this stage.
func bundleOf(t *testing.T, o Options, chain stage.Stage) *findFn {
	t.Helper()
	if o.Attempt == "" {
		o.Attempt = uuid.NewString()
	}
	b := &bundleRun{options: o.withDefaults(), chain: chain}
	if err := b.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Attach(o.Attempt).Close(); err != nil {
			t.Error(err)
		}
	})
	return &findFn{bundle: b}
}

// work runs one bundle of the prompts, all in one bucket, and returns the emitted records.
func (f *findFn) work(ctx context.Context, prompts []schemas.Prompt) (found []schemas.Record, err error) {
	emit := func(r schemas.Record) { found = append(found, r) }
	tally := func(schemas.Tally) {}
	if err := f.StartBundle(ctx, emit, tally); err != nil {
		return nil, err
	}
	next := 0
	err = f.ProcessElement(ctx, "b", func(p *schemas.Prompt) bool {
		if next == len(prompts) {
			return false
		}
		*p = prompts[next]
		next++
		return true
	}, emit, tally)
	if err != nil {
		return nil, err
	}
	return found, f.FinishBundle(ctx, emit, tally)
}

func promptsOf(calls []stage.Call) []schemas.Prompt {
	prompts := make([]schemas.Prompt, len(calls))
	for i := range calls {
		prompts[i] = schemas.Prompt{ID: calls[i].PromptID, Messages: calls[i].Messages(), File: "p.jsonl", Line: int64(i)}
	}
	return prompts
}

// storeFault stands before the one server of gs:// of this package's tests.
var storeFault atomic.Pointer[storetest.Fault]

var served = sync.OnceValue(func() storetest.Environment {
	return storetest.GCS(undying{}, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if f := storeFault.Load(); f != nil {
			(*f)(w, r, server)
			return
		}
		server.ServeHTTP(w, r)
	})
})

// undying stands for the test binary, whose server ends with it.
type undying struct{ testing.TB }

func (undying) Helper()        {}
func (undying) Cleanup(func()) {}

// The answers of a failed bundle are durable before the runner gets the error: it may kill the process
// next.
func TestFailedBundleKeepsWhatWasAnswered(t *testing.T) {
	for _, place := range []string{"local", "gs"} {
		t.Run(place, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			if place == "gs" {
				served().Set(t)
				dir = "gs://bucket/" + uuid.NewString()
			}
			s := start(t, simulator.Options{})
			calls := callsOf(actorAt(s.URL()), 4, 3)
			last := calls[len(calls)-1].PromptID
			var answered sync.WaitGroup
			answered.Add(len(calls) - 1)
			f := bundleOf(t, Options{Journal: dir}, func(ctx context.Context, c stage.Caller, d *schemas.Dossier) error {
				if d.Prompt.ID == last {
					answered.Wait()
					return errors.New("this prompt is the end of it")
				}
				for i := range calls {
					if calls[i].PromptID == d.Prompt.ID {
						_, err := c.Do(ctx, calls[i:i+1])
						answered.Done()
						if err != nil {
							return err
						}
					}
				}
				<-ctx.Done() // as one whose next calls are under way
				return ctx.Err()
			})
			if _, err := f.work(t.Context(), promptsOf(calls)); err == nil || !strings.Contains(err.Error(), "the end of it") {
				t.Fatalf("the bundle ended with %v", err)
			}
			if got := Attach(f.bundle.options.Attempt).Watch().Calls[calls[0].Stage]; got.Generations != int64(3*(len(calls)-1)) || got.CompletionTokens == 0 {
				t.Errorf("of a bundle that failed %+v is told, want 3 generations of each of %d calls", got, len(calls)-1)
			}
			contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range calls[:len(calls)-1] {
				for k := range c.N {
					if r, ok := contents[c.PromptID].Get(c.Key(), k); !ok || r.Text == "" {
						t.Errorf("replicate %d of prompt %s was answered and is not in the journal", k, c.PromptID)
					}
				}
			}
		})
	}
}

// A store that refuses writes for a while fails the bundle. The runner starts it again in the same
// process, and it continues with the durable answers.
func TestBundleIsStartedAgain(t *testing.T) {
	served().Set(t)
	dir := "gs://bucket/" + uuid.NewString()
	s := start(t, simulator.Options{})
	calls := callsOf(actorAt(s.URL()), 3, 2)
	f := bundleOf(t, Options{Journal: dir}, func(ctx context.Context, c stage.Caller, d *schemas.Dossier) error {
		for i := range calls {
			if calls[i].PromptID == d.Prompt.ID {
				_, err := c.Do(ctx, calls[i:i+1])
				return err
			}
		}
		return fmt.Errorf("no calls of %s", d.Prompt.ID)
	})
	refuse := storetest.Fault(func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		server.ServeHTTP(w, r)
	})
	storeFault.Store(&refuse)
	t.Cleanup(func() { storeFault.Store(nil) })
	if _, err := f.work(t.Context(), promptsOf(calls)); err == nil {
		t.Fatal("a bundle whose journal can't be written is done")
	}
	why := Attach(f.bundle.options.Attempt).Err()
	if why == nil || !strings.Contains(why.Error(), "no permission") {
		t.Errorf("the run is told %v", why)
	}
	storeFault.Store(nil)
	found, err := f.work(t.Context(), promptsOf(calls))
	if err != nil || len(found) != len(calls) {
		t.Fatalf("started again: %d of %d findings, %v", len(found), len(calls), err)
	}
	for _, r := range found {
		replay, err := journal.NewReplay(t.Context(), dir, nil, r.Finding.Origin, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range calls {
			if _, ok := replay.Get(c.Key(), 0); !ok {
				t.Errorf("the journal lacks a call of prompt %s", c.PromptID)
			}
		}
	}
	if is := Attach(f.bundle.options.Attempt).Err(); is == nil || is.Error() != why.Error() {
		t.Errorf("the error that began it is forgotten: %v", is)
	}
}

// When another run owns the folder, a worker stops its requests and keeps its answers. Later bundles of
// the worker send no request, however often the runner starts them.
func TestWorkerThatLostItsRun(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	first, err := lock.Acquire(t.Context(), out, lock.Options{Attempt: "first"})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, simulator.Options{})
	calls := callsOf(actorAt(s.URL()), 1, 1)
	prompts := promptsOf(calls)
	asked := make(chan int)
	f := bundleOf(t, Options{Attempt: "first", Journal: filepath.Join(out, "journal"), Fence: out}, func(ctx context.Context, c stage.Caller, _ *schemas.Dossier) error {
		for i := 0; ; i++ { // a dossier that never ends
			again := calls[0]
			again.Inputs = []string{fmt.Sprint("round ", i)}
			if _, err := c.Do(ctx, []stage.Call{again}); err != nil {
				return err
			}
			select {
			case asked <- i:
			default:
			}
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := f.work(t.Context(), prompts)
		ended <- err
	}()
	<-asked
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := lock.Acquire(t.Context(), out, lock.Options{Attempt: "second"})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("the bundle is done")
	}
	var lost *lock.Lost
	if err := Attach("first").Err(); !errors.As(err, &lost) || !strings.Contains(err.Error(), "another run (process") {
		t.Errorf("the job is told %v", err)
	}
	stats := s.Server().Stats()
	if _, err := f.work(t.Context(), prompts); !errors.As(err, &lost) {
		t.Errorf("started again, it ended with %v", err)
	}
	if now := s.Server().Stats(); now.Requests != stats.Requests {
		t.Errorf("%d requests after the folder was lost", now.Requests-stats.Requests)
	}
	contents, err := journal.Read(t.Context(), filepath.Join(out, "journal"), nil, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The prompt's own record is there too.
	if kept := int64(len(contents[prompts[0].ID]) - 1); kept < stats.Generations-1 {
		t.Errorf("%d generations were given and %d are kept; one may have been in flight", stats.Generations, kept)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
}

// A process that takes the place of one that died shows its own permits, and counts the other's probes.
func TestReplacedState(t *testing.T) {
	s := start(t, simulator.Options{})
	o := Options{Attempt: uuid.NewString(), MaxInFlight: 8}
	r := actorAt(s.URL())
	join := func() *runState {
		p, err := Attach(o.Attempt).join(t.Context(), o.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		ask(t, p, callsOf(r, 20, 1))
		return p
	}
	first := join()
	first.fleet.AddOwn(map[string]schemas.CallTally{"probe": {Requests: 1}})
	first.fail(errors.New("it is over"))
	second := join()
	defer func() {
		if err := Attach(o.Attempt).Close(); err != nil {
			t.Error(err)
		}
	}()
	if first == second {
		t.Fatal("a dead process goes on")
	}
	if got := Attach(o.Attempt).Watch(); got.Permits != 8 || got.Held != 0 {
		t.Errorf("%d permits, %g held; want 8 and none", got.Permits, got.Held)
	}
	if got := second.fleet.TakeOwn()["probe"]; got.Requests != 1 {
		t.Errorf("the calls of the first fleet are %+v", got)
	}
	if got := fmt.Sprint(Attach(o.Attempt).Err()); got != "it is over" {
		t.Errorf("the run is told %q", got)
	}
}

// A worker without its keys fails before its first request, and names the variable.
func TestWorkerWithoutItsKey(t *testing.T) {
	const name = "COEVAL_TEST_KEY_THAT_IS_NOT_SET"
	o := Options{Attempt: uuid.NewString(), Keys: []stage.Endpoint{{APIKeyEnv: name}}}
	_, err := Attach(o.Attempt).join(t.Context(), o.withDefaults())
	if err == nil || !strings.Contains(err.Error(), "has no API key and sent no request: api_key_env names the environment variable "+name+", which is not set") {
		t.Fatalf("it says %v", err)
	}
	t.Setenv(name, "secret")
	if _, err := Attach(o.Attempt).join(t.Context(), o.withDefaults()); err != nil {
		t.Fatal(err)
	}
	if err := Attach(o.Attempt).Close(); err != nil {
		t.Error(err)
	}
}
