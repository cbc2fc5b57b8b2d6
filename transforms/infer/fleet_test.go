package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

// start returns a simulated worker that ends with the test.
func start(t *testing.T, o simulator.Options) *simulator.Running {
	t.Helper()
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
func open(t *testing.T, o Options) *process {
	t.Helper()
	o.Attempt = uuid.NewString()
	p, err := processOf(t.Context(), o.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Close(o.Attempt); err != nil {
			t.Error(err)
		}
		// With a journal, Close has waited for the answers on their way into it.
		if n := p.watch.unkept.Load(); n != 0 && p.journal != nil {
			t.Errorf("%d requests were neither kept nor given up", n)
		}
	})
	return p
}

func actorAt(url string) *Role {
	return &Role{
		Name: schemas.RoleActor, Model: "simulated", Endpoints: []Endpoint{{URL: url}},
		Temperature: 0.8, TopP: 0.95, MaxTokens: 2048,
	}
}

// callsOf asks for n replicates each of some prompts.
func callsOf(r *Role, prompts, n int) []Call {
	calls := make([]Call, prompts)
	for i := range calls {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		id := schemas.PromptID(messages)
		calls[i] = Call{
			Role: r, Stage: schemas.StageGenerate, PromptID: id, Inputs: []string{id}, N: n,
			Messages: func() []schemas.Message { return messages },
		}
	}
	return calls
}

// ask makes the calls, each prompt's with its own view of the journal's root bucket.
func ask(t *testing.T, p *process, calls []Call) [][]schemas.Generation {
	t.Helper()
	got, err := try(t.Context(), p, calls)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func try(ctx context.Context, p *process, calls []Call) ([][]schemas.Generation, error) {
	a := &asker{process: p, calls: &callCounts{}}
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

// A server that refuses n, wholly or above some number, gives the same texts one by one.
func TestRefusedNGivesTheSameTexts(t *testing.T) {
	var want [][]schemas.Generation
	for _, maxN := range []int{0, 3, 1} {
		s := start(t, simulator.Options{MaxN: maxN})
		got := ask(t, open(t, Options{}), callsOf(actorAt(s.URL()), 10, 7))
		for i := range got {
			for k := range got[i] {
				got[i][k].CompletionTokens = 0 // known per request only
			}
		}
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("largest n %d: %s", maxN, diff)
		}
		// 7 choices in requests of 7, 3 (3+3+1) or 1, and the one of the probe that was not refused.
		requests := map[int]int64{0: 10 + 1, 3: 10*3 + 1, 1: 10*7 + 1}[maxN]
		if stats := s.Server().Stats(); stats.Requests != requests {
			t.Errorf("largest n %d: %d requests, want %d", maxN, stats.Requests, requests)
		}
	}
}

// What the journal holds is not asked for again, also when it holds some replicates only.
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

func TestGapsAreAskedInRuns(t *testing.T) {
	tests := []struct {
		missing []int
		want    []span
	}{
		{nil, nil},
		{[]int{0, 1, 2}, []span{{0, 3}}},
		{[]int{1, 3, 4, 6}, []span{{1, 2}, {3, 5}, {6, 7}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, runs(tt.missing), cmp.AllowUnexported(span{})); diff != "" {
			t.Errorf("%v: %s", tt.missing, diff)
		}
	}
}

// Whatever workers do now and then, every generation comes, none of it twice.
func TestFaultsAreCured(t *testing.T) {
	faults, err := simulator.ParseFaults("429=0.1,503=0.05,500=0.03,reset=0.03,truncated=0.02,malformed=0.02,html=0.01,error=0.01,missing=0.05")
	if err != nil {
		t.Fatal(err)
	}
	clean := start(t, simulator.Options{})
	want := ask(t, open(t, Options{}), callsOf(actorAt(clean.URL()), 60, 5))
	s := start(t, simulator.Options{Faults: faults, Slots: 64})
	got := ask(t, open(t, Options{Journal: t.TempDir()}), callsOf(actorAt(s.URL()), 60, 5))
	for i := range want {
		for k := range want[i] {
			want[i][k].CompletionTokens, got[i][k].CompletionTokens = 0, 0 // known per request only
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	stats := s.Server().Stats()
	if len(stats.Faults) < 5 {
		t.Errorf("only these faults were met: %v", stats.Faults)
	}
	if stats.AskedAfterDelivery != 0 {
		t.Errorf("%d generations were asked for after they were delivered", stats.AskedAfterDelivery)
	}
}

// before starts what stands before a worker, and returns its URL: takes has each request with its
// whole body, and returns false for what the worker is to answer.
func before(t *testing.T, worker http.Handler, takes func(w http.ResponseWriter, req *http.Request, body []byte) bool) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil || takes(w, req, b) {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(b))
		worker.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// onceFaulty is a server whose first answer to each conversation, but a probe's, has a fault.
func onceFaulty(t *testing.T, fault simulator.Fault) (url string) {
	t.Helper()
	healthy := start(t, simulator.Options{}).Server()
	faulty := start(t, simulator.Options{Faults: simulator.Faults{fault: 1}}).Server()
	var met sync.Map
	return before(t, healthy, func(w http.ResponseWriter, req *http.Request, body []byte) bool {
		_, again := met.LoadOrStore(string(body), true)
		if again || req.Method == http.MethodGet || bytes.Contains(body, []byte("Say OK.")) {
			return false
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		faulty.ServeHTTP(w, req)
		return true
	})
}

// What each fault of an answer leads to: the same text after another try, a text, a failure.
func TestTreatments(t *testing.T) {
	clean := start(t, simulator.Options{})
	calls := func(url string) []Call { return callsOf(actorAt(url), 3, 2) }
	want := ask(t, open(t, Options{}), calls(clean.URL()))
	cured := func(g, healthy schemas.Generation) bool { return g.Text == healthy.Text && g.Code == "" }
	for fault, holds := range map[simulator.Fault]func(g, healthy schemas.Generation) bool{
		simulator.FaultTrickle: cured, simulator.FaultHuge: cured, simulator.FaultReset: cured, simulator.FaultHTML: cured,
		simulator.FaultErrorObject: cured, simulator.FaultTruncated: cured, simulator.FaultMalformed: cured,
		simulator.FaultHang: cured, simulator.FaultMissing: cured, "408": cured, "429": cured, "503": cured, "500": cured, "504": cured,
		simulator.FaultEmpty:  func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == "" },
		simulator.FaultNull:   func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == "" },
		simulator.FaultUTF8:   func(g, healthy schemas.Generation) bool { return g.Text == "\uFFFD"+healthy.Text && g.Code == "" },
		simulator.FaultFilter: func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == CodeContentFilter },
		"400":                 func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == CodeBadRequest },
		"413":                 func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == CodeTooLarge },
		"422":                 func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == CodeBadRequest },
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			// Long enough for a healthy answer on a busy machine; short, as two faults wait for it.
			p := open(t, Options{Journal: t.TempDir(), RequestTimeout: 3 * time.Second})
			for i, of := range ask(t, p, calls(onceFaulty(t, fault))) {
				for k, g := range of {
					if !holds(g, want[i][k]) {
						t.Errorf("call %d, choice %d: %.80q, code %q; the healthy server says %.80q", i, k, g.Text, g.Code, want[i][k].Text)
					}
				}
			}
		})
	}
	for fault, sentence := range map[simulator.Fault]string{"302": "it redirects", "403": "the API key may not", "404": "it has no model", "402": "check the URL and the account"} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			_, err := try(t.Context(), open(t, Options{}), calls(onceFaulty(t, fault)))
			if err == nil || !strings.Contains(err.Error(), sentence) {
				t.Errorf("%v: does not say that %s", err, sentence)
			}
		})
	}
}

// An address that leads nowhere is told of with the reason.
func TestUnreachable(t *testing.T) {
	plain := start(t, simulator.Options{})
	for name, tt := range map[string]struct{ url, want string }{
		"TLS to a server without": {strings.Replace(plain.URL(), "http:", "https:", 1), "tls"},
		"no such host":            {"http://no-such-host.invalid:8000/v1", "no-such-host.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := try(t.Context(), open(t, Options{Patience: 300 * time.Millisecond}), callsOf(actorAt(tt.url), 1, 1))
			if err == nil || !strings.Contains(err.Error(), "patience") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: names not patience and %s", err, tt.want)
			}
		})
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
		if first[i][0].Code == CodeBadRequest {
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
	for _, codes := range [][]string{{CodeTimeout}, {CodeBadRequest}} {
		again := ask(t, open(t, Options{Journal: dir, RetryFailed: codes}), callsOf(actorAt(healthy.URL()), 40, 2))
		for i := range again {
			still := again[i][0].Code != ""
			if want := first[i][0].Code != "" && codes[0] == CodeTimeout; still != want {
				t.Errorf("retry of %v: call %d failed: %v, want %v", codes, i, still, want)
			}
		}
	}
}

// What stops a run says what to do, and is not asked again and again.
func TestWrongKeyStops(t *testing.T) {
	s := start(t, simulator.Options{APIKey: "right"})
	t.Setenv("COEVAL_TEST_KEY", "wrong")
	r := actorAt(s.URL())
	r.Endpoints[0].APIKeyEnv = "COEVAL_TEST_KEY"
	_, err := try(t.Context(), open(t, Options{}), callsOf(r, 20, 2))
	if err == nil || !strings.Contains(err.Error(), s.URL()) || !strings.Contains(err.Error(), "api_key_env") {
		t.Errorf("%v: names not the URL and what to do", err)
	}
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("%v: shows the key", err)
	}
	if got := s.Server().Stats().Rejected[401]; got > 1 {
		t.Errorf("the key was tried %d times", got)
	}
	t.Setenv("COEVAL_TEST_KEY", "right")
	if _, err := try(t.Context(), open(t, Options{}), callsOf(r, 2, 2)); err != nil {
		t.Error(err)
	}
	t.Setenv("COEVAL_TEST_KEY", "")
	if _, err := try(t.Context(), open(t, Options{}), callsOf(r, 2, 2)); err == nil || !strings.Contains(err.Error(), "COEVAL_TEST_KEY") {
		t.Errorf("%v: names not the variable", err)
	}
}

// A run that ends because one server refuses it keeps what it has paid for at others.
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
		pauseFor(ctx, 5*time.Millisecond)
	}
	if _, err := try(ctx, p, callsOf(other, 1, 1)); err == nil || !strings.Contains(err.Error(), "another API key") {
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

func TestMissingModelStops(t *testing.T) {
	s := start(t, simulator.Options{Strict: true, Models: []string{"other"}})
	_, err := try(t.Context(), open(t, Options{}), callsOf(actorAt(s.URL()), 2, 1))
	if err == nil || !strings.Contains(err.Error(), `"simulated"`) {
		t.Errorf("%v: names not the model", err)
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
	two.Endpoints = append(two.Endpoints, Endpoint{URL: strings.Replace(url, "127.0.0.1", "localhost", 1)})
	for _, tt := range []struct {
		name string
		role *Role
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
			if err == nil || !strings.Contains(err.Error(), "patience") || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("%v: names not patience and the fault", err)
			}
			contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
			if err != nil || len(contents) != 0 {
				t.Errorf("the journal holds %v, %v", contents, err)
			}
		})
	}
}

// A server that fails at some messages for ever does not keep the probe from finding out what
// it takes.
func TestProbeOutlivesPoison(t *testing.T) {
	faults, err := simulator.ParseFaults("poison=0.4")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, simulator.Options{Faults: faults, MaxN: 3})
	p := open(t, Options{Tries: 1})
	r := actorAt(s.URL())
	endpoints, err := p.fleet.of(r)
	if err != nil {
		t.Fatal(err)
	}
	// Each of 12 messages is poison with probability 0.4, so some are and one in 60,000 runs has all.
	for range 12 {
		if m, err := p.fleet.probe(t.Context(), endpoints[0], r, 7, &callCounts{}, false); err != nil || m != 3 {
			t.Errorf("probed %d, %v; the server takes 3", m, err)
		}
	}
}

// A server that is down, then full, then well gives texts: no failure without a code passes for one.
func TestRestartingServerLosesNothing(t *testing.T) {
	var asked atomic.Int64
	healthy := start(t, simulator.Options{})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch n := asked.Add(1); {
		case n < 20:
			w.WriteHeader(http.StatusInternalServerError)
		case n%2 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			healthy.Server().ServeHTTP(w, req)
		}
	}))
	defer proxy.Close()
	got := ask(t, open(t, Options{Tries: 2}), callsOf(actorAt(proxy.URL+"/v1"), 8, 1))
	for i := range got {
		if g := got[i][0]; g.Code != "" || g.Message != "" || g.FinishReason == "" {
			t.Errorf("call %d: %+v", i, g)
		}
	}
}

// One prompt at which a server fails for ever is a failure, also when nobody else asks.
func TestLastingFailureEnds(t *testing.T) {
	healthy := start(t, simulator.Options{})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || bytes.Contains(body, []byte("Question 0")) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		healthy.Server().ServeHTTP(w, req)
	}))
	defer proxy.Close()
	got := ask(t, open(t, Options{Tries: 2}), callsOf(actorAt(proxy.URL+"/v1"), 1, 1))
	if got[0][0].Code != CodeServerError {
		t.Errorf("got %+v, want a failure", got[0][0])
	}
}

// A dead endpoint beside a living one holds nothing up.
func TestDeadEndpointIsLeftOut(t *testing.T) {
	dead, living := start(t, simulator.Options{}), start(t, simulator.Options{})
	r := actorAt(living.URL())
	r.Endpoints = append(r.Endpoints, Endpoint{URL: dead.URL()})
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 3} {
		for i, g := range ask(t, open(t, Options{Tries: 2}), callsOf(r, 20, n)) {
			if g[0].Code != "" {
				t.Errorf("n=%d: call %d failed: %+v", n, i, g[0])
			}
		}
	}
}

// An endpoint that dies in the middle of a run is set aside, and its calls go elsewhere.
func TestDyingEndpointLosesNothing(t *testing.T) {
	dying, living := start(t, simulator.Options{Latency: time.Millisecond}), start(t, simulator.Options{Latency: time.Millisecond})
	r := actorAt(living.URL())
	r.Endpoints = append(r.Endpoints, Endpoint{URL: dying.URL()})
	p := open(t, Options{MaxInFlight: 4})
	go func() {
		for dying.Server().Stats().Generations < 20 {
			if pause(t.Context(), time.Millisecond, 0) != nil {
				return
			}
		}
		if err := dying.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i, g := range ask(t, p, callsOf(r, 200, 1)) {
		if g[0].Code != "" {
			t.Errorf("call %d failed: %+v", i, g[0])
		}
	}
}

// A request that hangs is given up and asked again; the others go on meanwhile.
func TestHangingRequests(t *testing.T) {
	faults, err := simulator.ParseFaults("hang=0.2")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, simulator.Options{Faults: faults})
	got := ask(t, open(t, Options{RequestTimeout: 200 * time.Millisecond, Tries: 20}), callsOf(actorAt(s.URL()), 20, 1))
	for i := range got {
		if got[i][0].Code != "" {
			t.Errorf("call %d failed: %+v", i, got[i][0])
		}
	}
	if s.Server().Stats().Faults["hang"] == 0 {
		t.Error("nothing hung")
	}
}

// When the bundle's context ends, calls end with it.
func TestCancelEndsCalls(t *testing.T) {
	s := start(t, simulator.Options{Latency: time.Hour, Sigma: -1})
	ctx, cancel := context.WithCancel(t.Context())
	p := open(t, Options{})
	go func() {
		for p.watch.snapshot().InFlight == 0 {
			if pause(ctx, time.Millisecond, 0) != nil {
				return
			}
		}
		cancel()
	}()
	if _, err := try(ctx, p, callsOf(actorAt(s.URL()), 3, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := p.watch.snapshot().InFlight; got != 0 {
		t.Errorf("%d generations are still in flight", got)
	}
	// Another bundle of the process goes on.
	quick := start(t, simulator.Options{})
	ask(t, p, callsOf(actorAt(quick.URL()), 3, 1))
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
	if got := p.watch.snapshot().Warnings; len(got) != 1 || !strings.Contains(got[0], "revision") {
		t.Errorf("warnings %q", got)
	}
}

// gathered returns the sums of what is counted for those who watch, by name, and outcome where it has one.
func gathered(t *testing.T, p *process) map[string]float64 {
	t.Helper()
	families, err := p.fleet.meters.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" {
					name += " " + l.GetValue()
				}
			}
			got[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

// What is counted for those who watch is what the server saw.
func TestMetersAgreeWithTheServer(t *testing.T) {
	faults, err := simulator.ParseFaults("429=0.1,reset=0.05")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, simulator.Options{Faults: faults})
	p := open(t, Options{})
	ask(t, p, callsOf(actorAt(s.URL()), 50, 3))
	got := gathered(t, p)
	stats := s.Server().Stats()
	// The probe of n = 3 and the 50 calls end well once each; every fault is met once, if not by a
	// request for a sign of life, which is no call.
	full, reset := float64(stats.Rejected[http.StatusTooManyRequests]), float64(stats.Faults[simulator.FaultReset])
	signs := float64(stats.Requests) - got["coeval_requests_total ok"] - got["coeval_requests_total full"] - got["coeval_requests_total connection"]
	for name, want := range map[string]struct{ least, most float64 }{
		"coeval_requests_total ok":         {51, 51},
		"coeval_requests_total full":       {full - signs, full},
		"coeval_requests_total connection": {reset - signs, reset},
		"coeval_generations_total ok":      {153, 153},
		"coeval_retries_total":             {full + reset - signs, full + reset},
		"coeval_in_flight":                 {0, 0},
		"coeval_server_up":                 {1, 1},
	} {
		if n := got[name]; n < want.least || n > want.most {
			t.Errorf("%s is %g, want %g to %g", name, n, want.least, want.most)
		}
	}
	if signs < 0 || signs > 10 {
		t.Errorf("%g requests are in no counter", signs)
	}
}

// A server that dies while generations are long fails nothing: others take what it had.
func TestDyingAmongLongGenerations(t *testing.T) {
	o := simulator.Options{Latency: time.Second, Sigma: 0.1, Slots: 32}
	well, dying := start(t, o), start(t, o)
	r := actorAt(well.URL())
	r.Endpoints = append(r.Endpoints, Endpoint{URL: dying.URL()})
	p := open(t, Options{Journal: t.TempDir()})
	time.AfterFunc(3*time.Second, func() { dying.Close() }) //nolint:errcheck // it dies
	for i, of := range ask(t, p, callsOf(r, 300, 1)) {
		if of[0].Code != "" {
			t.Errorf("call %d failed: %s %s", i, of[0].Code, of[0].Message)
		}
	}
	if s := dying.Server().Stats(); s.Generations == 0 {
		t.Error("the server that died had done nothing")
	}
}

// startLate starts a server, and returns the URL of one before it that answers nobody until answers
// is closed.
func startLate(t *testing.T) (late *simulator.Running, answers chan struct{}, url string) {
	t.Helper()
	late, answers = start(t, simulator.Options{}), make(chan struct{})
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-answers:
			late.Server().ServeHTTP(w, req)
		case <-req.Context().Done():
		}
	}))
	t.Cleanup(gate.Close)
	return late, answers, gate.URL + "/v1"
}

// Calls that began when one server of two had answered go to the other once it has, when the one
// dies: they would wait for the dead one until the run's patience ends.
func TestServerThatComesLaterTakesOver(t *testing.T) {
	late, answers, url := startLate(t)
	var asked atomic.Int64
	worker := start(t, simulator.Options{})
	dying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, completionsPath) {
			switch n := asked.Add(1); {
			case n == 6:
				close(answers)
				fallthrough
			case n > 6:
				w.WriteHeader(http.StatusBadGateway)
				return
			}
		}
		worker.Server().ServeHTTP(w, req)
	}))
	defer dying.Close()
	r := actorAt(dying.URL + "/v1")
	r.Endpoints = append(r.Endpoints, Endpoint{URL: url})
	for i, of := range ask(t, open(t, Options{Tries: 100, Patience: 20 * time.Second}), callsOf(r, 40, 1)) {
		if of[0].Code != "" {
			t.Errorf("call %d failed: %s %s", i, of[0].Code, of[0].Message)
		}
	}
	if got := late.Server().Stats().Generations; got < 30 {
		t.Errorf("the server that came later gave %d answers", got)
	}
}

// Those that stand in line for one server of two, and were never sent, go to the other as well once it
// answers: the one may be dead.
func TestWaitingCallsAreWidened(t *testing.T) {
	late, answers, url := startLate(t)
	var asked atomic.Int64
	worker := start(t, simulator.Options{})
	r := actorAt(before(t, worker.Server(), func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
		hangs := strings.HasSuffix(req.URL.Path, completionsPath) && asked.Add(1) > 6
		if hangs {
			<-req.Context().Done()
		}
		return hangs
	}))
	r.Endpoints = append(r.Endpoints, Endpoint{URL: url})
	p := open(t, Options{MaxInFlight: 1, RequestTimeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a := asker{process: p, calls: &callCounts{}}
		_, _ = a.Do(ctx, callsOf(r, 40, 1)) // the one that hangs is given up in the end
	}()
	for asked.Load() <= 6 {
		pauseFor(t.Context(), time.Millisecond)
	}
	close(answers)
	for end := time.Now().Add(30 * time.Second); late.Server().Stats().Generations < 30; pauseFor(t.Context(), 10*time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("the server that came later gave %d answers, while others waited for one that hangs", late.Server().Stats().Generations)
			break
		}
	}
	cancel()
	<-ended
}

// A server that says it is full for minutes, one that never answers and one that is not there
// keep no call from the one that is well, at the start and later.
func TestUselessServersKeepNobodyWaiting(t *testing.T) {
	well := start(t, simulator.Options{Latency: 20 * time.Millisecond})
	full := start(t, simulator.Options{Faults: simulator.Faults{"503": 1}, RetryAfter: 5 * time.Minute})
	hangs := start(t, simulator.Options{Faults: simulator.Faults{simulator.FaultHang: 1}})
	gone := start(t, simulator.Options{})
	url := gone.URL()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	r := actorAt(full.URL())
	for _, u := range []string{hangs.URL(), url, well.URL()} {
		r.Endpoints = append(r.Endpoints, Endpoint{URL: u})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of 5 minutes that one wants, and as much that another takes
	defer cancel()
	p := open(t, Options{})
	for _, n := range []int{1, 3, 5} { // each larger n is a new meeting
		if _, err := try(ctx, p, callsOf(r, 30, n)); err != nil {
			t.Fatalf("n=%d: %v", n, err)
		}
	}
}

// A server that turns full and stays so is left alone; what it was asked goes to the other.
func TestServerThatStaysFull(t *testing.T) {
	well := start(t, simulator.Options{Latency: 20 * time.Millisecond, Slots: 8})
	healthy := start(t, simulator.Options{Latency: 20 * time.Millisecond, Slots: 8}).Server()
	var asked, refused atomic.Int64
	turns := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost && asked.Add(1) > 50 {
			refused.Add(1)
			w.Header().Set("Retry-After", "300")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		healthy.ServeHTTP(w, req)
	}))
	defer turns.Close()
	r := actorAt(well.URL())
	r.Endpoints = append(r.Endpoints, Endpoint{URL: turns.URL + "/v1"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := try(ctx, open(t, Options{}), callsOf(r, 3000, 1)); err != nil {
		t.Fatal(err)
	}
	// Those that it is asked while it still works on earlier ones, and few after that; not one for
	// each call that waits.
	if refused.Load() == 0 || refused.Load() > 1000 {
		t.Errorf("%d of 3,000 calls were refused by the server that is full", refused.Load())
	}
}
