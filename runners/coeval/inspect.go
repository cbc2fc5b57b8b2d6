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
		Short: "Show one prompt: its responses, scores and verdicts, and why it has its pairs",
		Long: `Show one prompt: its responses with their scores, the contested response with its win matrix and
ratings, and why its pairs were chosen, or why it has none. Name the prompt by its ID, by the beginning of the ID,
by an ID from the input, or by its number in the input (from 1; several files count in the order of their names).`,
		Example: "  coeval inspect out 1\n  coeval inspect out 4f3a --full | less",
		Args:    folders(1, exactly(outArgument("OUT", "out"), argument{name: "PROMPT_ID|N", means: "a prompt by its ID, or by its number from 1 on", example: "1"})),
		RunE: func(c *cobra.Command, args []string) error {
			if chars < 0 {
				return usage(fmt.Errorf("--chars is %d; allowed is 0 or more", chars))
			}
			run, err := runs.Open(c.Context(), args[0])
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			d, err := inspect.Read(c.Context(), run, args[1])
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			if err := d.Print(c.OutOrStdout(), chars, full); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return nil
		},
	}
	c.Flags().IntVar(&chars, "chars", 300, "characters to show of each text")
	c.Flags().BoolVar(&full, "full", false, "show every text in full, also those of judgments and comparisons")
	return c
}
