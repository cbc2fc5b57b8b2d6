package infer

import (
	"context"
	"errors"
	"time"
)

// A request may take long, and a time-out by its size lets it. A server that died without a word,
// with its machine or in its own lock, would hold it that long, and only then the run's patience
// would begin. So one that owes answers and has said nothing at all for a while is asked for its
// models, which takes a server no time, whatever it works on: any answer will do. Some can't answer
// while they generate: so each time that one is given up it may be silent for twice as long.

// errDeaf is why requests to a server that says nothing any more are given up.
var errDeaf = errors.New("it has long said nothing, not even which models it has")

const (
	// A server is asked for a sign when it was silent for a deafPart of the patience or for
	// deafTimes what answers take there, whichever is longer, and before its first answer for half
	// of the patience. After deafLooks signs in a row that don't come it is given up. The time doubles
	// mostDeafer times.
	deafPart   = 5
	deafTimes  = 3
	deafLooks  = 3
	mostDeafer = 3
)

// listen gives up what an endpoint owes when it says nothing any more, until ctx ends.
func (f *fleet) listen(ctx context.Context, e *endpoint) {
	look := f.options.Patience / (deafPart * deafLooks)
	for missed := 0; pauseFor(ctx, look); {
		if !f.deaf(e) || f.speaks(ctx, e, look) {
			missed = 0
			continue
		}
		if missed++; missed < deafLooks || !f.deaf(e) || ctx.Err() != nil {
			continue
		}
		missed = 0
		e.giveUpAll()
	}
}

// giveUpAll ends what is asked of an endpoint now.
func (e *endpoint) giveUpAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.givenUp++
	e.heard = time.Now()
	if e.target != nil {
		e.target.Drop(errDeaf)
		return
	}
	e.giveUp(errDeaf)
	e.alive, e.giveUp = context.WithCancelCause(context.Background())
}

// deaf says that an endpoint owes answers and has long said nothing.
func (f *fleet) deaf(e *endpoint) bool {
	typical := f.limiter.Latency(e.server)
	least := f.options.Patience / 2
	if typical > 0 {
		least = max(f.options.Patience/deafPart, deafTimes*typical)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.owed > 0 && time.Since(e.heard) > least<<min(e.givenUp, mostDeafer)
}

// speaks asks a server for its models, and returns whether anything came.
func (f *fleet) speaks(ctx context.Context, e *endpoint, within time.Duration) bool {
	a, _ := f.get(ctx, e, e.base()+modelsPath, bodyFloor, min(within, dialTimeout))
	return a != nil
}

// hear takes note that an endpoint said something.
func (e *endpoint) hear() {
	e.mu.Lock()
	e.heard = time.Now()
	e.mu.Unlock()
}

// owes takes note that an endpoint has one more request to answer, or one less.
func (e *endpoint) owes(by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.owed == 0 {
		e.heard = time.Now() // what it said before is no sign that it hears this
	}
	e.owed += by
}

// whileAlive returns a context for a request over net/http, which ends when the endpoint is given
// up, and what to call when the request is over.
func (e *endpoint) whileAlive(ctx context.Context) (context.Context, func()) {
	e.mu.Lock()
	alive := e.alive
	e.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(alive, func() { cancel(context.Cause(alive)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
