package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
)

// An action is the client's reaction to a fault.
type action int

const (
	actRetry   action = iota // send again, up to Options.Tries times
	actWait                  // send again when there is room
	actFail                  // final failure of the call
	actDeny                  // the server denies: see [Fleet.deny]
	actStream                // send again as a stream, then as actRetry
	actSplit                 // send again as a stream, then with fewer choices, then as actRetry
	actRename                // send again with max_completion_tokens, then as actFail
	actStopOwn               // this machine's fault: the run stops
)

// policy is the table of faults and actions, with the outcome for the limiter.
var policy = map[openai.Kind]struct {
	action  action
	outcome schedule.Outcome
}{
	openai.Broken:        {actRetry, schedule.Failed},
	openai.NoChoice:      {actRetry, schedule.Failed},
	openai.TimedOut:      {actRetry, schedule.Failed},
	openai.Unreachable:   {actRetry, schedule.Unreachable},
	openai.Overloaded:    {actWait, schedule.Overloaded},
	openai.Refused:       {actFail, schedule.Refused},
	openai.Denied:        {actDeny, schedule.Failed},
	openai.StreamOnly:    {actStream, schedule.Refused},
	openai.CutOffSilence: {actSplit, schedule.Failed},
	openai.WrongField:    {actRename, schedule.Refused},
	ownKind:              {actStopOwn, schedule.Refused},
}

// ownKind is the kind of a fault of this machine.
const ownKind openai.Kind = -1

// resultOf describes an answer to the limiter.
func resultOf(flt *openai.Fault, generations []schemas.Generation) schedule.Result {
	if flt == nil {
		prompt, completion := openai.Usage(generations)
		return schedule.Result{Tokens: prompt + completion, Completion: completion}
	}
	if flt.Kind == openai.Denied && flt.RetryAfter > 0 { // a temporary denial: all requests would get it
		return schedule.Result{Outcome: schedule.Overloaded, RetryAfter: flt.RetryAfter}
	}
	return schedule.Result{Outcome: policy[flt.Kind].outcome, RetryAfter: flt.RetryAfter}
}

// retryState is the history of a request so far.
type retryState struct {
	// tries counts failures while some server of the role answered. waits counts all faults, and
	// lengthens the next pause. rejections counts rejections while other requests had answers.
	tries, waits, rejections int
	// avoid are the endpoints at which it failed.
	avoid []*endpoint
	// first is the time of its first fault, last of its last fault, or else of its start.
	first, last time.Time
}

func (t *retryState) recordFault() {
	if t.first.IsZero() {
		t.first = time.Now()
	}
	t.waits++
}

// maxRejections is how often a request may be rejected while other requests have answers.
const maxRejections = 200

// rejectedForGood counts a rejection. It reports whether the request itself must be the reason: there
// were more than maxRejections, over more than the patience. Some servers and gateways answer 503 when
// a request crashes them.
func (t *retryState) rejectedForGood(patience time.Duration, endpoints []*endpoint) bool {
	t.recordFault()
	if slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.succeededSince(t.last) }) {
		t.rejections++
	}
	t.last = time.Now()
	return t.rejections >= maxRejections && time.Since(t.first) > patience
}

// countFailure counts a failure, unless no server answers at all. If no other request shows whether the
// server works, it asks the server for a sign of life.
func (f *Fleet) countFailure(ctx context.Context, t *retryState, e *endpoint, endpoints []*endpoint, q *request, calls *Tally) {
	t.recordFault()
	alive := q.stage == stageProbe || slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.succeededSince(t.last) })
	if alive || f.lives(ctx, e, q.role, calls) {
		t.tries++
	}
	t.last = time.Now()
}

// handleFault reacts to a fault. It returns generations for a final failure, an error when the run
// stops, and neither when the request is to be sent again.
func (f *Fleet) handleFault(ctx context.Context, t *retryState, e *endpoint, endpoints []*endpoint, q *request, flt *openai.Fault, calls *Tally) ([]schemas.Generation, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	do := policy[flt.Kind].action
	if do == actFail && flt.Status == 403 && !f.hasAnswered(q.role) {
		do = actDeny // a firewall that has never passed a request does not judge prompts
	}
	if do == actRename {
		if e.loosen(q, do) {
			return nil, nil
		}
		do = actFail
	}
	switch do {
	case actStopOwn:
		return nil, cmp.Or(flt.Err, errors.New(flt.Message))
	case actRetry:
		if flt.Kind == openai.NoChoice && q.choiceless {
			return failed(&openai.Fault{Code: openai.CodeMalformed, Message: noChoiceYet}, q.n), nil
		}
	case actDeny:
		return f.deny(ctx, t, e, q, flt)
	case actFail:
		if q.streamed && flt.Code == openai.CodeBadRequest && e.loosen(q, do) {
			return nil, nil
		}
		e.recordSuccess(q.role) // the server works; only this call fails
		if q.stage != stageProbe {
			if err := f.recordRefused(q.role, e, flt); err != nil {
				return nil, err
			}
		}
		return failed(flt, q.n), nil
	case actStream, actSplit:
		if e.loosen(q, do) {
			return nil, nil
		}
	}
	if q.once {
		return failed(flt, q.n), nil
	}
	if do == actWait {
		if t.rejectedForGood(f.options.Patience, endpoints) {
			return failed(flt, q.n), nil
		}
		if slices.ContainsFunc(endpoints, (*endpoint).busy) {
			return nil, nil // the server works on long generations
		}
		return nil, f.checkPatience(endpoints, q.role, t.first)
	}
	if flt.Code == openai.CodeTimeout {
		q.timeouts++
	}
	if f.countFailure(ctx, t, e, endpoints, q, calls); t.tries >= f.options.Tries {
		return failed(flt, q.n), nil
	}
	return nil, f.checkPatience(endpoints, q.role, t.first)
}

// loosen changes the form of a request: to a stream, from a stream, to half as many choices, or to
// max_completion_tokens. It returns false if no change is left.
func (e *endpoint) loosen(q *request, do action) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(q.role)
	switch {
	case do == actRename && !q.renamed:
		m.completionTokens = true
	case do == actRename:
		return false
	case do == actFail: // a streamed request failed for good
		m.stream = streamRefused
	case m.stream == streamNever:
		m.stream = streamAlways
	case m.stream == streamAlways && !q.streamed: // another request has changed it
	case do == actSplit && q.n > 1:
		q.n /= 2
		m.maxChoices, m.exact = min(m.maxChoices, q.n), true
	default:
		return false
	}
	q.loosened = true
	return true
}

// deny handles a denial. While another server of the role may answer, the denying server is paused.
// Otherwise the run stops with an error.
func (f *Fleet) deny(ctx context.Context, t *retryState, e *endpoint, q *request, flt *openai.Fault) ([]schemas.Generation, error) {
	stands := e.recordDenial(q.role, flt)
	t.recordFault()
	if !stands {
		if q.once {
			return failed(flt, q.n), nil
		}
		return nil, nil
	}
	all, err := f.endpointsOf(q.role)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(o *endpoint) bool { return !o.denies(q.role) }) {
		return nil, errors.New(f.denialSentence(ctx, e, q.role, flt))
	}
	f.counters.Warn(f.denialSentence(ctx, e, q.role, flt) + ". The run uses the other servers of the role instead")
	if q.once {
		return failed(flt, q.n), nil
	}
	return nil, nil
}

// maxFirstContact bounds the patience with servers that have never sent a byte to this process: a wrong
// name, port or certificate does not correct itself.
const maxFirstContact = 12 * time.Second

// checkPatience returns the error that stops the run if no endpoint of the role has answered within the
// run's patience. Since is the time of the caller's first fault.
func (f *Fleet) checkPatience(endpoints []*endpoint, r *stage.Role, since time.Time) error {
	all, err := f.endpointsOf(r)
	if err != nil {
		return err
	}
	limit := f.options.Patience
	heard := heardOf(all)
	if !heard {
		limit = min(limit, maxFirstContact)
	}
	waited := min(sinceSuccess(endpoints), time.Since(since))
	if waited <= limit {
		return nil
	}
	last := endpoints[0]
	for _, e := range endpoints {
		_, at := e.lastFault()
		if _, was := last.lastFault(); at.After(was) {
			last = e
		}
	}
	message, _ := last.lastFault()
	if !heard {
		return fmt.Errorf("no server of the %s could be reached within %s: %s: %s. %s; then run the same command again",
			r.Name, waited.Round(time.Second), last.name, message, contactAdvice(message))
	}
	return fmt.Errorf("no server of the %s has answered for %s, longer than client.patience allows; the last fault: %s: %s. Start the server, then run the same command again: answers so far are in the journal",
		r.Name, waited.Round(time.Second), last.name, message)
}

// contactAdvice says what to check when a server could not be reached.
func contactAdvice(message string) string {
	switch {
	case strings.Contains(message, "certificate signed by unknown authority"):
		return "Set worker.ca_file to the PEM file of the authority that signed its certificate"
	case strings.Contains(message, "x509: certificate"):
		return "Give a URL whose host the certificate names, and check its dates"
	case strings.Contains(message, "server gave HTTP response to HTTPS client"):
		return "Give the URL with http:// instead of https://"
	}
	return "Check the URL, and that the server runs and is ready"
}

// signInterval is the shortest time between two signs of life requested from an endpoint.
const signInterval = time.Second

// lives requests a few tokens from an endpoint, unless another request has just done so.
func (f *Fleet) lives(ctx context.Context, e *endpoint, r *stage.Role, calls *Tally) bool {
	e.mu.Lock()
	due := time.Since(e.health.signAskedAt) > signInterval
	if due {
		e.health.signAskedAt = time.Now()
	}
	e.mu.Unlock()
	if !due {
		return false
	}
	q := probeRequest(r, 1)
	if _, _, flt := f.send(ctx, e, &q, calls); flt != nil && flt.Kind != openai.NoChoice {
		return false
	}
	e.recordSuccess(r)
	return true
}

// failed returns the generations of a final failure.
func failed(flt *openai.Fault, n int) []schemas.Generation {
	code := cmp.Or(flt.Code, openai.CodeServerError)
	out := make([]schemas.Generation, n)
	for i := range out {
		out[i] = schemas.Generation{Code: code, Message: flt.Message}
	}
	return out
}

// denialSentence returns the message about a denial, with the remedy.
func (f *Fleet) denialSentence(ctx context.Context, e *endpoint, r *stage.Role, flt *openai.Fault) string {
	var advice string
	switch {
	case flt.Status == 401 && e.key == "":
		advice = "it requires an API key; name the environment variable with the key in api_key_env, or its file in api_key_file"
	case flt.Status == 401:
		advice = "it rejects the API key; name the environment variable with the key in api_key_env, or its file in api_key_file"
	case flt.Status == 402 || strings.Contains(strings.ToLower(flt.Message), "insufficient"):
		advice = "the account has no credit: check the account"
	case flt.Status == 403:
		advice = "the API key may not use it: check the key's rights to the model " + strconv.Quote(r.Model)
	case flt.Status == 404 || flt.Status == 405 || flt.Status == 400:
		advice = f.adviseOnPath(ctx, e, r)
	case flt.Status >= 300 && flt.Status < 400:
		advice = "it redirects: use the URL of the redirect"
	default:
		advice = "it denies all requests: check the URL and the account"
	}
	return fmt.Sprintf("%s refuses the %s: %s (its message: %s)", e.name, r.Name, advice, flt.Message)
}

// adviseOnPath finds out whether the model or the path is wrong, and names the available ones.
func (f *Fleet) adviseOnPath(ctx context.Context, e *endpoint, r *stage.Role) string {
	if models := e.listModels(ctx, e.urlOf(openai.ModelsPath)); len(models) > 0 {
		if slices.ContainsFunc(models, func(m openai.Model) bool { return m.ID == r.Model }) {
			return "it lists the model " + strconv.Quote(r.Model) + " but not under this path: check that it serves chat completions"
		}
		return "it has no model " + strconv.Quote(r.Model) + ". It serves " + quoteSome(models)
	}
	u := *e.base
	path := strings.TrimSuffix(u.Path, "/")
	for _, other := range []string{strings.TrimSuffix(path, openai.CompletionsPath), path + "/v1", strings.TrimSuffix(path, "/v1") + "/api/v1", "/v1"} {
		if other == path {
			continue
		}
		u.Path = other
		if models := e.listModels(ctx, e.urlAt(other+openai.ModelsPath)); len(models) > 0 {
			return "did you mean " + u.Redacted() + "? It serves " + quoteSome(models)
		}
	}
	return "it has no model " + strconv.Quote(r.Model) + ", or the URL is not the base that ends before /chat/completions (most end in /v1)"
}

// quoteSome names the first few models.
func quoteSome(models []openai.Model) string {
	const most = 5
	var names []string
	for _, m := range models[:min(len(models), most)] {
		names = append(names, strconv.Quote(m.ID))
	}
	if len(models) > most {
		names = append(names, fmt.Sprintf("and %d more", len(models)-most))
	}
	return strings.Join(names, ", ")
}
