package infer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// start returns a simulated worker that ends with the test.
func start(t *testing.T, o simulator.Options) *simulator.Running {
	t.Helper()
	if o.World == nil { // a probe with an empty answer is sent again with more tokens
		w := world.Default()
		w.Empty = 0
		o.World = &w
	}
	s, err := simulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open returns a process of its own, which ends with the test.
func open(t *testing.T, o Options) *runState {
	t.Helper()
	o.Attempt = uuid.NewString()
	p, err := Attach(o.Attempt).join(t.Context(), o.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Attach(o.Attempt).Close(); err != nil {
			t.Error(err)
		}
		// With a journal, Close has waited for the answers on their way into it.
		if n := p.counters.Pending(); n != 0 && p.journal != nil {
			t.Errorf("%d requests were neither kept nor given up", n)
		}
	})
	return p
}

func actorAt(url string) *stage.Role {
	return &stage.Role{
		Name: schemas.RoleActor, Model: "simulated", Endpoints: []stage.Endpoint{{URL: url}},
		Temperature: 0.8, TopP: 0.95, MaxTokens: 2048,
	}
}

// callsOf asks for n replicates each of some prompts.
func callsOf(r *stage.Role, prompts, n int) []stage.Call {
	calls := make([]stage.Call, prompts)
	for i := range calls {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		id := schemas.PromptID(messages)
		calls[i] = stage.Call{
			Role: r, Stage: schemas.StageGenerate, PromptID: id, Inputs: []string{id}, N: n,
			Messages: func() []schemas.Message { return messages },
		}
	}
	return calls
}

// ask makes the calls, each prompt's with its own view of the journal's root bucket.
func ask(t *testing.T, p *runState, calls []stage.Call) [][]schemas.Generation {
	t.Helper()
	got, err := try(t.Context(), p, calls)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func try(ctx context.Context, p *runState, calls []stage.Call) ([][]schemas.Generation, error) {
	a := &journaledCaller{run: p, calls: &counters.Tally{}}
	if p.journal != nil {
		v, err := p.journal.Load(ctx, "b", nil)
		if err != nil {
			return nil, err
		}
		a.view, a.records = v, journal.Records{}
		for i := range calls {
			maps.Copy(a.records, v.Take(calls[i].PromptID))
		}
	}
	return a.Do(ctx, calls)
}

// The caller asks again for no call in the journal, also if the journal has some of its replicates
// only.
func TestJournalPaysOnce(t *testing.T) {
	s := start(t, simulator.Options{FreshTexts: true})
	r := actorAt(s.URL())
	dir := t.TempDir()
	first := ask(t, open(t, Options{Journal: dir}), callsOf(r, 5, 3))
	before := s.Server().Stats()

	again := ask(t, open(t, Options{Journal: dir}), callsOf(r, 5, 3))
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the second run reads other texts: %s", diff)
	}
	if got := s.Server().Stats().Requests - before.Requests; got != 0 {
		t.Errorf("the second run made %d requests", got)
	}

	more := ask(t, open(t, Options{Journal: dir}), callsOf(r, 6, 5))
	for i := range first {
		if diff := cmp.Diff(first[i], more[i][:3]); diff != "" {
			t.Errorf("the third run reads other texts: %s", diff)
		}
	}
	// 5 prompts lack 2 replicates, one lacks 5. The probe of the new process asks for 5 more.
	if got := s.Server().Stats().Generations - before.Generations; got != 5*2+5+5 {
		t.Errorf("the third run asked for %d generations, want 20", got)
	}
}

// A call for later replicates gets the texts that a call for all of them has there, and shares the journal with it.
func TestLaterReplicates(t *testing.T) {
	s := start(t, simulator.Options{})
	r := actorAt(s.URL())
	texts := cmpopts.IgnoreFields(schemas.Generation{}, "CompletionTokens") // a choice's share of those of its request
	whole := ask(t, open(t, Options{}), callsOf(r, 3, 5))
	later := callsOf(r, 3, 2)
	for i := range later {
		later[i].First = 3
	}
	dir := t.TempDir()
	got := ask(t, open(t, Options{Journal: dir}), later)
	for i := range got {
		if diff := cmp.Diff(whole[i][3:], got[i], texts); diff != "" {
			t.Errorf("replicates 3 and 4 have other texts alone: %s", diff)
		}
	}
	before := s.Server().Stats()
	if diff := cmp.Diff(whole, ask(t, open(t, Options{Journal: dir}), callsOf(r, 3, 5)), texts); diff != "" {
		t.Errorf("all replicates after the later ones have other texts: %s", diff)
	}
	// 3 prompts lack the replicates 0 to 2. The probe of the new process asks for 5 more.
	if n := s.Server().Stats().Generations - before.Generations; n != 3*3+5 {
		t.Errorf("%d generations are asked for, want 14", n)
	}
	contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := Replayer{Get: contents[later[0].PromptID].Get}.Do(t.Context(), later[:1])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got[0], replayed[0]); diff != "" {
		t.Errorf("the replay has other texts: %s", diff)
	}
	later[0].First = 4
	if _, err := (Replayer{Get: contents[later[0].PromptID].Get}).Do(t.Context(), later[:1]); err == nil || !strings.Contains(err.Error(), "lacks replicate 5") {
		t.Errorf("got %v, want that replicate 5 is missing", err)
	}
}

func TestGapsAreAskedInRuns(t *testing.T) {
	tests := []struct {
		missing []int
		want    []replicateRange
	}{
		{nil, nil},
		{[]int{0, 1, 2}, []replicateRange{{0, 3}}},
		{[]int{1, 3, 4, 6}, []replicateRange{{1, 2}, {3, 5}, {6, 7}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, contiguous(tt.missing), cmp.AllowUnexported(replicateRange{})); diff != "" {
			t.Errorf("%v: %s", tt.missing, diff)
		}
	}
}

// A call that fails for good is a record: replays agree, and only --retry-failed asks again.
func TestFinalFailuresAreKept(t *testing.T) {
	faults, err := simulator.ParseFaults("400=0.3")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, simulator.Options{Faults: faults})
	r := actorAt(s.URL())
	dir := t.TempDir()
	first := ask(t, open(t, Options{Journal: dir}), callsOf(r, 40, 2))
	failed := 0
	for i := range first {
		if first[i][0].Code != first[i][1].Code {
			t.Errorf("of one request one replicate failed: %+v", first[i])
		}
		if first[i][0].Code == fault.CodeBadRequest {
			failed++
		}
	}
	// 40 prompts that fail with probability 0.3: mean 12, standard deviation 2.9.
	if failed < 3 || failed > 21 {
		t.Errorf("%d of 40 calls failed", failed)
	}
	before := s.Server().Stats().Requests
	if diff := cmp.Diff(first, ask(t, open(t, Options{Journal: dir}), callsOf(r, 40, 2))); diff != "" {
		t.Error(diff)
	}
	if got := s.Server().Stats().Requests - before; got != 0 {
		t.Errorf("the replay made %d requests", got)
	}
	healthy := start(t, simulator.Options{})
	for _, codes := range [][]string{{fault.CodeTimeout}, {fault.CodeBadRequest}} {
		again := ask(t, open(t, Options{Journal: dir, RetryFailed: codes}), callsOf(actorAt(healthy.URL()), 40, 2))
		for i := range again {
			still := again[i][0].Code != ""
			if want := first[i][0].Code != "" && codes[0] == fault.CodeTimeout; still != want {
				t.Errorf("retry of %v: call %d failed: %v, want %v", codes, i, still, want)
			}
		}
	}
}

// A run that stops because one server refuses it keeps the paid answers of other servers.
func TestStopKeepsWhatIsInFlight(t *testing.T) {
	refusing := start(t, simulator.Options{APIKey: "right"})
	paid := start(t, simulator.Options{Latency: time.Second, Sigma: 0.1})
	dir := t.TempDir()
	r := actorAt(paid.URL())
	calls := callsOf(r, 60, 1)
	other := actorAt(refusing.URL())
	other.Name = schemas.RoleJudge
	p := open(t, Options{Journal: dir, MaxInFlight: 4}) // calls stand in line for 15 seconds
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := try(ctx, p, calls)
		ended <- err
	}()
	for paid.Server().Stats().Running < 3 {
		<-time.After(5 * time.Millisecond)
	}
	if _, err := try(ctx, p, callsOf(other, 1, 1)); err == nil || !strings.Contains(err.Error(), "requires an API key") {
		t.Fatalf("%v: the run does not end", err)
	}
	p.flush() // as a bundle that fails
	before := paid.Server().Stats()
	if before.Running != 0 || before.Abandoned != 0 || before.Generations == 0 {
		t.Errorf("when the run ends, the other server has %d running, %d abandoned, %d delivered", before.Running, before.Abandoned, before.Generations)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the calls in line end with %v", err)
	}
	ask(t, open(t, Options{Journal: dir}), calls)
	if s := paid.Server().Stats(); s.AskedAfterDelivery != 0 {
		t.Errorf("%d generations were asked for again", s.AskedAfterDelivery)
	}
}

// A server that answers nobody is not a reason to give calls up: the run waits, then ends, and
// records nothing.
func TestPatience(t *testing.T) {
	s := start(t, simulator.Options{})
	url := s.URL()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	one, two := actorAt(url), actorAt(url)
	two.Endpoints = append(two.Endpoints, stage.Endpoint{URL: strings.Replace(url, "127.0.0.1", "localhost", 1)})
	for _, tt := range []struct {
		name string
		role *stage.Role
		n    int
		// With a second of patience, one try of a probe ends long before it.
		patience time.Duration
	}{
		{"no probe", one, 1, 300 * time.Millisecond},
		{"a probe", one, 3, time.Second},
		{"two endpoints", two, 3, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := try(t.Context(), open(t, Options{Journal: dir, Patience: tt.patience, Tries: 1}), callsOf(tt.role, 3, tt.n))
			if err == nil || !strings.Contains(err.Error(), "could be reached") || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("%v: does not name the fault", err)
			}
			contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
			if err != nil || len(contents) != 0 {
				t.Errorf("the journal holds %v, %v", contents, err)
			}
		})
	}
}

// Another checkpoint under the old name is noticed.
func TestIdentityIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := start(t, simulator.Options{})
	r := actorAt(s.URL())
	ask(t, open(t, Options{Journal: dir}), callsOf(r, 1, 1))
	is, err := KnownIdentity(t.Context(), dir, r)
	if err != nil || is == nil || !is.Simulated() {
		t.Fatalf("identity %+v, %v", is, err)
	}
	other := `{"id":"simulated","owned_by":"somebody","root":""}`
	if err := os.WriteFile(identityFile(dir, r), []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	p := open(t, Options{Journal: dir})
	ask(t, p, callsOf(r, 2, 1))
	if got := p.counters.Snapshot().Warnings; len(got) != 1 || !strings.Contains(got[0], "revision") {
		t.Errorf("warnings %q", got)
	}
}

// When the patience is over, the same calls go on where the run ended, once servers are back.
func TestAfterThePatienceItGoesOn(t *testing.T) {
	dir := t.TempDir()
	dies := start(t, simulator.Options{})
	calls := callsOf(actorAt(dies.URL()), 20, 2)
	p := open(t, Options{Journal: dir, Patience: 300 * time.Millisecond})
	ask(t, p, calls[:8])
	if err := dies.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := try(t.Context(), p, calls); err == nil || !strings.Contains(err.Error(), "patience") {
		t.Fatalf("%v: names not the patience", err)
	}
	back := start(t, simulator.Options{})
	for i, of := range ask(t, open(t, Options{Journal: dir}), callsOf(actorAt(back.URL()), 20, 2)) {
		if of[0].Code != "" || of[1].Code != "" {
			t.Errorf("call %d failed: %+v", i, of)
		}
	}
	// The probe of n = 2, and the 12 calls that are missing.
	if got := back.Server().Stats().Generations; got != 2+12*2 {
		t.Errorf("%d generations were asked for after it, want %d", got, 2+12*2)
	}
}
