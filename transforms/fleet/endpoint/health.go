package endpoint

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

// ErrUnresponsive reports that requests were dropped because their server had sent nothing for a long time.
var ErrUnresponsive = errors.New("the server has sent nothing for a long time, not even its list of models")

// health is the evidence of one endpoint's answers, under the endpoint's lock. An endpoint is in one of
// these states, by its latest event:
//
//	unknown ──first answer──► answering ◄────────any byte──────────┐
//	   │                          └──silence, and no model list──► unresponsive: requests are dropped
//	   └──no answer to its discovery──► paused for a while, then discovered again
//
// A denied model is paused in the same way: see [modelState]. The limiter is responsible for quarantine
// after failures, and for the pause of an overloaded server.
type health struct {
	// succeededAt is the time of the last success. Before the first success it is the time of the
	// endpoint's creation.
	succeededAt time.Time
	// everSent reports whether the server has ever sent a byte.
	everSent bool
	// discoverySince is the start of the current discovery, zero without one.
	discoverySince time.Time
	// aliveCheckedAt is the time of the last check; see [Endpoint.AliveCheckDue].
	aliveCheckedAt time.Time
	// busyAt is the last time that its metrics showed running requests.
	busyAt time.Time
	// fault is the last fault, faultAt its time.
	fault   string
	faultAt time.Time

	// outstanding is the number of requests in flight. lastByteAt is the time of the last byte, or of
	// the first of these requests if no byte came since. timesDropped counts how often all of them
	// were cancelled because of silence.
	outstanding  int
	lastByteAt   time.Time
	timesDropped int
	// alive ends when the requests in flight are dropped.
	alive context.Context
	drop  context.CancelCauseFunc
}

func newHealth() health {
	h := health{succeededAt: time.Now()}
	h.alive, h.drop = context.WithCancelCause(context.Background())
	return h
}

// A server may die without closing its connections, for example with its machine or in a deadlock. A
// time limit by size would then keep its requests for minutes, and the run's patience would begin only
// after them. So after a time without a byte, the fleet requests the list of models from an endpoint with
// requests in flight. Any answer is enough. Some servers cannot answer while they generate. So each time the
// fleet drops a server's requests, it doubles the allowed silence.
const (
	// The fleet requests the list after patience/quietPart or quietLatencies mean latencies without a byte,
	// whichever is longer. Before the first answer it does so after half of the patience. The endpoint is
	// unresponsive after maxSilentChecks requests in a row without an answer. The allowed silence doubles at
	// most maxDoublings times.
	quietPart       = 5
	quietLatencies  = 3
	maxSilentChecks = 3
	maxDoublings    = 3
	// maxCheckTime limits the request for the models of a silent endpoint.
	maxCheckTime = 10 * time.Second
)

// WatchSilence drops the requests in flight whenever the endpoint is unresponsive, until ctx ends.
// Latency returns the mean latency of its requests, 0 before the first.
func (e *Endpoint) WatchSilence(ctx context.Context, patience time.Duration, latency func() time.Duration) {
	interval := patience / (quietPart * maxSilentChecks)
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for silent := 0; ; timer.Reset(interval) {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if !e.silent(patience, latency()) || e.answersModels(ctx, interval) {
			silent = 0
			continue
		}
		if silent++; silent < maxSilentChecks || !e.silent(patience, latency()) || ctx.Err() != nil {
			continue
		}
		silent = 0
		e.dropAll()
	}
}

// silent reports whether the endpoint has requests in flight and has sent nothing for a long time.
func (e *Endpoint) silent(patience, latency time.Duration) bool {
	minSilence := patience / 2
	if latency > 0 {
		minSilence = max(patience/quietPart, quietLatencies*latency)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.outstanding > 0 && time.Since(e.health.lastByteAt) > minSilence<<min(e.health.timesDropped, maxDoublings)
}

// answersModels reports whether the server sends any answer to a request for its models.
func (e *Endpoint) answersModels(ctx context.Context, within time.Duration) bool {
	a, _ := e.Get(ctx, e.URLOf(openai.ModelsPath), maxModels, min(within, maxCheckTime))
	return a != nil
}

// dropAll cancels the requests in flight with [ErrUnresponsive].
func (e *Endpoint) dropAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health.timesDropped++
	e.health.lastByteAt = time.Now()
	e.health.drop(ErrUnresponsive)
	e.health.alive, e.health.drop = context.WithCancelCause(context.Background()) //nolint:fatcontext // it replaces the old one and is not its child
	e.CloseIdleConnections()
}

// whileAlive returns a context that also ends when the requests in flight are dropped. The caller must
// call the function after the request.
func (e *Endpoint) whileAlive(ctx context.Context) (context.Context, func()) {
	e.mu.Lock()
	alive := e.health.alive
	e.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(alive, func() { cancel(context.Cause(alive)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Post sends a body to the completions path and reads an answer of at most limit bytes. With an error,
// the answer has the part received so far, or is nil.
func (e *Endpoint) Post(ctx context.Context, body []byte, limit int64, timeout time.Duration) (*transport.Answer, error) {
	return e.PostAlive(ctx, e.URLOf(openai.CompletionsPath), body, limit, timeout)
}

// PostAlive is Post for another URL of the server.
func (e *Endpoint) PostAlive(ctx context.Context, url string, body []byte, limit int64, timeout time.Duration) (*transport.Answer, error) {
	e.addOutstanding(1)
	defer e.addOutstanding(-1)
	ctx, done := e.whileAlive(ctx)
	defer done()
	a, err := e.PostTo(ctx, url, body, limit, timeout)
	if err != nil && errors.Is(context.Cause(ctx), ErrUnresponsive) {
		err = ErrUnresponsive
	}
	return a, err
}

// addOutstanding adds to the number of requests in flight.
func (e *Endpoint) addOutstanding(by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.health.outstanding == 0 {
		e.health.lastByteAt = time.Now() // earlier bytes do not show that it received this request
	}
	e.health.outstanding += by
}

// recordBytes records that the endpoint has sent something.
func (e *Endpoint) recordBytes() {
	e.mu.Lock()
	e.health.lastByteAt, e.health.everSent = time.Now(), true
	e.mu.Unlock()
}

// RecordSuccess records a success for a role.
func (e *Endpoint) RecordSuccess(r *stage.Role) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health.succeededAt = time.Now()
	m := e.model(r)
	m.everSucceeded, m.denials, m.denial = true, 0, nil
}

// RecordFault records the last fault, for messages.
func (e *Endpoint) RecordFault(flt *fault.Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health.fault, e.health.faultAt = flt.Message, time.Now()
}

// SilencePause is the pause of a server that does not answer its discovery.
const SilencePause = 10 * time.Second

const (
	// The denial of a model that was served before is lasting after maxDenials without an answer in
	// between, over more than denialGrace. Gateways sometimes deny a request, or all requests of a
	// moment.
	maxDenials  = 3
	denialGrace = 3 * time.Second
	// gatewayGrace replaces denialGrace for a status of 500 or more: a gateway without a backend for the
	// model says so while its backends restart.
	gatewayGrace = 2 * time.Minute
	// denyingPause is the pause of a denying server while others answer.
	denyingPause = time.Minute
	// firstDenialPause doubles with each denial.
	firstDenialPause = 250 * time.Millisecond
)

// RecordDenial records a denial of a role's model. It reports whether the denial is lasting: the model
// has never answered there, or is denied again and again.
func (e *Endpoint) RecordDenial(r *stage.Role, flt *fault.Fault) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	if m.denials++; m.denials == 1 {
		m.deniedSince = time.Now()
	}
	m.denial = flt
	if !m.isDenied() {
		return false
	}
	m.discoveryPausedUntil = time.Now().Add(denyingPause)
	return true
}

// DenialPause returns the pause of a model that was served before: longer after each denial. It is 0
// for a model that was never served.
func (e *Endpoint) DenialPause(r *stage.Role) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	if !m.everSucceeded {
		return 0
	}
	return firstDenialPause << min(m.denials, maxDenials)
}

// isDenied reports whether a denial is lasting.
func (m *modelState) isDenied() bool {
	if m.denial == nil || !m.everSucceeded {
		return m.denial != nil
	}
	grace := denialGrace
	if m.denial.Status >= http.StatusInternalServerError {
		grace = gatewayGrace
	}
	return m.denials >= maxDenials && time.Since(m.deniedSince) > grace
}

// Denies reports whether the endpoint lastingly denies a role's model.
func (e *Endpoint) Denies(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).isDenied()
}

// PauseDiscovery pauses discovery of a model at the endpoint for a time, unless it is already paused.
func (e *Endpoint) PauseDiscovery(r *stage.Role, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.model(r); time.Now().After(m.discoveryPausedUntil) {
		m.discoveryPausedUntil = time.Now().Add(d)
	}
}

// DiscoveryPaused reports whether discovery of a model is paused.
func (e *Endpoint) DiscoveryPaused(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.model(r).discoveryPausedUntil)
}

// SucceededSince reports whether the endpoint has answered since t.
func (e *Endpoint) SucceededSince(t time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.succeededAt.After(t)
}

// RecordBusy records that the endpoint's metrics show running requests.
func (e *Endpoint) RecordBusy() {
	e.mu.Lock()
	e.health.busyAt = time.Now()
	e.mu.Unlock()
}

// busyFor is how long the endpoint counts as busy after its metrics showed running requests. It exceeds
// the time between two readings several times.
const busyFor = 10 * time.Second

// Busy reports whether requests ran at the endpoint recently. A busy server is alive.
func (e *Endpoint) Busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.health.busyAt) < busyFor
}

// LastFault returns the message of the last fault, and its time.
func (e *Endpoint) LastFault() (message string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.fault, e.health.faultAt
}

// aliveCheckInterval is the shortest time between two checks whether an endpoint is alive.
const aliveCheckInterval = time.Second

// AliveCheckDue reports whether the caller may check that the endpoint is alive. It returns true at most
// once a second.
func (e *Endpoint) AliveCheckDue() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	due := time.Since(e.health.aliveCheckedAt) > aliveCheckInterval
	if due {
		e.health.aliveCheckedAt = time.Now()
	}
	return due
}

// AnySent reports whether any endpoint has ever sent a byte.
func AnySent(endpoints []*Endpoint) bool {
	for _, e := range endpoints {
		e.mu.Lock()
		sent := e.health.everSent
		e.mu.Unlock()
		if sent {
			return true
		}
	}
	return false
}

// SinceSuccess returns the time since the last answer of any of the endpoints.
func SinceSuccess(endpoints []*Endpoint) time.Duration {
	shortest := time.Duration(math.MaxInt64)
	for _, e := range endpoints {
		e.mu.Lock()
		shortest = min(shortest, time.Since(e.health.succeededAt))
		e.mu.Unlock()
	}
	return shortest
}
