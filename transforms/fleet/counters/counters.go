// Package counters counts the work of a process in a run: for the user, for the report, and for a
// monitoring system. No decision depends on a count, with one exception: Fleet.Settle waits, for at most 20
// seconds, until every answer in flight has been delivered.
package counters

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/openai/fault"
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
	// Held is the number of permits in use. A choice that has probably ended uses none.
	Held float64
	// PermitUse is the mean share of permits in use from the first request to the last answer.
	PermitUse float64
	// Asking is the time from the first request to the last answer.
	Asking time.Duration
	// Warnings are sentences for the user, without repetitions. Notes report the discovered properties of
	// servers.
	Warnings, Notes []string
	// Patience is how long the run waits while no server of a role answers, by the last fault; 0 before any.
	Patience time.Duration
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

// Counters count the work of a process in a run, for the user and the report. Only Fleet.Settle reads
// them for a decision: it waits until Pending is 0. They are safe for concurrent use, and the zero value
// is ready.
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
	patience time.Duration
	warnings []string
	notes    []string
	failures map[Failure]int64
	odd      map[string]bool // keys of warnings
	// unknownFinishes counts the texts with unknown finish reasons.
	unknownFinishes map[string]int64
	// beginnings counts texts by role and opening tag. The empty tag has the number of all texts.
	beginnings map[[2]string]int
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

// RequestSent counts a request that is sent.
func (c *Counters) RequestSent() { c.requests.Add(1) }

// PermitsChanged records the limiter's permits.
func (c *Counters) PermitsChanged(permits int, held float64) {
	c.change("", 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.permits += int64(permits)
	c.held += held
}

// RequestStarted records that a request for n choices has its permits.
func (c *Counters) RequestStarted(stage string, n int) {
	c.pending.Add(1)
	c.change(stage, int64(n))
}

// RequestEnded records the end of a request for n choices.
func (c *Counters) RequestEnded(stage string, n int) { c.change(stage, -int64(n)) }

// Delivered records that the answer of a request is in the journal, or that there will be none.
func (c *Counters) Delivered() { c.pending.Add(-1) }

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

// RecordRetry counts a request that is made again.
func (c *Counters) RecordRetry(flt *fault.Fault) {
	c.retries.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = flt.Message
}

// SetPatience records how long the run waits while no server of a role answers.
func (c *Counters) SetPatience(patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = patience
}

// Snapshot returns the counts so far.
func (c *Counters) Snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Snapshot{
		Prompts: c.Prompts.Load(), Asked: c.Asked.Load(), Begun: c.Begun.Load(), Requests: c.requests.Load(), Generations: c.Generations.Load(),
		Replayed: c.Replayed.Load(), Failed: c.Failed.Load(), ReplayedFailed: c.ReplayedFailed.Load(), Retries: c.retries.Load(),
		Calls: c.calls.Counts(), InFlight: c.inFlight, InFlightByStage: maps.Clone(c.byStage), Permits: c.permits, Held: c.held,
		LastFault: c.fault, Patience: c.patience, Warnings: slices.Clone(c.warnings), Notes: slices.Clone(c.notes), UnknownFinishes: maps.Clone(c.unknownFinishes), Asking: max(0, c.answered.Sub(c.first)),
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
