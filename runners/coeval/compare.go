package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coeval/datasets/store"
	"coeval/runners/compare"
	"coeval/runners/pages"
	"coeval/runners/runs"
	"coeval/schemas/sanitize"
)

func newCompareCommand() *cobra.Command {
	var page string
	var asJSON, unshared bool
	c := &cobra.Command{
		Use:   "compare OUT1 OUT2 [OUT3…]",
		Short: "Compare iterations: does the judge keep up, or does it saturate?",
		Long: `Compare iterations in their order: a table of their figures, the published signs of saturation from the
first to the last, and the prompts and responses that they share. The same goes to a page, compare.html in the last
folder.`,
		Example: "  coeval compare out-1 out-2 out-3",
		Args:    folders(-1, atLeast(outArgument("OUT1", "out-1"), outArgument("OUT2", "out-2"))),
		RunE: func(c *cobra.Command, args []string) error {
			compared, err := compareRuns(c.Context(), args, unshared)
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			if asJSON {
				return printJSON(c, compared)
			}
			if page == "" {
				page = store.Join(args[len(args)-1], pages.ComparisonFile)
			}
			if err := pages.WriteComparison(c.Context(), page, compared); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			if err := printComparison(sanitize.Writer(c.OutOrStdout()), compared, page); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return nil
		},
	}
	c.Flags().Var(pathFlag{to: &page}, "page", "file for the page; empty is compare.html in the last folder")
	c.Flags().BoolVar(&asJSON, "json", false, "print the comparison as one JSON object, and write no page")
	c.Flags().BoolVar(&unshared, "unshared", false, "compare runs that have no prompt in common too")
	return c
}

func compareRuns(ctx context.Context, dirs []string, unshared bool) (*compare.Comparison, error) {
	opened := make([]*runs.Run, len(dirs))
	for i, dir := range dirs {
		var err error
		if opened[i], err = runs.Open(ctx, dir); err != nil {
			return nil, err
		}
	}
	return compare.Runs(ctx, opened, unshared)
}

func printComparison(w io.Writer, c *compare.Comparison, page string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range c.Runs {
		mark := ""
		if c.Runs[i].Simulated {
			mark = "SIMULATED"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", i+1, sanitize.Line(c.Runs[i].Out), mark)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	printSettings(w, c)
	printRows(w, c)
	fmt.Fprintln(w)
	for _, s := range c.Steps {
		fmt.Fprintf(w, "%d → %d: %d prompts in both (%.1f %% of the smaller run)%s\n", s.Before+1, s.After+1, s.Prompts, 100*s.Overlap,
			correlation(", rank correlation of their mean scores ", s.PromptRanks))
		fmt.Fprintf(w, "       %d responses of one text scored in both%s", s.Responses, correlation(", rank correlation of their scores ", s.ResponseRanks))
		if s.OrderAgreement != nil {
			fmt.Fprintf(w, ", %.1f %% of %d pairs to one prompt in the same order", 100**s.OrderAgreement, s.OrderedPairs)
		}
		fmt.Fprintln(w)
		if s.PastShift != nil {
			fmt.Fprintf(w, "       %d texts of past scored in both: the judge drifted by %+.2f points in the mean%s\n", s.PastResponses, *s.PastShift,
				correlation(", rank correlation ", s.PastRanks))
		}
	}
	fmt.Fprintln(w)
	for _, s := range c.Signs {
		switch {
		case s.Seen:
			fmt.Fprintf(w, "SIGN SEEN: %s: %s (a sign: %s): %s\n", s.Name, s.Evidence, s.Threshold, s.Advice)
		case s.Known:
			fmt.Fprintf(w, "not seen: %s: %s\n", s.Name, s.Evidence)
		default:
			fmt.Fprintf(w, "not known: %s: %s\n", s.Name, s.Evidence)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", sanitize.Line(page))
	return err
}

// printSettings prints the settings that differ.
func printSettings(w io.Writer, c *compare.Comparison) {
	for _, s := range c.Settings {
		fmt.Fprintf(w, "differs: %s: %s\n", s.Name, sanitize.Line(strings.Join(s.Values, " → ")))
	}
	if len(c.Settings) > 0 {
		fmt.Fprintln(w)
	}
}

// printRows is the table of the figures: names to the left, numbers to the right.
func printRows(w io.Writer, c *compare.Comparison) {
	const nameWidth, valueWidth = 48, 9
	fmt.Fprintf(w, "%-*s", nameWidth, "")
	for i := range c.Runs {
		fmt.Fprintf(w, "%*d", valueWidth, i+1)
	}
	fmt.Fprintln(w)
	for _, row := range c.Rows() {
		name := row.Name
		if !row.Percent {
			name += ", " + row.Unit
		}
		fmt.Fprintf(w, "%-*s", nameWidth, name)
		for _, v := range row.Values {
			fmt.Fprintf(w, "%*s", valueWidth, row.Show(v))
		}
		fmt.Fprintln(w)
	}
}

func correlation(what string, r *float64) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s%+.2f", what, *r)
}
