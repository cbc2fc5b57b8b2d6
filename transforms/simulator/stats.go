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
	// Requests counts the well-formed requests for completions, whatever became of them.
	Requests int64 `json:"requests"`
	// Generations counts the choices that were delivered whole.
	Generations int64                `json:"generations"`
	Roles       map[string]RoleStats `json:"roles"`
	// Rejected counts answers by HTTP status, other than 200; Faults the faults that were met.
	Rejected map[int]int64   `json:"rejected"`
	Faults   map[Fault]int64 `json:"faults"`
	// Abandoned counts the requests whose client went away.
	Abandoned int64 `json:"abandoned"`

	// InFlight is what is being served now, MaxInFlight the most that was at one time.
	InFlight    Load `json:"in_flight"`
	MaxInFlight Load `json:"max_in_flight"`
	// Running and Waiting are the choices that hold a slot and that wait for one now.
	Running    int `json:"running"`
	Waiting    int `json:"waiting"`
	MaxWaiting int `json:"max_waiting"`
	// MeanWaiting is the number of waiting choices averaged over the wall time.
	MeanWaiting float64 `json:"mean_waiting"`

	// FirstRequest and LastEnd are the arrival of the first request and the end of the last
	// request or held slot, now if there are some. They are zero before the first request.
	FirstRequest time.Time `json:"first_request"`
	LastEnd      time.Time `json:"last_end"`
	WallSeconds  float64   `json:"wall_seconds"`
	// BusySeconds is the time that slots were held, DeliveredSeconds that for choices that
	// were then delivered whole.
	BusySeconds      float64 `json:"busy_seconds"`
	DeliveredSeconds float64 `json:"delivered_seconds"`
	// SlotUse is BusySeconds / (Slots · WallSeconds), DeliveredSlotUse the same of DeliveredSeconds.
	SlotUse          float64 `json:"slot_use"`
	DeliveredSlotUse float64 `json:"delivered_slot_use"`

	PromptTokens int64 `json:"prompt_tokens"`
	// CachedTokens are those of the prompt tokens that the prefix cache had.
	CachedTokens     int64 `json:"cached_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	// AskedTwice counts the generations that the server worked on more than once,
	// AskedAfterDelivery those that were asked for again after they had been delivered whole.
	// Refusals and other faults without work don't count.
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

// tally holds what Stats are made from.
type tally struct {
	stats Stats
	// first, last and delivered count from the server's start.
	first, last, delivered time.Duration
	// asked maps generations to what was done with them.
	asked map[uint64]history
	// attempts counts the asks of each request. It is kept only when faults need it.
	attempts map[uint64]uint32
}

// history says what was done with one generation.
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

// arrive counts an ask, and draws its fault.
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
	a.fault = s.line.draw(a.q.content, id, t.attempts[id])
	t.attempts[id]++
	if a.fault != "" {
		t.stats.Faults[a.fault]++
	}
}

// full says whether no more can wait. It is asked when a request comes, before its texts are
// written, and again when it is admitted.
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

// admit gives the ask its slots. It returns false when the server is full.
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

// leave counts the end of an ask.
func (s *Server) leave(a *ask, choices []Choice, end ending) {
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

// Stats returns the figures up to now.
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

// Reset starts the figures anew and forgets what was asked. What is in flight goes on, and
// counts from now.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := s.tally.stats.InFlight
	s.tally = newTally()
	s.tally.stats.InFlight, s.tally.stats.MaxInFlight = load, load
	s.tally.first = s.now()
	s.queue.reset(s.now())
}

// sentTexts remembers the texts that were sent.
type sentTexts struct {
	mu     sync.Mutex
	hashes map[uint64]struct{} // nil when not asked for
}

// add remembers texts as a reader may keep them: trimmed, with and without their reasoning.
func (t *sentTexts) add(choices []Choice) {
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

// Sent says whether this text was sent, white space around it and reasoning before it aside.
// It is false for all texts unless Options.Record is set.
func (s *Server) Sent(text string) bool { return s.sent.has(text) }
