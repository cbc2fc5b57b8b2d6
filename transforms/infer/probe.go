package infer

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"coeval/schemas"
)

// stageProbe is how the counts name the requests of a probe.
const stageProbe = "probe"

const (
	// probeTokens is enough for a server to start a choice; what it says does not matter.
	probeTokens = 4
	// probeMessages is how many messages a probe tries of which a server refuses even one choice.
	probeMessages = 3
)

// batching is how many choices of a model a server was seen to give in one request.
type batching struct {
	most int
	// exact says that more were refused.
	exact bool
}

// batch returns the largest n, up to the given, that all the endpoints take of the role's model.
func (f *fleet) batch(ctx context.Context, endpoints []*endpoint, r *Role, n int, calls *callCounts) (int, error) {
	for _, e := range endpoints {
		m, err := f.meet(ctx, e, r, n, calls)
		if err != nil {
			return 0, err
		}
		n = min(n, m)
	}
	return n, nil
}

// meet finds out, before a role's first call of an endpoint, what model is there, and how many
// choices it gives in a request: llama.cpp as many as it has slots, some gateways refuse n,
// others ignore it and send one choice with a 200.
func (f *fleet) meet(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts) (int, error) {
	if m, ok := e.met(r, n); ok {
		return m, nil
	}
	select { // one at a time, and the others wait for what it finds
	case e.probing <- struct{}{}:
		defer func() { <-e.probing }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if m, ok := e.met(r, n); ok {
		return m, nil
	}
	if err := f.identify(ctx, e, r); err != nil {
		return 0, err
	}
	m := 1
	if n > 1 {
		var err error
		if m, err = f.probe(ctx, e, r, n, calls); err != nil {
			return 0, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.identified[r.Identity()] = true
	if n > 1 {
		e.batching[r.Model] = batching{most: m, exact: m < n}
	}
	return m, nil
}

func (e *endpoint) met(r *Role, n int) (int, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.batching[r.Model]
	return min(max(b.most, 1), n), e.identified[r.Identity()] && (n == 1 || b.exact || b.most >= n)
}

// probe asks for n short choices, then for half as many, until the server gives them all. Where
// it refuses even one choice of a message, or fails at it, that says nothing about n: another
// message is tried. The patience of the run bounds how long a server may fail at all of them.
func (f *fleet) probe(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts) (int, error) {
	for refused := 0; refused < probeMessages; {
		m, code, err := f.probeOnce(ctx, e, r, n, calls)
		if err != nil || code == "" {
			return m, err
		}
		if code == CodeBadRequest {
			refused++
		}
	}
	return 1, nil
}

// probeOnce probes with one message. A code says that the server gave not even one choice.
func (f *fleet) probeOnce(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts) (most int, code string, err error) {
	short := *r
	short.MaxTokens, short.Stop = probeTokens, nil
	// The text is another one each time, so that none is asked for twice.
	messages := []schemas.Message{{Role: "user", Content: "Say OK. " + uuid.NewString()}}
	for m := n; m >= 1; m /= 2 {
		q := request{role: &short, stage: stageProbe, promptID: messages[0].Content, n: m, messages: func() []schemas.Message { return messages }}
		generations, has, err := f.ask(ctx, []*endpoint{e}, nil, q, calls)
		if err != nil {
			return 0, "", err
		}
		code = generations[0].Code
		if code == "" && !slices.Contains(has, false) {
			return m, "", nil
		}
		if code != "" && code != CodeBadRequest {
			return 0, code, nil
		}
	}
	return 0, code, nil
}
