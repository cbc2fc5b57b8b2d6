// Package fleet is the client of all inference servers of a run. It sends requests and repeats them, and
// it reacts to each fault.
//
// The packages below it do the rest. Package policy decides the reaction to a fault. Package endpoint keeps the
// state of one server. Package schedule chooses the server of each request, and pacing limits the generations
// in flight at a server. Package exchange posts one request, over HTTP by package transport, in the wire format
// of package openai. The form in which a server reports token probabilities is found by package reads. Package
// counters counts for the user, the report and Prometheus.
//
// One or more endpoints serve a role. [Fleet.Do] takes ranges of replicates of calls of one role and
// returns when each replicate has an answer or a final failure:
//
//	caller          Fleet.Do         schedule.Limiter      endpoint (HTTP)
//	  │ requests       │                    │                    │
//	  ├───────────────►│ discover: model, choices per request, constraint, health
//	  │                ├───────────────────────────────────────►│
//	  │                │ split by n         │                    │
//	  │                ├─ Enqueue ─────────►│                    │
//	  │                │◄──── Grant ────────┤                    │
//	  │                ├─────────────────────────── POST ───────►│
//	  │                │◄───────────────────── answer or fault ──┤
//	  │                ├─ Release ─────────►│                    │
//	  │                │ fault: apply the action of package policy
//	  │◄── deliver ────┤ answer: deliver it, request missing choices again
//	  │◄── return ─────┤ all replicates have been delivered
//
// # The reaction to each answer
//
//	success      200. Choices that are missing, or whose finish reason shows a failure of the server,
//	             are requested again. A filtered choice is a final failure. A 200 with an error in its
//	             body counts as the status in the error, or as 500 if there is none.
//	overloaded   429, 503, 408 and 529. The request is sent again after Retry-After or a backoff. A call
//	             fails with server_error once it was rejected 200 times, each time while other requests
//	             succeeded, and Options.Patience has passed since its first fault.
//	refused      Other 4xx, such as 400, 413 and 422; a content filter's 403, once the role has an answer;
//	             a 5xx about the prompt's length; a 429 to a request larger than a minute's quota. The failure is final, with
//	             context_length, content_filter, too_large or bad_request. The run stops if the first
//	             calls of a role all fail with one code, or 100 in a row with bad_request.
//	denied       Other 2xx; 3xx; 401 to 405, 407, 410, 421, 426, 501, 505 and 511; no such model; no
//	             credit. The fleet gives up a server at its first denial if the server has never answered for the
//	             role. A server that has answered before is paused at first. The fleet gives it up after at
//	             least three denials in a row, over more than three seconds. If the last denial has a status of 500
//	             or more, they must span more than two minutes. The run stops with an error if the fleet has given
//	             up every server of the role.
//	broken       Other 5xx, a 503 after an upstream reset, resets, time-outs, bad bodies. The request is
//	             sent at most Options.Tries times, to another server first; then its failure is final.
//	             A try counts only while some server answers. If the first calls of a role, or 100 in a
//	             row, have failed with one code, the servers may be restarting. The fleet then sends failing
//	             calls again, until two minutes have passed since the first of these failures, or
//	             Options.Patience if that is shorter. If calls still fail then, the run stops. The run also stops
//	             if, for longer than Options.Patience, the role's servers have sent nothing, or only rejections
//	             and failures.
//	             If none has ever sent a byte, or they have sent only web pages, it stops after maxFirstContact.
//	cut off      After 25 silent seconds: 504, 524, 408 and other time-outs of a gateway. Before that, 408
//	             counts as overloaded, 504 and 524 as broken. The request is sent again as a stream. If
//	             that fails too, it is sent again with half as many choices.
//	stream only  The server supports streams alone. The request is sent again as a stream.
//	own machine  No file descriptor or port is free on this machine. The run stops and records no failure.
//
// The package promises four things. Error messages contain no API key. A request takes all its permits at
// once. The client rejects an answer if its connection or X-Request-Id shows that it belongs to another
// request. Close leaves no goroutine. The package does not promise that a call is sent only once. For
// example, a server may finish a generation after the request's time limit. Then its work is lost, and
// the call is sent again.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/outcomes"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

// Options configure a Fleet.
type Options struct {
	// MaxInFlight is the largest number of generations in flight at each server. Zero means that the
	// fleet finds the number that keeps the server busy.
	MaxInFlight int
	// RequestsPerMinute and TokensPerMinute are the quota of each server. Zero means the quota in
	// its headers.
	RequestsPerMinute, TokensPerMinute int
	// RequestTimeout limits one request. Zero means a multiple of the expected time of its tokens.
	RequestTimeout time.Duration
	// Tries is the largest number of times that a failing call is sent while the servers answer other
	// calls. At least 1.
	Tries int
	// Patience is how long the run waits while no server of a role answers. It waits at most maxFirstContact for
	// servers that have never sent a byte, or only web pages.
	Patience time.Duration
	// RecordModel receives the model in a server's list, before the role's first call to that
	// server. Its warning goes to the user; its error stops the run. May be nil.
	RecordModel func(ctx context.Context, server string, r *stage.Role, m openai.Model) (warning string, err error)
	// RecordAnswer is called before an answer is used, with whether the simulated server wrote it
	// and whether it answers a probe. Its error stops the run. May be nil.
	RecordAnswer func(ctx context.Context, server string, r *stage.Role, simulated, probe bool) error
	// Admit is called before each request. The fleet sends the request after Admit has returned.
	// Admit waits while answers cannot be saved. Its error means that ctx has ended. May be nil.
	Admit func(ctx context.Context) error
	// Reserve is called before a request of n choices is sent for the first time, probes excepted, and
	// returns how many of them may be requested. If fewer, Do sends a request of those and returns
	// [ErrOverBudget]. Nil reserves everything.
	Reserve func(n int) int
}

// ErrOverBudget reports that Options.Reserve refused choices.
var ErrOverBudget = errors.New("fleet: the budget is spent")

// A Fleet is the process's only client of all servers. It is safe for concurrent use.
type Fleet struct {
	options  Options
	limiter  *schedule.Limiter
	counters *counters.Counters
	meters   *counters.Meters
	outcomes *outcomes.Outcomes
	// own counts the fleet's own calls, which belong to no prompt.
	own *counters.Tally
	// ctx ends with the fleet. The goroutines end with ctx.
	ctx        context.Context
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
	// verifying has a token while VerifyConstraints runs. It guards verified.
	verifying chan struct{}
	verified  bool

	mu        sync.Mutex
	endpoints map[stage.Endpoint]*endpoint.Endpoint
	clients   map[string]*http.Client // by CA file
	fatal     error                   // the error of a discovery that stops the run
}

// New creates a fleet that reports to the counters. The caller must close it.
func New(o Options, c *counters.Counters) *Fleet {
	f := &Fleet{
		options: o, counters: c, limiter: schedule.New(schedule.Options{Changed: c.PermitsChanged}),
		outcomes: outcomes.New(o.Patience), own: c.NewTally(), verifying: make(chan struct{}, 1),
		endpoints: map[stage.Endpoint]*endpoint.Endpoint{}, clients: map[string]*http.Client{},
	}
	f.meters = counters.NewMeters(f.limiter, c)
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// start runs work on a goroutine of the fleet. It returns false if the fleet is closed.
func (f *Fleet) start(work func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return false
	}
	f.goroutines.Go(work)
	return true
}

// endpointsOf returns the endpoints of a role. Roles with equal endpoints share them.
func (f *Fleet) endpointsOf(r *stage.Role) ([]*endpoint.Endpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*endpoint.Endpoint, 0, len(r.Endpoints))
	for _, spec := range r.Endpoints {
		e := f.endpoints[spec]
		if e == nil {
			var err error
			if e, err = f.newEndpoint(spec); err != nil {
				return nil, err
			}
			f.endpoints[spec] = e
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("fleet: %s has no endpoint", r.Name)
	}
	return out, nil
}

// newEndpoint creates the endpoint of a server. The caller has f.mu.
func (f *Fleet) newEndpoint(spec stage.Endpoint) (*endpoint.Endpoint, error) {
	c, err := transport.New(spec)
	if err != nil {
		return nil, err
	}
	c.HTTP = f.clients[spec.CAFile]
	if c.HTTP == nil {
		if c.HTTP, err = transport.NewHTTPClient(spec.CAFile); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		f.clients[spec.CAFile] = c.HTTP
	}
	return endpoint.New(c, schedule.NewServer(spec.URL, pacing.New(f.options.MaxInFlight), pacing.NewQuota(f.options.RequestsPerMinute, f.options.TokensPerMinute))), nil
}

// Feed changes the number of sources that may still bring prompts. At zero, earlier stages go first.
func (f *Fleet) Feed(by int) { f.limiter.Feed(by) }

// ForgetPrompt must be called after the end of a prompt.
func (f *Fleet) ForgetPrompt(id string) { f.limiter.ForgetPrompt(id) }

// Permits returns the number of generations that may be in flight at all servers together.
func (f *Fleet) Permits() int { return f.limiter.Permits() }

// States returns the state of each server.
func (f *Fleet) States() []schedule.State {
	states, _ := f.limiter.States()
	return states
}

// Gatherer returns the fleet's metrics.
func (f *Fleet) Gatherer() prometheus.Gatherer { return f.meters.Registry }

// TakeOwn returns the counts of calls that belong to no prompt, and resets them.
func (f *Fleet) TakeOwn() map[string]schemas.CallTally { return f.own.Take() }

// AddOwn adds to the counts that TakeOwn returns.
func (f *Fleet) AddOwn(calls map[string]schemas.CallTally) {
	for stage, t := range calls {
		f.own.AddUncounted(stage, t)
	}
}

// maxSettle bounds how long a stopping run waits for its requests in flight, which cost as much as others.
const maxSettle = 20 * time.Second

// Settle stops new requests. It waits until every answer in flight has been delivered, ctx ends, or
// 20 seconds have passed.
func (f *Fleet) Settle(ctx context.Context) {
	f.limiter.Drain()
	for end := time.Now().Add(maxSettle); ctx.Err() == nil && (f.counters.Pending() > 0 || f.limiter.InFlight()) && time.Now().Before(end); {
		sleep(ctx, 20*time.Millisecond)
	}
}

// Close ends the fleet's goroutines and closes idle connections. All calls must have ended or been
// cancelled before.
func (f *Fleet) Close() {
	f.mu.Lock() // so that no goroutine starts during the wait
	f.cancel()
	f.mu.Unlock()
	f.goroutines.Wait()
	f.limiter.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.endpoints {
		e.CloseIdleConnections()
	}
	for _, c := range f.clients {
		c.CloseIdleConnections()
	}
}

// setFatal keeps the first error of a discovery that stops the run, so that later callers get it at once.
func (f *Fleet) setFatal(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fatal = cmp.Or(f.fatal, err)
}

func (f *Fleet) fatalErr() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fatal
}

// sleep waits, and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
