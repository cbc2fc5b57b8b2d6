package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"coeval/runners/estimate"
	"coeval/runners/plan"
	"coeval/schemas/sanitize"
)

func newPlanCommand() *cobra.Command {
	var flags runFlags
	var fleet fleetFlags
	c := &cobra.Command{
		Use:   "plan [CONFIG.yaml] [flags]",
		Short: "Show the requests that a run would send, and those that the journal already answers, without sending any",
		Long: `Show the requests that a run would send, and those that the journal already answers, without sending any. Rates add
the time, prices the money. --probe measures the rates with test requests for a few seconds.`,
		Example: `  coeval plan config.yaml
  coeval plan config.yaml --probe 20s --gpu-hour-price 2.5 --gpus 8`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			config, err := flags.load(c, args)
			if err := usage(errors.Join(fleet.check(), withoutCode(err), flags.check(c))); err != nil {
				return err
			}
			scanned, err := scan(c.Context(), &config)
			if err != nil {
				return failed(err)
			}
			describePrompts(c.ErrOrStderr(), &config, scanned)
			p, err := plan.New(c.Context(), config, scanned, flags.retryFailed)
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			if err := fleet.measure(c, &config); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			e := estimate.New(p, config.Actor.N, config.Judge.N, fleet.others, fleet.rates, fleet.prices)
			if err := printPlan(sanitize.Writer(c.OutOrStdout()), p, e, flags.json); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return nil
		},
	}
	flags.register(c.Flags())
	flags.registerRun(c)
	fleet.register(c.Flags())
	return c
}

func printPlan(w io.Writer, p *plan.Plan, e *estimate.Estimate, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(struct {
			*plan.Plan
			Estimate *estimate.Estimate `json:"estimate"`
		}{p, e})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", sanitize.JSON(b))
		return err
	}
	if err := p.Print(w); err != nil {
		return err
	}
	if err := e.Print(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n\ngenerations are upper bounds: merged, unparsed and failed texts reduce the calls of later stages\n", detectableDifference(int(p.Prompts)))
	return err
}
