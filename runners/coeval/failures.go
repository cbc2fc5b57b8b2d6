package main

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"

	"coeval/runners/summary"
	"coeval/transforms/infer"
)

// retryAdvice ends the error of a command whose result is empty because calls failed.
const retryAdvice = "because calls failed: fix the cause, then run the same command with --retry-failed"

// warnOfFailures prints the most frequent message of the failed calls, and the flag that asks for them again.
func warnOfFailures(w io.Writer, seen infer.Snapshot) {
	if len(seen.Failures) > 0 {
		f := seen.Failures[0]
		fmt.Fprintf(w, "WARNING: %s calls failed. %s\n", humanize.Comma(seen.Failed), summary.MostFrequent(f.Role, f.Code, f.Message, f.Count))
	}
	if seen.ReplayedFailed > 0 {
		fmt.Fprintf(w, "WARNING: %s\n", summary.ReplayedFailed(seen.ReplayedFailed))
	}
}
