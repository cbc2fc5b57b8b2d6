package counters

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/stage"
)

// Meters are the metrics for monitoring. Names and units follow OpenTelemetry's gen_ai conventions where
// these define them.
type Meters struct {
	Registry *prometheus.Registry

	requests    *prometheus.CounterVec
	generations *prometheus.CounterVec
	retries     *prometheus.CounterVec
	tokens      *prometheus.HistogramVec
	duration    *prometheus.HistogramVec

	mu    sync.Mutex
	known map[kind]*answers
}

// kind is the label set of answers, and answers has their metrics. The cache exists because a lookup
// by labels takes longer than parsing an answer's head.
type (
	kind struct {
		role, model, stage, server string
		n                          int
	}
	answers struct {
		requests, generations   prometheus.Counter
		duration, input, output prometheus.Observer
	}
)

// genAI are the labels that the conventions define.
var genAI = slices.Clip([]string{"gen_ai_operation_name", "gen_ai_request_model", "server_address", "stage"})

// NewMeters creates the metrics of a client. Gauges show the state of the limiter. Some counters show
// values of c.
func NewMeters(l *schedule.Limiter, c *Counters) *Meters {
	m := &Meters{
		Registry: prometheus.NewRegistry(), known: map[kind]*answers{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coeval_requests_total", Help: "Requests that ended. The outcome is ok, full (429, 503, 408, 529), stop, or the code of a fault.",
		}, []string{"role", "stage", "server_address", "outcome"}),
		generations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coeval_generations_total", Help: "Choices that arrived. The outcome is ok, or the code of a choice that the server withheld.",
		}, []string{"role", "stage", "server_address", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coeval_retries_total", Help: "Requests that were made again, by cause.",
		}, []string{"stage", "cause"}),
		tokens: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gen_ai_client_token_usage", Help: "Prompt and completion tokens of a request, as the server counts them.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 14), // as in the conventions
		}, append(genAI, "gen_ai_token_type")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gen_ai_client_operation_duration_seconds", Help: "Time from sending a request to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 16), // to 5.5 minutes, as in the conventions and further
		}, append(genAI, "n")),
	}
	m.Registry.MustRegister(m.requests, m.generations, m.retries, m.tokens, m.duration, &levels{limiter: l, counters: c})
	return m
}

// OutcomeOf names the outcome of a request.
func OutcomeOf(flt *fault.Fault) string {
	switch {
	case flt == nil:
		return "ok"
	case flt.Kind == fault.Overloaded:
		return "full"
	case flt.Kind == fault.Denied, flt.Kind == fault.OwnMachine:
		return "stop"
	}
	return flt.Code
}

// A Post is the description of a request in the metrics.
type Post struct {
	Role          *stage.Role
	Stage, Server string
	N             int // choices
}

// Ended counts a request with its answer or fault.
func (m *Meters) Ended(p Post, flt *fault.Fault, took time.Duration, generations []schemas.Generation, has []bool) {
	if flt != nil {
		m.requests.WithLabelValues(p.Role.Name, p.Stage, p.Server, OutcomeOf(flt)).Inc()
		return
	}
	a := m.of(kind{p.Role.Name, p.Role.Model, p.Stage, p.Server, p.N})
	a.requests.Inc()
	a.duration.Observe(took.Seconds())
	for i, ok := range has {
		switch {
		case !ok:
		case generations[i].Code == "":
			a.generations.Inc()
		default:
			m.generations.WithLabelValues(p.Role.Name, p.Stage, p.Server, generations[i].Code).Inc()
		}
	}
	input, output := openai.Usage(generations)
	a.input.Observe(float64(input))
	a.output.Observe(float64(output))
}

// Retried counts a request that is made again.
func (m *Meters) Retried(stage string, flt *fault.Fault) {
	m.retries.WithLabelValues(stage, OutcomeOf(flt)).Inc()
}

func (m *Meters) of(k kind) *answers {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.known[k]
	if a == nil {
		const operation = "chat"
		ok := OutcomeOf(nil)
		a = &answers{
			requests:    m.requests.WithLabelValues(k.role, k.stage, k.server, ok),
			generations: m.generations.WithLabelValues(k.role, k.stage, k.server, ok),
			duration:    m.duration.WithLabelValues(operation, k.model, k.server, k.stage, strconv.Itoa(k.n)),
			input:       m.tokens.WithLabelValues(operation, k.model, k.server, k.stage, "input"),
			output:      m.tokens.WithLabelValues(operation, k.model, k.server, k.stage, "output"),
		}
		m.known[k] = a
	}
	return a
}

// levels collects the gauges, and the counters of prompts and generations.
type levels struct {
	limiter  *schedule.Limiter
	counters *Counters
}

var (
	inFlightLevel = prometheus.NewDesc("coeval_in_flight", "Generations in flight at the server.", []string{"server_address"}, nil)
	heldLevel     = prometheus.NewDesc("coeval_permits_held", "Permits in use by requests. A choice that has probably ended uses none.", []string{"server_address"}, nil)
	permitsLevel  = prometheus.NewDesc("coeval_permits", "Limit of the permits in use, found by the client or set by client.max_in_flight.", []string{"server_address"}, nil)
	waitingLevel  = prometheus.NewDesc("coeval_server_waiting_share", "Estimated choices in the server's queue for each one that it works on.", []string{"server_address"}, nil)
	busyLevel     = prometheus.NewDesc("coeval_slots_busy", "Choices that the server works on: from its metrics page, else estimated for this process. Absent when client.max_in_flight is set.", []string{"server_address"}, nil)
	upLevel       = prometheus.NewDesc("coeval_server_up", "0 while the server is quarantined, otherwise 1.", []string{"server_address"}, nil)
	queueLevel    = prometheus.NewDesc("coeval_queue", "Requests that wait for a permit.", []string{"stage"}, nil)
	promptsLevel  = prometheus.NewDesc("coeval_prompts_total", "Prompts whose stages have ended.", nil, nil)
	replayedLevel = prometheus.NewDesc("coeval_replayed_total", "Generations read from the journal.", nil, nil)
	failedLevel   = prometheus.NewDesc("coeval_failed_total", "Generations that failed for good.", nil, nil)
)

// Describe implements [prometheus.Collector]. It names all metrics, including those without a value.
func (l *levels) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{inFlightLevel, heldLevel, permitsLevel, waitingLevel, busyLevel, upLevel, queueLevel, promptsLevel, replayedLevel, failedLevel} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (l *levels) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	states, queues := l.limiter.States()
	for _, s := range byName(states) {
		gauge(inFlightLevel, float64(s.Outstanding), s.Name)
		gauge(heldLevel, s.InFlight, s.Name)
		gauge(permitsLevel, s.Permits, s.Name)
		gauge(waitingLevel, s.WaitingShare, s.Name)
		if s.Running >= 0 {
			gauge(busyLevel, s.Running, s.Name)
		}
		up := 1.0
		if s.Quarantined {
			up = 0
		}
		gauge(upLevel, up, s.Name)
	}
	for stage, n := range queues {
		gauge(queueLevel, float64(n), stage)
	}
	w := l.counters
	for d, n := range map[*prometheus.Desc]int64{promptsLevel: w.Prompts.Load(), replayedLevel: w.Replayed.Load(), failedLevel: w.Failed.Load()} {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
}

// byName merges the states of endpoints that differ in their key alone, because labels must be unique.
func byName(states []schedule.State) map[string]schedule.State {
	out := map[string]schedule.State{}
	for _, s := range states {
		was, also := out[s.Name]
		if !also {
			was.Running = s.Running
		}
		s.Outstanding += was.Outstanding
		s.InFlight += was.InFlight
		s.Permits += was.Permits
		s.WaitingShare = max(s.WaitingShare, was.WaitingShare)
		s.Running = max(s.Running, was.Running)
		s.Quarantined = s.Quarantined || was.Quarantined
		out[s.Name] = s
	}
	return out
}
