package endpoint

import (
	"context"
	"errors"
	"math"
	"time"

	"coeval/transforms/fleet/openai"
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
	// signAskedAt is the time of the last sign of life requested; see [Endpoint.SignDue].
	signAskedAt time.Time
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
// after them. So the fleet asks an endpoint with requests in flight for its list of models after a time
// without a byte. Any answer is enough. Some servers cannot answer while they generate: each time their
// requests are dropped, the allowed silence doubles.
const (
	// An endpoint is asked after patience/quietPart or quietLatencies mean latencies without a byte,
	// whichever is longer, and after half of the patience before its first answer. It is
	// unresponsive after maxSilentLooks requests in a row without an answer. The time doubles at most
	// maxDoublings times.
	quietPart      = 5
	quietLatencies = 3
	maxSilentLooks = 3
	maxDoublings   = 3
	// maxSignTime limits the request for the models of a silent endpoint.
	maxSignTime = 10 * time.Second
)

// WatchSilence drops the requests in flight whenever the endpoint is unresponsive, until ctx ends.
// Latency returns the mean latency of its requests, 0 before the first.
func (e *Endpoint) WatchSilence(ctx context.Context, patience time.Duration, latency func() time.Duration) {
	look := patience / (quietPart * maxSilentLooks)
	timer := time.NewTimer(look)
	defer timer.Stop()
	for silent := 0; ; timer.Reset(look) {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if !e.silent(patience, latency()) || e.answersModels(ctx, look) {
			silent = 0
			continue
		}
		if silent++; silent < maxSilentLooks || !e.silent(patience, latency()) || ctx.Err() != nil {
			continue
		}
		silent = 0
		e.dropAll()
	}
}

// silent reports whether the endpoint has requests in flight and has sent nothing for a long time.
func (e *Endpoint) silent(patience, latency time.Duration) bool {
	least := patience / 2
	if latency > 0 {
		least = max(patience/quietPart, quietLatencies*latency)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.outstanding > 0 && time.Since(e.health.lastByteAt) > least<<min(e.health.timesDropped, maxDoublings)
}

// answersModels reports whether the server sends any answer to a request for its models.
func (e *Endpoint) answersModels(ctx context.Context, within time.Duration) bool {
	a, _ := e.Get(ctx, e.URLOf(openai.ModelsPath), maxModels, min(within, maxSignTime))
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
	e.HTTP.CloseIdleConnections()
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
	e.addOutstanding(1)
	defer e.addOutstanding(-1)
	ctx, done := e.whileAlive(ctx)
	defer done()
	a, err := e.Client.Post(ctx, body, limit, timeout)
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
func (e *Endpoint) RecordFault(flt *openai.Fault) {
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
	// leaveDenying is the pause of a denying server while others answer.
	leaveDenying = time.Minute
	// firstDenialPause doubles with each denial.
	firstDenialPause = 250 * time.Millisecond
)

// RecordDenial records a denial of a role's model. It reports whether the denial is lasting: the model
// has never answered there, or is denied again and again.
func (e *Endpoint) RecordDenial(r *stage.Role, flt *openai.Fault) bool {
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
	m.leftAloneUntil = time.Now().Add(leaveDenying)
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
	return m.denial != nil && (!m.everSucceeded || m.denials >= maxDenials && time.Since(m.deniedSince) > denialGrace)
}

// Denies reports whether the endpoint lastingly denies a role's model.
func (e *Endpoint) Denies(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).isDenied()
}

// LeaveAlone pauses discovery of a model at the endpoint for a time, unless it is already paused.
func (e *Endpoint) LeaveAlone(r *stage.Role, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.model(r); time.Now().After(m.leftAloneUntil) {
		m.leftAloneUntil = time.Now().Add(d)
	}
}

// LeftAlone reports whether discovery of a model is paused.
func (e *Endpoint) LeftAlone(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.model(r).leftAloneUntil)
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

// signInterval is the shortest time between two signs of life requested from an endpoint.
const signInterval = time.Second

// SignDue reports whether the caller may ask the endpoint for a sign of life. It returns true at most
// once a second.
func (e *Endpoint) SignDue() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	due := time.Since(e.health.signAskedAt) > signInterval
	if due {
		e.health.signAskedAt = time.Now()
	}
	return due
}

// HeardOf reports whether any endpoint has ever sent a byte.
func HeardOf(endpoints []*Endpoint) bool {
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
	least := time.Duration(math.MaxInt64)
	for _, e := range endpoints {
		e.mu.Lock()
		least = min(least, time.Since(e.health.succeededAt))
		e.mu.Unlock()
	}
	return least
}
