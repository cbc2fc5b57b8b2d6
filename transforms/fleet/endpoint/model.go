package endpoint

import (
	"time"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/openai/logprobs"
	"coeval/transforms/stage"
)

// modelState is the process's view of one model at an endpoint.
type modelState struct {
	// identified is true after the server's model list was read.
	identified bool
	// maxChoices is the largest number of choices for one request so far. exact is true if the
	// server refused more.
	maxChoices int
	exact      bool
	// constraints are the working constraints by role. A server may accept a constraint for one role
	// and refuse it for another.
	constraints map[string]*openai.Constraint
	// reads are the working forms of reads by role.
	reads map[string]*logprobs.Form
	// secondsPerToken is the smoothed time of an answer for each token of a choice.
	secondsPerToken float64
	// secondsPerRead is the smoothed time of a read, most of which is its prompt's and the queue's.
	secondsPerRead float64
	// stream decides whether requests are sent as streams.
	stream streaming
	// completionTokens is true after the server has asked for max_completion_tokens instead of max_tokens.
	completionTokens bool
	// prompts shows whether the server cuts them.
	prompts PromptSizes
	// everSucceeded is true after an answer. denials is the number since the last success, denial
	// the last of them, and deniedSince the time of the first.
	everSucceeded bool
	denials       int
	denial        *fault.Fault
	deniedSince   time.Time
	// discoveryPausedUntil is the end of the pause in discovery after a denial or no answer.
	discoveryPausedUntil time.Time
}

// model returns the state of the role's model. The caller has e.mu.
func (e *Endpoint) model(r *stage.Role) *modelState {
	m := e.models[r.Identity()]
	if m == nil {
		m = &modelState{constraints: map[string]*openai.Constraint{}, reads: map[string]*logprobs.Form{}}
		e.models[r.Identity()] = m
	}
	return m
}

// ConstraintOf returns the request fields that enforce the role's verdict or ask for its read, empty if it
// has none.
func (e *Endpoint) ConstraintOf(r *stage.Role) string {
	if r.Verdict == nil && r.Read == nil {
		return ""
	}
	e.mu.Lock()
	by, form := e.model(r).constraints[r.Name], e.model(r).reads[r.Name]
	e.mu.Unlock()
	if r.Read != nil {
		if form == nil {
			return "" // for a probe
		}
		return form.Fields()
	}
	if by == nil {
		return "" // for a probe
	}
	return by.Fields(r.Verdict, r.MaxReasoning())
}

// Enforces reports whether the endpoint is known to enforce the role's verdict or to answer its reads, or
// the role has neither.
func (e *Endpoint) Enforces(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.enforcesLocked(r)
}

func (e *Endpoint) enforcesLocked(r *stage.Role) bool {
	if r.Read != nil {
		return e.model(r).reads[r.Name] != nil
	}
	return r.Verdict == nil || e.model(r).constraints[r.Name] != nil
}

// SendsCompletionTokens reports whether requests bound the text with max_completion_tokens.
func (e *Endpoint) SendsCompletionTokens(r *stage.Role) bool {
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

// Streams reports whether requests of the role are sent as streams.
func (e *Endpoint) Streams(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).stream == streamAlways
}

// Known returns how many choices, up to n, the endpoint returns for a request of the role, and whether
// discovery has found that out.
func (e *Endpoint) Known(r *stage.Role, n int) (int, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	return min(max(m.maxChoices, 1), n), e.enforcesLocked(r) && m.identified && (n == 1 || m.exact || m.maxChoices >= n)
}

// SetChoices records, after a discovery for n choices, that the server returns at most m of them for one
// request of the role.
func (e *Endpoint) SetChoices(r *stage.Role, n, m int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.model(r)
	state.identified = true
	if n > 1 {
		state.maxChoices, state.exact = m, m < n
	}
}

// LimitChoices records that a request of more than n choices takes too long.
func (e *Endpoint) LimitChoices(r *stage.Role, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	m.maxChoices, m.exact = min(m.maxChoices, n), true
}

// SetConstraint records how the server enforces the role's verdict.
func (e *Endpoint) SetConstraint(r *stage.Role, by *openai.Constraint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.model(r).constraints[r.Name] = by
}

// ReadOf returns the form of the role's reads at the server, nil for a role without them and before SetRead.
func (e *Endpoint) ReadOf(r *stage.Role) *logprobs.Form {
	if r.Read == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).reads[r.Name]
}

// SetRead records the form of the role's reads at the server.
func (e *Endpoint) SetRead(r *stage.Role, form logprobs.Form) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.model(r).reads[r.Name] = &form
}

// UseCompletionTokens makes requests for the role's model bound the text with max_completion_tokens from now on.
func (e *Endpoint) UseCompletionTokens(r *stage.Role) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.model(r).completionTokens = true
}

// UseStream makes requests streams from now on. It returns false if that changes nothing for a request
// that was, or was not, a stream.
func (e *Endpoint) UseStream(r *stage.Role, streamed bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	if m.stream == streamNever {
		m.stream = streamAlways
		return true
	}
	return m.stream == streamAlways && !streamed // another request has changed it
}

// RefuseStream records that the server refuses streams.
func (e *Endpoint) RefuseStream(r *stage.Role) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.model(r).stream = streamRefused
}
