package fleet

import (
	"context"
	"net/http"
	"time"

	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/policy"
	"coeval/transforms/stage"
)

const (
	// maxReadingInterval is the longest time between two readings of a server's queue.
	maxReadingInterval = 2 * time.Second
	// metricsRetry is the time until a missing metrics page is requested again.
	metricsRetry = time.Minute
	// maxMetrics bounds the page, metricsTimeout its time.
	maxMetrics     = 8 << 20
	metricsTimeout = 2 * time.Second
	// shortTokens is the length of a request that measures the waiting time.
	shortTokens = 1
	// maxEmptyReadings is how often gauges may show neither running nor waiting requests while requests
	// are in flight. After that they count as another server's gauges.
	maxEmptyReadings = 20
	// maxShortRefusals is how often a server may refuse short requests before observeQueue stops
	// sending them.
	maxShortRefusals = 3
)

// startObserving observes an endpoint's silence and queue from now on. Further calls do nothing.
func (f *Fleet) startObserving(e *endpoint.Endpoint, r *stage.Role) {
	if !e.Observe() {
		return
	}
	f.start(func() {
		e.WatchSilence(f.ctx, f.options.Patience, func() time.Duration { return f.limiter.Latency(e.Server) })
	})
	if !e.Server.FixedLimit() {
		f.start(func() { f.observeQueue(f.ctx, e, r) })
	}
}

// observeQueue observes the queue of an endpoint while requests are in flight, until ctx ends. It reads the
// server's metrics. Without metrics it sends a request for one token now and then, unless the server reports a
// request limit or is paused.
func (f *Fleet) observeQueue(ctx context.Context, e *endpoint.Endpoint, r *stage.Role) {
	var metricsAt time.Time    // the time of the next request for metrics
	var shortest time.Duration // the shortest time of a request for one token
	useless := false           // short requests are no evidence here
	empty, refused := 0, 0
	for sleep(ctx, f.limiter.ReadingInterval(e.Server)) {
		if f.limiter.Idle(e.Server) {
			continue
		}
		if now := time.Now(); !now.Before(metricsAt) {
			running, waiting, ok := gauges(ctx, e)
			if empty++; running+waiting > 0 {
				empty = 0
			}
			if ok && running > 0 {
				e.RecordBusy()
			}
			if ok && empty < maxEmptyReadings {
				f.limiter.ObserveQueue(e.Server, running, waiting)
				continue
			}
			if !ok && e.SGLang.Load() {
				f.counters.RecordMissingMetrics(e.Name)
			}
			metricsAt, empty = now.Add(metricsRetry), 0
			f.limiter.ForgetQueue(e.Server)
		}
		if useless || f.limiter.Metered(e.Server) || f.limiter.Paused(e.Server) {
			continue
		}
		took, flt := f.askShort(ctx, e, r)
		if flt != nil && flt.Kind != fault.NoChoice {
			if do := policy.Of(flt.Kind).Action; do == policy.Fail || do == policy.Deny {
				refused++
			}
			useless = refused >= maxShortRefusals
			if !sleep(ctx, maxReadingInterval) {
				return
			}
			continue
		}
		e.RecordSuccess(r)
		if shortest == 0 || took < shortest {
			shortest = took
		}
		useless = !f.limiter.ObserveWait(e.Server, took, shortest)
	}
}

// askShort sends a short request, and returns its duration.
func (f *Fleet) askShort(ctx context.Context, e *endpoint.Endpoint, r *stage.Role) (time.Duration, *fault.Fault) {
	q := probeRequest(r, 1)
	q.role.MaxTokens = shortTokens
	began := time.Now()
	_, _, flt := f.send(ctx, e, &q, f.own)
	return time.Since(began), flt
}

// gauges reads the numbers of running and waiting requests at a server. It returns false without a page.
func gauges(ctx context.Context, e *endpoint.Endpoint) (running, waiting float64, ok bool) {
	a, err := e.Get(ctx, e.MetricsURL(), maxMetrics, metricsTimeout)
	if err != nil || a.Status != http.StatusOK {
		return 0, 0, false
	}
	return openai.ReadGauges(a.Body)
}
