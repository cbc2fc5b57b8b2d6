package fleet

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coeval/schemas"
	"coeval/schemas/redact"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
)

// An endpoint is one server as this process knows it. The limiter knows its load as server.
type endpoint struct {
	name string // as the config has it, without a password
	base *url.URL
	key  string
	// secrets replaces the key, and secrets of the URL, in everything that the server sends. It has to
	// come before anything is cut, kept or shown.
	secrets *redact.Redactor
	header  http.Header
	client  *http.Client
	server  *schedule.Server
	// echoes is true once the server returned a request's ID.
	echoes atomic.Bool
	// simulated is true if the model list has the simulated server, which may be behind a proxy.
	simulated atomic.Bool
	// discovering has a token while somebody finds out what the server is.
	discovering chan struct{}

	mu     sync.Mutex
	models map[string]*modelState // by model and revision
	health health
	// tokensPerRequest is a mean, smoothed.
	tokensPerRequest float64
	// observed is true once somebody watches the server.
	observed bool
}

// modelState is what is known of one model at an endpoint.
type modelState struct {
	// identified is true once the server's model list was looked at.
	identified bool
	// maxChoices is how many choices of a request the server was seen to give; exact means that it
	// refused more.
	maxChoices int
	exact      bool
	// constraints are the ones that work, by role: a server may take one for one role and refuse it
	// for another.
	constraints map[string]*openai.Constraint
	// secondsPerToken is how long an answer takes for each token of a choice, smoothed.
	secondsPerToken float64
	// stream is how the model is asked.
	stream streaming
	// everSucceeded is true once it answered. denials is the number since the last success, denial
	// the last of them, and deniedSince when the first came.
	everSucceeded bool
	denials       int
	denial        *openai.Fault
	deniedSince   time.Time
	// leftAloneUntil is until when nobody discovers it, as it did not answer or was denied.
	leftAloneUntil time.Time
}

func (f *Fleet) newEndpoint(spec stage.Endpoint) (*endpoint, error) {
	key, err := spec.APIKey()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", redactedURL(spec.URL), err)
	}
	base, err := url.Parse(spec.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("fleet: %w", err)
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("%s: the scheme is %q; allowed are http and https", base.Redacted(), base.Scheme)
	}
	client := f.clients[spec.CAFile]
	if client == nil {
		if client, err = newHTTPClient(spec.CAFile); err != nil {
			return nil, fmt.Errorf("%s: %w", base.Redacted(), err)
		}
		f.clients[spec.CAFile] = client
	}
	e := &endpoint{
		name: base.Redacted(), base: base, key: key, secrets: redact.New(secretsOf(key, base)...), client: client,
		header:      http.Header{"User-Agent": {"coeval"}, "Content-Type": {"application/json"}, "Accept-Encoding": {"identity"}},
		server:      schedule.NewServer(spec.URL, pacing.New(f.options.MaxInFlight), pacing.NewQuota(f.options.RequestsPerMinute, f.options.TokensPerMinute)),
		discovering: make(chan struct{}, 1), models: map[string]*modelState{}, health: newHealth(),
	}
	if key != "" {
		e.header.Set("Authorization", "Bearer "+key)
	}
	return e, nil
}

func redactedURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return "a URL that can't be parsed"
}

// urlOf returns the URL of a path below the base, with the base's query.
func (e *endpoint) urlOf(path string) string {
	u := *e.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawPath = ""
	return u.String()
}

// metricsURL returns where servers have their metrics: beside /v1, not below it.
func (e *endpoint) metricsURL() string {
	u := *e.base
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1") + "/metrics"
	u.RawPath, u.RawQuery = "", ""
	return u.String()
}

// secretsOf returns what an endpoint's server is sent and may quote: its key, and secrets in its URL.
func secretsOf(key string, base *url.URL) []string {
	secrets := []string{key}
	if password, ok := base.User.Password(); ok {
		secrets = append(secrets, password)
	}
	for name, values := range base.Query() {
		if redact.Name(name) {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}

// model returns the state of the role's model. The caller has e.mu.
func (e *endpoint) model(r *stage.Role) *modelState {
	m := e.models[r.Identity()]
	if m == nil {
		m = &modelState{constraints: map[string]*openai.Constraint{}}
		e.models[r.Identity()] = m
	}
	return m
}

// constraintOf returns the request fields that enforce the role's verdict, empty if it has none.
func (e *endpoint) constraintOf(r *stage.Role) string {
	if r.Verdict == nil {
		return ""
	}
	e.mu.Lock()
	by := e.model(r).constraints[r.Name]
	e.mu.Unlock()
	if by == nil {
		return "" // a probe
	}
	return by.Fields(r.Verdict, r.MaxReasoning())
}

// enforces reports whether the endpoint was seen to enforce the role's verdict, or need not.
func (e *endpoint) enforces(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.enforcesLocked(r)
}

func (e *endpoint) enforcesLocked(r *stage.Role) bool {
	return r.Verdict == nil || e.model(r).constraints[r.Name] != nil
}

// streaming is whether a model's answers are asked for as streams.
type streaming int

const (
	streamNever   streaming = iota // no reason to
	streamAlways                   // it serves nothing else, or a gateway cuts silent requests
	streamRefused                  // it was tried, and refused
)

// streams reports whether requests of the role are sent as streams.
func (e *endpoint) streams(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).stream == streamAlways
}

// How long a request may take if it isn't configured: minTimeout and twice what its tokens take at
// the endpoint. Before an answer has shown that, it is slowToken for each. A request that timed out
// gets twice the time with every try: it may have waited long at the server.
const (
	minTimeout    = 10 * time.Second
	maxTimeout    = time.Hour
	slowToken     = 200 * time.Millisecond
	unknownTokens = 16384 // of a request without a bound
)

func (f *Fleet) timeoutOf(e *endpoint, q *request) time.Duration {
	if f.options.RequestTimeout > 0 {
		return f.options.RequestTimeout
	}
	tokens := q.role.MaxTokens
	if tokens == 0 {
		tokens = unknownTokens
	}
	e.mu.Lock()
	perToken := 2 * e.model(q.role).secondsPerToken
	e.mu.Unlock()
	if perToken == 0 {
		perToken = slowToken.Seconds()
	}
	seconds := minTimeout.Seconds() + perToken*float64(tokens)
	return time.Duration(min(seconds*math.Pow(2, float64(q.timeouts)), maxTimeout.Seconds()) * float64(time.Second))
}

// recordTiming learns from how long an answer took. The slowest choice decides that, and servers
// report only the sum of tokens: so the time of a token is rather over- than underestimated.
func (e *endpoint) recordTiming(q *request, generations []schemas.Generation, has []bool, took time.Duration) {
	prompt, tokens := openai.Usage(generations)
	if tokens == 0 || q.stage == stageProbe {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	blend(&e.tokensPerRequest, float64(prompt+tokens), 0.05)
	blend(&e.model(q.role).secondsPerToken, took.Seconds()*float64(countTrue(has))/float64(tokens), 0.05)
}

// blend moves x towards y by a share of the way, or all of it if x is unknown.
func blend(x *float64, y, share float64) {
	if *x == 0 {
		share = 1
	}
	*x += share * (y - *x)
}

func countTrue(has []bool) int {
	n := 0
	for _, ok := range has {
		if ok {
			n++
		}
	}
	return n
}

// serversOf returns the endpoints as the limiter knows them.
func serversOf(endpoints []*endpoint) []*schedule.Server {
	out := make([]*schedule.Server, len(endpoints))
	for i, e := range endpoints {
		out[i] = e.server
	}
	return out
}

// endpointOf returns the endpoint that a grant is for.
func endpointOf(endpoints []*endpoint, g *schedule.Grant) *endpoint {
	return endpoints[slices.IndexFunc(endpoints, func(e *endpoint) bool { return e.server == g.Server() })]
}
