// Package policy decides the reaction to a fault, from its kind and from the history of the request.
//
// [Of] is the table of faults with their actions. A [History] counts the faults of one request. It decides when
// a rejected request has failed for good, and how long a request pauses before the next try. Package fleet
// applies the actions. It also bounds how often a request is tried again after a fault that is no rejection.
//
// The package does no I/O and reads no clock. Only the jitter of a pause is random.
package policy

import (
	"math/rand/v2"
	"time"

	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/schedule"
)

// An Action is the client's reaction to a fault.
type Action int

const (
	// Retry sends the request again until it was sent as often as the options of package fleet allow.
	Retry Action = iota
	// Wait sends it again when there is room.
	Wait
	// Fail is the final failure of the call.
	Fail
	// Deny means that the server denies all requests of the role: other servers get them, or the run stops.
	Deny
	// Stream sends the request again as a stream, then as Retry.
	Stream
	// Split sends it again as a stream, then with fewer choices, then as Retry.
	Split
	// Rename sends it again with max_completion_tokens, then as Fail.
	Rename
	// StopOwn means that this machine is at fault: the run stops.
	StopOwn
)

// A Rule is the reaction to a kind of fault, with its outcome for the limiter.
type Rule struct {
	Action  Action
	Outcome schedule.Outcome
}

// rules is the table of faults and actions.
var rules = map[fault.Kind]Rule{
	fault.Broken:        {Retry, schedule.Failed},
	fault.NoChoice:      {Retry, schedule.Failed},
	fault.TimedOut:      {Retry, schedule.Failed},
	fault.Unreachable:   {Retry, schedule.Unreachable},
	fault.Overloaded:    {Wait, schedule.Overloaded},
	fault.Refused:       {Fail, schedule.Refused},
	fault.Denied:        {Deny, schedule.Failed},
	fault.StreamOnly:    {Stream, schedule.Refused},
	fault.CutOffSilence: {Split, schedule.Failed},
	fault.WrongField:    {Rename, schedule.Refused},
	fault.OwnMachine:    {StopOwn, schedule.Refused},
}

// Of returns the rule for a kind of fault.
func Of(kind fault.Kind) Rule { return rules[kind] }

// A History is the faults of one request so far. The zero value has none.
type History struct {
	// Tries counts failures while some server of the role answered. Waits counts all faults, and
	// lengthens the next pause. Rejections counts rejections while other requests had answers.
	Tries, Waits, Rejections int
	// First is the time of the first fault. Last is the time of the last fault; the caller sets it to the start of the
	// request.
	First, Last time.Time
}

// RecordFault counts a fault.
func (h *History) RecordFault(now time.Time) {
	if h.First.IsZero() {
		h.First = now
	}
	h.Waits++
}

// After maxRejections rejections while other requests succeed, the request itself may be the cause.
const maxRejections = 200

// RejectedForGood counts a fault that is a rejection. Others reports whether another request succeeded since h.Last. It
// returns true if the request itself seems to be the cause: it was rejected at least maxRejections times while others
// succeeded, for longer than the patience. Some gateways answer 503 when a request crashes the server.
func (h *History) RejectedForGood(now time.Time, others bool, patience time.Duration) bool {
	h.RecordFault(now)
	if others {
		h.Rejections++
	}
	h.Last = now
	return h.Rejections >= maxRejections && now.Sub(h.First) > patience
}

// RecordFailure counts a failure after its fault, unless no server answers at all. Alive reports whether one does.
func (h *History) RecordFailure(now time.Time, alive bool) {
	if alive {
		h.Tries++
	}
	h.Last = now
}

const (
	// firstPause doubles with each fault up to maxPause. Half of it is jitter.
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
	// maxFullPauses bounds the doubling of the pause before a request to an overloaded server, because
	// the limiter also reduces its load.
	maxFullPauses = 3
)

// Pause returns the pause before the request is sent again: the time that the server requested, up to
// pacing.MaxWait, plus a little jitter. Without a requested time it is longer after each fault.
func (h *History) Pause(flt *fault.Fault) time.Duration {
	if flt.RetryAfter > 0 {
		return min(flt.RetryAfter, pacing.MaxWait) + rand.N(firstPause)
	}
	times := h.Waits
	if flt.Kind == fault.Overloaded {
		times = min(times, maxFullPauses)
	}
	wait := min(firstPause<<min(max(times-1, 0), 10), maxPause)
	return wait/2 + rand.N(wait/2+1)
}
