package fleet

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/exchange"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/policy"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

// A Request is a contiguous range of replicates of one call.
type Request struct {
	Role            *stage.Role
	Stage, PromptID string
	// Messages renders the request. The fleet calls it after the request has its permits, to keep
	// waiting requests small.
	Messages func() []schemas.Message
	// Seed is the seed of the first replicate. Replicate i has Seed + i, as servers count choices.
	Seed int64
	// N is the number of replicates, CallN the number of the whole call. The fleet probes servers
	// for CallN choices, so that it probes once.
	N, CallN int
}

// Deliver receives the answers to request i: generations[k] is the answer for replicate from+k of the
// request if has[k] is true. Several goroutines call it. An error ends the requests.
type Deliver func(i, from int, generations []schemas.Generation, has []bool) error

// request is one POST for some replicates.
type request struct {
	role     *stage.Role
	stage    string
	promptID string
	messages func() []schemas.Message
	seed     int64
	n        int
	// constraint has request fields that constrain the text, instead of the role's verdict.
	constraint string
	// report, if not nil, receives the body of an answer that is not a stream.
	report func(body []byte)
	// once reports whether the first server fault ends the request.
	once bool
	// choiceless reports whether an answer without any choice is acceptable: it shows that the server works.
	choiceless bool
	// loosened reports whether the last fault changed the form of the request.
	loosened bool
	// streamed reports whether the last try was a stream.
	streamed bool
	// renamed reports whether the last try had max_completion_tokens.
	renamed bool
	// timeouts is the number of timeouts. Each doubles the time limit.
	timeouts int
}

// piece is the part of a request in one POST.
type piece struct {
	request  int
	from, to int
}

// priorities order the stages at the limiter. Later stages go first, so that prompts finish and memory
// use stays flat. After the last prompt the order is reversed.
var priorities = map[string]int{schemas.StageMeta: 2, schemas.StageJudge: 1, schemas.StageReads: 1, schemas.StageGenerate: 0, schemas.StagePast: 0, schemas.StageFuture: 0}

// Do sends requests of one prompt and role, as few as the servers' limits on choices allow, and returns
// after the delivery of every replicate. All requests wait as one ticket in the queue; each gets a
// goroutine when it has its permits. Do returns an error only when the run must stop, when ctx
// ended, or when the budget is spent ([ErrOverBudget]). Requests sent before that are delivered in any case.
func (f *Fleet) Do(ctx context.Context, requests []Request, calls *counters.Tally, deliver Deliver) error {
	first := &requests[0]
	endpoints, err := f.endpointsOf(first.Role)
	if err != nil {
		return err
	}
	endpoints, pieces, err := f.split(ctx, endpoints, requests, calls)
	if err != nil {
		return err
	}
	sizes := make([]int, len(pieces))
	for i, p := range pieces {
		sizes[i] = p.to - p.from
	}
	group, ctx := errgroup.WithContext(ctx)
	ticket := f.limiter.Enqueue(serversOf(endpoints), scheduleRequest(first.Stage, first.PromptID, sizes))
	largest := request{role: first.Role, stage: first.Stage, n: slices.Max(sizes)}
	for i := range pieces {
		g, wider, err := f.receive(ctx, ticket, endpoints, &largest)
		if err != nil {
			ticket.Cancel()
			return cmp.Or(group.Wait(), err) // the cause goes first
		}
		endpoints = wider
		reserved := sizes[i]
		if f.options.Reserve != nil {
			reserved = f.options.Reserve(sizes[i])
		}
		if reserved > 0 {
			p := pieces[i]
			p.to = p.from + reserved
			group.Go(func() error {
				return f.complete(ctx, wider, g, &requests[p.request], p, calls, deliver)
			})
		} else {
			f.limiter.Return(g)
		}
		if reserved < sizes[i] {
			ticket.Cancel()
			return cmp.Or(group.Wait(), ErrOverBudget)
		}
	}
	return group.Wait()
}

// split divides the requests by the number of choices that all endpoints return. It omits endpoints
// that do not answer.
func (f *Fleet) split(ctx context.Context, endpoints []*endpoint.Endpoint, requests []Request, calls *counters.Tally) ([]*endpoint.Endpoint, []piece, error) {
	pieces := make([]piece, 0, len(requests))
	var usable []*endpoint.Endpoint
	for i := range requests {
		r := &requests[i]
		n := 1
		if r.N > 1 {
			n = r.CallN
		}
		var err error
		if usable, n, err = f.discover(ctx, endpoints, r.Role, n, calls); err != nil {
			return nil, nil, err
		}
		if limit := f.options.MaxInFlight; limit > 0 {
			n = min(n, limit)
		}
		for from := 0; from < r.N; from += n {
			pieces = append(pieces, piece{request: i, from: from, to: min(from+n, r.N)})
		}
	}
	return usable, pieces, nil
}

// complete asks for a piece, asks again for choices that an answer lacks, and delivers each answer. It
// ends, because an answer without any choice is a fault, and the number of faults is bounded.
func (f *Fleet) complete(ctx context.Context, endpoints []*endpoint.Endpoint, g *schedule.Grant, r *Request, p piece, calls *counters.Tally, deliver Deliver) error {
	for missing := []piece{p}; len(missing) > 0; g = nil {
		at := missing[0]
		missing = missing[1:]
		generations, has, err := f.ask(ctx, endpoints, g, request{
			role: r.Role, stage: r.Stage, promptID: r.PromptID, messages: r.Messages,
			seed: r.Seed + int64(at.from), n: at.to - at.from,
		}, calls)
		if err != nil {
			return err
		}
		err = deliver(p.request, at.from, generations, has)
		f.counters.Delivered()
		if err != nil {
			return err
		}
		for k := range at.to - at.from {
			if k < len(has) && has[k] {
				continue
			}
			if last := len(missing) - 1; last >= 0 && missing[last].to == at.from+k {
				missing[last].to++
				continue
			}
			missing = append(missing, piece{request: p.request, from: at.from + k, to: at.from + k + 1})
		}
	}
	return nil
}

func scheduleRequest(stage, promptID string, sizes []int) schedule.Request {
	return schedule.Request{Stage: stage, PromptID: promptID, Priority: priorities[stage], Probe: stage == stageProbe, Sizes: sizes}
}

// ask repeats a request until it gets an answer or fails for good. It returns the choices of the answer,
// which may be fewer than n, or one failure for all n. It may also lower q.n. An error ends the run. The
// first try uses the permits of g; without g it waits for permits. After an answer the caller must call
// counters.Delivered once the journal has the answer.
func (f *Fleet) ask(ctx context.Context, endpoints []*endpoint.Endpoint, g *schedule.Grant, q request, calls *counters.Tally) ([]schemas.Generation, []bool, error) {
	t := retryState{History: policy.History{Last: time.Now()}}
	for ; ; g = nil {
		if g == nil {
			var err error
			wanted := scheduleRequest(q.stage, q.promptID, []int{q.n})
			wanted.Avoid, wanted.First = serversOf(t.avoid), t.Waits > 0
			ticket := f.limiter.Enqueue(serversOf(endpoints), wanted)
			if g, endpoints, err = f.receive(ctx, ticket, endpoints, &q); err != nil {
				ticket.Cancel()
				return nil, nil, err
			}
		}
		e := endpointOf(endpoints, g)
		generations, has, flt := f.try(ctx, e, g, &q, calls)
		if flt != nil {
			var err error
			e.RecordFault(flt)
			if generations, err = f.handleFault(ctx, &t, e, endpoints, &q, flt, calls); err != nil {
				f.counters.Delivered()
				if ctx.Err() == nil { // the whole run must stop
					f.Settle(ctx)
				}
				return nil, nil, err
			}
			has = slices.Repeat([]bool{true}, len(generations))
		}
		if generations != nil {
			return generations, has, nil
		}
		f.counters.Delivered()
		f.recordRetry(&q, flt, calls)
		var err error
		if endpoints, err = f.beforeRetry(ctx, &t, e, endpoints, &q, flt); err != nil {
			return nil, nil, err
		}
	}
}

// try sends a request once and releases its permits.
func (f *Fleet) try(ctx context.Context, e *endpoint.Endpoint, g *schedule.Grant, q *request, calls *counters.Tally) ([]schemas.Generation, []bool, *fault.Fault) {
	if f.options.Admit != nil {
		_ = f.options.Admit(ctx) // after the end of ctx send returns the error
	}
	f.counters.RequestStarted(q.stage, q.n)
	began := time.Now()
	generations, has, flt := f.send(ctx, e, q, calls)
	f.counters.RequestEnded(q.stage, q.n)
	took := time.Since(began)
	f.meters.Ended(counters.Post{Role: q.role, Stage: q.stage, Server: e.Name, N: q.n}, flt, took, generations, has)
	if flt != nil && flt.Kind == fault.Denied {
		flt.RetryAfter = e.DenialPause(q.role)
	}
	f.limiter.Release(g, resultOf(flt, generations))
	if flt == nil {
		e.RecordSuccess(q.role)
		if q.stage != stageProbe {
			e.RecordTiming(q.role, generations, has, took)
			f.outcomes.RecordAnswer(q.role)
		}
	}
	return generations, has, flt
}

func (f *Fleet) recordRetry(q *request, flt *fault.Fault, calls *counters.Tally) {
	f.counters.RecordRetry(flt)
	f.meters.Retried(q.stage, flt)
	calls.AddRetry(q.stage, counters.OutcomeOf(flt))
}

// beforeRetry waits until a request may be sent again, and returns the endpoints for it. The request
// has no permits during the wait.
func (f *Fleet) beforeRetry(ctx context.Context, t *retryState, e *endpoint.Endpoint, endpoints []*endpoint.Endpoint, q *request, flt *fault.Fault) ([]*endpoint.Endpoint, error) {
	if q.loosened {
		q.loosened = false
		return endpoints, nil // at once, since only the form of the request was wrong
	}
	if !slices.Contains(t.avoid, e) {
		t.avoid = append(t.avoid, e)
	}
	if q.stage != stageProbe {
		endpoints = f.widened(endpoints, q)
	}
	if flt.Kind == fault.Overloaded {
		if f.limiter.CanAvoid(serversOf(endpoints), serversOf(t.avoid)) {
			return endpoints, nil // another endpoint may have room now
		}
		t.avoid = nil
	}
	if !sleep(ctx, t.Pause(flt)) {
		return endpoints, ctx.Err()
	}
	return endpoints, nil
}

// widenInterval is the time between two checks for more endpoints while a request waits.
const widenInterval = time.Second

// receive waits for the next permits of a ticket. It returns them with the ticket's endpoints, which
// include endpoints of the role that were discovered during the wait.
func (f *Fleet) receive(ctx context.Context, ticket *schedule.Ticket, endpoints []*endpoint.Endpoint, q *request) (*schedule.Grant, []*endpoint.Endpoint, error) {
	for q.stage != stageProbe && len(endpoints) < len(q.role.Endpoints) {
		limited, cancel := context.WithTimeout(ctx, widenInterval)
		g, err := ticket.Receive(limited)
		cancel()
		if err == nil || ctx.Err() != nil {
			return g, endpoints, err
		}
		if wider := f.widened(endpoints, q); len(wider) > len(endpoints) {
			ticket.SetServers(serversOf(wider))
			endpoints = wider
		}
	}
	g, err := ticket.Receive(ctx)
	return g, endpoints, err
}

// send posts a request and reads its answer.
func (f *Fleet) send(ctx context.Context, e *endpoint.Endpoint, q *request, calls *counters.Tally) ([]schemas.Generation, []bool, *fault.Fault) {
	q.streamed, q.renamed = e.Streams(q.role), e.SendsCompletionTokens(q.role)
	body, err := openai.AppendBody(nil, &openai.Request{
		Role: q.role, Messages: q.messages(), N: q.n, Seed: q.seed, Constraint: cmp.Or(q.constraint, e.ConstraintOf(q.role)), Stream: q.streamed,
		CompletionTokens: q.renamed,
	})
	if err != nil {
		return nil, nil, &fault.Fault{Kind: fault.Refused, Code: fault.CodeBadRequest, Message: err.Error()}
	}
	f.counters.RequestSent()
	r := exchange.Do(ctx, e, &exchange.Request{
		Role: q.role, Chat: body, N: q.n, Streamed: q.streamed, Timeout: cmp.Or(f.options.RequestTimeout, e.Timeout(q.role, q.timeouts)),
	})
	calls.AddRequest(q.stage, q.n, r.Took)
	if r.Answer != nil {
		f.applyRateLimits(e, r.Answer)
	}
	if r.Body != nil && q.report != nil {
		q.report(r.Body)
	}
	if r.Fault != nil {
		return nil, nil, r.Fault
	}
	if record := f.options.RecordAnswer; record != nil {
		// The server may not have been ready when discovery requested its models. Request them again now
		// that it answers: behind a gateway only the model list identifies the simulated server.
		if e.Listed.CompareAndSwap(false, true) {
			if err := f.identify(ctx, e, q.role); err != nil {
				return nil, nil, &fault.Fault{Kind: fault.OwnMachine, Message: err.Error(), Err: err}
			}
		}
		simulated := e.Simulated.Load() || r.Answer.Header.Get("Server") == openai.SimulatedOwner
		if err := record(ctx, e.Name, q.role, simulated, q.stage == stageProbe); err != nil {
			return nil, nil, &fault.Fault{Kind: fault.OwnMachine, Message: err.Error(), Err: err}
		}
	}
	f.checkFinish(e, q, r.Generations)
	f.checkPromptSize(e, q, len(body), r.Generations)
	return r.Generations, r.Has, nil
}

// applyRateLimits passes the rate limits in an answer's header to the limiter.
func (f *Fleet) applyRateLimits(e *endpoint.Endpoint, a *transport.Answer) {
	if wait, metered := pacing.RateLimits(a.Header, e.TokensPerRequest(), time.Now()); metered {
		f.limiter.ApplyRateLimit(e.Server, wait)
	}
}

// checkPromptSize warns once if prompts that grow have no more tokens.
func (f *Fleet) checkPromptSize(e *endpoint.Endpoint, q *request, size int, generations []schemas.Generation) {
	if q.stage == stageProbe {
		return
	}
	tokens, _ := openai.Usage(generations)
	if sizes, cuts := e.CutsPrompts(q.role, tokens, size); cuts {
		f.counters.RecordCutPrompts(e.Name, q.role.Model, sizes.Tokens, sizes.Shortest, sizes.Longest)
	}
}

// checkFinish warns once of unknown finish reasons, and of reasoning without a text.
func (f *Fleet) checkFinish(e *endpoint.Endpoint, q *request, generations []schemas.Generation) {
	for i := range generations {
		g := &generations[i]
		if q.stage != stageProbe && g.Code == "" && stage.FinishOf(g.FinishReason) == stage.FinishUnknown {
			f.counters.RecordUnknownFinish(e.Name, g.FinishReason)
		}
		if q.stage != stageProbe && g.Code == "" {
			tag, ok := stage.UnknownThoughts(g.Text, q.role.ReasoningTags...)
			f.counters.RecordBeginning(q.role.Name, tag, ok)
		}
		if g.Code == "" && g.Text == "" && g.Reasoning != "" && q.stage != stageProbe {
			f.counters.RecordReasoningOnly(e.Name, q.role.Name)
		}
	}
}

// serversOf returns the endpoints as the limiter knows them.
func serversOf(endpoints []*endpoint.Endpoint) []*schedule.Server {
	out := make([]*schedule.Server, len(endpoints))
	for i, e := range endpoints {
		out[i] = e.Server
	}
	return out
}

// endpointOf returns the endpoint of a grant.
func endpointOf(endpoints []*endpoint.Endpoint, g *schedule.Grant) *endpoint.Endpoint {
	return endpoints[slices.IndexFunc(endpoints, func(e *endpoint.Endpoint) bool { return e.Server == g.Server() })]
}
