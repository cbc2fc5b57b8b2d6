package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"coeval/runners/verify"
	"coeval/runners/verify/endings"
	"coeval/schemas/redact"
	"coeval/schemas/sanitize"
)

func newVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "verify OUT",
		Short:   "Check a finished run: hashes, schemas, the ledger, and every pair from the raw tables",
		Long:    `Check a finished run: hashes, schemas and the ledger. Independent code derives scores, verdicts, ratings and pairs again from the raw tables, and counts the texts that it cannot read. Exit code 3 means that something is wrong.`,
		Example: "  coeval verify out",
		Args:    folders(1, exactly(outArgument("OUT", "out"))),
		RunE: func(c *cobra.Command, args []string) error {
			if isArena(c.Context(), args[0]) {
				return verifyArena(c, args[0])
			}
			r, err := verify.Out(c.Context(), args[0])
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			var w strings.Builder
			if len(r.Problems) == 0 {
				fmt.Fprintf(&w, "%s: proved: %d files, %s rows of %s prompts, %s actor pairs and %s judge pairs derived again\n",
					sanitize.Line(args[0]), r.Files, humanize.Comma(r.Rows), humanize.Comma(r.Prompts), humanize.Comma(r.ActorPairs), humanize.Comma(r.JudgePairs))
				printReading(&w, "scores", r.Judgments)
				printReading(&w, "verdicts", r.Comparisons)
			}
			for _, problem := range r.Problems {
				fmt.Fprintln(&w, sanitize.Line(redact.Hide(problem)))
			}
			if r.More > 0 {
				fmt.Fprintf(&w, "and %s more\n", humanize.Comma(r.More))
			}
			if _, err := io.WriteString(c.OutOrStdout(), w.String()); err != nil && len(r.Problems) == 0 {
				return &exitError{code: exitFailed, err: err}
			}
			if len(r.Problems) == 0 {
				return nil
			}
			n, what := int64(len(r.Problems))+r.More, "problems"
			if n == 1 {
				what = "problem"
			}
			return &exitError{code: exitProof, err: fmt.Errorf("%s: %s %s", sanitize.Line(args[0]), humanize.Comma(n), what)}
		},
	}
}

// printReading prints how many recorded values the independent reader confirmed. Cut-off texts have no
// value, and a cut is not visible in a text.
func printReading(w io.Writer, what string, r endings.Counts) {
	all := r.Confirmed + r.Unconfirmed + r.CutOff
	if all == 0 {
		return
	}
	fmt.Fprintf(w, "%s: %s of %s confirmed by an independent reading of the texts", what, humanize.Comma(r.Confirmed), humanize.Comma(all))
	if r.Unconfirmed > 0 {
		fmt.Fprintf(w, ", %s neither confirmed nor refuted", humanize.Comma(r.Unconfirmed))
	}
	if r.CutOff > 0 {
		fmt.Fprintf(w, ", %s cut off", humanize.Comma(r.CutOff))
	}
	fmt.Fprintln(w)
}
