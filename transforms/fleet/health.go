package fleet

import (
	"context"
	"math"
	"time"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

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
	// signAskedAt is the time of the last sign of life requested; see [Fleet.lives].
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
// generate: each time that the requests of one are dropped its silence may last twice as long.
const (
	// An endpoint is asked after patience/quietPart or quietLatencies mean latencies without a byte,
	// whichever is longer, and after half of the patience before its first answer. It is
	// unresponsive after maxSilentLooks requests in a row without an answer. The time doubles at most
	// maxDoublings times.
	quietPart      = 5
	quietLatencies = 3
	maxSilentLooks = 3
	maxDoublings   = 3
)

// watchSilence drops the requests in flight whenever the endpoint is unresponsive, until ctx ends.
func (f *Fleet) watchSilence(ctx context.Context, e *endpoint) {
	look := f.options.Patience / (quietPart * maxSilentLooks)
	for silent := 0; sleep(ctx, look); {
		if !f.silent(e) || e.answersModels(ctx, look) {
			silent = 0
			continue
		}
		if silent++; silent < maxSilentLooks || !f.silent(e) || ctx.Err() != nil {
			continue
		}
		silent = 0
		e.dropAll()
	}
}

// silent reports whether the endpoint has requests in flight and has sent nothing for a long time.
func (f *Fleet) silent(e *endpoint) bool {
	latency := f.limiter.Latency(e.server)
	least := f.options.Patience / 2
	if latency > 0 {
		least = max(f.options.Patience/quietPart, quietLatencies*latency)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.outstanding > 0 && time.Since(e.health.lastByteAt) > least<<min(e.health.timesDropped, maxDoublings)
}

// answersModels reports whether the server sends any answer to a request for its models.
func (e *endpoint) answersModels(ctx context.Context, within time.Duration) bool {
	a, _ := e.get(ctx, e.urlOf(openai.ModelsPath), minBody, min(within, dialTimeout))
	return a != nil
}

// dropAll cancels the requests in flight with [errUnresponsive].
func (e *endpoint) dropAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health.timesDropped++
	e.health.lastByteAt = time.Now()
	e.health.drop(errUnresponsive)
	e.health.alive, e.health.drop = context.WithCancelCause(context.Background()) //nolint:fatcontext // it replaces the old one and is not its child
	e.client.CloseIdleConnections()
}

// whileAlive returns a context that also ends when the requests in flight are dropped. The caller must
// call the function after the request.
func (e *endpoint) whileAlive(ctx context.Context) (context.Context, func()) {
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

// addOutstanding adds to the number of requests in flight.
func (e *endpoint) addOutstanding(by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.health.outstanding == 0 {
		e.health.lastByteAt = time.Now() // earlier bytes do not show that it received this request
	}
	e.health.outstanding += by
}

// recordBytes records that the endpoint has sent something.
func (e *endpoint) recordBytes() {
	e.mu.Lock()
	e.health.lastByteAt, e.health.everSent = time.Now(), true
	e.mu.Unlock()
}

// recordSuccess records a success for a role.
func (e *endpoint) recordSuccess(r *stage.Role) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health.succeededAt = time.Now()
	m := e.model(r)
	m.everSucceeded, m.denials, m.denial = true, 0, nil
}

func (e *endpoint) recordFault(flt *openai.Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health.fault, e.health.faultAt = flt.Message, time.Now()
}

const (
	// The denial of a model that was served before is lasting after maxDenials without an answer in
	// between, over more than denialGrace. Gateways sometimes deny a request, or all requests of a
	// moment.
	maxDenials  = 3
	denialGrace = 3 * time.Second
	// leaveDenying is the pause of a denying server while others answer.
	leaveDenying = time.Minute
	// silencePause is the pause of a server that does not answer its discovery.
	silencePause = 10 * time.Second
)

// recordDenial records a denial of a role's model. It reports whether the denial is lasting: the model
// has never answered there, or is denied again and again.
func (e *endpoint) recordDenial(r *stage.Role, flt *openai.Fault) bool {
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

// denialPause returns the pause of a model that was served before: longer after each denial. It is 0
// for a model that was never served.
func (e *endpoint) denialPause(r *stage.Role) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	if !m.everSucceeded {
		return 0
	}
	return firstBackoff << min(m.denials, maxDenials)
}

// isDenied reports whether a denial is lasting.
func (m *modelState) isDenied() bool {
	return m.denial != nil && (!m.everSucceeded || m.denials >= maxDenials && time.Since(m.deniedSince) > denialGrace)
}

// denies reports whether the endpoint lastingly denies a role's model.
func (e *endpoint) denies(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).isDenied()
}

// leaveAlone pauses discovery of a model at the endpoint for a time, unless it is already paused.
func (e *endpoint) leaveAlone(r *stage.Role, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.model(r); time.Now().After(m.leftAloneUntil) {
		m.leftAloneUntil = time.Now().Add(d)
	}
}

func (e *endpoint) leftAlone(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.model(r).leftAloneUntil)
}

func (e *endpoint) succeededSince(t time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.succeededAt.After(t)
}

// recordBusy records that the endpoint's metrics show running requests.
func (e *endpoint) recordBusy() {
	e.mu.Lock()
	e.health.busyAt = time.Now()
	e.mu.Unlock()
}

// busy reports whether requests ran at the endpoint recently. A busy server is alive.
func (e *endpoint) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.health.busyAt) < 5*maxLookInterval
}

func (e *endpoint) lastFault() (message string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.fault, e.health.faultAt
}

// heardOf reports whether any endpoint has ever sent a byte.
func heardOf(endpoints []*endpoint) bool {
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

// sinceSuccess returns the time since the last answer of any of the endpoints.
func sinceSuccess(endpoints []*endpoint) time.Duration {
	least := time.Duration(math.MaxInt64)
	for _, e := range endpoints {
		e.mu.Lock()
		least = min(least, time.Since(e.health.succeededAt))
		e.mu.Unlock()
	}
	return least
}
