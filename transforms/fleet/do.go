package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
)

// A Request asks for contiguous replicates of one call.
type Request struct {
	Role            *stage.Role
	Stage, PromptID string
	// Messages renders the request. It is called while the request has its permits, so that waiting
	// requests are small.
	Messages func() []schemas.Message
	// Seed is that of the first replicate. The others follow it, as servers count the seeds of choices.
	Seed int64
	// N is the number of replicates, and CallN that of the whole call: servers are asked once how many
	// choices they give, for the whole call.
	N, CallN int
}

// Deliver receives the answers to request i: generations[k] is that of replicate from+k of the
// request if has[k] is true. It is called from several goroutines. An error ends the requests.
type Deliver func(i, from int, generations []schemas.Generation, has []bool) error

// request is one POST for some replicates.
type request struct {
	role     *stage.Role
	stage    string
	promptID string
	messages func() []schemas.Message
	seed     int64
	n        int
	// constraint has request fields that bind the text, instead of the role's verdict.
	constraint string
	// once means that the first fault of the server ends the request.
	once bool
	// choiceless means that an answer without any choice is one: the server lives.
	choiceless bool
	// loosened is true if the last fault changed how the request is asked.
	loosened bool
	// streamed is true if the request was last sent as a stream.
	streamed bool
	// timeouts doubles the time that the request may take, each time.
	timeouts int
}

// piece is a part of a request that one POST asks for.
type piece struct {
	request  int
	from, to int
}

// priorities order the stages at the limiter. Later stages go first, so that prompts finish and memory
// stays flat. When no more prompts come it is the other way round.
var priorities = map[string]int{schemas.StageMeta: 2, schemas.StageJudge: 1, schemas.StageGenerate: 0}

// Do makes requests of one prompt and role, as few as its servers' numbers of choices allow, and
// returns when every replicate was delivered. All wait in one place of the queue; a goroutine starts
// when a request has its permits. Do returns an error only when the run has to stop or ctx ended.
func (f *Fleet) Do(ctx context.Context, requests []Request, calls *Tally, deliver Deliver) error {
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
			return cmp.Or(group.Wait(), err) // the cause, not its echo
		}
		endpoints = wider
		group.Go(func() error {
			return f.complete(ctx, wider, g, &requests[pieces[i].request], pieces[i], calls, deliver)
		})
	}
	return group.Wait()
}

// split divides the requests by the number of choices that all endpoints give, and leaves out
// endpoints that don't answer.
func (f *Fleet) split(ctx context.Context, endpoints []*endpoint, requests []Request, calls *Tally) ([]*endpoint, []piece, error) {
	pieces := make([]piece, 0, len(requests))
	var usable []*endpoint
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

// complete asks for a piece, again for the choices that an answer lacks, and delivers each answer.
// It ends, since an answer without any choice is a fault, of which a request may meet few.
func (f *Fleet) complete(ctx context.Context, endpoints []*endpoint, g *schedule.Grant, r *Request, p piece, calls *Tally, deliver Deliver) error {
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
		f.counters.delivered()
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

// ask sends a request until it is answered or can't be, and returns the choices that came: all n,
// fewer, or one failure that stands for all. It may ask for fewer choices itself. An error ends the run. The first try has the permits of
// g; without g it waits for them. After an answer the caller calls counters.delivered once it is
// safe.
func (f *Fleet) ask(ctx context.Context, endpoints []*endpoint, g *schedule.Grant, q request, calls *Tally) ([]schemas.Generation, []bool, error) {
	t := retryState{last: time.Now()}
	for ; ; g = nil {
		if g == nil {
			var err error
			wanted := scheduleRequest(q.stage, q.promptID, []int{q.n})
			wanted.Avoid, wanted.First = serversOf(t.avoid), t.waits > 0
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
			e.recordFault(flt)
			if generations, err = f.handleFault(ctx, &t, e, endpoints, &q, flt, calls); err != nil {
				f.counters.delivered()
				if ctx.Err() == nil { // the run stops, not only a bundle of it
					f.Settle(ctx)
				}
				return nil, nil, err
			}
			has = slices.Repeat([]bool{true}, len(generations))
		}
		if generations != nil {
			return generations, has, nil
		}
		f.counters.delivered()
		f.recordRetry(&q, flt, calls)
		var err error
		if endpoints, err = f.beforeRetry(ctx, &t, e, endpoints, &q, flt); err != nil {
			return nil, nil, err
		}
	}
}

// try sends a request once, and releases its permits.
func (f *Fleet) try(ctx context.Context, e *endpoint, g *schedule.Grant, q *request, calls *Tally) ([]schemas.Generation, []bool, *openai.Fault) {
	if f.options.Admit != nil {
		_ = f.options.Admit(ctx) // when ctx has ended, send reports it
	}
	f.counters.requestStarted(q.stage, q.n)
	began := time.Now()
	generations, has, flt := f.send(ctx, e, q, calls)
	f.counters.requestEnded(q.stage, q.n)
	took := time.Since(began)
	f.meters.ended(e, q, flt, took, generations, has)
	if flt != nil && flt.Kind == openai.Denied {
		flt.RetryAfter = e.denialPause(q.role)
	}
	f.limiter.Release(g, resultOf(flt, generations))
	if flt == nil {
		e.recordSuccess(q.role)
		e.recordTiming(q, generations, has, took)
		if q.stage != stageProbe {
			f.recordAnswered(q.role)
		}
	}
	return generations, has, flt
}

func (f *Fleet) recordRetry(q *request, flt *openai.Fault, calls *Tally) {
	f.counters.recordRetry(flt)
	f.meters.retries.WithLabelValues(q.stage, outcomeOf(flt)).Inc()
	calls.addRetry(q.stage, outcomeOf(flt))
}

// maxFullBackoffs bounds how often the pause before asking a full server again doubles: the limiter
// makes room.
const maxFullBackoffs = 3

// beforeRetry waits until a request may be sent again, and returns the endpoints to which. No permit
// is held meanwhile.
func (f *Fleet) beforeRetry(ctx context.Context, t *retryState, e *endpoint, endpoints []*endpoint, q *request, flt *openai.Fault) ([]*endpoint, error) {
	if q.loosened {
		q.loosened = false
		return endpoints, nil // at once, as it was only asked in the wrong way
	}
	if !slices.Contains(t.avoid, e) {
		t.avoid = append(t.avoid, e)
	}
	if q.stage != stageProbe {
		endpoints = f.widened(endpoints, q)
	}
	waits := t.waits
	if flt.Kind == openai.Overloaded {
		if f.limiter.CanAvoid(serversOf(endpoints), serversOf(t.avoid)) {
			return endpoints, nil // another may have room now
		}
		t.avoid = nil
		waits = min(waits, maxFullBackoffs)
	}
	return endpoints, backoff(ctx, flt.RetryAfter, waits)
}

const (
	// firstBackoff doubles with each try up to maxBackoff. Half of it is jitter.
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// backoff waits as long as the server asked for, or longer with every time.
func backoff(ctx context.Context, asked time.Duration, times int) error {
	wait := min(firstBackoff<<min(max(times-1, 0), 10), maxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	if asked > 0 {
		wait = min(asked, pacing.MaxWait) + rand.N(firstBackoff)
	}
	if !sleep(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// widenInterval is how often a request that waits for some endpoints of a role looks for the others.
const widenInterval = time.Second

// receive waits for the next permits of a ticket, and returns with them the endpoints that it waits
// for now: endpoints of the role that were discovered meanwhile are added.
func (f *Fleet) receive(ctx context.Context, ticket *schedule.Ticket, endpoints []*endpoint, q *request) (*schedule.Grant, []*endpoint, error) {
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

// minSilenceLimit is the shortest time after which gateways cut requests that have sent nothing: most
// do after one minute, some after 30 seconds.
const minSilenceLimit = 25 * time.Second

const (
	// bytesPerToken bounds a body by the tokens asked for, bytesPerEvent a stream, which has an event
	// for each. minBody is for all else.
	bytesPerToken = 64
	bytesPerEvent = 1024
	minBody       = 1 << 20
	maxBody       = 64 << 20
)

// send posts a request and reads its answer.
func (f *Fleet) send(ctx context.Context, e *endpoint, q *request, calls *Tally) ([]schemas.Generation, []bool, *openai.Fault) {
	q.streamed = e.streams(q.role)
	body, err := openai.AppendBody(nil, &openai.Request{
		Role: q.role, Messages: q.messages(), N: q.n, Seed: q.seed, Constraint: cmp.Or(q.constraint, e.constraintOf(q.role)), Stream: q.streamed,
	})
	if err != nil {
		return nil, nil, &openai.Fault{Kind: openai.Refused, Code: openai.CodeBadRequest, Message: err.Error()}
	}
	limit := int64(maxBody)
	if q.role.MaxTokens > 0 {
		perToken := int64(bytesPerToken)
		if q.streamed {
			perToken = bytesPerEvent
		}
		limit = min(maxBody, minBody+int64(q.n)*int64(q.role.MaxTokens)*perToken)
	}
	f.counters.requests.Add(1)
	began := time.Now()
	timeout := f.timeoutOf(e, q)
	e.addOutstanding(1)
	a, err := e.post(ctx, body, limit, timeout)
	e.addOutstanding(-1)
	calls.addRequest(q.stage, q.n, time.Since(began))
	if a != nil {
		f.applyRateLimits(e, a)
	}
	if flt := faultOf(e, a, err, limit, timeout); flt != nil {
		if flt.Kind == openai.CutOffSilence && time.Since(began) < minSilenceLimit {
			flt.Kind = openai.Broken // no gateway is so impatient
		}
		return nil, nil, flt
	}
	decode := openai.Decode
	if a.stream {
		decode = openai.DecodeStream
	}
	generations, has, flt := decode(a.body, q.n)
	if flt != nil {
		return nil, nil, flt
	}
	if record := f.options.RecordAnswer; record != nil {
		simulated := e.simulated.Load() || a.header.Get("Server") == openai.SimulatedOwner
		if err := record(ctx, e.name, q.role, simulated, q.stage == stageProbe); err != nil {
			return nil, nil, &openai.Fault{Kind: ownKind, Message: err.Error(), Err: err}
		}
	}
	f.checkFinish(e, q, generations)
	return generations, has, nil
}

// faultOf returns the fault of an exchange, nil if it has a 200 with a whole body.
func faultOf(e *endpoint, a *answer, err error, limit int64, timeout time.Duration) *openai.Fault {
	broken := func(kind openai.Kind, code, message string) *openai.Fault {
		return &openai.Fault{Kind: kind, Code: code, Message: message}
	}
	if own := ownFault(err); own != "" {
		return broken(ownKind, openai.CodeConnection, own+" ("+e.secrets.String(err.Error())+")")
	}
	switch {
	case errors.Is(err, errUnresponsive):
		return broken(openai.TimedOut, openai.CodeTimeout, err.Error())
	case errors.Is(err, errForeign):
		return broken(openai.Broken, openai.CodeMalformed, err.Error())
	case a != nil && a.status != 200: // the status says enough if the body broke off
		flt := openai.Classify(a.status, a.header, a.body)
		if flt.Kind == openai.Overloaded {
			flt.RetryAfter = pacing.RetryAfter(a.header, time.Now())
		}
		return flt
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge):
		return broken(openai.Broken, openai.CodeMalformed, fmt.Sprintf("the body is larger than %d bytes", limit))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return broken(openai.TimedOut, openai.CodeTimeout, fmt.Sprintf("no whole answer within %s", timeout.Round(time.Second)))
	case unreachable(err):
		return broken(openai.Unreachable, openai.CodeConnection, e.secrets.String(err.Error()))
	case a != nil:
		return broken(openai.Broken, openai.CodeConnection, "the body broke off: "+e.secrets.String(err.Error()))
	}
	return broken(openai.Broken, openai.CodeConnection, e.secrets.String(err.Error()))
}

// applyRateLimits tells the limiter what an answer's header says about allowances.
func (f *Fleet) applyRateLimits(e *endpoint, a *answer) {
	e.mu.Lock()
	tokens := e.tokensPerRequest
	e.mu.Unlock()
	if wait, metered := pacing.RateLimits(a.header, tokens, time.Now()); metered {
		f.limiter.ApplyRateLimit(e.server, wait)
	}
}

// checkFinish warns once of finish reasons that are in no table, and of thoughts without a text.
func (f *Fleet) checkFinish(e *endpoint, q *request, generations []schemas.Generation) {
	for i := range generations {
		g := &generations[i]
		if g.Code == "" && stage.FinishOf(g.FinishReason) == stage.FinishUnknown {
			f.counters.recordUnknownFinish(e.name, g.FinishReason)
		}
		if q.stage != stageProbe && g.Code == "" {
			tag, ok := stage.UnknownThoughts(g.Text, q.role.ReasoningTags...)
			f.counters.recordBeginning(q.role.Name, tag, ok)
		}
		if g.Code == "" && g.Text == "" && g.Reasoning != "" && q.stage != stageProbe {
			f.counters.recordThoughtsOnly(e.name, q.role.Name)
		}
	}
}
