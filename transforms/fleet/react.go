package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/outcomes"
	"coeval/transforms/fleet/policy"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
)

// resultOf describes an answer to the limiter.
func resultOf(flt *fault.Fault, generations []schemas.Generation) schedule.Result {
	if flt == nil {
		prompt, completion := openai.Usage(generations)
		return schedule.Result{Tokens: prompt + completion, Completion: completion}
	}
	if flt.Kind == fault.Denied && flt.RetryAfter > 0 { // a temporary denial: all requests would get it
		return schedule.Result{Outcome: schedule.Overloaded, RetryAfter: flt.RetryAfter, Denied: true}
	}
	return schedule.Result{Outcome: policy.Of(flt.Kind).Outcome, RetryAfter: flt.RetryAfter}
}

// retryState is the history of a request so far.
type retryState struct {
	policy.History

	// avoid are the endpoints at which it failed.
	avoid []*endpoint.Endpoint
}

// succeededSince reports whether any of the endpoints has answered a request since then.
func succeededSince(endpoints []*endpoint.Endpoint, then time.Time) bool {
	return slices.ContainsFunc(endpoints, func(e *endpoint.Endpoint) bool { return e.SucceededSince(then) })
}

// countFailure counts a failure, unless no server answers at all. If no other request shows that the
// server works, it sends a short test request. It reports whether a server answers.
func (f *Fleet) countFailure(ctx context.Context, t *retryState, e *endpoint.Endpoint, endpoints []*endpoint.Endpoint, q *request, calls *counters.Tally) (alive bool) {
	t.RecordFault(time.Now())
	alive = q.stage == stageProbe || succeededSince(endpoints, t.Last) || f.isAlive(ctx, e, q.role, calls)
	t.RecordFailure(time.Now(), alive)
	return alive
}

// handleFault reacts to a fault. It returns generations for a final failure, an error when the run
// stops, and neither when the request is to be sent again.
func (f *Fleet) handleFault(ctx context.Context, t *retryState, e *endpoint.Endpoint, endpoints []*endpoint.Endpoint, q *request, flt *fault.Fault, calls *counters.Tally) ([]schemas.Generation, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	do := policy.Of(flt.Kind).Action
	if do == policy.Fail && flt.Status == 403 && !f.outcomes.HasAnswer(q.role) {
		do = policy.Deny // before the first answer, a 403 is about the server and not about this prompt
	}
	if do == policy.Rename {
		if loosen(e, q, do) {
			return nil, nil
		}
		do = policy.Fail
	}
	switch do {
	case policy.StopOwn:
		return nil, cmp.Or(flt.Err, errors.New(flt.Message))
	case policy.Retry:
		if flt.Kind == fault.NoChoice && q.choiceless {
			return failed(&fault.Fault{Code: fault.CodeMalformed, Message: noChoiceYet}, q.n), nil
		}
	case policy.Deny:
		return f.deny(ctx, t, e, q, flt)
	case policy.Fail:
		if q.streamed && flt.Code == fault.CodeBadRequest && loosen(e, q, do) {
			return nil, nil
		}
		e.RecordSuccess(q.role) // the server works; only this call fails
		return f.fail(q, e, flt)
	case policy.Stream, policy.Split:
		if loosen(e, q, do) {
			return nil, nil
		}
	}
	if q.once {
		return failed(flt, q.n), nil
	}
	if do == policy.Wait {
		if t.RejectedForGood(time.Now(), succeededSince(endpoints, t.Last), f.options.Patience) {
			return failed(flt, q.n), nil
		}
		if slices.ContainsFunc(endpoints, (*endpoint.Endpoint).Busy) {
			return nil, nil // the server works on long generations
		}
		return nil, f.checkPatience(endpoints, q.role, t.First)
	}
	if flt.Code == fault.CodeTimeout {
		q.timeouts++
	}
	if f.countFailure(ctx, t, e, endpoints, q, calls) && t.Tries >= f.options.Tries {
		return f.fail(q, e, flt)
	}
	return nil, f.checkPatience(endpoints, q.role, t.First)
}

// fail returns the generations of a final failure, or the error that stops the run because all calls of the
// role fail. It returns neither if the request is to be sent again, because its servers may recover.
func (f *Fleet) fail(q *request, e *endpoint.Endpoint, flt *fault.Fault) ([]schemas.Generation, error) {
	if q.stage != stageProbe {
		if early, err := f.outcomes.RecordFailure(&outcomes.Failure{Role: q.role, PromptID: q.promptID, Server: e.Name, Fault: flt}, time.Now()); early || err != nil {
			return nil, err
		}
	}
	return failed(flt, q.n), nil
}

// loosen changes the form of a request: to a stream, from a stream, to half as many choices, or to
// max_completion_tokens. It returns false if no change is left.
func loosen(e *endpoint.Endpoint, q *request, do policy.Action) bool {
	switch {
	case do == policy.Rename && !q.renamed:
		e.UseCompletionTokens(q.role)
	case do == policy.Rename:
		return false
	case do == policy.Fail: // a streamed request failed for good
		e.RefuseStream(q.role)
	case e.UseStream(q.role, q.streamed):
	case do == policy.Split && q.n > 1:
		q.n /= 2
		e.LimitChoices(q.role, q.n)
	default:
		return false
	}
	q.loosened = true
	return true
}

// deny handles a denial. While another server of the role may answer, the denying server is paused.
// Otherwise the run stops with an error.
func (f *Fleet) deny(ctx context.Context, t *retryState, e *endpoint.Endpoint, q *request, flt *fault.Fault) ([]schemas.Generation, error) {
	stands := e.RecordDenial(q.role, flt)
	t.RecordFault(time.Now())
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
	if !slices.ContainsFunc(all, func(o *endpoint.Endpoint) bool { return !o.Denies(q.role) }) {
		return nil, errors.New(e.DenialSentence(ctx, q.role, flt))
	}
	f.counters.Warn(e.DenialSentence(ctx, q.role, flt) + ". The run uses the other servers of the role instead")
	if q.once {
		return failed(flt, q.n), nil
	}
	return nil, nil
}

// maxFirstContact is how long a run waits for servers that have never sent a byte, or only web pages.
// Waiting does not fix a wrong name, port, path or certificate. It is shorter than the dial timeout, so
// that the run dials an address that drops packets only once.
const maxFirstContact = 9 * time.Second

// checkPatience returns the error that stops the run if no endpoint of the role has answered within the
// run's patience, or within maxFirstContact if that is shorter and none has answered so far. Since is the time of the
// caller's first fault.
func (f *Fleet) checkPatience(endpoints []*endpoint.Endpoint, r *stage.Role, since time.Time) error {
	all, err := f.endpointsOf(r)
	if err != nil {
		return err
	}
	last := endpoints[0]
	for _, e := range endpoints {
		_, at := e.LastFault()
		if _, was := last.LastFault(); at.After(was) {
			last = e
		}
	}
	message, _ := last.LastFault()
	limit := f.options.Patience
	answered := endpoint.AnySent(all)
	foreign := answered && !f.outcomes.HasAnswer(r) && strings.HasPrefix(message, openai.NoJSON)
	if !answered || foreign {
		limit = min(limit, maxFirstContact)
	}
	f.counters.SetPatience(limit)
	waited := min(endpoint.SinceSuccess(endpoints), time.Since(since))
	if !answered {
		waited = endpoint.SinceSuccess(endpoints) // the first try counts too
	}
	if waited <= limit {
		return nil
	}
	if foreign {
		return fmt.Errorf("no server of the %s has sent a chat completion within %s: %s: %s. Check that the URL is the base of an OpenAI-compatible API (most end in /v1) and that no login page intercepts it; then run the same command again",
			r.Name, waited.Round(time.Second), last.Name, message)
	}
	if !answered {
		return fmt.Errorf("no server of the %s could be reached within %s: %s: %s. %s; then run the same command again",
			r.Name, waited.Round(time.Second), last.Name, message, endpoint.ContactAdvice(message))
	}
	return fmt.Errorf("no server of the %s has answered for %s, longer than client.patience allows; the last fault: %s: %s. Start the server, then run the same command again: answers so far are in the journal",
		r.Name, waited.Round(time.Second), last.Name, message)
}

// isAlive requests a few tokens from an endpoint, unless another request has just done so.
func (f *Fleet) isAlive(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, calls *counters.Tally) bool {
	if !e.AliveCheckDue() {
		return false
	}
	q := probeRequest(r, 1)
	if _, _, flt := f.send(ctx, e, &q, calls); flt != nil && flt.Kind != fault.NoChoice {
		return false
	}
	e.RecordSuccess(r)
	return true
}

// failed returns the generations of a final failure.
func failed(flt *fault.Fault, n int) []schemas.Generation {
	code := cmp.Or(flt.Code, fault.CodeServerError)
	out := make([]schemas.Generation, n)
	for i := range out {
		out[i] = schemas.Generation{Code: code, Message: flt.Message}
	}
	return out
}
