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

// A Snapshot is what a process has done so far in a run.
type Snapshot struct {
	// Prompts is the number of finished dossiers, Asked of those for which a server was asked. Begun
	// is the number of dossiers finished or in progress.
	Prompts, Asked, Begun int64
	// Requests is the number sent. Generations came from servers, and Replayed from the journal.
	// Failed is the number of both that are final failures, and ReplayedFailed of those replayed.
	// Retries is the number of requests sent again.
	Requests, Generations, Replayed, Failed, ReplayedFailed, Retries int64
	// InFlight is the number of generations that are asked for now, Permits the limit.
	InFlight, Permits int64
	// InFlightByStage splits InFlight.
	InFlightByStage map[string]int64
	// Calls are those of each stage, of failed bundles as well: they are paid for.
	Calls map[string]schemas.CallTally
	// Held is the number of permits in use: choices that are probably done hold none.
	Held float64
	// PermitUse is the mean share of permits in use from the first request to the last answer.
	PermitUse float64
	// Asking is the time from the first request to the last answer.
	Asking time.Duration
	// Warnings are for people, each once.
	Warnings []string
	// LastFault is the fault of the last request that was sent again, or empty.
	LastFault string
	// Failures are the final failures by role, code and message, the most common first.
	Failures []Failure
}

// A Failure counts calls that failed for good in the same way.
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

// Counters count what a process does in a run, for people and for the report. They decide nothing.
// They are safe for concurrent use, and the zero value is ready.
type Counters struct {
	// Prompts, Replayed and the like are added to by the owner of the run.
	Prompts, Asked, Begun, Generations, Replayed, Failed, ReplayedFailed atomic.Int64

	requests, retries atomic.Int64
	// pending is the number of requests that were sent and whose answers are not in the journal.
	// After that the journal's Flush and Close make them durable.
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
	odd      map[string]bool // what was warned of
	// beginnings counts texts by role and the tag that they begin with; all texts under no tag.
	beginnings map[[2]string]int
}

// Warn keeps a sentence for people, once.
func (c *Counters) Warn(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.warnings, s) {
		c.warnings = append(c.warnings, s)
	}
}

// warnOnce is Warn for a sentence whose key was not warned of.
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
	c.warnOnce("finish "+reason, fmt.Sprintf("%s ends texts with the finish reason %q, which is not known: these texts count as cut off", server, reason))
}

func (c *Counters) recordThoughtsOnly(server, role string) {
	c.warnOnce("thoughts "+role, fmt.Sprintf("%s answers the %s with reasoning_content and no text: max_tokens may end before the thoughts do. Raise max_tokens, or turn thinking off in extra_body", server, role))
}

// minBeginnings is the number of texts of a role from which a tag that most of them begin with is
// reported.
const minBeginnings = 20

// recordBeginning counts the texts of a role, and those that begin with a tag which is closed later.
// It warns once when most texts begin with the same one.
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

// maxFailures bounds the different failures that are kept apart.
const maxFailures = 64

// RecordFailure counts a call of a role that failed for good.
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

// permitsChanged is for the limiter.
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

// delivered notes that the answer of a request is in the journal, or that none is to come.
func (c *Counters) delivered() { c.pending.Add(-1) }

// Pending returns the number of requests whose answers are not delivered.
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
		LastFault: c.fault, Warnings: slices.Clone(c.warnings), Asking: max(0, c.answered.Sub(c.first)),
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

// A Tally counts the calls of one bundle by stage. The zero value counts for itself alone. It is safe
// for concurrent use.
type Tally struct {
	// total counts the calls of all bundles; nil if nobody wants to know.
	total *Tally

	mu    sync.Mutex
	calls map[string]schemas.CallTally
}

// NewTally returns a tally whose calls are counted in c, too.
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

// Counts returns the counts so far.
func (t *Tally) Counts() map[string]schemas.CallTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.calls) // Add changes no map of a tally's
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
