package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coeval/runners/estimate"
	"coeval/runners/figures"
	"coeval/runners/operation"
	"coeval/runners/pages"
	"coeval/runners/runs"
	"coeval/schemas/sanitize"
)

func newReportCommand() *cobra.Command {
	var o pages.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "report OUT",
		Short: "Write OUT/report.html: is the data worth training on?",
		Long: `Write OUT/report.html from the raw tables: one page without scripts that shows whether the data is
worth training on. With --output it goes to another file, with --json the figures are printed instead.`,
		Example: "  coeval report out\n  coeval report out --output report.html\n  coeval report out --json | jq .cross_fit",
		Args:    folders(1, exactly(outArgument("OUT", "out"))),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.Prices.Validate(); err != nil {
				return usage(err)
			}
			run, err := runs.Open(c.Context(), args[0])
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			if asJSON {
				f, err := figures.Of(c.Context(), run)
				if err != nil {
					return &exitError{code: exitFailed, err: err}
				}
				calls, err := operation.Of(c.Context(), run, o.Prices)
				if err != nil {
					return &exitError{code: exitFailed, err: err}
				}
				return printJSON(c, &reportJSON{f, calls})
			}
			_, name, err := pages.Write(c.Context(), run, o)
			if o.File == "" && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
				err = fmt.Errorf("%w. Write the page elsewhere with --output FILE", err)
			}
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "%s\n", sanitize.Line(name))
			fmt.Fprintf(c.ErrOrStderr(), "next: open the page in a browser, or coeval verify %s\n", sanitize.Line(args[0]))
			return nil
		},
	}
	f := c.Flags()
	f.VarP(pathFlag{to: &o.File}, "output", "o", "file for the page, for example if OUT is read-only; empty means report.html in OUT")
	f.BoolVar(&asJSON, "json", false, "print the figures as one JSON object, and write no page")
	registerPrices(f, &o.Prices)
	return c
}

// reportJSON is the object that report --json prints.
type reportJSON struct {
	*figures.Figures
	Operation *operation.Operation `json:"operation"`
}

// registerPrices adds the price flags.
func registerPrices(f *pflag.FlagSet, p *estimate.Prices) {
	f.Float64Var(&p.PromptTokens, "prompt-price", 0, "price of a million prompt tokens")
	f.Float64Var(&p.CompletionTokens, "completion-price", 0, "price of a million completion tokens")
	f.Float64Var(&p.GPUHour, "gpu-hour-price", 0, "price of one GPU for an hour")
	f.Float64Var(&p.GPUs, "gpus", 1, "number of GPUs that serve the run")
}

// printJSON prints one object on standard output.
func printJSON[T any](c *cobra.Command, v *T) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", sanitize.JSON(b))
	}
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	return nil
}
