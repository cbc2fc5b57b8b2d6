// Package outcomes records which roles have answers and which have only failures. It decides when failures
// stop a run.
//
// A role whose first calls all fail has a wrong config or a dead server, and the next thousand calls would fail
// too. Calls after many failures in a row would fail, too. The package opens no connection and reads no clock.
package outcomes

import (
	"fmt"
	"sync"
	"time"

	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/stage"
)

// MaxFirst is the number of a role's calls that may fail for good, for one reason and before any answer, until
// the run stops. Content filters and long prompts rarely refuse ten calls in a row. The calls must be of two
// prompts, since one prompt has many calls.
const MaxFirst = 10

// maxInRow is the number of a role's calls that may fail for good, for one reason and without an answer in
// between, until the run stops. It is larger because prompts of one kind often follow each other. The calls
// must be of MaxFirst prompts: the comparisons of one prompt are more than a hundred calls.
const maxInRow = 100

// Grace is how long a role must have failed before the run stops for faults of its servers. A server that
// restarts, or a gateway without a backend, works again after such a time.
const Grace = 2 * time.Minute

// Outcomes are the outcomes of the calls of all roles. They are safe for concurrent use.
type Outcomes struct {
	grace time.Duration

	mu    sync.Mutex
	roles map[string]*outcome
}

// outcome is the outcome of a role's calls.
type outcome struct {
	answered bool
	refused  int       // final failures before the first answer
	code     string    // the code of the last one
	mixed    bool      // they have several codes
	row      int       // final failures with this code since the last answer
	since    time.Time // the first failure of row
	// prompts are the first prompts of row, at most MaxFirst: a prompt has many calls.
	prompts map[string]bool
}

// New creates empty outcomes of a run that waits at most for this time while no server answers.
func New(patience time.Duration) *Outcomes {
	return &Outcomes{grace: min(Grace, patience), roles: map[string]*outcome{}}
}

// role returns the outcome of a role. The caller has o.mu.
func (o *Outcomes) role(r *stage.Role) *outcome {
	key := r.Name + "\x00" + r.Identity()
	s := o.roles[key]
	if s == nil {
		s = &outcome{}
		o.roles[key] = s
	}
	return s
}

// RecordAnswer records that a server has answered a call of a role.
func (o *Outcomes) RecordAnswer(r *stage.Role) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.role(r)
	s.answered, s.row, s.prompts = true, 0, nil
}

// HasAnswer reports whether any call of the role has an answer.
func (o *Outcomes) HasAnswer(r *stage.Role) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.role(r).answered
}

// A Failure is a call that failed for good.
type Failure struct {
	Role     *stage.Role
	PromptID string
	// Server is the name of the server with the last fault.
	Server string
	Fault  *fault.Fault
}

// RecordFailure records a final failure. It returns the error that stops the run if the role's first calls, or
// many in a row, have all failed. It returns early while the servers may recover: then the call has not failed
// yet, and the caller must send the request again.
func (o *Outcomes) RecordFailure(f *Failure, now time.Time) (early bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, code := o.role(f.Role), f.Fault.Code
	other := s.code != code
	if other || s.prompts == nil {
		s.row, s.prompts, s.since = 0, map[string]bool{}, now
	}
	s.row++
	if len(s.prompts) < MaxFirst {
		s.prompts[f.PromptID] = true
	}
	if !s.answered {
		s.mixed = s.mixed || other && s.refused > 0
		s.refused++
	}
	s.code = code
	var which string
	var n int
	switch {
	case !s.answered && !s.mixed && s.refused >= MaxFirst && len(s.prompts) > 1:
		which, n = "first", s.refused
	case s.row >= maxInRow && len(s.prompts) >= MaxFirst && !isOfPrompt(code):
		which, n = "last", s.row
	default:
		return false, nil
	}
	lasted := now.Sub(s.since)
	if !isOfServer(code) {
		return false, fmt.Errorf("the %s %d calls of the %s all failed with %s. The message of %s: %s. Correct the config accordingly, and run again with --retry-failed=%s",
			which, n, f.Role.Name, code, f.Server, f.Fault.Message, code)
	}
	if lasted < o.grace {
		s.row--
		if !s.answered {
			s.refused--
		}
		return true, nil
	}
	return false, fmt.Errorf("the %s %d calls of the %s all failed with %s, for %s. The last message of %s: %s. The servers fail each request: check their logs, then run again with --retry-failed=%s: answers so far are in the journal",
		which, n, f.Role.Name, code, lasted.Round(time.Second), f.Server, f.Fault.Message, code)
}

// isOfServer reports whether a failure is a fault of the server or the way to it, and no refusal of the request.
func isOfServer(code string) bool {
	return code == fault.CodeServerError || code == fault.CodeTimeout || code == fault.CodeConnection || code == fault.CodeMalformed
}

// isOfPrompt reports whether a refusal is about the texts of one call.
func isOfPrompt(code string) bool {
	return code == fault.CodeContextLength || code == fault.CodeContentFilter || code == fault.CodeTooLarge
}
