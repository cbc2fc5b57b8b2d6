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
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/reads"
	"coeval/transforms/stage"
)

// stageProbe is the stage under which tallies count probes.
const stageProbe = "probe"

const (
	// probeTokens is enough for a server to begin a choice. The text does not matter. A model may
	// spend them all on reasoning and return no choice: then probe uses moreProbeTokens.
	probeTokens     = 4
	moreProbeTokens = 512
	// probeMessages is the number of messages to try when a server refuses even one choice.
	probeMessages = 3
	// trapTokens are enough for the trap in any form, reasoningTokens for reasoning before it.
	trapTokens      = 32
	reasoningTokens = 2048
	// maxModelList bounds a list of models, in bytes.
	maxModelList = 1 << 20
	// discoverInterval is the time between two checks while no endpoint is known.
	discoverInterval = 10 * time.Millisecond
)

// noChoiceYet is the message of a probe whose answer had no choice.
const noChoiceYet = "an answer without a choice"

// VerifyConstraints checks, before all other requests, that each of these roles has a server that
// enforces its verdict, or answers its reads. Otherwise the run would stop at the judge's first call, after paying for all
// of the actor's texts.
func (f *Fleet) VerifyConstraints(ctx context.Context, roles []stage.Role, calls *counters.Tally) error {
	if len(roles) == 0 {
		return nil
	}
	select {
	case f.verifying <- struct{}{}: // one at a time
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

// discover returns the answering endpoints of a role, and the largest number of choices, up to n, that
// all of them return for one request. Of several endpoints it returns the first that answer. Discovery
// of the others continues in the background, and pauses for an endpoint that does not answer. If none
// answers, discover waits for the time that checkPatience allows.
func (f *Fleet) discover(ctx context.Context, endpoints []*endpoint.Endpoint, r *stage.Role, n int, calls *counters.Tally) ([]*endpoint.Endpoint, int, error) {
	if len(endpoints) == 1 {
		m, err := f.discoverOnly(ctx, endpoints[0], r, n, calls)
		return endpoints, m, err
	}
	for began := time.Now(); ; {
		usable := make([]*endpoint.Endpoint, 0, len(endpoints))
		choices, coming := n, false
		for _, e := range endpoints {
			if m, ok := e.Known(r, n); ok {
				usable, choices = append(usable, e), min(choices, m)
				continue
			}
			f.discoverSoon(e, r, n)
			coming = coming || e.Expected()
		}
		if err := f.fatalErr(); err != nil {
			return nil, 0, err
		}
		if len(usable) > 0 && !coming {
			return usable, choices, nil
		}
		if err := f.checkPatience(endpoints, r, began); err != nil {
			return nil, 0, err
		}
		if !sleep(ctx, discoverInterval) {
			return nil, 0, ctx.Err()
		}
	}
}

// widened adds to the endpoints of a request the endpoints of its role that were discovered since and
// accept it, in the role's order. It also starts discovery of the other endpoints. Otherwise a request
// would wait forever for the one endpoint that answered when it started.
func (f *Fleet) widened(endpoints []*endpoint.Endpoint, q *request) []*endpoint.Endpoint {
	all, err := f.endpointsOf(q.role)
	if err != nil || len(all) == len(endpoints) {
		return endpoints
	}
	out := make([]*endpoint.Endpoint, 0, len(all))
	for _, e := range all {
		n, ok := e.Known(q.role, q.n)
		if slices.Contains(endpoints, e) || ok && n >= q.n {
			out = append(out, e)
		} else if !ok {
			f.discoverSoon(e, q.role, q.n)
		}
	}
	return out
}

// discoverSoon starts discovery on a goroutine of the fleet, unless discovery is in progress or paused
// for this endpoint.
func (f *Fleet) discoverSoon(e *endpoint.Endpoint, r *stage.Role, n int) {
	if e.DiscoveryPaused(r) {
		return
	}
	if !e.TryBeginDiscovery() {
		return
	}
	started := f.start(func() {
		defer e.EndDiscovery()
		if _, ok := e.Known(r, n); ok {
			return
		}
		if _, err := f.discoverNow(f.ctx, e, r, n, f.own, true); err != nil {
			f.setFatal(f.ctx, err)
		}
	})
	if !started {
		e.EndDiscovery()
	}
}

// discoverOnly discovers the only endpoint of a role.
func (f *Fleet) discoverOnly(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, n int, calls *counters.Tally) (int, error) {
	if m, ok := e.Known(r, n); ok {
		return m, nil
	}
	if err := e.BeginDiscovery(ctx); err != nil {
		return 0, err
	}
	defer e.EndDiscovery()
	if m, ok := e.Known(r, n); ok {
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

// discoverNow finds out which model the endpoint serves and how many choices it returns for a request.
// It also finds out how the endpoint enforces the role's verdict or answers its reads. The caller has
// begun a discovery of e. With others true, other endpoints can serve the role: it then returns 0 if
// this endpoint does not answer.
func (f *Fleet) discoverNow(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, n int, calls *counters.Tally, others bool) (int, error) {
	if err := f.identify(ctx, e, r); err != nil {
		return 0, err
	}
	m, err := f.probe(ctx, e, r, n, calls, others)
	if err != nil {
		return 0, err
	}
	if m > 0 && !e.Enforces(r) {
		began := time.Now()
		find := f.findConstraint
		if r.Read != nil {
			find = f.findRead
		}
		answers, err := find(ctx, e, r, calls, others)
		for err == nil && !answers && !others {
			if err = f.checkPatience([]*endpoint.Endpoint{e}, r, began); err == nil {
				answers, err = find(ctx, e, r, calls, others)
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
		e.PauseDiscovery(r, endpoint.SilencePause)
		return 0, nil
	}
	e.SetChoices(r, n, m)
	return m, nil
}

// identify looks up a role's model in the server's list, and reports it to RecordModel. It accepts a
// server without a list.
func (f *Fleet) identify(ctx context.Context, e *endpoint.Endpoint, r *stage.Role) error {
	if f.options.RecordModel == nil {
		return nil
	}
	a, err := e.Get(ctx, e.URLOf(openai.ModelsPath), maxModelList, endpoint.ListTimeout)
	if err != nil {
		return ctx.Err()
	}
	if a.Status < http.StatusInternalServerError { // else the server, or the backend behind a gateway, is not ready
		e.Listed.Store(true)
	}
	if a.Header.Get("Server") == openai.SimulatedOwner { // it serves every name
		return f.recordModel(ctx, e, r, openai.Model{ID: r.Model, OwnedBy: openai.SimulatedOwner})
	}
	if a.Status != http.StatusOK {
		return nil
	}
	for _, m := range openai.ReadModels(a.Body) {
		if m.OwnedBy == openai.SGLangOwner {
			e.SGLang.Store(true)
		}
		if m.ID == r.Model {
			return f.recordModel(ctx, e, r, m)
		}
	}
	return nil
}

func (f *Fleet) recordModel(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, m openai.Model) error {
	e.Simulated.Store(m.Simulated())
	warning, err := f.options.RecordModel(ctx, e.Name, r, m)
	if warning != "" {
		f.counters.Warn(warning)
	}
	return err
}

// probe asks for n short choices, then for half as many, until the server returns all of them.
// llama.cpp returns as many as it has slots, some gateways refuse n, and others ignore n with a 200.
// When a server refuses or fails at even one choice, the cause is not n, and probe tries another
// message. A server may fail at all of them for as long as checkPatience allows. With others true, other
// endpoints can serve the role: probe then returns 0 at the first failure. For one choice it sends no
// probe unless others is true.
func (f *Fleet) probe(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, n int, calls *counters.Tally, others bool) (int, error) {
	if n == 1 && !others {
		return 1, nil
	}
	began := time.Now()
	var refusal string
	for refused := 0; refused < probeMessages; {
		m, failure, err := f.probeOnce(ctx, e, r, n, calls, others)
		if err != nil || failure.Code == "" {
			return m, err
		}
		switch failure.Code {
		case fault.CodeBadRequest, fault.CodeContentFilter, fault.CodeContextLength, fault.CodeTooLarge:
			refused++
			refusal = failure.Message
		default:
			if others {
				return 0, nil
			}
			if err := f.checkPatience([]*endpoint.Endpoint{e}, r, began); err != nil {
				return 0, err
			}
		}
	}
	if field := fault.RefusedField(refusal); field != "" {
		f.counters.Warn(fmt.Sprintf("%s refuses %s: set %s to null, which leaves it out, and run again with --retry-failed. The server's message: %s", e.Name, field, samplingKey(r, field), refusal))
		return 1, nil
	}
	f.counters.Warn(fmt.Sprintf("%s refuses even short requests for several choices of %s, so the run requests each choice separately, which costs more prompt tokens. The server's message: %s",
		e.Name, r.Model, refusal))
	return 1, nil
}

// samplingKey returns the config key of a role's sampling field. All roles share the seed.
func samplingKey(r *stage.Role, field string) string {
	if field == "seed" {
		return field
	}
	return strings.ReplaceAll(r.Name, "-", "_") + "." + field
}

// probeOnce probes once with each n. The failure has a code if the server returned no choice at all.
func (f *Fleet) probeOnce(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, n int, calls *counters.Tally, others bool) (choices int, failure schemas.Generation, err error) {
	for ; n >= 1; n /= 2 {
		for _, tokens := range []int{probeTokens, moreProbeTokens} {
			if fault.RefusesBound(failure.Message) && r.MaxTokens > 0 {
				tokens = r.MaxTokens // extra_body has min_tokens, or a budget for reasoning
			}
			q := probeRequest(r, n)
			q.role.MaxTokens, q.once, q.choiceless = tokens, others, true
			generations, has, err := f.ask(ctx, []*endpoint.Endpoint{e}, nil, q, calls)
			if err != nil {
				return 0, failure, err
			}
			f.counters.Delivered()
			if failure = generations[0]; failure.Code == "" && !slices.Contains(has, false) {
				return n, schemas.Generation{}, nil
			}
			if failure.Message != noChoiceYet && !fault.RefusesBound(failure.Message) {
				break
			}
		}
		if failure.Message == noChoiceYet {
			return n, schemas.Generation{}, nil // it works, and its reasoning may take longer than a probe
		}
		if failure.Code == fault.CodeConnection || failure.Code == fault.CodeTimeout {
			break // n is not the cause
		}
	}
	return 0, failure, nil
}

// probeRequest asks for n choices of a few tokens. Its text is unique, so that no cache answers it.
func probeRequest(r *stage.Role, n int) request {
	short := *r
	short.MaxTokens, short.Stop, short.Verdict, short.Read = probeTokens, nil, nil, nil
	messages := []schemas.Message{{Role: "user", Content: "Say OK. " + uuid.NewString()}}
	return request{
		role: &short, stage: stageProbe, promptID: messages[0].Content, n: n,
		messages: func() []schemas.Message { return messages },
	}
}

// findConstraint finds the request field with which the endpoint enforces the role's verdict. It tries
// each field first with the trap and then with the verdict itself. It returns false if the endpoint does
// not answer, and an error, which stops the run, if no field works.
func (f *Fleet) findConstraint(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, calls *counters.Tally, others bool) (bool, error) {
	for _, by := range openai.Constraints() {
		trap := by.Fields(&openai.Trap, 0)
		g, err := f.askConstrained(ctx, e, r, trap, trapTokens, calls, others)
		if err == nil && g.Code == "" && strings.TrimSpace(g.Text) == "" { // the model reasons first
			g, err = f.askConstrained(ctx, e, r, trap, max(reasoningTokens, r.MaxTokens), calls, others)
		}
		if err != nil {
			return false, err
		}
		if g.Code == "" && openai.Trapped(g.Text) {
			if g, err = f.askConstrained(ctx, e, r, by.Fields(r.Verdict, r.MaxReasoning()), probeTokens, calls, others); err != nil {
				return false, err
			}
			if g.Code == "" {
				e.SetConstraint(r, &by)
				return true, nil
			}
		}
		if !isAnswer(&g) {
			return false, nil
		}
	}
	return false, fmt.Errorf("%s cannot enforce verdicts of %s: it refused or ignored %s. Set verdicts: free, or serve the model with structured outputs",
		e.Name, r.Model, strings.Join(openai.ConstraintFields(), ", "))
}

func (f *Fleet) askConstrained(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, fields string, tokens int, calls *counters.Tally, others bool) (schemas.Generation, error) {
	q := probeRequest(r, 1)
	q.role.MaxTokens, q.constraint, q.once = tokens, fields, others
	return f.askProbe(ctx, e, q, calls)
}

// askProbe sends a probe of one choice.
func (f *Fleet) askProbe(ctx context.Context, e *endpoint.Endpoint, q request, calls *counters.Tally) (schemas.Generation, error) {
	generations, _, err := f.ask(ctx, []*endpoint.Endpoint{e}, nil, q, calls)
	if err != nil {
		return schemas.Generation{}, err
	}
	f.counters.Delivered()
	return generations[0], nil
}

// findRead finds the form in which the endpoint answers the role's reads. It returns false if the endpoint
// does not answer, and an error, which stops the run, if no form works.
func (f *Fleet) findRead(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, calls *counters.Tally, others bool) (bool, error) {
	p := reads.Probe{Endpoint: e, Role: r, Ask: func(ctx context.Context, content, fields string, tokens int) (*schemas.Generation, []byte, error) {
		var body []byte
		messages := []schemas.Message{{Role: "user", Content: content}}
		q := probeRequest(r, 1)
		q.messages = func() []schemas.Message { return messages }
		q.role.MaxTokens, q.constraint, q.once, q.choiceless = tokens, fields, others, true
		q.report = func(b []byte) { body = b }
		g, err := f.askProbe(ctx, e, q, calls)
		switch {
		case err != nil:
			return nil, nil, err
		case isAnswer(&g):
			return &g, body, nil
		case g.Code == fault.CodeMalformed && g.Message == noChoiceYet:
			return &schemas.Generation{}, body, nil
		}
		return nil, nil, nil
	}}
	form, ok, err := p.Find(ctx)
	if err != nil || !ok {
		return false, err
	}
	e.SetRead(r, form)
	f.counters.Note(fmt.Sprintf("%s reads %s of %s by %s", r.Name, strings.Join(r.Read.Labels, ", "), e.Name, form))
	return true, nil
}

// isAnswer reports whether the server answered a probe: with a text, or with a refusal.
func isAnswer(g *schemas.Generation) bool {
	switch g.Code {
	case "", fault.CodeBadRequest, fault.CodeContextLength, fault.CodeContentFilter, fault.CodeTooLarge:
		return true
	}
	return false
}
