package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/policy"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// open returns a fleet that ends with the test.
func open(t *testing.T, o Options) *Fleet {
	t.Helper()
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Minute
	}
	c := &counters.Counters{}
	f := New(o, c)
	t.Cleanup(func() {
		f.Close()
		if n := c.Pending(); n != 0 {
			t.Errorf("%d requests were neither delivered nor dropped", n)
		}
	})
	return f
}

func actorAt(url string) *stage.Role {
	return &stage.Role{
		Name: schemas.RoleActor, Model: "simulated", Endpoints: []stage.Endpoint{{URL: url}},
		Temperature: 0.8, TopP: 0.95, MaxTokens: 2048,
	}
}

// callsOf asks for n replicates each of some prompts.
func callsOf(r *stage.Role, prompts, n int) []Request {
	calls := make([]Request, prompts)
	for i := range calls {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		calls[i] = Request{
			Role: r, Stage: schemas.StageGenerate, PromptID: schemas.PromptID(messages), Seed: int64(1000 * i), N: n, CallN: n,
			Messages: func() []schemas.Message { return messages },
		}
	}
	return calls
}

// ask makes the calls, and returns replicate k of call i at [i][k].
func ask(t *testing.T, f *Fleet, calls []Request) [][]schemas.Generation {
	t.Helper()
	got, err := try(t.Context(), f, calls)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func try(ctx context.Context, f *Fleet, calls []Request) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i := range calls {
		out[i] = make([]schemas.Generation, calls[i].N)
	}
	err := f.Do(ctx, calls, f.counters.NewTally(), func(i, from int, generations []schemas.Generation, has []bool) error {
		for k, ok := range has {
			if ok {
				out[i][from+k] = generations[k]
			}
		}
		f.counters.Generations.Add(1)
		return nil
	})
	return out, err
}

// gathered returns the sums of the metrics, by name, and outcome where there is one.
func gathered(t *testing.T, f *Fleet) map[string]float64 {
	t.Helper()
	families, err := f.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
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

// A server that refuses n, wholly or above some number, gives the same texts one by one.
func TestRefusedNGivesTheSameTexts(t *testing.T) {
	t.Parallel()
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

// With every random fault of a server, each generation arrives exactly once.
func TestFaultsAreCured(t *testing.T) {
	t.Parallel()
	faults, err := simulator.ParseFaults("429=0.1,503=0.05,500=0.03,reset=0.03,truncated=0.02,malformed=0.02,html=0.01,error=0.01,missing=0.05")
	if err != nil {
		t.Fatal(err)
	}
	clean := start(t, simulator.Options{})
	want := ask(t, open(t, Options{}), callsOf(actorAt(clean.URL()), 60, 5))
	s := start(t, simulator.Options{Faults: faults, Slots: 64})
	got := ask(t, open(t, Options{}), callsOf(actorAt(s.URL()), 60, 5))
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

// before starts a proxy in front of a worker, and returns its URL. takes receives each request with its
// whole body, and returns false if the worker is to answer it.
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

// The outcome of each fault of an answer: the same text after another try, a text, or a failure.
func TestTreatments(t *testing.T) {
	t.Parallel()
	clean := start(t, simulator.Options{})
	calls := func(url string) []Request { return callsOf(actorAt(url), 3, 2) }
	want := ask(t, open(t, Options{}), calls(clean.URL()))
	cured := func(g, healthy schemas.Generation) bool { return g.Text == healthy.Text && g.Code == "" }
	for fault, holds := range map[simulator.Fault]func(g, healthy schemas.Generation) bool{
		simulator.FaultTrickle: cured, simulator.FaultHuge: cured, simulator.FaultReset: cured, simulator.FaultHTML: cured,
		simulator.FaultErrorObject: cured, simulator.FaultTruncated: cured, simulator.FaultMalformed: cured,
		simulator.FaultHang: cured, simulator.FaultMissing: cured, "401": cured, "402": cured, "403": cured, "404": cured, "408": cured, "429": cured, "503": cured, "500": cured, "504": cured,
		simulator.FaultEmpty:  func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == "" },
		simulator.FaultNull:   func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == "" },
		simulator.FaultUTF8:   func(g, healthy schemas.Generation) bool { return g.Text == "\uFFFD"+healthy.Text && g.Code == "" },
		simulator.FaultFilter: func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == fault.CodeContentFilter },
		"400":                 func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == fault.CodeBadRequest },
		"413":                 func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == fault.CodeTooLarge },
		"422":                 func(g, _ schemas.Generation) bool { return g.Text == "" && g.Code == fault.CodeBadRequest },
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			// Long enough for a healthy answer on a busy machine; short, as two faults wait for it.
			p := open(t, Options{RequestTimeout: 3 * time.Second})
			for i, of := range ask(t, p, calls(onceFaulty(t, fault))) {
				for k, g := range of {
					if !holds(g, want[i][k]) {
						t.Errorf("call %d, choice %d: %.80q, code %q; the healthy server says %.80q", i, k, g.Text, g.Code, want[i][k].Text)
					}
				}
			}
		})
	}
	for fault, sentence := range map[simulator.Fault]string{
		"302": "it redirects", "401": "it requires an API key", "402": "no credit", "403": "the API key may not", "404": "check that it serves chat completions",
	} {
		t.Run("always "+string(fault), func(t *testing.T) {
			t.Parallel()
			s := start(t, simulator.Options{Faults: simulator.Faults{fault: 1}})
			_, err := try(t.Context(), open(t, Options{}), calls(s.URL()))
			if err == nil || !strings.Contains(err.Error(), sentence) {
				t.Errorf("%v: does not say that %s", err, sentence)
			}
			if n := s.Server().Stats().Requests; n > 10 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}

// The message about an address without a server names the reason.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	plain := start(t, simulator.Options{})
	for name, tt := range map[string]struct{ url, want string }{
		"TLS to a server without": {strings.Replace(plain.URL(), "http:", "https:", 1), "HTTPS client"},
		"no such host":            {"http://no-such-host.invalid:8000/v1", "no-such-host.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := try(t.Context(), open(t, Options{Patience: 2 * time.Second}), callsOf(actorAt(tt.url), 1, 1))
			if err == nil || !strings.Contains(err.Error(), "could be reached") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: does not name %s", err, tt.want)
			}
		})
	}
}

// An error that stops the run names the next step, and its request is not repeated.
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

func TestMissingModelStops(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Options{Strict: true, Models: []string{"other"}})
	_, err := try(t.Context(), open(t, Options{}), callsOf(actorAt(s.URL()), 2, 1))
	if err == nil || !strings.Contains(err.Error(), `"simulated"`) {
		t.Errorf("%v: names not the model", err)
	}
}

// A server that always fails at some messages does not prevent the probe from finding the number of
// choices.
func TestProbeOutlivesPoison(t *testing.T) {
	t.Parallel()
	faults, err := simulator.ParseFaults("poison=0.4")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, simulator.Options{Faults: faults, MaxN: 3})
	p := open(t, Options{Tries: 1})
	r := actorAt(s.URL())
	endpoints, err := p.endpointsOf(r)
	if err != nil {
		t.Fatal(err)
	}
	// Each of 12 messages is poison with probability 0.4, so some are and one in 60,000 runs has all.
	for range 12 {
		if m, err := p.probe(t.Context(), endpoints[0], r, 7, &counters.Tally{}, false); err != nil || m != 3 {
			t.Errorf("probed %d, %v; the server takes 3", m, err)
		}
	}
}

// A server that is down, then full, then well gives texts: no failure without a code passes for one.
func TestRestartingServerLosesNothing(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	if got[0][0].Code != fault.CodeServerError {
		t.Errorf("got %+v, want a failure", got[0][0])
	}
}

// A dead endpoint delays no call of a living one.
func TestDeadEndpointIsLeftOut(t *testing.T) {
	t.Parallel()
	dead, living := start(t, simulator.Options{}), start(t, simulator.Options{})
	r := actorAt(living.URL())
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: dead.URL()})
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
	t.Parallel()
	dying, living := start(t, simulator.Options{Latency: time.Millisecond}), start(t, simulator.Options{Latency: time.Millisecond})
	r := actorAt(living.URL())
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: dying.URL()})
	p := open(t, Options{MaxInFlight: 4})
	go func() {
		for dying.Server().Stats().Generations < 20 {
			if !sleep(t.Context(), time.Millisecond) {
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

// A hanging request times out and is sent again. Other requests continue meanwhile.
func TestHangingRequests(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	s := start(t, simulator.Options{Latency: time.Hour, Sigma: -1})
	ctx, cancel := context.WithCancel(t.Context())
	p := open(t, Options{})
	go func() {
		for p.counters.Snapshot().InFlight == 0 {
			if !sleep(ctx, time.Millisecond) {
				return
			}
		}
		cancel()
	}()
	if _, err := try(ctx, p, callsOf(actorAt(s.URL()), 3, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := p.counters.Snapshot().InFlight; got != 0 {
		t.Errorf("%d generations are still in flight", got)
	}
	// Another bundle of the process goes on.
	quick := start(t, simulator.Options{})
	ask(t, p, callsOf(actorAt(quick.URL()), 3, 1))
}

// The client's counters equal the server's.
func TestMetersAgreeWithTheServer(t *testing.T) {
	t.Parallel()
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
	// request that checks whether it is alive, which is no call.
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

// A server that dies during long generations fails no call: other servers take its requests.
func TestDyingAmongLongGenerations(t *testing.T) {
	t.Parallel()
	o := simulator.Options{Latency: time.Second, Sigma: 0.1, Slots: 32}
	well, dying := start(t, o), start(t, o)
	r := actorAt(well.URL())
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: dying.URL()})
	p := open(t, Options{})
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
	t.Parallel()
	late, answers, url := startLate(t)
	var asked atomic.Int64
	worker := start(t, simulator.Options{})
	dying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, openai.CompletionsPath) {
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
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: url})
	for i, of := range ask(t, open(t, Options{Tries: 100, Patience: 20 * time.Second}), callsOf(r, 40, 1)) {
		if of[0].Code != "" {
			t.Errorf("call %d failed: %s %s", i, of[0].Code, of[0].Message)
		}
	}
	if got := late.Server().Stats().Generations; got < 30 {
		t.Errorf("the server that came later gave %d answers", got)
	}
}

// Requests that wait for one server of two, and were never sent, go to the second server once it
// answers. The first may be dead.
func TestWaitingCallsAreWidened(t *testing.T) {
	t.Parallel()
	late, answers, url := startLate(t)
	var asked atomic.Int64
	worker := start(t, simulator.Options{})
	r := actorAt(before(t, worker.Server(), func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
		hangs := strings.HasSuffix(req.URL.Path, openai.CompletionsPath) && asked.Add(1) > 6
		if hangs {
			<-req.Context().Done()
		}
		return hangs
	}))
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: url})
	p := open(t, Options{MaxInFlight: 1, RequestTimeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = try(ctx, p, callsOf(r, 40, 1)) // the request that hangs ends with the test
	}()
	for asked.Load() <= 6 {
		sleep(t.Context(), time.Millisecond)
	}
	close(answers)
	for end := time.Now().Add(30 * time.Second); late.Server().Stats().Generations < 30; sleep(t.Context(), 10*time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("the server that came later gave %d answers, while others waited for one that hangs", late.Server().Stats().Generations)
			break
		}
	}
	cancel()
	<-ended
}

// Three servers keep no call from a healthy one, at the start and later: a server that is overloaded
// for minutes, a server that never answers, and an address without a server.
func TestUselessServersKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
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
		r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: u})
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

// A server that becomes overloaded for good receives no more requests. Its requests go to the other
// server.
func TestServerThatStaysFull(t *testing.T) {
	t.Parallel()
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
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: turns.URL + "/v1"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := try(ctx, open(t, Options{}), callsOf(r, 3000, 1)); err != nil {
		t.Fatal(err)
	}
	// The server receives the requests that were in flight already, and few after them: not one for each
	// waiting call.
	if refused.Load() == 0 || refused.Load() > 1000 {
		t.Errorf("%d of 3,000 calls were refused by the server that is full", refused.Load())
	}
}

// muted starts a server that sends no byte to any client after mute is set.
func muted(t *testing.T, o simulator.Options) (url string, mute *atomic.Bool) {
	t.Helper()
	mute = &atomic.Bool{}
	return before(t, start(t, o).Server(), func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
		if !mute.Load() {
			return false
		}
		<-req.Context().Done()
		return true
	}), mute
}

// A server that dies without a word is noticed long before its requests' time is over: the run ends
// when it has been patient, or goes on with the others.
func TestMuteServerIsGivenUp(t *testing.T) {
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		url, mute := muted(t, simulator.Options{})
		p, r := open(t, Options{Patience: 1500 * time.Millisecond}), actorAt(url) // the time limit of a request is at least 10 seconds
		ask(t, p, callsOf(r, 3, 2))
		mute.Store(true)
		_, err := try(t.Context(), p, callsOf(r, 5, 2))
		if err == nil || !strings.Contains(err.Error(), "patience") || !strings.Contains(err.Error(), endpoint.ErrUnresponsive.Error()) {
			t.Errorf("%v: names not the patience and that the server says nothing", err)
		}
	})
	t.Run("one of two", func(t *testing.T) {
		t.Parallel()
		url, mute := muted(t, simulator.Options{Latency: 20 * time.Millisecond, Slots: 8})
		well := start(t, simulator.Options{Latency: 20 * time.Millisecond, Slots: 8})
		r := actorAt(url)
		r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: well.URL()})
		p := open(t, Options{Patience: 3 * time.Second, RequestTimeout: time.Hour})
		ask(t, p, callsOf(r, 50, 2))
		mute.Store(true)
		for i, of := range ask(t, p, callsOf(r, 200, 2)) {
			for _, g := range of {
				if g.Code != "" {
					t.Errorf("call %d failed: %s %s", i, g.Code, g.Message)
				}
			}
		}
	})
}

// The fleet waits for a server whose metrics show running requests.
func TestLongGenerationsAreNotGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Options{Latency: 3 * time.Second, Sigma: 0.01})
	for _, of := range ask(t, open(t, Options{Patience: 2 * time.Second}), callsOf(actorAt(s.URL()), 4, 1)) {
		if of[0].Code != "" {
			t.Errorf("a call failed: %s %s", of[0].Code, of[0].Message)
		}
	}
	if stats := s.Server().Stats(); stats.Abandoned != 0 || stats.AskedTwice != 0 {
		t.Errorf("%d requests were given up, %d generations asked twice", stats.Abandoned, stats.AskedTwice)
	}
}

// A server that cannot answer other requests while it generates has its requests dropped once or twice,
// and no call fails.
func TestBlockingServerIsLet(t *testing.T) {
	t.Parallel()
	var one sync.Mutex
	url := before(t, start(t, simulator.Options{}).Server(), func(_ http.ResponseWriter, req *http.Request, body []byte) bool {
		one.Lock()
		defer one.Unlock()
		if req.Method == http.MethodPost && !bytes.Contains(body, []byte("Say OK.")) {
			sleep(req.Context(), 1500*time.Millisecond)
		}
		return false
	})
	// Silence of 0.75 s is long at first, with 0.3 s for looks; twice that the next time.
	p := open(t, Options{Patience: 1500 * time.Millisecond, RequestTimeout: time.Hour})
	for _, of := range ask(t, p, callsOf(actorAt(url), 3, 2)) {
		for _, g := range of {
			if g.Code != "" {
				t.Errorf("a call failed: %s %s", g.Code, g.Message)
			}
		}
	}
}

// A gateway answers 503 to a prompt that kills the worker of every server. The prompt fails after some
// tries, and other prompts keep all servers.
func TestPoisonBehindAGateway(t *testing.T) {
	t.Parallel()
	const poison = "Question 7"
	var met atomic.Int64
	r := actorAt("")
	r.Endpoints = nil
	for range 2 {
		worker := start(t, simulator.Options{Latency: 10 * time.Millisecond}).Server()
		gateway := before(t, worker, func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
			if !bytes.Contains(body, []byte(poison+`"`)) {
				return false
			}
			met.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "upstream connect error or disconnect/reset before headers. reset reason: connection termination")
			return true
		})
		r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: gateway})
	}
	p := open(t, Options{Tries: 3})
	for i, of := range ask(t, p, callsOf(r, 40, 2)) {
		want := ""
		if i == 7 {
			want = fault.CodeServerError
		}
		if of[0].Code != want || of[1].Code != want {
			t.Errorf("call %d: codes %q and %q, want %q", i, of[0].Code, of[1].Code, want)
		}
	}
	// A try counts when some server has answered since the last: a few may not.
	if n := met.Load(); n < 3 || n > 12 {
		t.Errorf("the poison was sent %d times, with 3 tries", n)
	}
	for _, s := range p.States() {
		if s.Quarantined {
			t.Errorf("%s is set aside", s.Name)
		}
	}
}

// A request has failed if it is rejected again and again, while others succeed, for longer than the
// patience. If others are rejected too, it has not.
func TestTurnedAwayForEver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		others, want int // after how many of its answers others have one; the answer that is its last
	}{
		{1, 602},  // the first that comes more than 600 s after the first
		{7, 1401}, // the 200th that follows one of others'
		{0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, tr, last := endpoint.New(&transport.Client{}, nil), policy.History{Last: time.Now()}, 0
			for n := 1; n <= 5000; n++ {
				if tr.RejectedForGood(time.Now(), succeededSince([]*endpoint.Endpoint{e}, tr.Last), 10*time.Minute) {
					last = n
					break
				}
				if sleep(t.Context(), time.Second/2); tt.others > 0 && n%tt.others == 0 {
					e.RecordSuccess(&stage.Role{})
				}
				sleep(t.Context(), time.Second/2)
			}
			if last != tt.want {
				t.Errorf("others have one after each %d: its last answer was number %d, want %d", tt.others, last, tt.want)
			}
		})
	}
}

// A choice that did not come isn't counted.
func TestMetersCountWhatCame(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	generations := []schemas.Generation{{Text: "a"}, {}, {Code: fault.CodeContentFilter}}
	p.meters.Ended(counters.Post{Role: actorAt("s"), Stage: schemas.StageGenerate, Server: "s", N: 3}, nil, time.Second, generations, []bool{true, false, true})
	const name = "coeval_generations_total "
	got := map[string]float64{}
	for series, n := range gathered(t, p) {
		if outcome, ok := strings.CutPrefix(series, name); ok {
			got[outcome] = n
		}
	}
	if got["ok"] != 1 || got[fault.CodeContentFilter] != 1 || len(got) != 2 {
		t.Errorf("counted %v, want one ok and one %s", got, fault.CodeContentFilter)
	}
}

// A server that died and is back gets its part again.
func TestServerIsTakenBack(t *testing.T) {
	t.Parallel()
	o := simulator.Options{Latency: 20 * time.Millisecond, Slots: 8}
	worker, well := start(t, o).Server(), start(t, o)
	var down atomic.Bool
	var served atomic.Int64
	gate := before(t, worker, func(http.ResponseWriter, *http.Request, []byte) bool {
		if down.Load() {
			panic(http.ErrAbortHandler) // closes the connection
		}
		served.Add(1)
		return false
	})
	r := actorAt(gate)
	r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: well.URL()})
	p := open(t, Options{})
	ask(t, p, callsOf(r, 100, 1))
	state := func() schedule.State {
		for _, s := range p.States() {
			if s.Name == gate {
				return s
			}
		}
		return schedule.State{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { // asks on and on, other prompts each time
		var err error
		for round := 0; err == nil && ctx.Err() == nil; round++ {
			calls := callsOf(r, 200, 1)
			for i := range calls {
				messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Round ", round, ", question ", i)}}
				calls[i].PromptID = schemas.PromptID(messages)
				calls[i].Messages = func() []schemas.Message { return messages }
			}
			_, err = try(ctx, p, calls)
		}
		ended <- err
	}()
	wait := func(what string, so func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !so(); sleep(ctx, 5*time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not within 30 s", what)
			}
		}
	}
	down.Store(true)
	wait("the dead server is set aside", func() bool { return state().Quarantined })
	before := served.Load()
	down.Store(false)
	wait("it is taken back and serves as before", func() bool { return !state().Quarantined && served.Load() > before+200 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := p.counters.Snapshot().Failed; n != 0 {
		t.Errorf("%d calls failed", n)
	}
}

// Forty servers of one role are all found and asked. TestFortyServers of package schedule bounds their parts.
func TestFortyServers(t *testing.T) {
	t.Parallel()
	r := actorAt("")
	r.Endpoints = nil
	var servers []*simulator.Server
	for range 40 {
		s := start(t, simulator.Options{Latency: 50 * time.Millisecond, Slots: 4})
		servers = append(servers, s.Server())
		r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: s.URL()})
	}
	const prompts, n = 1000, 2
	for i, of := range ask(t, open(t, Options{}), callsOf(r, prompts, n)) {
		for _, g := range of {
			if g.Code != "" {
				t.Errorf("call %d failed: %s %s", i, g.Code, g.Message)
			}
		}
	}
	sum := int64(0)
	for i, s := range servers {
		got := s.Stats().Generations
		if sum += got; got <= n { // a discovery's own
			t.Errorf("server %d gave %d generations", i, got)
		}
	}
	if sum < prompts*n {
		t.Errorf("%d generations came, want %d", sum, prompts*n)
	}
}

// No failure and no error contains the key, in any answer that quotes it.
func TestKeyIsTakenOut(t *testing.T) {
	const secret = "sk-swordfish-4711"
	t.Setenv("COEVAL_TEST_KEY", secret)
	for _, tt := range []struct {
		status  int
		said    string // %s is the Authorization header
		isError bool
	}{
		{http.StatusForbidden, "no: %s", true},
		{http.StatusFound, "elsewhere: %s", true},
		{http.StatusBadRequest, "no: %s", false},
		{http.StatusInternalServerError, "died of %s", false},
		{http.StatusOK, "<html>%s", false},
		{http.StatusOK, `{"error":{"message":"no: %s"}}`, false},
		{http.StatusOK, `{"choices":[],"why":"%s"}`, false},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			b, err := io.ReadAll(req.Body)
			switch {
			case err != nil:
			case req.Method == http.MethodGet:
				w.WriteHeader(http.StatusNotFound)
			case strings.Contains(string(b), "Say OK."): // it is well
				_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"OK"},"finish_reason":"stop"}]}`)
			default:
				w.WriteHeader(tt.status)
				_, _ = fmt.Fprintf(w, tt.said, req.Header.Get("Authorization"))
			}
		}))
		r := actorAt(s.URL)
		r.Endpoints[0].APIKeyEnv = "COEVAL_TEST_KEY"
		got, err := try(t.Context(), open(t, Options{Tries: 1}), callsOf(r, 1, 1))
		text := fmt.Sprint(got, err)
		if (err != nil) != tt.isError || !strings.Contains(text, "(the API key)") || strings.Contains(text, "swordfish") {
			t.Errorf("%d %s: %s", tt.status, tt.said, text)
		}
		s.Close()
	}
}

func winner() *stage.Verdict { return &stage.Verdict{Label: "Winner", Values: []string{"A", "B"}} }

// The client finds the constraint field of every dialect, and each text ends in a verdict. The keys of
// the journal depend on the verdict, not on the field.
func TestVerdictsAreEnforced(t *testing.T) {
	t.Parallel()
	for dialect, by := range map[string]string{
		simulator.VLLM: "structured_outputs", simulator.SGLang: "regex", simulator.LlamaCpp: "grammar", simulator.None: "response_format",
	} {
		t.Run(dialect, func(t *testing.T) {
			s := start(t, simulator.Options{Dialect: dialect})
			p := open(t, Options{})
			r := actorAt(s.URL())
			r.Verdict = winner()
			for _, of := range ask(t, p, callsOf(r, 3, 4)) {
				for _, g := range of {
					if dialect == simulator.None {
						var said map[string]string
						if err := json.Unmarshal([]byte(g.Text), &said); err != nil || said["winner"] != "A" && said["winner"] != "B" || said["reasoning"] == "" {
							t.Errorf("%q, %v", g.Text, err)
						}
					} else if !strings.HasSuffix(g.Text, "\nWinner: A") && !strings.HasSuffix(g.Text, "\nWinner: B") {
						t.Errorf("%q ends in no verdict", g.Text)
					}
				}
			}
			endpoints, err := p.endpointsOf(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := endpoints[0].ConstraintOf(r); !strings.HasPrefix(got, `,"`+by+`":`) {
				t.Errorf("enforced by %s, want %s", got, by)
			}
		})
	}
}

// A server that ignores every field answers 200 to all of them. The run stops before it pays for
// unconstrained texts.
func TestUnenforcedVerdictsStop(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Options{IgnoreConstraints: true})
	r := actorAt(s.URL())
	r.Verdict = winner()
	_, err := try(t.Context(), open(t, Options{}), callsOf(r, 3, 4))
	if err == nil || !strings.Contains(err.Error(), s.URL()) || !strings.Contains(err.Error(), "verdicts: free") {
		t.Fatalf("%v: does not say where and what to do", err)
	}
	// One probe of n, and the trap in each of five ways.
	if got := s.Server().Stats().Requests; got != 1+int64(len(openai.Constraints())) {
		t.Errorf("%d requests were made", got)
	}
}

// The judge's server is known to enforce nothing before the actor is asked for anything.
func TestVerdictsAreProvedFirst(t *testing.T) {
	t.Parallel()
	actors, judges := start(t, simulator.Options{}), start(t, simulator.Options{IgnoreConstraints: true})
	judge := actorAt(judges.URL())
	judge.Name, judge.Verdict = schemas.RoleJudge, winner()
	f := open(t, Options{})
	for range 2 {
		if err := f.VerifyConstraints(t.Context(), []stage.Role{*judge}, &counters.Tally{}); err == nil || !strings.Contains(err.Error(), judges.URL()) {
			t.Fatalf("%v: does not name the judge's server", err)
		}
	}
	if got := actors.Server().Stats().Requests; got != 0 {
		t.Errorf("the actor was asked %d times", got)
	}
	// The trap in each of five ways, and no second time.
	if got := judges.Server().Stats().Requests; got != int64(len(openai.Constraints())) {
		t.Errorf("the judge was asked %d times", got)
	}
}

// The wait for one request is short if the server reports its allowance. All header fields reach the
// limiter.
func TestLimitHeadersAreHeeded(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		for name, value := range map[string]string{"Limit": "100", "Remaining": "0", "Reset": "1000s"} {
			w.Header().Set("X-Ratelimit-"+name+"-Requests", value)
		}
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"ok"},"finish_reason":"stop"}]}`)
	}))
	defer s.Close()
	p := open(t, Options{MaxInFlight: 1})
	ask(t, p, callsOf(actorAt(s.URL), 1, 1))
	states, _ := p.limiter.States()
	// A twentieth of the reset, 50 s, is waited for.
	if wait := time.Until(states[0].NotBefore); wait < 20*time.Second || wait > 50*time.Second {
		t.Errorf("it is left alone for %s, want 50 s less what the test takes", wait)
	}
}

// A server that reports an empty allowance receives nothing until the reset.
func TestRemainingRequestsAreHeeded(t *testing.T) {
	t.Parallel()
	const reset = 150 * time.Millisecond
	var mu sync.Mutex
	var until time.Time
	early := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		if time.Now().Before(until) {
			early++
		}
		until = time.Now().Add(reset - 20*time.Millisecond) // as the client counts from when it has read it
		mu.Unlock()
		w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
		w.Header().Set("X-Ratelimit-Reset-Requests", reset.String())
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"ok"},"finish_reason":"stop"}]}`)
	}))
	defer s.Close()
	// One request at a time: a header cannot hold back requests that are in flight already.
	for _, said := range ask(t, open(t, Options{MaxInFlight: 1}), callsOf(actorAt(s.URL), 6, 1)) {
		if said[0].Text != "ok" {
			t.Errorf("got %+v", said[0])
		}
	}
	if early > 0 {
		t.Errorf("%d requests came before there was room", early)
	}
}

// A key is replaced that only the joined parts of a text contain: the events of a stream, or parts of a content.
func TestKeyInPartsLeavesAnswers(t *testing.T) {
	const secret = "sk-swordfish-4711-0123456789"
	t.Setenv("COEVAL_TEST_KEY", secret)
	event := func(field, text string) string {
		return fmt.Sprintf("data: {\"choices\":[{\"index\":0,\"delta\":{%q:%q}}]}\n\n", field, text)
	}
	parts := []string{secret[:9], secret[9:17], secret[17:]}
	var stream, list strings.Builder
	for _, field := range []string{"content", "reasoning_content"} {
		for _, part := range parts {
			stream.WriteString(event(field, part))
		}
	}
	for i, part := range parts {
		fmt.Fprintf(&list, `%s{"type":"text","text":%q}`, strings.Repeat(",", min(i, 1)), part)
	}
	for _, answer := range []struct{ kind, body string }{
		{"text/event-stream", stream.String() + "data: [DONE]\n\n"},
		{"application/json", `{"choices":[{"index":0,"message":{"content":[` + list.String() + `]},"finish_reason":"stop"}]}`},
	} {
		url := chat(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", answer.kind)
			_, _ = io.WriteString(w, answer.body)
		})
		r := actorAt(url)
		r.Endpoints[0].APIKeyEnv = "COEVAL_TEST_KEY"
		g := ask(t, open(t, Options{}), callsOf(r, 1, 1))[0][0]
		if g.Text != "(the API key)" || strings.Contains(g.Reasoning, "swordfish") || g.Code != "" {
			t.Errorf("%s: %+v", answer.kind, g)
		}
	}
}

// A key that an answer quotes is replaced in the text that is kept, in any coding, also when only a part is
// quoted.
func TestKeyLeavesAnswers(t *testing.T) {
	const secret = "sk-swordfish-4711-0123456789"
	t.Setenv("COEVAL_TEST_KEY", secret)
	for _, quoted := range []string{secret, secret[3:22], strings.ReplaceAll(secret, "-", `\u002d`), "c2stc3dvcmRmaXNoLTQ3MTEtMDEyMzQ1Njc4OQ=="} {
		url := chat(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"content":"your key is %s, or not","reasoning_content":"%s"},"finish_reason":"stop"}]}`, quoted, quoted)
		})
		r := actorAt(url)
		r.Endpoints[0].APIKeyEnv = "COEVAL_TEST_KEY"
		g := ask(t, open(t, Options{}), callsOf(r, 1, 1))[0][0]
		if text := g.Text + g.Reasoning; !strings.Contains(text, "(the API key)") || strings.Contains(text, "swordfish") || strings.Contains(text, "c3dvcmRmaXNo") {
			t.Errorf("quoted as %s: %q", quoted, text)
		}
	}
}
