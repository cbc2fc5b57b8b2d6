package infer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coeval/datasets/journal"
	"coeval/datasets/store/storetest"
	"coeval/schemas"
	"coeval/transforms/fleet"
	"coeval/transforms/simulator"
)

// An answer that was read before the run was closed is kept: the journal accepts it until then.
func TestCloseKeepsAnswersThatWereRead(t *testing.T) {
	dir := t.TempDir()
	s := start(t, simulator.Options{})
	run := Attach("closed")
	state, err := run.join(t.Context(), Options{Attempt: "closed", Journal: dir}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	v, err := state.journal.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	call := callsOf(actorAt(s.URL()), 1, 1)[0]
	read, release, asked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	request := fleet.Request{Role: call.Role, Stage: call.Stage, PromptID: call.PromptID, Messages: call.Messages, N: 1, CallN: 1}
	go func() {
		asked <- state.fleet.Do(t.Context(), []fleet.Request{request}, state.counters.NewTally(), func(int, int, []schemas.Generation, []bool) error {
			close(read)
			<-release
			return v.Append(journal.Record{Key: "k", PromptID: "p", Text: "paid for"})
		})
	}()
	<-read
	closed := make(chan error, 1)
	go func() { closed <- run.Close() }()
	<-state.ctx.Done()
	select { // a Close that does not wait would be over
	case err := <-closed:
		t.Errorf("the run is closed before its last answer is in the journal: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if err := <-asked; err != nil {
		t.Errorf("the answer is lost: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := contents["p"].Get("k", 0); !ok || r.Text != "paid for" {
		t.Errorf("the journal has %+v", contents)
	}
}

// While a store takes no answers, the run sends no request: unsaved answers would be paid for twice.
// When the store is back, the run continues.
func TestNothingIsAskedWhileNothingIsSaved(t *testing.T) {
	back := make(chan struct{})
	served().Set(t)
	hold := storetest.Fault(func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost && strings.Contains(r.URL.String(), "jsonl.zst") {
			select {
			case <-back:
			case <-r.Context().Done():
			}
		}
		server.ServeHTTP(w, r)
	})
	storeFault.Store(&hold)
	t.Cleanup(func() { storeFault.Store(nil) })
	var posts atomic.Int64
	s := start(t, simulator.Options{})
	counted := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		s.Server().ServeHTTP(w, r)
	}))
	t.Cleanup(counted.Close)
	run := Attach("unsaved")
	state, err := run.join(t.Context(), Options{Attempt: "unsaved", Journal: "gs://bucket/unsaved/journal"}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	v, err := state.journal.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	call := callsOf(actorAt(counted.URL+"/v1"), 1, 1)[0]
	ask := func(ctx context.Context) error {
		request := fleet.Request{Role: call.Role, Stage: call.Stage, PromptID: call.PromptID, Messages: call.Messages, N: 1, CallN: 1}
		return state.fleet.Do(ctx, []fleet.Request{request}, state.counters.NewTally(), func(int, int, []schemas.Generation, []bool) error { return nil })
	}
	if err := ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Append(journal.Record{Key: "k", PromptID: "p", Text: "paid for"}); err != nil {
		t.Fatal(err)
	}
	for late := false; !late; { // five seconds
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		late = state.journal.Healthy(ctx) != nil
		cancel()
	}
	before := posts.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := ask(ctx); err == nil || posts.Load() != before {
		t.Errorf("%v: %d requests were sent", err, posts.Load()-before)
	}
	close(back)
	if err := ask(t.Context()); err != nil || posts.Load() == before {
		t.Errorf("when the store is back: %v", err)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
}

// Until a bundle joins there is nothing to see, and nothing to close.
func TestAttachStartsNothing(t *testing.T) {
	r := Attach("unused")
	if Attach("unused") != r {
		t.Error("one attempt has two runs")
	}
	if s := r.Watch(); s.Requests != 0 || len(r.States()) != 0 || r.Err() != nil {
		t.Errorf("it has done %+v", s)
	}
	r.Settle(t.Context())
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if Attach("unused") == r {
		t.Error("a closed run is still attached")
	}
	if err := Attach("unused").Close(); err != nil {
		t.Error(err)
	}
}
