package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"coeval/datasets/journal"
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
	n := humanize.Comma
	fmt.Fprintf(w, "%s lines: %s prompts, %s bad, %s merged, %s not drawn; %s of the prompts are in the journal with all calls\n\n",
		n(p.Lines), n(p.Prompts), n(p.Bad), n(p.Merged), n(p.NotDrawn), n(p.Known))
	switch {
	case p.Refused != "":
		fmt.Fprintf(w, "REFUSED: %s\n\n", p.Refused)
	case p.AnsweredBy != "":
		fmt.Fprintf(w, "the journal has answers of %s\n\n", map[string]string{journal.Real: "real servers", journal.Simulated: "the simulated worker"}[p.AnsweredBy])
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "stage\tgenerations\tin the journal\tmissing\trequests\tprompt tokens\tcompletion tokens\t")
	var sum plan.Stage
	for _, s := range p.Stages {
		printStage(t, s.Stage, s)
		sum.Generations += s.Generations
		sum.Held += s.Held
		sum.Ask += s.Ask
		sum.Requests += s.Requests
		sum.PromptTokens += s.PromptTokens
		sum.CompletionTokens += s.CompletionTokens
	}
	printStage(t, "all", sum)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nstorage: about %s of journal and %s of Parquet in %s\n", humanize.Bytes(uint64(p.JournalBytes)), humanize.Bytes(uint64(p.OutputBytes)), english.Plural(p.Shards, "shard", ""))
	fmt.Fprintf(w, "estimated at 4 characters a token, texts that become %s times smaller (%s), and these mean lengths: %s\n",
		humanize.FtoaWithDigits(p.Compression.Tables, 1), measured(p.Compression.Measured), lengths(p))
	if err := printEstimate(w, e); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", detectableDifference(int(p.Prompts)))
	_, err := fmt.Fprintln(w, "\ngenerations are upper bounds: merged, unparsed and failed texts reduce the calls of later stages")
	return err
}

func printStage(w io.Writer, name string, s plan.Stage) {
	n := humanize.Comma
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, n(s.Generations), n(s.Held), n(s.Ask), n(s.Requests), n(s.PromptTokens), n(s.CompletionTokens))
}

func measured(is bool) string {
	if is {
		return "measured in the journal"
	}
	return "assumed"
}

func lengths(p *plan.Plan) string {
	var text strings.Builder
	for i, s := range p.Stages {
		l := p.Assumed[s.Stage]
		if i > 0 {
			text.WriteString(", ")
		}
		if slices.Contains(p.Reads, s.Stage) {
			fmt.Fprintf(&text, "%s one token", s.Stage)
			continue
		}
		fmt.Fprintf(&text, "%s %d characters (%s)", s.Stage, l.Chars, measured(l.Measured))
	}
	return text.String()
}
