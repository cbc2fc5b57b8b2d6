package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"coeval/runners/verify"
)

func newVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify OUT",
		Short: "Prove what was written: hashes, schemas, the ledger, and every pair from the raw tables",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := verify.Out(c.Context(), args[0])
			if err != nil {
				return &coded{code: exitFailed, err: err}
			}
			if len(r.Problems) == 0 {
				fmt.Fprintf(c.OutOrStdout(), "%s: proved: %d files, %s rows of %s prompts, %s actor pairs and %s judge pairs computed again\n",
					args[0], r.Files, humanize.Comma(r.Rows), humanize.Comma(r.Prompts), humanize.Comma(r.ActorPairs), humanize.Comma(r.JudgePairs))
				return nil
			}
			for _, problem := range r.Problems {
				fmt.Fprintln(c.OutOrStdout(), problem)
			}
			if r.More > 0 {
				fmt.Fprintf(c.OutOrStdout(), "and %s more\n", humanize.Comma(r.More))
			}
			n, what := int64(len(r.Problems))+r.More, "problems"
			if n == 1 {
				what = "problem"
			}
			return &coded{code: exitProof, err: fmt.Errorf("%s: %s %s", args[0], humanize.Comma(n), what)}
		},
	}
}
