package fleet

import (
	"context"
	"net/http"
	"time"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

const (
	// maxLookInterval is the longest time between two looks at a server's queue.
	maxLookInterval = 2 * time.Second
	// metricsRetry is when a metrics page that was not there is looked for again.
	metricsRetry = time.Minute
	// maxMetrics bounds the page, metricsTimeout how long it may take.
	maxMetrics     = 8 << 20
	metricsTimeout = 2 * time.Second
	// shortTokens is the length of a request that measures how long requests wait.
	shortTokens = 1
	// maxEmptyLooks is how often gauges may show that nothing runs and nothing waits while requests
	// are in flight, until they count as another server's.
	maxEmptyLooks = 20
	// maxShortRefusals is how often a server may refuse short requests until they are given up.
	maxShortRefusals = 3
)

// startObserving watches an endpoint's silence and queue from now on, once.
func (f *Fleet) startObserving(e *endpoint, r *stage.Role) {
	e.mu.Lock()
	first := !e.observed
	e.observed = true
	e.mu.Unlock()
	if !first {
		return
	}
	f.start(func() { f.watchSilence(f.ctx, e) })
	if !e.server.FixedLimit() {
		f.start(func() { f.observeQueue(f.ctx, e, r) })
	}
}

// observeQueue watches the queue of an endpoint while requests are in flight, until ctx ends. It
// reads the server's metrics. Where there are none it asks for one token now and then, unless the
// server reports how many requests it allows.
func (f *Fleet) observeQueue(ctx context.Context, e *endpoint, r *stage.Role) {
	var metricsAt time.Time // when to look for metrics next
	var least time.Duration // that a request for one token took
	useless := false        // such requests are no evidence here
	empty, refused := 0, 0
	for sleep(ctx, f.limiter.LookInterval(e.server)) {
		if f.limiter.Idle(e.server) {
			continue
		}
		if now := time.Now(); !now.Before(metricsAt) {
			running, waiting, ok := e.gauges(ctx)
			if empty++; running+waiting > 0 {
				empty = 0
			}
			if ok && running > 0 {
				e.recordBusy()
			}
			if ok && empty < maxEmptyLooks {
				f.limiter.ObserveQueue(e.server, running, waiting)
				continue
			}
			metricsAt, empty = now.Add(metricsRetry), 0
			f.limiter.ForgetQueue(e.server)
		}
		if useless || f.limiter.Metered(e.server) {
			continue
		}
		took, flt := f.askShort(ctx, e, r)
		if flt != nil && flt.Kind != openai.NoChoice {
			if do := policy[flt.Kind].action; do == actFail || do == actDeny {
				refused++
			}
			useless = refused >= maxShortRefusals
			if !sleep(ctx, maxLookInterval) {
				return
			}
			continue
		}
		e.recordSuccess(r)
		if least == 0 || took < least {
			least = took
		}
		useless = !f.limiter.ObserveWait(e.server, took, least)
	}
}

// askShort asks for next to nothing, and returns how long that took.
func (f *Fleet) askShort(ctx context.Context, e *endpoint, r *stage.Role) (time.Duration, *openai.Fault) {
	q := probeRequest(r, 1)
	q.role.MaxTokens = shortTokens
	began := time.Now()
	_, _, flt := f.send(ctx, e, &q, &f.own)
	return time.Since(began), flt
}

// gauges reads how many requests run and wait at a server. It reports false if there is no page.
func (e *endpoint) gauges(ctx context.Context) (running, waiting float64, ok bool) {
	a, err := e.get(ctx, e.metricsURL(), maxMetrics, metricsTimeout)
	if err != nil || a.status != http.StatusOK {
		return 0, 0, false
	}
	return openai.ReadGauges(a.body)
}
