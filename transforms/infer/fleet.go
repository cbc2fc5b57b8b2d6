package infer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/infer/wire"
	"coeval/transforms/inprocess"
)

// fleet is the process's one client of all endpoints.
type fleet struct {
	options Options
	wire    *wire.Client
	client  *http.Client // for what isn't a call, and for calls through a proxy
	limiter *schedule.Limiter
	watch   *watch
	meters  *meters
	// own are the calls of the fleet itself, which belong to no prompt.
	own  callCounts
	ctx  context.Context
	stop context.CancelFunc
	// begun are the fleet's goroutines, which end with ctx.
	begun sync.WaitGroup

	mu        sync.Mutex
	endpoints map[Endpoint]*endpoint
	fatal     error // of a meeting

	identities sync.Mutex         // held while the journal's record of a model is read and written
	respondent journal.Respondent // of the journal, under identities; empty until an answer came
	simulated  sync.Map           // identities of roles of which the journal knows that they are
}

// endpoint is one server as this process knows it.
type endpoint struct {
	// simulated is set when the list of models has the simulated worker, which may be behind a proxy.
	simulated atomic.Bool
	url       string // of POST
	name      string // as the user gave it
	key       string
	header    http.Header
	target    *wire.Target // nil when a proxy stands between
	server    *schedule.Server

	probing chan struct{} // holds a token while somebody finds out what the server is

	mu          sync.Mutex
	batching    map[string]batching // by model
	identified  map[string]bool     // by model and revision
	enforcing   map[string]*enforcement
	perToken    map[string]float64 // by model: seconds that an answer takes for each token of a choice
	each        float64            // tokens that a request takes, on average
	owed        int                // requests under way
	givenUp     int                // how often it was, since it said nothing
	heard       time.Time          // when it last answered anything at all, or began to owe something
	alive       context.Context    // until it is given up, with what was asked of it
	giveUp      context.CancelCauseFunc
	lastSuccess time.Time
	lastSign    time.Time
	busy        time.Time // when its metrics told of running requests
	lastFault   string
	lastFaultAt time.Time
	silentUntil time.Time
	meeting     time.Time // since when somebody finds out what it is
	observed    bool      // somebody listens to it, and watches its queue where that is of use
}

const (
	// keepAlive is shorter than uvicorn's 5 s, so that no request meets a connection that the
	// server is closing.
	keepAlive       = 4 * time.Second
	dialTimeout     = 10 * time.Second
	completionsPath = "/chat/completions"
	// firstBackoff doubles with each try up to maxBackoff; half of it is jitter.
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// fullBackoffs is how often the pause before asking a full server again grows.
	fullBackoffs = 3
	// bodyPerToken bounds a body by the tokens asked for; bodyFloor is for all else in it.
	bodyPerToken = 64
	bodyFloor    = 1 << 20
	bodyMost     = 64 << 20
)

func newFleet(o Options, w *watch) *fleet {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     keepAlive,
		DisableCompression:  true,
		WriteBufferSize:     16 << 10,
		ReadBufferSize:      16 << 10,
	}
	inprocess.Attach(transport)
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	f := &fleet{
		options: o, watch: w, endpoints: map[Endpoint]*endpoint{},
		wire:    &wire.Client{KeepAlive: keepAlive, DialTimeout: dialTimeout},
		client:  &http.Client{Transport: transport, CheckRedirect: noRedirects},
		limiter: schedule.New(schedule.Options{Changed: w.permitted}),
		own:     callCounts{whole: &w.calls},
	}
	f.meters = newMeters(f)
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// begin starts a goroutine that ends when f.ctx does, if that isn't over.
func (f *fleet) begin(work func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return false
	}
	f.begun.Go(work)
	return true
}

// of returns the endpoints of a role, the same for equal ones.
func (f *fleet) of(r *Role) ([]*endpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*endpoint, 0, len(r.Endpoints))
	for _, spec := range r.Endpoints {
		e := f.endpoints[spec]
		if e == nil {
			var err error
			if e, err = f.newEndpoint(spec); err != nil {
				return nil, err
			}
			f.endpoints[spec] = e
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("infer: %s has no endpoint", r.Name)
	}
	return out, nil
}

func (f *fleet) newEndpoint(spec Endpoint) (*endpoint, error) {
	key, err := spec.APIKey()
	if err != nil {
		return nil, fmt.Errorf("infer: %s: %w", spec.URL, err)
	}
	e := &endpoint{
		url: strings.TrimSuffix(spec.URL, "/") + completionsPath, name: spec.URL,
		header: http.Header{"User-Agent": {"coeval"}, "Content-Type": {"application/json"}},
		server: schedule.NewServer(spec.URL, schedule.ServerOptions{
			Permits: f.options.MaxInFlight, RequestsPerMinute: f.options.RequestsPerMinute, TokensPerMinute: f.options.TokensPerMinute,
		}),
		probing: make(chan struct{}, 1), batching: map[string]batching{}, identified: map[string]bool{}, enforcing: map[string]*enforcement{}, perToken: map[string]float64{}, lastSuccess: time.Now(),
	}
	e.alive, e.giveUp = context.WithCancelCause(context.Background())
	if key != "" {
		e.key = key
		e.header.Set("Authorization", "Bearer "+key)
	}
	to, err := url.Parse(e.url)
	if err != nil {
		return nil, fmt.Errorf("infer: %w", err)
	}
	if inprocess.Serves(to.Hostname()) {
		return e, nil
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: to})
	if err != nil {
		return nil, fmt.Errorf("the proxy that the environment names for %s: %w", spec.URL, err)
	}
	if proxy != nil {
		return e, nil
	}
	e.target, err = f.wire.Target(to, e.header)
	return e, err
}

// servers returns the endpoints as the limiter knows them.
func servers(endpoints []*endpoint) []*schedule.Server {
	out := make([]*schedule.Server, len(endpoints))
	for i, e := range endpoints {
		out[i] = e.server
	}
	return out
}

// endpointOf returns the one of the endpoints that a grant is for.
func endpointOf(endpoints []*endpoint, g *schedule.Grant) *endpoint {
	return endpoints[slices.IndexFunc(endpoints, func(e *endpoint) bool { return e.server == g.Server() })]
}

// requests describes requests of a stage to the limiter.
func requests(stage, promptID string, sizes []int) schedule.Request {
	return schedule.Request{
		Stage: stage, PromptID: promptID, Priority: priorities[stage], Probe: stage == stageProbe, Sizes: sizes,
	}
}

// resultOf describes an answer to the limiter.
func resultOf(flt *fault, generations []schemas.Generation) schedule.Result {
	switch {
	case flt == nil:
		prompt, completion := usage(generations)
		return schedule.Result{Tokens: prompt + completion}
	case flt.treatment == refuse:
		return schedule.Result{Outcome: schedule.Refused}
	case flt.treatment == full:
		return schedule.Result{Outcome: schedule.Overloaded, RetryAfter: flt.after}
	case flt.dial:
		return schedule.Result{Outcome: schedule.Unreachable}
	}
	return schedule.Result{Outcome: schedule.Failed}
}

// heed applies the rate limits in an answer's header.
func (f *fleet) heed(e *endpoint, h http.Header) {
	if len(h) == 0 {
		return
	}
	e.mu.Lock()
	each := e.each
	e.mu.Unlock()
	if wait, metered := pacing.RateLimits(h, each, time.Now()); metered {
		f.limiter.ApplyRateLimit(e.server, wait)
	}
}

// blend moves x towards y by a share of the way, all of it when x is not known yet.
func blend(x *float64, y, share float64) {
	if *x == 0 {
		share = 1
	}
	*x += share * (y - *x)
}

// startObserving listens to an endpoint and watches its queue from now on, once.
func (f *fleet) startObserving(e *endpoint, r *Role) {
	e.mu.Lock()
	first := !e.observed
	e.observed = true
	e.mu.Unlock()
	if !first {
		return
	}
	f.begin(func() { f.listen(f.ctx, e) })
	if !e.server.FixedLimit() {
		f.begin(func() { f.observe(f.ctx, e, r) })
	}
}

// close ends the fleet's goroutines and gives up the connections that no call uses.
func (f *fleet) close() {
	f.mu.Lock() // or one begins while the others are waited for
	f.stop()
	f.mu.Unlock()
	f.begun.Wait()
	f.limiter.Close()
	f.wire.Close()
	f.client.CloseIdleConnections()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.endpoints {
		if e.target != nil {
			e.target.CloseIdle()
		}
	}
}

// request is one POST for a run of replicates.
type request struct {
	role     *Role
	stage    string
	promptID string
	messages func() []schemas.Message
	seed     int64
	n        int
	// constraint are fields of the body that bind the text, where it isn't the role's verdict.
	constraint string
	// once says that a fault of the server is the end of it.
	once bool
	// timeouts are how many it met: each doubles the time that it may take.
	timeouts int
}

// ask sends a request until it is answered or cannot be, and returns the choices that came:
// all n, fewer, or one failure that stands for all. An error ends the run. The first try has the
// permits of g; without g it waits for them. Who gets an answer calls watch.kept when it is kept.
func (f *fleet) ask(ctx context.Context, endpoints []*endpoint, g *schedule.Grant, q request, calls *callCounts) ([]schemas.Generation, []bool, error) {
	t := trial{last: time.Now()}
	for ; ; g = nil {
		if g == nil {
			var err error
			wanted := requests(q.stage, q.promptID, []int{q.n})
			wanted.Avoid, wanted.First = servers(t.avoid), t.waits > 0
			ticket := f.limiter.Enqueue(servers(endpoints), wanted)
			if g, endpoints, err = f.take(ctx, ticket, endpoints, &q); err != nil {
				ticket.Cancel()
				return nil, nil, err
			}
		}
		e := endpointOf(endpoints, g)
		f.watch.start(q.stage, q.n)
		began := time.Now()
		generations, has, flt := f.post(ctx, e, &q, calls)
		f.watch.end(q.stage, q.n)
		took := time.Since(began)
		f.meters.ended(e, &q, flt, took, generations, has)
		f.limiter.Release(g, resultOf(flt, generations))
		var err error
		if flt == nil {
			e.succeeded()
			e.timed(&q, generations, has, took)
		} else {
			e.faulted(flt)
			generations, err = f.treat(ctx, &t, e, endpoints, &q, flt, calls)
			has = allOf(len(generations))
		}
		if generations != nil {
			return generations, has, nil
		}
		f.watch.kept()
		if err != nil {
			if ctx.Err() == nil { // the run ends, and not only a bundle of it
				f.settle(ctx)
			}
			return nil, nil, err
		}
		f.watch.retried(flt)
		f.meters.retries.WithLabelValues(q.stage, outcome(flt)).Inc()
		calls.retry(q.stage, outcome(flt))
		if !slices.Contains(t.avoid, e) {
			t.avoid = append(t.avoid, e)
		}
		if q.stage != stageProbe {
			endpoints = f.widened(endpoints, &q)
		}
		waits := t.waits
		if flt.treatment == full {
			if f.limiter.CanAvoid(servers(endpoints), servers(t.avoid)) {
				continue // another may have room now
			}
			t.avoid = nil
			waits = min(waits, fullBackoffs) // the limiter sees to it that there will be room
		}
		if err := pause(ctx, flt.after, waits); err != nil {
			return nil, nil, err
		}
	}
}

// betweenWidenings is how often who waits for some endpoints of a role looks for the others.
const betweenWidenings = time.Second

// take waits for the next permits of a line, and returns with them the endpoints that it stands for
// now: those of its role that were met only after it began are added while it waits.
func (f *fleet) take(ctx context.Context, n *schedule.Ticket, endpoints []*endpoint, q *request) (*schedule.Grant, []*endpoint, error) {
	for q.stage != stageProbe && len(endpoints) < len(q.role.Endpoints) {
		limited, cancel := context.WithTimeout(ctx, betweenWidenings)
		g, err := n.Receive(limited)
		cancel()
		if err == nil || ctx.Err() != nil {
			return g, endpoints, err
		}
		if wider := f.widened(endpoints, q); len(wider) > len(endpoints) {
			n.SetServers(servers(wider))
			endpoints = wider
		}
	}
	g, err := n.Receive(ctx)
	return g, endpoints, err
}

// widened returns the endpoints that a request was cut for, and with them those of its role that
// have been met since and take it, in the role's order. The others are met meanwhile: a request must
// not wait for ever for the only one that answered when it began.
func (f *fleet) widened(endpoints []*endpoint, q *request) []*endpoint {
	all, err := f.of(q.role)
	if err != nil || len(all) == len(endpoints) {
		return endpoints
	}
	out := make([]*endpoint, 0, len(all))
	for _, e := range all {
		n, ok := e.met(q.role, q.n)
		if slices.Contains(endpoints, e) || ok && n >= q.n {
			out = append(out, e)
		} else if !ok {
			f.meetSoon(e, q.role, q.n)
		}
	}
	return out
}

// settleMost is how long a run that ends waits for what others have in flight: it is paid for.
const settleMost = 20 * time.Second

// settle lets nothing more be asked, and returns when all answers have come and are kept, or the
// time is over.
func (f *fleet) settle(ctx context.Context) {
	f.limiter.Drain()
	for end := time.Now().Add(settleMost); ctx.Err() == nil && (f.watch.unkept.Load() > 0 || f.limiter.InFlight()) && time.Now().Before(end); {
		pauseFor(ctx, 20*time.Millisecond)
	}
}

// treat decides what follows from a fault: failures that are the end of the request, an error
// that ends the run, or neither when the request is to be sent again.
func (f *fleet) treat(ctx context.Context, t *trial, e *endpoint, endpoints []*endpoint, q *request, flt *fault, calls *callCounts) ([]schemas.Generation, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	switch flt.treatment {
	case stop:
		return nil, errors.New(stopSentence(e, q.role, flt))
	case refuse:
		e.succeeded() // the server is well, only this call is not
		return failed(flt, q.n), nil
	}
	if q.once {
		flt.code = cmp.Or(flt.code, CodeServerError)
		return failed(flt, q.n), nil
	}
	switch flt.treatment {
	case retry:
		if flt.code == CodeTimeout {
			q.timeouts++
		}
		if t.failed(ctx, f, e, endpoints, q, calls); t.tries >= f.options.Tries {
			return failed(flt, q.n), nil
		}
	case full:
		if t.turnedAway(f.options.Patience, endpoints) {
			return failed(flt, q.n), nil
		}
		if slices.ContainsFunc(endpoints, (*endpoint).busyNow) {
			return nil, nil // it works on long generations
		}
	}
	return nil, f.patient(endpoints, q.role, t.first)
}

// patient returns the error that ends the run when no endpoint of the role has answered for as
// long as the run waits. Since is when the one who asks met its first fault.
func (f *fleet) patient(endpoints []*endpoint, r *Role, since time.Time) error {
	waited := min(sinceSuccess(endpoints), time.Since(since))
	if waited <= f.options.Patience {
		return nil
	}
	last := endpoints[0]
	for _, e := range endpoints {
		if e.faultAt().After(last.faultAt()) {
			last = e
		}
	}
	return fmt.Errorf("no endpoint of %s has answered for %s, which is the client.patience; the last fault: %s: %s",
		r.Name, waited.Round(time.Second), last.name, last.said())
}

func (e *endpoint) faulted(flt *fault) {
	e.mu.Lock()
	e.lastFault, e.lastFaultAt = flt.message, time.Now()
	e.mu.Unlock()
}

// isBusy takes note that the endpoint's metrics tell of running requests.
func (e *endpoint) isBusy() {
	e.mu.Lock()
	e.busy = time.Now()
	e.mu.Unlock()
}

// busyNow says that it was busy not long ago. One that says to be full and is busy is alive.
func (e *endpoint) busyNow() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.busy) < 5*slowLook
}

func (e *endpoint) faultAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastFaultAt
}

func (e *endpoint) said() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastFault
}

// trial is what became of a request so far.
type trial struct {
	// tries are the failures at which some endpoint of the role was known to live; waits are all
	// answers but the last, which lengthen the next pause; fulls are those that said full while
	// others had answers.
	tries, waits, fulls int
	// avoid are the endpoints at which it failed.
	avoid []*endpoint
	// first is when it met its first fault, last when its last or when it began.
	first, last time.Time
}

func (t *trial) met() {
	if t.first.IsZero() {
		t.first = time.Now()
	}
}

// mostFulls is how often a request may be told that there is no room while others have answers.
const mostFulls = 200

// turnedAway counts an answer that says full, and says whether they are so many, for longer than
// the run is patient, that the request itself must be the reason: some servers and gateways call
// it full when they die of one.
func (t *trial) turnedAway(patience time.Duration, endpoints []*endpoint) bool {
	t.met()
	t.waits++
	if slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.succeededSince(t.last) }) {
		t.fulls++
	}
	t.last = time.Now()
	return t.fulls >= mostFulls && time.Since(t.first) > patience
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
		wait = min(after, pacing.MaxWait) + rand.N(firstBackoff)
	}
	if !pauseFor(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// post sends the request once. The messages are rendered here, while permits are held: what
// waits for them is small.
func (f *fleet) post(ctx context.Context, e *endpoint, q *request, calls *callCounts) ([]schemas.Generation, []bool, *fault) {
	buffer, _ := bodies.Get().(*[]byte)
	body, err := appendBody((*buffer)[:0], q.role, q.messages(), q.n, q.seed, cmp.Or(q.constraint, e.constraint(q.role)))
	if err != nil {
		return nil, nil, &fault{treatment: refuse, code: CodeBadRequest, message: err.Error()}
	}
	if e.target != nil && cap(body) <= mostBody { // net/http may read a body when its answer is long there
		defer func() { *buffer = body; bodies.Put(buffer) }()
	}
	limit := int64(bodyMost)
	if q.role.MaxTokens > 0 {
		limit = min(bodyMost, bodyFloor+int64(q.n)*int64(q.role.MaxTokens)*bodyPerToken)
	}
	began := time.Now()
	answer, simulated, flt := f.exchange(ctx, e, q, body, limit)
	calls.request(q.stage, q.n, time.Since(began))
	if flt != nil {
		return nil, nil, flt
	}
	generations, has, flt := decodeResponse(answer, q.n)
	if flt != nil {
		_, _, flt = decodeResponse(e.withoutKey(answer), q.n)
	} else {
		flt = f.noteRespondent(ctx, e, q, simulated || e.simulated.Load())
	}
	return generations, has, flt
}

// bodies are buffers for the bodies of requests, mostBody the size of one that is kept.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

const mostBody = 64 << 10

// withoutKey takes the endpoint's API key out of what it says.
func (e *endpoint) withoutKey(said []byte) []byte { return WithoutKey(said, e.key) }

// WithoutKey takes an API key out of what a server says: some gateways say it back.
func WithoutKey(said []byte, key string) []byte {
	if key == "" {
		return said
	}
	return bytes.ReplaceAll(said, []byte(key), []byte("(the API key)"))
}

// exchange is one POST: the body of a 200 and whether the simulated worker wrote it, or the fault.
func (f *fleet) exchange(ctx context.Context, e *endpoint, q *request, body []byte, limit int64) (said []byte, simulated bool, flt *fault) {
	f.watch.sent()
	timeout := f.timeout(e, q)
	e.owes(1)
	defer e.owes(-1)
	a, err := f.send(ctx, e, body, limit, timeout)
	if a != nil {
		e.hear()
		f.heed(e, a.Header)
	}
	switch {
	case errors.Is(err, errDeaf):
		return nil, false, &fault{treatment: retry, code: CodeTimeout, message: errDeaf.Error()}
	case a != nil && a.Status != http.StatusOK: // the status says enough if the body broke off
		return nil, false, classify(a.Status, a.Header, e.withoutKey(a.Body))
	case errors.Is(err, wire.ErrTooLarge):
		return nil, false, &fault{treatment: retry, code: CodeMalformed, message: fmt.Sprintf("the body is larger than %d bytes", limit)}
	case errors.Is(err, wire.ErrDial):
		return nil, false, &fault{treatment: retry, code: CodeConnection, message: e.saidBy(err), dial: true}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return nil, false, &fault{treatment: retry, code: CodeTimeout, message: fmt.Sprintf("no whole answer within %s", timeout.Round(time.Second))}
	case err != nil && a != nil:
		return nil, false, &fault{treatment: retry, code: CodeConnection, message: "the body broke off: " + e.saidBy(err)}
	case err != nil:
		return nil, false, &fault{treatment: retry, code: CodeConnection, message: e.saidBy(err)}
	}
	return a.Body, a.Server == simulatedOwner, nil
}

// saidBy is an error's text, which may quote the server.
func (e *endpoint) saidBy(err error) string { return string(e.withoutKey([]byte(err.Error()))) }

// How long a request may take, when it isn't given: leastTimeout and twice what as many tokens
// as it may have take at the endpoint, as far as answers have told; before, at slowToken each.
// Who waits long at a server gets twice the time with every try.
const (
	leastTimeout  = 10 * time.Second
	mostTimeout   = time.Hour
	slowToken     = 200 * time.Millisecond
	unknownTokens = 16384 // where the request names no bound
)

func (f *fleet) timeout(e *endpoint, q *request) time.Duration {
	if f.options.RequestTimeout > 0 {
		return f.options.RequestTimeout
	}
	tokens := cmp.Or(q.role.MaxTokens, unknownTokens)
	e.mu.Lock()
	perToken := 2 * e.perToken[q.role.Model]
	e.mu.Unlock()
	if perToken == 0 {
		perToken = slowToken.Seconds()
	}
	seconds := leastTimeout.Seconds() + perToken*float64(tokens)
	return time.Duration(min(seconds*math.Pow(2, float64(q.timeouts)), mostTimeout.Seconds()) * float64(time.Second))
}

// timed takes note of how long an answer took, as its model does: a gateway may have a quick one
// and a slow one. The slowest choice decides that, and only the sum of their tokens is known: so
// the time for each token is rather over- than underestimated.
func (e *endpoint) timed(q *request, generations []schemas.Generation, has []bool, took time.Duration) {
	prompt, tokens := usage(generations)
	if tokens == 0 || q.stage == stageProbe {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	blend(&e.each, float64(prompt+tokens), 0.05)
	perToken := e.perToken[q.role.Model]
	blend(&perToken, took.Seconds()*float64(came(has))/float64(tokens), 0.05)
	e.perToken[q.role.Model] = perToken
}

// came counts the choices that came.
func came(has []bool) int {
	n := 0
	for _, ok := range has {
		if ok {
			n++
		}
	}
	return n
}

func (f *fleet) send(ctx context.Context, e *endpoint, body []byte, limit int64, timeout time.Duration) (*wire.Answer, error) {
	if e.target != nil {
		return e.target.Post(ctx, body, time.Now().Add(timeout), limit)
	}
	ctx, done := e.whileAlive(ctx)
	defer done()
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(within, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	a, err := f.through(req, e, limit)
	if err != nil && errors.Is(context.Cause(ctx), errDeaf) {
		err = errDeaf
	}
	return a, err
}

// get asks a server for a page, with as much time for it.
func (f *fleet) get(ctx context.Context, e *endpoint, url string, limit int64, within time.Duration) (*wire.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return f.through(req, e, limit)
}

// base is the endpoint's URL as OpenAI's API has it, to which the names of its pages are added.
func (e *endpoint) base() string { return strings.TrimSuffix(e.url, completionsPath) }

// through sends a request over net/http, which knows proxies, and reads the answer.
func (f *fleet) through(req *http.Request, e *endpoint, limit int64) (*wire.Answer, error) {
	req.Header = e.header.Clone()
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	e.hear()
	b, err := wire.ReadBody(resp.Body, resp.ContentLength, limit)
	return &wire.Answer{Status: resp.StatusCode, Server: resp.Header.Get("Server"), Header: resp.Header, Body: b}, err
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
		what = "it wants another API key: name the environment variable that holds it in api_key_env, or its file in api_key_file"
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
