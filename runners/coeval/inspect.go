package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coeval/runners/inspect"
	"coeval/runners/runs"
)

func newInspectCommand() *cobra.Command {
	var chars int
	var full bool
	c := &cobra.Command{
		Use:   "inspect OUT PROMPT_ID|N",
		Short: "Show all that was said about one prompt, and why it has the pairs that it has",
		Long: `Show all that was said about one prompt: responses with scores, the contested one with its win
matrix and ratings, the pairs and why. The prompt is named by its ID, the beginning of it, an ID that the
input gave, or its number in the input from 1 on, several files being in the order of their names.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if chars < 0 {
				return usage(fmt.Errorf("--chars is %d; allowed is 0 or more", chars))
			}
			run, err := runs.Open(c.Context(), args[0])
			if err != nil {
				return &coded{code: exitFailed, err: err}
			}
			d, err := inspect.Read(c.Context(), run, args[1])
			if err != nil {
				return &coded{code: exitFailed, err: err}
			}
			if err := d.Print(c.OutOrStdout(), chars, full); err != nil {
				return &coded{code: exitFailed, err: err}
			}
			return nil
		},
	}
	c.Flags().IntVar(&chars, "chars", 300, "characters to show of each text")
	c.Flags().BoolVar(&full, "full", false, "show every text whole, those of judgments and comparisons too")
	return c
}
