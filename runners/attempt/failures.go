package attempt

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"coeval/runners/summary"
)

// RetryAdvice ends the error of a command whose result is empty because calls failed.
const RetryAdvice = "because calls failed: fix the cause, then run the same command with --retry-failed"

// WarnOfFailures prints the most frequent message of the failed calls, and the flag that asks for them again.
func (a *Attempt) WarnOfFailures() {
	w, seen := a.Stderr, &a.Seen
	if len(seen.Failures) > 0 {
		f := seen.Failures[0]
		fmt.Fprintf(w, "WARNING: %s calls failed. %s\n", humanize.Comma(seen.Failed), summary.MostFrequent(f.Role, f.Code, f.Message, f.Count))
	}
	if seen.ReplayedFailed > 0 {
		fmt.Fprintf(w, "WARNING: %s\n", summary.ReplayedFailed(seen.ReplayedFailed))
	}
}
