package simulator

import (
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Stats are a server's figures since its start or the last reset.
type Stats struct {
	Slots int `json:"slots"`
	// Requests counts the well-formed requests for completions, of any outcome.
	Requests int64 `json:"requests"`
	// Generations counts the choices in complete answers.
	Generations int64                `json:"generations"`
	Roles       map[string]RoleStats `json:"roles"`
	// Rejected counts answers with an HTTP status other than 200, Faults the simulated faults.
	Rejected map[int]int64   `json:"rejected"`
	Faults   map[Fault]int64 `json:"faults"`
	// Abandoned counts the requests whose client disconnected.
	Abandoned int64 `json:"abandoned"`

	// InFlight is the work in progress, MaxInFlight its maximum so far.
	InFlight    Load `json:"in_flight"`
	MaxInFlight Load `json:"max_in_flight"`
	// Running and Waiting count the choices in slots and in the queue now.
	Running    int `json:"running"`
	Waiting    int `json:"waiting"`
	MaxWaiting int `json:"max_waiting"`
	// MeanWaiting is the average number of waiting choices over the wall time.
	MeanWaiting float64 `json:"mean_waiting"`

	// FirstRequest is the arrival of the first request. LastEnd is the end of the last request or
	// occupied slot, now while one is in progress. Both are zero before the first request.
	FirstRequest time.Time `json:"first_request"`
	LastEnd      time.Time `json:"last_end"`
	WallSeconds  float64   `json:"wall_seconds"`
	// BusySeconds is the total time of occupied slots, DeliveredSeconds the part of choices in
	// complete answers.
	BusySeconds      float64 `json:"busy_seconds"`
	DeliveredSeconds float64 `json:"delivered_seconds"`
	// SlotUse is BusySeconds / (Slots · WallSeconds), DeliveredSlotUse the same for DeliveredSeconds.
	SlotUse          float64 `json:"slot_use"`
	DeliveredSlotUse float64 `json:"delivered_slot_use"`

	PromptTokens int64 `json:"prompt_tokens"`
	// CachedTokens counts the prompt tokens that were in the prefix cache.
	CachedTokens     int64 `json:"cached_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	// AskedTwice counts the generations that the server worked on more than once,
	// AskedAfterDelivery those among them that it had delivered before. Refusals and other faults
	// without work do not count.
	AskedTwice         int64 `json:"asked_twice"`
	AskedAfterDelivery int64 `json:"asked_after_delivery"`
}

// RoleStats are the figures of one role.
type RoleStats struct {
	Requests    int64 `json:"requests"`
	Generations int64 `json:"generations"`
}

// Load is an amount of work.
type Load struct {
	Requests    int `json:"requests"`
	Generations int `json:"generations"`
}

// tally has the raw counts behind Stats.
type tally struct {
	stats Stats
	// first, last and delivered count from the server's start.
	first, last, delivered time.Duration
	// asked maps each generation to its history.
	asked map[uint64]history
	// attempts counts the repetitions of each request. It is used only with faults.
	attempts map[uint64]uint32
}

// history is the state of one generation: whether it was worked on and delivered.
type history uint8

const (
	wasAsked history = 1 << iota
	wasAskedTwice
	wasDelivered
	wasAskedAfterDelivery
)

func newTally() tally {
	return tally{
		stats: Stats{Roles: map[string]RoleStats{}, Rejected: map[int]int64{}, Faults: map[Fault]int64{}},
		asked: map[uint64]history{}, attempts: map[uint64]uint32{},
	}
}

// arrive counts a request and draws its fault.
func (s *Server) arrive(a *ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tally
	if t.stats.Requests == 0 {
		t.first = s.now()
	}
	t.stats.Requests++
	t.stats.PromptTokens += int64(a.q.PromptTokens)
	t.role(a.q.Role, 1, 0)
	load := &t.stats.InFlight
	load.Requests++
	load.Generations += a.req.n
	t.stats.MaxInFlight.Requests = max(t.stats.MaxInFlight.Requests, load.Requests)
	t.stats.MaxInFlight.Generations = max(t.stats.MaxInFlight.Generations, load.Generations)
	if a.full = s.full(s.now()); s.cache != nil && !a.full {
		a.cached = s.cache.serve(a.req.messages)
		t.stats.CachedTokens += int64(a.cached)
	}
	if !s.line.any() {
		return
	}
	id := a.identity()
	a.fault = s.line.draw(a.q.ContentHash, id, t.attempts[id])
	t.attempts[id]++
	if a.fault != "" {
		t.stats.Faults[a.fault]++
	}
}

// full reports whether the queue is full. The server checks it on arrival, before it writes texts,
// and again on admission.
func (s *Server) full(now time.Duration) bool {
	if s.o.MaxQueue == 0 {
		return false
	}
	_, waiting := s.queue.counts(now)
	return waiting >= s.o.MaxQueue
}

func (t *tally) role(name string, requests, generations int64) {
	r := t.stats.Roles[name]
	r.Requests += requests
	r.Generations += generations
	t.stats.Roles[name] = r
}

// admit assigns slots to the request's choices. It returns false when the queue is full.
func (s *Server) admit(a *ask) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timed {
		now := s.now()
		if s.full(now) {
			return false
		}
		a.until = s.queue.admit(now, a.held)
	}
	t := &s.tally
	for i := range a.req.n {
		id := a.generation(i)
		h := t.asked[id]
		if h&wasAsked != 0 && h&wasAskedTwice == 0 {
			h |= wasAskedTwice
			t.stats.AskedTwice++
		}
		if h&wasDelivered != 0 && h&wasAskedAfterDelivery == 0 {
			h |= wasAskedAfterDelivery
			t.stats.AskedAfterDelivery++
		}
		t.asked[id] = h | wasAsked
	}
	return true
}

// leave counts the end of a request.
func (s *Server) leave(a *ask, choices []choice, end ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tally
	t.last = s.now()
	t.stats.InFlight.Requests--
	t.stats.InFlight.Generations -= a.req.n
	if end == abandoned {
		t.stats.Abandoned++
	}
	if end != delivered && end != partial {
		return
	}
	t.stats.Generations += int64(len(choices))
	t.role(a.q.Role, 0, int64(len(choices)))
	for i := range choices {
		t.stats.CompletionTokens += int64(choices[i].Tokens)
		t.asked[a.generation(i)] |= wasDelivered
		if s.timed {
			t.delivered += a.held[i]
		}
	}
}

// Stats returns the figures so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tally
	now := s.now()
	st := t.stats
	st.Slots = s.o.Slots
	st.Roles, st.Rejected, st.Faults = maps.Clone(st.Roles), maps.Clone(st.Rejected), maps.Clone(st.Faults)
	st.Running, st.Waiting = s.queue.counts(now)
	st.MaxWaiting = s.queue.maxWaiting
	if st.Requests == 0 {
		return st
	}
	last := max(t.last, s.queue.lastEnd)
	if st.InFlight.Requests > 0 || st.Running > 0 {
		last = now
	}
	busy, waited := s.queue.ahead(now)
	st.FirstRequest, st.LastEnd = s.start.Add(t.first), s.start.Add(last)
	st.WallSeconds = (last - t.first).Seconds()
	st.BusySeconds = (s.queue.busy - busy).Seconds()
	st.DeliveredSeconds = t.delivered.Seconds()
	if st.WallSeconds > 0 {
		st.MeanWaiting = (s.queue.waited - waited).Seconds() / st.WallSeconds
		st.SlotUse = st.BusySeconds / st.WallSeconds / float64(st.Slots)
		st.DeliveredSlotUse = st.DeliveredSeconds / st.WallSeconds / float64(st.Slots)
	}
	return st
}

// Reset sets all figures to zero and clears the history. Requests in flight continue and count from
// now on.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := s.tally.stats.InFlight
	s.tally = newTally()
	s.tally.stats.InFlight, s.tally.stats.MaxInFlight = load, load
	s.tally.first = s.now()
	s.queue.reset(s.now())
}

// sentTexts is the set of texts sent.
type sentTexts struct {
	mu     sync.Mutex
	hashes map[uint64]struct{} // nil without Options.Record
}

// add adds texts in the forms that a reader may keep: trimmed, with and without reasoning.
func (t *sentTexts) add(choices []choice) {
	if t.hashes == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range choices {
		text := choices[i].Text
		t.hashes[hashText(text)] = struct{}{}
		if _, answer, ok := strings.Cut(text, "</think>"); ok {
			t.hashes[hashText(answer)] = struct{}{}
		}
	}
}

func (t *sentTexts) has(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.hashes[hashText(text)]
	return ok
}

func hashText(text string) uint64 { return xxhash.Sum64String(strings.TrimSpace(text)) }

// Sent reports whether the server sent this text, apart from white space around it and reasoning
// before it. It returns false for all texts unless Options.Record is set.
func (s *Server) Sent(text string) bool { return s.sent.has(text) }
