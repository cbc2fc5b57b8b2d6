package fleet

import (
	"context"
	"math"
	"time"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

// health is what one endpoint's answers have shown, under the endpoint's lock. An endpoint is in
// one of these states, by what came last:
//
//	unknown ──first answer──► answering ◄────────any byte──────────┐
//	   │                          └──silence, and no model list──► unresponsive: requests are dropped
//	   └──no answer to its discovery──► left alone for a while, then discovered anew
//
// A model that is denied is left alone in the same way: see [modelState]. Quarantine after failures, and the pause of an overloaded server, are the limiter's.
type health struct {
	// succeededAt is when the endpoint last did what it should. Everything that is asked how long
	// nobody has answered begins with the endpoint's creation.
	succeededAt time.Time
	// everSent reports whether any byte ever came.
	everSent bool
	// discoverySince is when the current discovery began, zero if there is none.
	discoverySince time.Time
	// signAskedAt is when it was last asked for a sign of life.
	signAskedAt time.Time
	// busyAt is when its metrics last showed running requests.
	busyAt time.Time
	// fault is the last one, at faultAt.
	fault   string
	faultAt time.Time

	// outstanding is the number of requests in flight, lastByteAt when anything came or the first of
	// them began, and timesDropped how often all of them were cancelled because nothing did.
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

// A server may die without a word, with its machine or in a lock of its own. A time-out by size would
// then hold its requests for minutes, and the run's patience would only begin after it. So an
// endpoint with requests in flight that has sent nothing for some time is asked for its list of
// models, which takes a server no time. Any answer is one. Some servers can't answer while they
// generate: each time that the requests of one are dropped its silence may last twice as long.
const (
	// An endpoint is asked after patience/quietPart or quietLatencies mean latencies without a byte,
	// whichever is longer, and after half of the patience before its first answer. It is unresponsive
	// after maxSilentLooks requests in a row without an answer. The time doubles maxDoublings times.
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

// answersModels reports whether the server sends anything when it is asked for its models.
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

// whileAlive returns a context that also ends when the requests in flight are dropped. The caller
// calls the function when the request is over.
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

// addOutstanding counts requests in flight.
func (e *endpoint) addOutstanding(by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.health.outstanding == 0 {
		e.health.lastByteAt = time.Now() // earlier bytes are no sign that it received this request
	}
	e.health.outstanding += by
}

// recordBytes notes that the endpoint sent something.
func (e *endpoint) recordBytes() {
	e.mu.Lock()
	e.health.lastByteAt, e.health.everSent = time.Now(), true
	e.mu.Unlock()
}

// recordSuccess notes that the endpoint did what it should for a role.
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
	// A model that was served before is lastingly denied after maxDenials without an answer between,
	// for longer than denialGrace. Gateways deny a request, or all of a moment, now and then.
	maxDenials  = 3
	denialGrace = 3 * time.Second
	// leaveDenying is how long a server that denies is left alone while others answer.
	leaveDenying = time.Minute
	// silencePause is how long a server that does not answer its discovery is left alone.
	silencePause = 10 * time.Second
)

// recordDenial notes a denial of a role's model. It reports whether it stands: the model has never
// answered there, or is denied again and again.
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

// denialPause returns how long a model that was served before is not asked for after a denial: longer
// each time, and 0 if it was never served.
func (e *endpoint) denialPause(r *stage.Role) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.model(r)
	if !m.everSucceeded {
		return 0
	}
	return firstBackoff << min(m.denials, maxDenials)
}

// isDenied reports whether a denial stands.
func (m *modelState) isDenied() bool {
	return m.denial != nil && (!m.everSucceeded || m.denials >= maxDenials && time.Since(m.deniedSince) > denialGrace)
}

// denies reports whether the endpoint lastingly denies a role's model.
func (e *endpoint) denies(r *stage.Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.model(r).isDenied()
}

// leaveAlone keeps the endpoint out of discoveries of a model for a time, unless it is left alone
// already.
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

// recordBusy notes that the endpoint's metrics show running requests.
func (e *endpoint) recordBusy() {
	e.mu.Lock()
	e.health.busyAt = time.Now()
	e.mu.Unlock()
}

// busy reports whether requests ran at the endpoint not long ago: a full server that works is alive.
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

// heardOf reports whether any endpoint ever sent a byte.
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

// sinceSuccess returns how long none of the endpoints has answered.
func sinceSuccess(endpoints []*endpoint) time.Duration {
	least := time.Duration(math.MaxInt64)
	for _, e := range endpoints {
		e.mu.Lock()
		least = min(least, time.Since(e.health.succeededAt))
		e.mu.Unlock()
	}
	return least
}
