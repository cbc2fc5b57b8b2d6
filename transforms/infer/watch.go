package infer

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coeval/schemas"
)

// A Snapshot is what this process has done so far.
type Snapshot struct {
	// Prompts are the dossiers finished, Asked those of them for which servers were asked something.
	// Begun are the dossiers finished or under way.
	Prompts, Asked, Begun int64
	// Requests were sent; Generations came from workers, Replayed from the journal; Failed of
	// both together are final failures; Retries are requests sent again.
	Requests, Generations, Replayed, Failed, Retries int64
	// InFlight are the generations asked for now, Permits how many there may be.
	InFlight, Permits int64
	// InFlightByStage are those of each stage.
	InFlightByStage map[string]int64
	// Calls are those of each stage, of bundles that failed too: what they cost is paid for.
	Calls map[string]schemas.CallTally
	// Held are the permits that those in flight still hold: choices that are probably done
	// hold none.
	Held float64
	// PermitUse is the mean share of permits in flight from the first request to the last answer.
	PermitUse float64
	// Asking is the time from the first request to the last answer.
	Asking time.Duration
	// Warnings are what people should know, each once.
	Warnings []string
	// LastFault is what the last request that failed met; empty when none did.
	LastFault string
}

// use is how the permits were used since the first request.
type use struct {
	area float64 // permits held × seconds
	room float64 // permits × seconds
}

// watch counts for people who look on. It decides nothing.
type watch struct {
	prompts, asked, begun, requests, generations, replayed, failed, retries atomic.Int64
	// unkept are the requests that were sent and whose answers the journal hasn't got yet. When it
	// has, they are as good as kept: its Flush and its Close make them durable.
	unkept atomic.Int64
	// calls are those of all bundles, and of the fleet.
	calls callCounts

	mu       sync.Mutex
	permits  int64
	held     float64
	inFlight int64
	byStage  map[string]int64
	first    time.Time // first request
	last     time.Time // last change of what is counted here
	now      use       // until last
	answered time.Time // last answer
	then     use       // until answered: permits come and go after it too
	fault    string
	warnings []string
}

func (w *watch) warn(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.warnings, s) {
		w.warnings = append(w.warnings, s)
	}
}

// permitted changes how many permits there are, and how many are held.
func (w *watch) permitted(n int, held float64) {
	w.change("", 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.permits += int64(n)
	w.held += held
}

func (w *watch) sent() { w.requests.Add(1) }

func (w *watch) start(stage string, n int) {
	w.unkept.Add(1)
	w.change(stage, int64(n))
}

func (w *watch) kept() { w.unkept.Add(-1) }

func (w *watch) end(stage string, n int) { w.change(stage, -int64(n)) }

func (w *watch) change(stage string, n int64) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first.IsZero() {
		if n == 0 {
			return
		}
		w.first, w.last = now, now
	}
	w.now.area += w.held * now.Sub(w.last).Seconds()
	w.now.room += float64(w.permits) * now.Sub(w.last).Seconds()
	w.last = now
	w.inFlight += n
	if n < 0 {
		w.answered, w.then = now, w.now
	}
	if n != 0 {
		if w.byStage == nil {
			w.byStage = map[string]int64{}
		}
		w.byStage[stage] += n
	}
}

func (w *watch) retried(f *fault) {
	w.retries.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f.message
}

func (w *watch) snapshot() Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Snapshot{
		Prompts: w.prompts.Load(), Asked: w.asked.Load(), Begun: w.begun.Load(), Requests: w.requests.Load(), Generations: w.generations.Load(),
		Replayed: w.replayed.Load(), Failed: w.failed.Load(), Retries: w.retries.Load(),
		Calls: w.calls.told(), InFlight: w.inFlight, InFlightByStage: maps.Clone(w.byStage), Permits: w.permits, Held: w.held, LastFault: w.fault, Warnings: slices.Clone(w.warnings), Asking: max(0, w.answered.Sub(w.first)),
	}
	if w.then.room > 0 {
		s.PermitUse = w.then.area / w.then.room
	}
	return s
}

// callCounts are the calls of one bundle, which end in a tally.
type callCounts struct {
	// whole counts them too, and all others; nil where nobody looks on.
	whole *callCounts

	mu    sync.Mutex
	calls map[string]schemas.CallTally
}

func (c *callCounts) add(stage string, t schemas.CallTally) {
	if c.whole != nil {
		c.whole.add(stage, t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[string]schemas.CallTally{}
	}
	c.calls[stage] = c.calls[stage].Plus(t)
}

func (c *callCounts) request(stage string, n int, took time.Duration) {
	c.add(stage, schemas.CallTally{Requests: 1, RequestMicros: took.Microseconds(), GenerationMicros: int64(n) * took.Microseconds()})
}

func (c *callCounts) retry(stage, code string) {
	c.add(stage, schemas.CallTally{Retries: 1, RetriesByCode: map[string]int64{code: 1}})
}

// told returns the counts so far.
func (c *callCounts) told() map[string]schemas.CallTally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.calls) // add changes no tally's own map
}

// take returns the counts and starts anew.
func (c *callCounts) take() map[string]schemas.CallTally {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	if calls == nil {
		calls = map[string]schemas.CallTally{}
	}
	return calls
}
