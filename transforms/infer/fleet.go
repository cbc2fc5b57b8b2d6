package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"coeval/schemas"
)

// fleet is the process's one client of all endpoints.
type fleet struct {
	options Options
	client  *http.Client
	limiter limiter
	watch   *watch

	mu        sync.Mutex
	endpoints map[Endpoint]*endpoint
	simulated sync.Map // identities of roles of which the journal knows that they are
}

// endpoint is one server as this process knows it.
type endpoint struct {
	url    string // of POST
	name   string // as the user gave it
	key    string
	spread uint64
	limit  int

	// inFlight, faults (in a row) and aside (until when nothing is sent there, while others can
	// be asked) are the limiter's.
	inFlight int
	faults   int
	aside    time.Time

	probing chan struct{} // holds a token while somebody finds out what the server is

	mu          sync.Mutex
	batching    map[string]batching // by model
	identified  map[string]bool     // by model and revision
	lastSuccess time.Time
	lastSign    time.Time
	silentUntil time.Time
}

const (
	// keepAlive is shorter than uvicorn's 5 s, so that no request meets a connection that the
	// server is closing.
	keepAlive       = 4 * time.Second
	completionsPath = "/chat/completions"
	// firstBackoff doubles with each try up to maxBackoff; half of it is jitter.
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// maxRetryAfter bounds what a server may ask for.
	maxRetryAfter = 5 * time.Minute
	// bodyPerToken bounds a body by the tokens asked for; bodyFloor is for all else in it.
	bodyPerToken = 64
	bodyFloor    = 1 << 20
	bodyMost     = 64 << 20
)

func newFleet(o Options, w *watch) *fleet {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: o.MaxInFlight,
		IdleConnTimeout:     keepAlive,
		DisableCompression:  true,
		WriteBufferSize:     16 << 10,
		ReadBufferSize:      16 << 10,
	}
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &fleet{
		options: o, watch: w, endpoints: map[Endpoint]*endpoint{},
		client: &http.Client{Transport: transport, CheckRedirect: noRedirects},
	}
}

// of returns the endpoints of a role, the same for equal ones.
func (f *fleet) of(r *Role) ([]*endpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*endpoint, 0, len(r.Endpoints))
	for _, spec := range r.Endpoints {
		e := f.endpoints[spec]
		if e == nil {
			key, err := apiKey(spec)
			if err != nil {
				return nil, err
			}
			e = &endpoint{
				url: strings.TrimSuffix(spec.URL, "/") + completionsPath, name: spec.URL, key: key,
				spread: spread(spec.URL), limit: f.options.MaxInFlight,
				probing: make(chan struct{}, 1), batching: map[string]batching{}, identified: map[string]bool{}, lastSuccess: time.Now(),
			}
			f.endpoints[spec] = e
			f.watch.addSlots(e.limit)
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("infer: %s has no endpoint", r.Name)
	}
	return out, nil
}

// apiKey looks the key up. A key travels as the name of a variable, never as itself.
func apiKey(e Endpoint) (string, error) {
	if e.APIKeyEnv == "" {
		return "", nil
	}
	key := os.Getenv(e.APIKeyEnv) //nolint:forbidigo // a worker of a cluster has its own environment
	if key == "" {
		return "", fmt.Errorf("the environment variable %s, which api_key_env names for %s, is not set", e.APIKeyEnv, e.URL)
	}
	return key, nil
}

// request is one POST for a run of replicates.
type request struct {
	role     *Role
	stage    string
	promptID string
	messages func() []schemas.Message
	seed     int64
	n        int
}

// ask sends a request until it is answered or cannot be, and returns the choices that came:
// all n, fewer, or one failure that stands for all. An error ends the run. The first try goes to e,
// which has the permits for it; without e it waits for them.
func (f *fleet) ask(ctx context.Context, endpoints []*endpoint, e *endpoint, q request, calls *callCounts) ([]schemas.Generation, []bool, error) {
	t := trial{last: time.Now()}
	for ; ; e = nil {
		if e == nil {
			var err error
			if e, err = f.limiter.acquire(ctx, endpoints, priorities[q.stage], q.n, q.promptID); err != nil {
				return nil, nil, err
			}
		}
		f.watch.start(q.n)
		generations, has, flt := f.post(ctx, e, &q, calls)
		f.watch.end(q.n)
		f.limiter.release(e, q.n, flt)
		if flt == nil {
			e.succeeded()
			return generations, has, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		switch flt.treatment {
		case stop:
			return nil, nil, errors.New(stopSentence(e, q.role, flt))
		case refuse:
			e.succeeded() // the server is well, only this call is not
			return failed(flt, q.n), allOf(q.n), nil
		case retry:
			if t.failed(ctx, f, e, endpoints, &q, calls); t.tries >= f.options.Tries {
				return failed(flt, q.n), allOf(q.n), nil
			}
		case full:
			t.met()
			t.waits++
		}
		if waited := min(sinceSuccess(endpoints), time.Since(t.first)); waited > f.options.Patience {
			return nil, nil, fmt.Errorf("no endpoint of %s has answered for %s, which is the client.patience; the last fault: %s: %s",
				q.role.Name, waited.Round(time.Second), e.name, flt.message)
		}
		f.watch.retried(flt)
		calls.retry(q.stage)
		if err := pause(ctx, flt.after, t.waits); err != nil {
			return nil, nil, err
		}
	}
}

// trial is what became of a request so far.
type trial struct {
	// tries are the failures at which some endpoint of the role was known to live; waits are all
	// answers but the last, which lengthen the next pause.
	tries, waits int
	// first is when it met its first fault, last when its last or when it began.
	first, last time.Time
}

func (t *trial) met() {
	if t.first.IsZero() {
		t.first = time.Now()
	}
}

// failed counts a failure, if it is the request's: not while no endpoint answers anybody. When
// nobody else asks, the endpoint is asked for a sign of life.
func (t *trial) failed(ctx context.Context, f *fleet, e *endpoint, endpoints []*endpoint, q *request, calls *callCounts) {
	t.met()
	t.waits++
	alive := q.stage == stageProbe // which finds that out itself
	for _, o := range endpoints {
		alive = alive || o.succeededSince(t.last)
	}
	if alive || f.lives(ctx, e, q.role, calls) {
		t.tries++
	}
	t.last = time.Now()
}

// signInterval is the least time between two signs of life that are asked of an endpoint.
const signInterval = time.Second

// lives asks an endpoint for a few tokens, once, if nobody has just now.
func (f *fleet) lives(ctx context.Context, e *endpoint, r *Role, calls *callCounts) bool {
	e.mu.Lock()
	due := time.Since(e.lastSign) > signInterval
	if due {
		e.lastSign = time.Now()
	}
	e.mu.Unlock()
	if !due {
		return false
	}
	q := probeRequest(r, 1)
	if _, _, flt := f.post(ctx, e, &q, calls); flt != nil {
		return false
	}
	e.succeeded()
	return true
}

// failed returns the generations of a request that failed for good.
func failed(flt *fault, n int) []schemas.Generation {
	if flt.code == "" {
		panic("infer: a failure without a code would pass for a text: " + flt.message)
	}
	out := make([]schemas.Generation, n)
	for i := range out {
		out[i] = schemas.Generation{Code: flt.code, Message: flt.message}
	}
	return out
}

func allOf(n int) []bool {
	has := make([]bool, n)
	for i := range has {
		has[i] = true
	}
	return has
}

// pause waits as long as the server asked for, or longer with every time. No permit is held.
func pause(ctx context.Context, after time.Duration, times int) error {
	wait := min(firstBackoff<<min(max(times-1, 0), 10), maxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	if after > 0 {
		wait = min(after, maxRetryAfter) + rand.N(firstBackoff)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// post sends the request once. The messages are rendered here, while permits are held: what
// waits for them is small.
func (f *fleet) post(ctx context.Context, e *endpoint, q *request, calls *callCounts) ([]schemas.Generation, []bool, *fault) {
	body, err := requestBody(q.role, q.messages(), q.n, q.seed)
	if err != nil {
		return nil, nil, &fault{treatment: refuse, code: CodeBadRequest, message: err.Error()}
	}
	limit := int64(bodyMost)
	if q.role.MaxTokens > 0 {
		limit = min(bodyMost, bodyFloor+int64(q.n)*int64(q.role.MaxTokens)*bodyPerToken)
	}
	calls.request(q.stage)
	answer, flt := f.exchange(ctx, e, q.role, body, limit)
	if flt != nil {
		return nil, nil, flt
	}
	return decodeResponse(answer, q.n)
}

// exchange is one POST: the body of a 200, or the fault.
func (f *fleet) exchange(ctx context.Context, e *endpoint, r *Role, body []byte, limit int64) ([]byte, *fault) {
	ctx, cancel := context.WithTimeout(ctx, f.options.RequestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, &fault{treatment: stop, message: err.Error()}
	}
	req.Header.Set("Content-Type", "application/json")
	e.authorize(req)
	f.watch.sent()
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, transportFault(ctx, err, f.options.RequestTimeout)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, flt := readBody(resp.Body, bodyFloor)
		if flt != nil && flt.code == CodeConnection {
			said = nil // the status says enough
		}
		return nil, classify(resp.StatusCode, resp.Header, said)
	}
	answer, flt := readBody(resp.Body, limit)
	if flt != nil && ctx.Err() != nil {
		return nil, transportFault(ctx, ctx.Err(), f.options.RequestTimeout)
	}
	if flt == nil && resp.Header.Get("Server") == simulatedOwner {
		flt = f.noteSimulated(ctx, r)
	}
	return answer, flt
}

func (e *endpoint) authorize(req *http.Request) {
	req.Header.Set("User-Agent", "coeval")
	if e.key != "" {
		req.Header.Set("Authorization", "Bearer "+e.key)
	}
}

func transportFault(ctx context.Context, err error, timeout time.Duration) *fault {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &fault{treatment: retry, code: CodeTimeout, message: fmt.Sprintf("no whole answer within %s", timeout)}
	}
	return &fault{treatment: retry, code: CodeConnection, message: err.Error()}
}

func (e *endpoint) succeeded() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastSuccess = time.Now()
}

func (e *endpoint) succeededSince(t time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastSuccess.After(t)
}

// sinceSuccess returns how long none of the endpoints has answered.
func sinceSuccess(all []*endpoint) time.Duration {
	least := time.Duration(1<<63 - 1)
	for _, e := range all {
		e.mu.Lock()
		least = min(least, time.Since(e.lastSuccess))
		e.mu.Unlock()
	}
	return least
}

// stopSentence says what to do about an answer that ends the run.
func stopSentence(e *endpoint, r *Role, flt *fault) string {
	var what string
	switch {
	case strings.HasPrefix(flt.message, "401"):
		what = "it wants another API key: name the environment variable that holds it in api_key_env"
	case strings.HasPrefix(flt.message, "403"):
		what = "the API key may not use it: check the key's rights to the model " + strconv.Quote(r.Model)
	case strings.HasPrefix(flt.message, "404"):
		what = "it has no model " + strconv.Quote(r.Model) + ", or the URL is not the base that ends before /chat/completions (most end in /v1)"
	case strings.HasPrefix(flt.message, "3"):
		what = "it redirects: give the URL that it redirects to"
	default:
		what = "nothing that is asked there can succeed: check the URL and the account"
	}
	return fmt.Sprintf("%s refuses the %s: %s (it said: %s)", e.name, r.Name, what, flt.message)
}
