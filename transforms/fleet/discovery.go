package fleet

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

// stageProbe is the stage under which probes are counted.
const stageProbe = "probe"

const (
	// probeTokens is enough for a server to start a choice, whose text does not matter. A model that
	// thinks may give no choice of so few: then moreProbeTokens are tried.
	probeTokens     = 4
	moreProbeTokens = 512
	// probeMessages is how many messages are tried if a server refuses even one choice of each.
	probeMessages = 3
	// trapTokens are enough for the trap in any form, thoughtTokens for thoughts before it.
	trapTokens    = 32
	thoughtTokens = 2048
	// listTimeout is short: a run goes on without a server's model list.
	listTimeout = 5 * time.Second
	// discoverInterval is how often the endpoints are looked at while none is known.
	discoverInterval = 10 * time.Millisecond
	// discoverGrace is how long known endpoints wait for one that is being discovered.
	discoverGrace = 300 * time.Millisecond
)

// noChoiceYet is the message of a probe that was answered without any choice.
const noChoiceYet = "an answer without a choice"

// VerifyConstraints finds out, before anything else is asked, that each of these roles has a server
// that enforces its verdict. Otherwise everything that the actor writes until the judge's first
// call would be paid for in vain.
func (f *Fleet) VerifyConstraints(ctx context.Context, roles []stage.Role, calls *Tally) error {
	if len(roles) == 0 {
		return nil
	}
	select {
	case f.verifying <- struct{}{}: // one at a time, and the others wait
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.verifying }()
	if f.verified {
		return nil
	}
	for i := range roles {
		endpoints, err := f.endpointsOf(&roles[i])
		if err != nil {
			return err
		}
		if _, _, err := f.discover(ctx, endpoints, &roles[i], 1, calls); err != nil {
			return err
		}
	}
	f.verified = true
	return nil
}

// discover returns the endpoints of a role that answer, and the largest number of choices, up to n,
// that all of them give in one request. With several endpoints, the first that answer are enough:
// the others are discovered meanwhile, and one that does not answer is left alone for a while. If none
// does, the run's patience decides how long that may be.
func (f *Fleet) discover(ctx context.Context, endpoints []*endpoint, r *stage.Role, n int, calls *Tally) ([]*endpoint, int, error) {
	if len(endpoints) == 1 {
		m, err := f.discoverOnly(ctx, endpoints[0], r, n, calls)
		return endpoints, m, err
	}
	for began := time.Now(); ; {
		usable := make([]*endpoint, 0, len(endpoints))
		most, coming := n, false
		for _, e := range endpoints {
			if m, ok := e.known(r, n); ok {
				usable, most = append(usable, e), min(most, m)
				continue
			}
			f.discoverSoon(e, r, n)
			coming = coming || e.expected()
		}
		if err := f.fatalErr(); err != nil {
			return nil, 0, err
		}
		if len(usable) > 0 && !coming {
			return usable, most, nil
		}
		if err := f.checkPatience(endpoints, r, began); err != nil {
			return nil, 0, err
		}
		if !sleep(ctx, discoverInterval) {
			return nil, 0, ctx.Err()
		}
	}
}

// widened returns the endpoints of a request, and with them those of its role that were discovered
// since and take it, in the role's order. The others are discovered meanwhile: a request must not
// wait for ever for the only endpoint that answered when it began.
func (f *Fleet) widened(endpoints []*endpoint, q *request) []*endpoint {
	all, err := f.endpointsOf(q.role)
	if err != nil || len(all) == len(endpoints) {
		return endpoints
	}
	out := make([]*endpoint, 0, len(all))
	for _, e := range all {
		n, ok := e.known(q.role, q.n)
		if slices.Contains(endpoints, e) || ok && n >= q.n {
			out = append(out, e)
		} else if !ok {
			f.discoverSoon(e, q.role, q.n)
		}
	}
	return out
}

// discoverSoon starts a discovery on a goroutine of the fleet, unless one is under way or the
// endpoint is to be left alone.
func (f *Fleet) discoverSoon(e *endpoint, r *stage.Role, n int) {
	if e.leftAlone(r) {
		return
	}
	select {
	case e.discovering <- struct{}{}:
	default:
		return
	}
	e.mu.Lock()
	e.health.discoverySince = time.Now()
	e.mu.Unlock()
	over := func() {
		e.mu.Lock()
		e.health.discoverySince = time.Time{}
		e.mu.Unlock()
		<-e.discovering
	}
	started := f.start(func() {
		defer over()
		if _, ok := e.known(r, n); ok {
			return
		}
		if _, err := f.discoverNow(f.ctx, e, r, n, &f.own, true); err != nil {
			f.setFatal(f.ctx, err)
		}
	})
	if !started {
		over()
	}
}

// expected reports whether a discovery is under way that may soon be over.
func (e *endpoint) expected() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.health.discoverySince.IsZero() && time.Since(e.health.discoverySince) < discoverGrace
}

// known reports how many choices, up to n, the endpoint gives in a request of the role, and whether
// that is known.
func (e *endpoint) known(r *stage.Role, n int) (int, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	return min(max(m.maxChoices, 1), n), e.enforcesLocked(r) && m.identified && (n == 1 || m.exact || m.maxChoices >= n)
}

// discoverOnly discovers the only endpoint of a role.
func (f *Fleet) discoverOnly(ctx context.Context, e *endpoint, r *stage.Role, n int, calls *Tally) (int, error) {
	if m, ok := e.known(r, n); ok {
		return m, nil
	}
	select {
	case e.discovering <- struct{}{}: // one at a time
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-e.discovering }()
	if m, ok := e.known(r, n); ok {
		return m, nil
	}
	if err := f.fatalErr(); err != nil {
		return 0, err
	}
	m, err := f.discoverNow(ctx, e, r, n, calls, false)
	if err != nil {
		f.setFatal(ctx, err)
	}
	return m, err
}

// discoverNow finds out which model the endpoint serves, how many choices it gives in a request, and
// how it enforces the role's verdict. The caller has the token of e.discovering. If there are others
// to ask, it returns 0 when the endpoint does not answer.
func (f *Fleet) discoverNow(ctx context.Context, e *endpoint, r *stage.Role, n int, calls *Tally, others bool) (int, error) {
	if err := f.identify(ctx, e, r); err != nil {
		return 0, err
	}
	m, err := f.probe(ctx, e, r, n, calls, others)
	if err != nil {
		return 0, err
	}
	if m > 0 && !e.enforces(r) {
		began := time.Now()
		answers, err := f.findConstraint(ctx, e, r, calls, others)
		for err == nil && !answers && !others {
			if err = f.checkPatience([]*endpoint{e}, r, began); err == nil {
				answers, err = f.findConstraint(ctx, e, r, calls, others)
			}
		}
		if err != nil {
			return 0, err
		}
		if !answers {
			m = 0
		}
	}
	f.startObserving(e, r)
	if m == 0 {
		e.leaveAlone(r, silencePause)
		return 0, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.model(r)
	state.identified = true
	if n > 1 {
		state.maxChoices, state.exact = m, m < n
	}
	return m, nil
}

// identify looks a role's model up in the server's list, and passes it on. A server without a list is
// as good.
func (f *Fleet) identify(ctx context.Context, e *endpoint, r *stage.Role) error {
	if f.options.RecordModel == nil {
		return nil
	}
	a, err := e.get(ctx, e.urlOf(openai.ModelsPath), minBody, listTimeout)
	if err != nil {
		return ctx.Err()
	}
	if a.header.Get("Server") == openai.SimulatedOwner { // it serves any name
		return f.recordModel(ctx, e, r, openai.Model{ID: r.Model, OwnedBy: openai.SimulatedOwner})
	}
	if a.status != http.StatusOK {
		return nil
	}
	for _, m := range openai.ReadModels(a.body) {
		if m.ID == r.Model {
			return f.recordModel(ctx, e, r, m)
		}
	}
	return nil
}

func (f *Fleet) recordModel(ctx context.Context, e *endpoint, r *stage.Role, m openai.Model) error {
	e.simulated.Store(m.Simulated())
	warning, err := f.options.RecordModel(ctx, e.name, r, m)
	if warning != "" {
		f.counters.Warn(warning)
	}
	return err
}

// listModels returns the models at a URL, nil if there is no list.
func (e *endpoint) listModels(ctx context.Context, url string) []openai.Model {
	a, err := e.get(ctx, url, minBody, listTimeout)
	if err != nil || a.status != http.StatusOK {
		return nil
	}
	return openai.ReadModels(a.body)
}

// probe asks for n short choices, then for half as many, until the server gives them all: llama.cpp
// gives as many as it has slots, some gateways refuse n, and others ignore it with a 200. A server
// that refuses even one choice of a message, or fails at it, says nothing about n: another message is
// tried. The patience of the run bounds how long a server may fail at all of them. If there are others
// to ask it may fail at one, and probe returns 0. One choice needs no probe unless there are others.
func (f *Fleet) probe(ctx context.Context, e *endpoint, r *stage.Role, n int, calls *Tally, others bool) (int, error) {
	if n == 1 && !others {
		return 1, nil
	}
	began := time.Now()
	var said string
	for refused := 0; refused < probeMessages; {
		m, failure, err := f.probeOnce(ctx, e, r, n, calls, others)
		if err != nil || failure.Code == "" {
			return m, err
		}
		switch failure.Code {
		case openai.CodeBadRequest, openai.CodeContextLength, openai.CodeTooLarge:
			refused++
			said = failure.Message
		default:
			if others {
				return 0, nil
			}
			if err := f.checkPatience([]*endpoint{e}, r, began); err != nil {
				return 0, err
			}
		}
	}
	f.counters.Warn(fmt.Sprintf("%s refuses even short requests for several choices of %s, so each choice is asked for by itself, which costs more prompt tokens. It said: %s",
		e.name, r.Model, said))
	return 1, nil
}

// probeOnce probes once with each n. The failure has a code if the server gave not even one choice.
func (f *Fleet) probeOnce(ctx context.Context, e *endpoint, r *stage.Role, n int, calls *Tally, others bool) (most int, failure schemas.Generation, err error) {
	for ; n >= 1; n /= 2 {
		for _, tokens := range []int{probeTokens, moreProbeTokens} {
			q := probeRequest(r, n)
			q.role.MaxTokens, q.once, q.choiceless = tokens, others, true
			generations, has, err := f.ask(ctx, []*endpoint{e}, nil, q, calls)
			if err != nil {
				return 0, failure, err
			}
			f.counters.delivered()
			if failure = generations[0]; failure.Code == "" && !slices.Contains(has, false) {
				return n, schemas.Generation{}, nil
			}
			if failure.Message != noChoiceYet {
				break
			}
		}
		if failure.Message == noChoiceYet {
			return n, schemas.Generation{}, nil // it lives, and thinks longer than a probe may
		}
		if failure.Code == openai.CodeConnection || failure.Code == openai.CodeTimeout {
			break // n is not what keeps it from answering
		}
	}
	return 0, failure, nil
}

// probeRequest asks for n choices of a few tokens. Each has another text, so that no cache answers.
func probeRequest(r *stage.Role, n int) request {
	short := *r
	short.MaxTokens, short.Stop, short.Verdict = probeTokens, nil, nil
	messages := []schemas.Message{{Role: "user", Content: "Say OK. " + uuid.NewString()}}
	return request{
		role: &short, stage: stageProbe, promptID: messages[0].Content, n: n,
		messages: func() []schemas.Message { return messages },
	}
}

// findConstraint finds out how the endpoint enforces the role's verdict. It returns false if the
// endpoint does not answer. Each way is tried with the trap and then with the verdict itself. A
// server that enforces nothing stops the run: its texts would pass for enforced ones.
func (f *Fleet) findConstraint(ctx context.Context, e *endpoint, r *stage.Role, calls *Tally, others bool) (bool, error) {
	for _, by := range openai.Constraints() {
		trap := by.Fields(&openai.Trap, 0)
		g, err := f.askConstrained(ctx, e, r, trap, trapTokens, calls, others)
		if err == nil && g.Code == "" && strings.TrimSpace(g.Text) == "" { // a model that thinks first
			g, err = f.askConstrained(ctx, e, r, trap, max(thoughtTokens, r.MaxTokens), calls, others)
		}
		if err != nil {
			return false, err
		}
		if g.Code == "" && openai.Trapped(g.Text) {
			if g, err = f.askConstrained(ctx, e, r, by.Fields(r.Verdict, r.MaxReasoning()), probeTokens, calls, others); err != nil {
				return false, err
			}
			if g.Code == "" {
				e.mu.Lock()
				e.model(r).constraints[r.Name] = &by
				e.mu.Unlock()
				return true, nil
			}
		}
		switch g.Code {
		case "", openai.CodeBadRequest, openai.CodeContextLength, openai.CodeContentFilter, openai.CodeTooLarge: // it has answered
		default:
			return false, nil
		}
	}
	return false, fmt.Errorf("%s constrains no output of %s, and verdicts are to be enforced: %s were refused or had no effect. Set verdicts: free, or serve the model with structured outputs",
		e.name, r.Model, strings.Join(openai.ConstraintFields(), ", "))
}

func (f *Fleet) askConstrained(ctx context.Context, e *endpoint, r *stage.Role, fields string, tokens int, calls *Tally, others bool) (schemas.Generation, error) {
	q := probeRequest(r, 1)
	q.role.MaxTokens, q.constraint, q.once = tokens, fields, others
	generations, _, err := f.ask(ctx, []*endpoint{e}, nil, q, calls)
	if err != nil {
		return schemas.Generation{}, err
	}
	f.counters.delivered()
	return generations[0], nil
}
