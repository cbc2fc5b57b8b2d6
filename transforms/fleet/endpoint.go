package fleet

import (
	"fmt"
	"maps"
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

// An endpoint is this process's view of one server. The limiter has its load as server.
type endpoint struct {
	name string // as in the config, without a password
	base *url.URL
	key  string
	// query is added to the URL's own.
	query url.Values
	// secrets replaces the key and the secrets of headers and URL in all texts from the server. It must
	// run before a text is shortened, stored or shown.
	secrets *redact.Redactor
	header  http.Header
	client  *http.Client
	server  *schedule.Server
	// echoes is true after the server has returned a request's ID.
	echoes atomic.Bool
	// simulated is true if the model list is the simulated server's, which may be behind a proxy.
	simulated atomic.Bool
	// sglang is true if the model list is SGLang's.
	sglang atomic.Bool
	// listed is true once the server, when ready, was asked which models it has.
	listed atomic.Bool
	// discovering has a token during a discovery.
	discovering chan struct{}

	mu     sync.Mutex
	models map[string]*modelState // by model and revision
	health health
	// tokensPerRequest is a smoothed mean.
	tokensPerRequest float64
	// observed is true after startObserving.
	observed bool
}

// modelState is the process's view of one model at an endpoint.
type modelState struct {
	// identified is true after a look at the server's model list.
	identified bool
	// maxChoices is the largest number of choices for one request so far. exact is true if the
	// server refused more.
	maxChoices int
	exact      bool
	// constraints are the working constraints by role. A server may accept a constraint for one role
	// and refuse it for another.
	constraints map[string]*openai.Constraint
	// secondsPerToken is the smoothed time of an answer for each token of a choice.
	secondsPerToken float64
	// stream decides whether requests are sent as streams.
	stream streaming
	// completionTokens is true after the server has asked for max_completion_tokens instead of max_tokens.
	completionTokens bool
	// prompts shows whether the server cuts them.
	prompts promptSizes
	// everSucceeded is true after an answer. denials is the number since the last success, denial
	// the last of them, and deniedSince the time of the first.
	everSucceeded bool
	denials       int
	denial        *openai.Fault
	deniedSince   time.Time
	// leftAloneUntil is the end of the pause in discovery after a denial or no answer.
	leftAloneUntil time.Time
}

func (f *Fleet) newEndpoint(spec stage.Endpoint) (*endpoint, error) {
	access, err := spec.Credentials()
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
		name: base.Redacted(), base: base, key: access.Key, query: url.Values{}, secrets: redact.New(secretsOf(access, base)...), client: client,
		header:      http.Header{"User-Agent": {"coeval"}, "Content-Type": {"application/json"}, "Accept-Encoding": {"identity"}},
		server:      schedule.NewServer(spec.URL, pacing.New(f.options.MaxInFlight), pacing.NewQuota(f.options.RequestsPerMinute, f.options.TokensPerMinute)),
		discovering: make(chan struct{}, 1), models: map[string]*modelState{}, health: newHealth(),
	}
	maps.Copy(e.header, access.Header)
	for name, value := range access.Query {
		e.query.Set(name, value)
	}
	return e, nil
}

func redactedURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return "a URL that can't be parsed"
}

// urlOf returns the URL of a path below the base, with the query of the base and of the config.
func (e *endpoint) urlOf(path string) string {
	return e.urlAt(strings.TrimSuffix(e.base.Path, "/") + path)
}

// urlAt returns the URL of a path on the endpoint's host.
func (e *endpoint) urlAt(path string) string {
	u := *e.base
	u.Path, u.RawPath = path, ""
	if len(e.query) > 0 {
		q := u.Query()
		maps.Copy(q, e.query)
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// metricsURL returns the usual address of metrics: beside /v1, not below it.
func (e *endpoint) metricsURL() string {
	u := *e.base
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1") + "/metrics"
	u.RawPath, u.RawQuery = "", ""
	return u.String()
}

// secretsOf returns the secrets that a server receives and may quote: its key, those of headers and
// query, and those in its URL.
func secretsOf(access *stage.Credentials, base *url.URL) []string {
	secrets := slices.Clone(access.Secrets)
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
		return "" // for a probe
	}
	return by.Fields(r.Verdict, r.MaxReasoning())
}

// enforces reports whether the endpoint enforces the role's verdict, or the role has none.
func (e *endpoint) enforces(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.enforcesLocked(r)
}

func (e *endpoint) enforcesLocked(r *stage.Role) bool {
	return r.Verdict == nil || e.model(r).constraints[r.Name] != nil
}

// sendsCompletionTokens reports whether requests bound the text with max_completion_tokens.
func (e *endpoint) sendsCompletionTokens(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).completionTokens
}

// streaming decides whether requests for a model are streams.
type streaming int

const (
	streamNever   streaming = iota // no reason
	streamAlways                   // the server supports streams alone, or a gateway closes silent requests
	streamRefused                  // the server refused a stream
)

// streams reports whether requests of the role are sent as streams.
func (e *endpoint) streams(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).stream == streamAlways
}

// The default time limit of a request: minTimeout plus twice the expected time of its tokens at the
// endpoint, or slowToken for each token before the first answer. Each timeout doubles the limit, since
// the request may have waited long at the server.
const (
	minTimeout    = 10 * time.Second
	maxTimeout    = time.Hour
	slowToken     = 200 * time.Millisecond
	unknownTokens = 16384 // for a request without max_tokens
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

// recordTiming updates the time per token after an answer. The slowest choice decides the duration,
// but servers report only the sum of tokens, so that the time of a token is rather over- than
// underestimated.
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

// blend moves x by a share of the distance towards y, or sets it to y if x is unknown.
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

// endpointOf returns the endpoint of a grant.
func endpointOf(endpoints []*endpoint, g *schedule.Grant) *endpoint {
	return endpoints[slices.IndexFunc(endpoints, func(e *endpoint) bool { return e.server == g.Server() })]
}
