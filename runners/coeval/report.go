package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"coeval/runners/dossiers"
	"coeval/runners/figures"
)

func newReportCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "report OUT",
		Short: "Write OUT/report.html: whether the data is worth training on, from the raw tables",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			run, err := dossiers.Open(c.Context(), args[0])
			if err != nil {
				return &coded{code: exitFailed, err: err}
			}
			f, err := figures.Of(c.Context(), run)
			if err != nil {
				return &coded{code: exitFailed, err: err}
			}
			if asJSON {
				b, err := json.MarshalIndent(f, "", "  ")
				if err != nil {
					return &coded{code: exitFailed, err: err}
				}
				fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the figures as one JSON object on standard output")
	return c
}
