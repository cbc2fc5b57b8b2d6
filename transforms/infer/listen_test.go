package infer

import (
	"bytes"
	"context"
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

	"coeval/schemas"
	"coeval/transforms/simulator"
)

// muted starts a server that says nothing any more, to nobody, once it is told to be mute.
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
	for _, proxied := range []bool{false, true} {
		t.Run(fmt.Sprint("alone, behind a proxy: ", proxied), func(t *testing.T) {
			t.Parallel()
			url, mute := muted(t, simulator.Options{})
			p, r := open(t, Options{Patience: 1500 * time.Millisecond}), actorAt(url) // a request may take 10 seconds at least
			if proxied {
				met, err := p.fleet.of(r)
				if err != nil {
					t.Fatal(err)
				}
				met[0].target = nil // as of one that the environment has a proxy for
			}
			ask(t, p, callsOf(r, 3, 2))
			mute.Store(true)
			_, err := try(t.Context(), p, callsOf(r, 5, 2))
			if err == nil || !strings.Contains(err.Error(), "patience") || !strings.Contains(err.Error(), errDeaf.Error()) {
				t.Errorf("%v: names not the patience and that the server says nothing", err)
			}
		})
	}
	t.Run("one of two", func(t *testing.T) {
		t.Parallel()
		url, mute := muted(t, simulator.Options{Latency: 20 * time.Millisecond, Slots: 8})
		well := start(t, simulator.Options{Latency: 20 * time.Millisecond, Slots: 8})
		r := actorAt(url)
		r.Endpoints = append(r.Endpoints, Endpoint{URL: well.URL()})
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

// One that works on long generations and says so is let.
func TestLongGenerationsAreNotGivenUp(t *testing.T) {
	s := start(t, simulator.Options{Latency: 3 * time.Second, Sigma: 0.01})
	for _, of := range ask(t, open(t, Options{Patience: 600 * time.Millisecond}), callsOf(actorAt(s.URL()), 4, 1)) {
		if of[0].Code != "" {
			t.Errorf("a call failed: %s %s", of[0].Code, of[0].Message)
		}
	}
	if stats := s.Server().Stats(); stats.Abandoned != 0 || stats.AskedTwice != 0 {
		t.Errorf("%d requests were given up, %d generations asked twice", stats.Abandoned, stats.AskedTwice)
	}
}

// One that can answer nothing else while it generates is given up once or twice at most, and no call
// fails of it.
func TestBlockingServerIsLet(t *testing.T) {
	var one sync.Mutex
	url := before(t, start(t, simulator.Options{}).Server(), func(_ http.ResponseWriter, req *http.Request, body []byte) bool {
		one.Lock()
		defer one.Unlock()
		if req.Method == http.MethodPost && !bytes.Contains(body, []byte("Say OK.")) {
			pauseFor(req.Context(), 1500*time.Millisecond)
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

// A prompt at which every server's worker dies, which a gateway calls 503, is a failure after some
// tries, and takes no server from the others.
func TestPoisonBehindAGateway(t *testing.T) {
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
		r.Endpoints = append(r.Endpoints, Endpoint{URL: gateway})
	}
	p := open(t, Options{Tries: 3})
	for i, of := range ask(t, p, callsOf(r, 40, 2)) {
		want := ""
		if i == 7 {
			want = CodeServerError
		}
		if of[0].Code != want || of[1].Code != want {
			t.Errorf("call %d: codes %q and %q, want %q", i, of[0].Code, of[1].Code, want)
		}
	}
	// A try counts when some server has answered since the last: a few may not.
	if n := met.Load(); n < 3 || n > 12 {
		t.Errorf("the poison was sent %d times, with 3 tries", n)
	}
	for _, s := range States(p.options.Attempt) {
		if s.Quarantined {
			t.Errorf("%s is set aside", s.Name)
		}
	}
}

// What is told again and again that there is no room, while others find some, for longer than the
// run is patient, has failed. Nobody's fault is it while others are told the same.
func TestTurnedAwayForEver(t *testing.T) {
	for _, tt := range []struct {
		others, want int // after how many of its answers others have one; the answer that is its last
	}{
		{1, 602},  // the first that comes more than 600 s after the first
		{7, 1401}, // the 200th that follows one of others'
		{0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, tr, last := &endpoint{}, trial{}, 0
			for n := 1; n <= 5000; n++ {
				if tr.turnedAway(10*time.Minute, []*endpoint{e}) {
					last = n
					break
				}
				if pauseFor(t.Context(), time.Second/2); tt.others > 0 && n%tt.others == 0 {
					e.succeeded()
				}
				pauseFor(t.Context(), time.Second/2)
			}
			if last != tt.want {
				t.Errorf("others have one after each %d: its last answer was number %d, want %d", tt.others, last, tt.want)
			}
		})
	}
}

// The time that a request may take follows what its model's tokens take at the endpoint.
func TestTimeoutBySize(t *testing.T) {
	f := &fleet{}
	e := &endpoint{perToken: map[string]float64{}}
	role := func(model string, tokens int) *Role { return &Role{Model: model, MaxTokens: tokens} }
	answer := func(model string, tokens, n int, took time.Duration) {
		generations, has := make([]schemas.Generation, n), allOf(n)
		for i := range generations {
			generations[i].CompletionTokens = tokens
		}
		e.timed(&request{role: role(model, 0), stage: schemas.StageJudge}, generations, has, took)
	}
	check := func(what string, q request, want time.Duration) {
		t.Helper()
		if got := f.timeout(e, &q); got.Round(time.Millisecond) != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("nothing known, 100 tokens of 0.2 s", request{role: role("slow", 100)}, 30*time.Second)
	check("nothing known, no bound: 16,384 tokens", request{role: role("slow", 0)}, 3286800*time.Millisecond)
	check("more than an hour", request{role: role("slow", 50000)}, time.Hour)
	// The slowest of 4 choices of 50 tokens takes 5 s: 0.1 s a token, at most.
	answer("slow", 50, 4, 5*time.Second)
	for range 1000 { // many quick ones of another model change nothing
		answer("quick", 100, 1, 100*time.Millisecond)
	}
	check("twice 2,000 tokens of 0.1 s", request{role: role("slow", 2000)}, 410*time.Second)
	check("twice 2,000 tokens of 1 ms", request{role: role("quick", 2000)}, 14*time.Second)
	check("the third try", request{role: role("quick", 2000), timeouts: 2}, 56*time.Second)
	f.options.RequestTimeout = time.Minute
	check("as given", request{role: role("slow", 2000), timeouts: 2}, time.Minute)
}

// A choice that did not come isn't counted.
func TestMetersCountWhatCame(t *testing.T) {
	p := open(t, Options{})
	e := &endpoint{name: "s"}
	generations := []schemas.Generation{{Text: "a"}, {}, {Code: CodeContentFilter}}
	p.fleet.meters.ended(e, &request{role: actorAt("s"), stage: schemas.StageGenerate, n: 3}, nil, time.Second, generations, []bool{true, false, true})
	const name = "coeval_generations_total "
	got := map[string]float64{}
	for series, n := range gathered(t, p) {
		if outcome, ok := strings.CutPrefix(series, name); ok {
			got[outcome] = n
		}
	}
	if got["ok"] != 1 || got[CodeContentFilter] != 1 || len(got) != 2 {
		t.Errorf("counted %v, want one ok and one %s", got, CodeContentFilter)
	}
}

// A server that died and is back gets its part again.
func TestServerIsTakenBack(t *testing.T) {
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
	r.Endpoints = append(r.Endpoints, Endpoint{URL: well.URL()})
	p := open(t, Options{})
	ask(t, p, callsOf(r, 100, 1))
	state := func() State {
		for _, s := range States(p.options.Attempt) {
			if s.Name == gate {
				return s
			}
		}
		return State{}
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
		for end := time.Now().Add(30 * time.Second); !so(); pauseFor(ctx, 5*time.Millisecond) {
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
	if n := p.watch.snapshot().Failed; n != 0 {
		t.Errorf("%d calls failed", n)
	}
}

// Forty servers of one role all have their part.
func TestFortyServers(t *testing.T) {
	r := actorAt("")
	r.Endpoints = nil
	var servers []*simulator.Server
	for range 40 {
		s := start(t, simulator.Options{Latency: 50 * time.Millisecond, Slots: 4})
		servers = append(servers, s.Server())
		r.Endpoints = append(r.Endpoints, Endpoint{URL: s.URL()})
	}
	const prompts, n = 3000, 2
	for i, of := range ask(t, open(t, Options{}), callsOf(r, prompts, n)) {
		for _, g := range of {
			if g.Code != "" {
				t.Errorf("call %d failed: %s %s", i, g.Code, g.Message)
			}
		}
	}
	sum, mean := int64(0), float64(prompts*n)/40
	for i, s := range servers {
		got := s.Stats().Generations
		sum += got
		if float64(got) < mean/3 || float64(got) > 2*mean {
			t.Errorf("server %d gave %d generations, the mean is %g", i, got, mean)
		}
	}
	if sum < prompts*n {
		t.Errorf("%d generations came, want %d", sum, prompts*n)
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

// Whatever a server says back, no failure and no error has the key.
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
