package counters

import (
	"maps"
	"sync"
	"time"

	"coeval/schemas"
)

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
	t.AddUncounted(stage, calls)
}

// AddUncounted adds calls of a stage that the counters of the process have already.
func (t *Tally) AddUncounted(stage string, calls schemas.CallTally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = map[string]schemas.CallTally{}
	}
	t.calls[stage] = t.calls[stage].Plus(calls)
}

// AddRequest adds a request for n choices.
func (t *Tally) AddRequest(stage string, n int, took time.Duration) {
	t.Add(stage, schemas.CallTally{Requests: 1, RequestMicros: took.Microseconds(), GenerationMicros: int64(n) * took.Microseconds()})
}

// AddRetry adds a request that is made again.
func (t *Tally) AddRetry(stage, code string) {
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
