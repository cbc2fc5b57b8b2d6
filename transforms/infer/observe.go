package infer

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// How a server is watched, so that its pace is known.
const (
	// slowLook is the longest time between two looks at a server's queue.
	slowLook = 2 * time.Second
	// lookAgain is when metrics are looked for once more that were not there.
	lookAgain = time.Minute
	// metricsMost bounds the page of metrics, metricsTimeout how long it may take.
	metricsMost    = 8 << 20
	metricsTimeout = 2 * time.Second
	// shortTokens is what a request asks for that finds out how long requests wait.
	shortTokens = 1
	// emptyLooks is how often gauges may say that nothing runs and nothing waits, while requests
	// are out, before they are somebody else's.
	emptyLooks = 20
)

// observe watches the queue of an endpoint while requests are out, until ctx ends. It reads
// the server's metrics; where there are none it asks for one token now and then, unless the
// server says how many requests it allows.
func (f *fleet) observe(ctx context.Context, e *endpoint, r *Role) {
	var metricsAt time.Time // when to look for metrics next
	var base time.Duration  // the least that a request for one token took
	useless := false        // such requests tell nothing here
	nothing, refused := 0, 0
	for pauseFor(ctx, f.limiter.LookInterval(e.server)) {
		if f.limiter.Idle(e.server) {
			continue
		}
		if now := time.Now(); !now.Before(metricsAt) {
			running, waiting, ok := f.gauges(ctx, e)
			if nothing++; running+waiting > 0 {
				nothing = 0
			}
			if ok && running > 0 {
				e.isBusy()
			}
			if ok && nothing < emptyLooks {
				f.limiter.ObserveQueue(e.server, running, waiting)
				continue
			}
			metricsAt, nothing = now.Add(lookAgain), 0
			f.limiter.ForgetQueue(e.server)
		}
		if useless || f.limiter.Metered(e.server) {
			continue
		}
		took, flt := f.short(ctx, e, r)
		if flt != nil {
			if flt.treatment == refuse || flt.treatment == stop {
				refused++
			}
			useless = refused >= 3
			if !pauseFor(ctx, slowLook) {
				return
			}
			continue
		}
		e.succeeded()
		if base == 0 || took < base {
			base = took
		}
		useless = !f.limiter.ObserveWait(e.server, took, base)
	}
}

// pauseFor returns false when ctx ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// short asks for next to nothing and returns how long that took.
func (f *fleet) short(ctx context.Context, e *endpoint, r *Role) (time.Duration, *fault) {
	q := probeRequest(r, 1)
	q.role.MaxTokens = shortTokens
	began := time.Now()
	_, _, flt := f.post(ctx, e, &q, &f.own)
	return time.Since(began), flt
}

// gauges reads how many requests run and wait at a server, of vLLM, SGLang or llama.cpp.
func (f *fleet) gauges(ctx context.Context, e *endpoint) (running, waiting float64, ok bool) {
	a, err := f.get(ctx, e, strings.TrimSuffix(e.base(), "/v1")+"/metrics", metricsMost, metricsTimeout)
	if err != nil || a.Status != http.StatusOK {
		return 0, 0, false
	}
	return parseGauges(a.Body)
}

// gaugeNames are the names of what runs and what waits, by server.
var gaugeNames = [][2]string{
	{"vllm:num_requests_running", "vllm:num_requests_waiting"},
	{"sglang:num_running_reqs", "sglang:num_queue_reqs"},
	{"llamacpp:requests_processing", "llamacpp:requests_deferred"},
}

// parseGauges sums the gauges over their labels, which tell models and ranks apart. Both have
// to be there.
func parseGauges(page []byte) (running, waiting float64, ok bool) {
	var sums [2]float64
	var seen [2]bool
	lines := bufio.NewScanner(bytes.NewReader(page))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := sample(lines.Text())
		if !ok {
			continue
		}
		for _, names := range gaugeNames {
			for i := range names {
				if name == names[i] {
					sums[i] += value
					seen[i] = true
				}
			}
		}
	}
	return sums[0], sums[1], seen[0] && seen[1] && lines.Err() == nil
}

// sample reads one line of the Prometheus text format: name{labels} value [time].
func sample(line string) (name string, value float64, ok bool) {
	if end := strings.LastIndexByte(line, '}'); end >= 0 {
		name, _, _ = strings.Cut(line, "{")
		line = line[end+1:]
	} else {
		name, line, _ = strings.Cut(line, " ")
	}
	fields := strings.Fields(line)
	if len(fields) == 0 || name == "" || name[0] == '#' {
		return "", 0, false
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	return name, v, err == nil && v >= 0 && v < 1e9
}
