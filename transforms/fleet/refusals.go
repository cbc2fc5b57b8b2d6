package fleet

import (
	"fmt"
	"time"

	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai/fault"
)

// maxFirstRefusals is the number of a role's calls that may fail for good, for one reason and before
// any answer, until the run stops: the next thousand would fail too. Content filters and long prompts
// rarely refuse ten calls in a row. They must be of two prompts, since one prompt has many calls.
const maxFirstRefusals = 10

// maxRefusalsInRow is the number of a role's calls that may fail for good, for one reason and without an
// answer in between, until the run stops. It is larger because prompts of one kind often follow each other. They must
// be of maxFirstRefusals prompts: the comparisons of one prompt are more than a hundred calls.
const maxRefusalsInRow = 100

// failureGrace is how long a role must have failed before the run stops for faults of its servers. A server that
// restarts, or a gateway without a backend, works again after such a time.
const failureGrace = 2 * time.Minute

// recordRefused records a final failure. It returns the error that stops the run if the role's first calls,
// or many in a row, have all failed. It returns early while the servers may recover: then the call is no failure yet,
// and the request must be sent again.
func (f *Fleet) recordRefused(q *request, e *endpoint.Endpoint, flt *fault.Fault) (early bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.role(q.role)
	other := s.code != flt.Code
	if other || s.prompts == nil {
		s.row, s.prompts, s.since = 0, map[string]bool{}, time.Now()
	}
	s.row++
	if len(s.prompts) < maxFirstRefusals {
		s.prompts[q.promptID] = true
	}
	if !s.answered {
		s.mixed = s.mixed || other && s.refused > 0
		s.refused++
	}
	s.code = flt.Code
	var which string
	switch {
	case !s.answered && !s.mixed && s.refused >= maxFirstRefusals && len(s.prompts) > 1:
		which = "first"
	case s.row >= maxRefusalsInRow && len(s.prompts) >= maxFirstRefusals && !isOfPrompt(flt.Code):
		which = "last"
	default:
		return false, nil
	}
	lasted := time.Since(s.since)
	if isOfServer(flt.Code) && lasted < min(failureGrace, f.options.Patience) {
		s.row--
		if !s.answered {
			s.refused--
		}
		return true, nil
	}
	return false, stopped(which, s, q, e, flt)
}

// stopped returns the error that ends a run whose first or last calls of a role all failed.
func stopped(which string, s *roleState, q *request, e *endpoint.Endpoint, flt *fault.Fault) error {
	n := s.row
	if which == "first" {
		n = s.refused
	}
	if isOfServer(flt.Code) {
		return fmt.Errorf("the %s %d calls of the %s all failed with %s, for %s. The last message of %s: %s. The servers fail each request: check their logs, then run again with --retry-failed=%s: answers so far are in the journal",
			which, n, q.role.Name, flt.Code, time.Since(s.since).Round(time.Second), e.Name, flt.Message, flt.Code)
	}
	return fmt.Errorf("the %s %d calls of the %s all failed with %s. The message of %s: %s. Correct the config accordingly, and run again with --retry-failed=%s",
		which, n, q.role.Name, flt.Code, e.Name, flt.Message, flt.Code)
}

// isOfServer reports whether a failure is a fault of the server or the way to it, and no refusal of the request.
func isOfServer(code string) bool {
	return code == fault.CodeServerError || code == fault.CodeTimeout || code == fault.CodeConnection || code == fault.CodeMalformed
}

// isOfPrompt reports whether a refusal is about the texts of one call.
func isOfPrompt(code string) bool {
	return code == fault.CodeContextLength || code == fault.CodeContentFilter || code == fault.CodeTooLarge
}
