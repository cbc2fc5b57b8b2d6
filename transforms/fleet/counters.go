package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
)

// A Snapshot has the counts of a process in a run so far.
type Snapshot struct {
	// Prompts is the number of finished dossiers, Asked the number among them with requests to a
	// server. Begun is the number of dossiers finished or in progress.
	Prompts, Asked, Begun int64
	// Requests is the number of requests sent. Generations came from servers, Replayed from the
	// journal. Failed counts the final failures among both, ReplayedFailed those among Replayed.
	// Retries is the number of repeated requests.
	Requests, Generations, Replayed, Failed, ReplayedFailed, Retries int64
	// InFlight is the number of generations in flight, Permits the limit.
	InFlight, Permits int64
	// InFlightByStage has InFlight by stage.
	InFlightByStage map[string]int64
	// Calls has the tally of each stage. It includes failed bundles, because their calls cost as much.
	Calls map[string]schemas.CallTally
	// Held is the number of permits in use. Choices that have probably ended use none.
	Held float64
	// PermitUse is the mean share of permits in use from the first request to the last answer.
	PermitUse float64
	// Asking is the time from the first request to the last answer.
	Asking time.Duration
	// Warnings are sentences for the user, without repetitions.
	Warnings []string
	// LastFault is the fault of the last repeated request, empty if there is none.
	LastFault string
	// UnknownFinishes counts texts that count as cut off, since their finish reason is not known.
	UnknownFinishes map[string]int64
	// Failures are the final failures by role, code and message, the most common first.
	Failures []Failure
}

// A Failure counts final failures of one kind.
type Failure struct {
	Role, Code string
	// Message quotes the server.
	Message string
	Count   int64
}

// permitUse integrates permits over time.
type permitUse struct {
	held      float64 // permits in use × seconds
	available float64 // permits × seconds
}

// Counters count the work of a process in a run, for the user and the report. No decision depends on
// them. They are safe for concurrent use, and the zero value is ready.
type Counters struct {
	// The owner of the run adds to these.
	Prompts, Asked, Begun, Generations, Replayed, Failed, ReplayedFailed atomic.Int64

	requests, retries atomic.Int64
	// pending is the number of requests in flight or with answers that are not yet in the journal.
	// The journal's Flush and Close make the others durable.
	pending atomic.Int64
	calls   Tally

	mu       sync.Mutex
	permits  int64
	held     float64
	inFlight int64
	byStage  map[string]int64
	first    time.Time // first request
	last     time.Time // last change of permits or requests
	use      permitUse // until last
	answered time.Time // last answer
	useThen  permitUse // until answered, as permits come and go after it
	fault    string
	warnings []string
	failures map[Failure]int64
	odd      map[string]bool // keys of warnings
	// unknownFinishes counts the texts with unknown finish reasons.
	unknownFinishes map[string]int64
	// beginnings counts texts by role and opening tag. The empty tag has the number of all texts.
	beginnings map[[2]string]int
}

// Warn adds a warning for the user. It ignores repetitions.
func (c *Counters) Warn(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.warnings, s) {
		c.warnings = append(c.warnings, s)
	}
}

// warnOnce is Warn for a sentence whose variable parts are not in the key.
func (c *Counters) warnOnce(key, sentence string) {
	c.mu.Lock()
	known := c.odd[key] || len(c.odd) >= maxFailures
	if !known {
		if c.odd == nil {
			c.odd = map[string]bool{}
		}
		c.odd[key] = true
	}
	c.mu.Unlock()
	if !known {
		c.Warn(sentence)
	}
}

func (c *Counters) recordUnknownFinish(server, reason string) {
	c.mu.Lock()
	if c.unknownFinishes == nil {
		c.unknownFinishes = map[string]int64{}
	}
	if _, known := c.unknownFinishes[reason]; !known && len(c.unknownFinishes) >= maxFailures {
		reason = "(others)"
	}
	c.unknownFinishes[reason]++
	c.mu.Unlock()
	c.warnOnce("finish "+reason, fmt.Sprintf("%s ends texts with the finish reason %q, which is not known: these texts count as cut off", server, reason))
}

func (c *Counters) recordCutPrompts(server, model string, sizes promptSizes) {
	c.warnOnce("prompts "+server+" "+model, fmt.Sprintf("%s reports %d prompt tokens for requests of %d and of %d bytes alike: it seems to cut prompts of %s without an error, and texts are answered and judged by a part of them. Raise its context length (OLLAMA_CONTEXT_LENGTH at Ollama), then run again with a new worker.revision",
		server, sizes.tokens, sizes.shortest, sizes.longest, model))
}

func (c *Counters) recordMissingMetrics(server string) {
	c.warnOnce("metrics "+server, fmt.Sprintf("%s is an SGLang server without /metrics: its queue is not seen, and more requests than needed may wait there. Start it with --enable-metrics", server))
}

func (c *Counters) recordThoughtsOnly(server, role string) {
	c.warnOnce("thoughts "+role, fmt.Sprintf("%s answers the %s with reasoning_content and no text: max_tokens may end before the thoughts do. Raise max_tokens, or turn thinking off in extra_body", server, role))
}

// minBeginnings is the number of texts of a role from which their common opening tag is reported.
const minBeginnings = 20

// recordBeginning counts the texts of a role, and those with an opening tag that is closed later. It
// warns once when most texts begin with the same tag.
func (c *Counters) recordBeginning(role, tag string, tagged bool) {
	c.mu.Lock()
	if c.beginnings == nil {
		c.beginnings = map[[2]string]int{}
	}
	c.beginnings[[2]string{role}]++
	n, all := 0, c.beginnings[[2]string{role}]
	if key := [2]string{role, tag}; tagged && (c.beginnings[key] > 0 || len(c.beginnings) < maxFailures) {
		c.beginnings[key]++
		n = c.beginnings[key]
	}
	c.mu.Unlock()
	if tagged && all >= minBeginnings && 2*n > all {
		c.warnOnce("tag "+role+" "+tag, fmt.Sprintf("most texts of the %s begin with %s, which a closing tag ends: they may be thoughts, and are judged and trained on. If so, add %q to method.reasoning_tags and run again: the answers replay, and only calls about other texts are made", role, tag, tag))
	}
}

// maxFailures is the largest number of different failures in a snapshot.
const maxFailures = 64

// RecordFailure counts a final failure of a role's call.
func (c *Counters) RecordFailure(role, code, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures == nil {
		c.failures = map[Failure]int64{}
	}
	key := Failure{Role: role, Code: code, Message: message}
	if _, known := c.failures[key]; !known && len(c.failures) >= maxFailures {
		key.Message = "(other messages)"
	}
	c.failures[key]++
}

// permitsChanged records the limiter's permits.
func (c *Counters) permitsChanged(permits int, held float64) {
	c.change("", 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.permits += int64(permits)
	c.held += held
}

func (c *Counters) requestStarted(stage string, n int) {
	c.pending.Add(1)
	c.change(stage, int64(n))
}

func (c *Counters) requestEnded(stage string, n int) { c.change(stage, -int64(n)) }

// delivered records that the answer of a request is in the journal, or that there will be none.
func (c *Counters) delivered() { c.pending.Add(-1) }

// Pending returns the number of undelivered requests.
func (c *Counters) Pending() int64 { return c.pending.Load() }

func (c *Counters) change(stage string, n int64) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first.IsZero() {
		if n == 0 {
			return
		}
		c.first, c.last = now, now
	}
	c.use.held += c.held * now.Sub(c.last).Seconds()
	c.use.available += float64(c.permits) * now.Sub(c.last).Seconds()
	c.last = now
	c.inFlight += n
	if n < 0 {
		c.answered, c.useThen = now, c.use
	}
	if n != 0 {
		if c.byStage == nil {
			c.byStage = map[string]int64{}
		}
		c.byStage[stage] += n
	}
}

func (c *Counters) recordRetry(flt *openai.Fault) {
	c.retries.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = flt.Message
}

// Snapshot returns the counts so far.
func (c *Counters) Snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Snapshot{
		Prompts: c.Prompts.Load(), Asked: c.Asked.Load(), Begun: c.Begun.Load(), Requests: c.requests.Load(), Generations: c.Generations.Load(),
		Replayed: c.Replayed.Load(), Failed: c.Failed.Load(), ReplayedFailed: c.ReplayedFailed.Load(), Retries: c.retries.Load(),
		Calls: c.calls.Counts(), InFlight: c.inFlight, InFlightByStage: maps.Clone(c.byStage), Permits: c.permits, Held: c.held,
		LastFault: c.fault, Warnings: slices.Clone(c.warnings), UnknownFinishes: maps.Clone(c.unknownFinishes), Asking: max(0, c.answered.Sub(c.first)),
	}
	if c.useThen.available > 0 {
		s.PermitUse = c.useThen.held / c.useThen.available
	}
	for f, n := range c.failures {
		f.Count = n
		s.Failures = append(s.Failures, f)
	}
	slices.SortFunc(s.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	return s
}

// A Tally counts the calls of one bundle by stage. The zero value is ready. It is safe for concurrent
// use.
type Tally struct {
	// total counts the calls of all bundles. It may be nil.
	total *Tally

	mu    sync.Mutex
	calls map[string]schemas.CallTally
}

// NewTally returns a tally whose calls also count in c.
func (c *Counters) NewTally() *Tally { return &Tally{total: &c.calls} }

// Add adds calls of a stage.
func (t *Tally) Add(stage string, calls schemas.CallTally) {
	if t.total != nil {
		t.total.Add(stage, calls)
	}
	t.addUncounted(stage, calls)
}

func (t *Tally) addUncounted(stage string, calls schemas.CallTally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = map[string]schemas.CallTally{}
	}
	t.calls[stage] = t.calls[stage].Plus(calls)
}

func (t *Tally) addRequest(stage string, n int, took time.Duration) {
	t.Add(stage, schemas.CallTally{Requests: 1, RequestMicros: took.Microseconds(), GenerationMicros: int64(n) * took.Microseconds()})
}

func (t *Tally) addRetry(stage, code string) {
	t.Add(stage, schemas.CallTally{Retries: 1, RetriesByCode: map[string]int64{code: 1}})
}

// Counts returns a copy of the counts.
func (t *Tally) Counts() map[string]schemas.CallTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.calls) // Add never changes a value's own map
}

// Take returns the counts and resets them.
func (t *Tally) Take() map[string]schemas.CallTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls := t.calls
	t.calls = nil
	if calls == nil {
		calls = map[string]schemas.CallTally{}
	}
	return calls
}
