package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coeval/pipelines/config"
	"coeval/runners/arena"
	"coeval/runners/estimate"
	"coeval/schemas"
)

// fleetFlags are the speed and the price of the servers.
type fleetFlags struct {
	costFlags

	probe  time.Duration
	others estimate.Others
}

// costFlags are rates and prices.
type costFlags struct {
	rates  estimate.Rates
	prices estimate.Prices
}

func (f *costFlags) register(flags *pflag.FlagSet) {
	flags.Float64Var(&f.rates.Prompt, "prompt-rate", 0, "prompt tokens that all servers together read in a second")
	flags.Float64Var(&f.rates.Completion, "completion-rate", 0, "completion tokens that all servers together write in a second")
	registerPrices(flags, &f.prices)
}

// check returns an error for each invalid rate and price.
func (f *costFlags) check() error {
	var err error
	if (f.rates.Prompt > 0) != (f.rates.Completion > 0) {
		err = errors.New("--prompt-rate and --completion-rate must be given together, because reading and writing both take time")
	}
	return errors.Join(f.rates.Validate(), f.prices.Validate(), err)
}

// of returns the cost of the calls of an arena.
func (f *costFlags) of(c *arena.Calls) *estimate.Cost {
	cost := estimate.CostOf(c.Ask, c.PromptTokens, c.CompletionTokens, f.rates, f.prices)
	return &cost
}

func (f *fleetFlags) register(flags *pflag.FlagSet) {
	f.costFlags.register(flags)
	flags.DurationVar(&f.probe, "probe", 0, "how long to send test requests that measure the rates of the servers, for example 20s")
	flags.IntSliceVar(&f.others.K, "other-k", nil, "show the plan for these values of actor.n too, for example 3,5")
	flags.IntSliceVar(&f.others.N, "other-n", nil, "show the plan for these values of judge.n too, for example 9")
}

const longestProbe = 10 * time.Minute

// maxOther bounds the values of --other-k and --other-n, and their number.
const maxOther, maxOthers = 1000, 20

func checkOthers(flag string, numbers []int) error {
	if len(numbers) > maxOthers {
		return fmt.Errorf("%s has %d numbers; allowed are at most %d", flag, len(numbers), maxOthers)
	}
	for _, n := range numbers {
		if n < 1 || n > maxOther {
			return fmt.Errorf("%s has %d; allowed is 1 to %d", flag, n, maxOther)
		}
	}
	return nil
}

// check returns the problems of the flags.
func (f *fleetFlags) check() error {
	var err error
	switch {
	case f.probe < 0 || f.probe > longestProbe:
		err = fmt.Errorf("--probe is %s; allowed is 0 to %s", f.probe, longestProbe)
	case f.probe > 0 && (f.rates.Prompt > 0 || f.rates.Completion > 0):
		err = errors.New("--probe measures --prompt-rate and --completion-rate: give either --probe or the rates")
	}
	return errors.Join(f.costFlags.check(), checkOthers("--other-k", f.others.K), checkOthers("--other-n", f.others.N), err)
}

// measure asks the servers if that is wanted.
func (f *fleetFlags) measure(c *cobra.Command, config *config.Config) error {
	if f.probe == 0 {
		return nil
	}
	asked := *config
	if asked.Simulate.Enabled {
		s, err := startSimulator(&asked)
		if err != nil {
			return err
		}
		defer s.Close() //nolint:errcheck // it served, and nobody waits for it
	}
	warnOfKeys(c.ErrOrStderr(), &asked)
	servers, err := probed(&asked)
	if err != nil {
		return err
	}
	f.rates, err = estimate.MeasureRates(c.Context(), servers, f.probe)
	return err
}

// probed returns the servers of all roles, each once, with the first model and the first key that a
// role uses there.
func probed(c *config.Config) ([]estimate.Server, error) {
	if err := checkKeys(c, slices.Sorted(maps.Keys(c.Asked()))...); err != nil {
		return nil, err
	}
	var servers []estimate.Server
	seen := map[string]int{}
	asked := c.Asked()
	for _, name := range []string{schemas.RoleJudge, schemas.RoleActor, schemas.RoleMetaJudge, schemas.RolePast, schemas.RoleFuture} {
		r := asked[name]
		if r == nil {
			continue
		}
		for _, e := range c.Endpoints(r) {
			at, known := seen[e.URL]
			if !known {
				seen[e.URL] = len(servers)
				servers = append(servers, estimate.Server{Endpoint: e, Model: cmp.Or(r.Model, c.Worker.Model)})
				continue
			}
			if has := &servers[at].Endpoint; has.APIKeyEnv == "" && has.APIKeyFile == "" {
				*has = e
			}
		}
	}
	return servers, nil
}

// printEstimate prints time and money, as far as rates and prices are known, and other numbers.
func printEstimate(w io.Writer, e *estimate.Estimate) error {
	if e.All.Seconds == nil {
		fmt.Fprintln(w, "time: not known without --probe, or --prompt-rate and --completion-rate")
	} else {
		fmt.Fprintf(w, "time: %s at %s prompt and %s completion tokens a second:", span(*e.All.Seconds), whole(e.Rates.Prompt), whole(e.Rates.Completion))
		for _, s := range e.Stages {
			fmt.Fprintf(w, " %s %s", s.Stage, span(*s.Seconds))
		}
		fmt.Fprintln(w)
	}
	if e.All.ByTokens == nil && e.All.ByHours == nil {
		fmt.Fprintln(w, "money: not known without --prompt-price and --completion-price, or --gpu-hour-price and --gpus with rates")
	} else {
		fmt.Fprintf(w, "money: %s\n", money(&e.All))
	}
	if err := printBudgets(w, e); err != nil || len(e.Variants) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nwith other numbers and an empty journal:")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "actor.n (K)\tjudge.n (N)\tcomparisons a prompt\tgenerations\tprompt tokens\tcompletion tokens\tstorage\ttime\tmoney\t")
	for i := range e.Variants {
		v := &e.Variants[i]
		took, own := "–", ""
		if v.Seconds != nil {
			took = span(*v.Seconds)
		}
		if v.Own {
			own = " this run"
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.K, v.N, v.Comparisons, humanize.Comma(v.Generations),
			humanize.Comma(v.PromptTokens), humanize.Comma(v.CompletionTokens), humanize.Bytes(uint64(v.JournalBytes+v.OutputBytes)), took, money(&v.Cost), own)
	}
	return t.Flush()
}

// printBudgets prints the cost of several budgets for the comparisons, and the value of their judge
// pairs.
func printBudgets(w io.Writer, e *estimate.Estimate) error {
	if len(e.Budgets) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nbudgets for the comparisons, with nothing in the journal; gap is the quality of the judge pairs against all comparisons in simulation,")
	fmt.Fprintln(w, "hidden gap is the same if scores miss half a point of a judgment's quality (docs/sizing-and-cost.md).")
	fmt.Fprintln(w, "verdict=read: if reads discriminate as well as texts; measure it with coeval calibrate --verdict read,reasoned")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "comparisons a prompt\tgap\thidden gap\tgenerations\tprompt tokens\tcompletion tokens\ttime\tmoney\t")
	for i := range e.Budgets {
		b := &e.Budgets[i]
		took := "–"
		if b.Seconds != nil {
			took = span(*b.Seconds)
		}
		fmt.Fprintf(t, "%.0f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\t --set %s\n", b.Comparisons, b.Gap, b.HiddenGap, humanize.Comma(b.Generations),
			humanize.Comma(b.PromptTokens), humanize.Comma(b.CompletionTokens), took, money(&b.Cost), strings.Join(b.Settings, " --set "))
	}
	return t.Flush()
}

func money(c *estimate.Cost) string {
	text := ""
	if c.ByTokens != nil {
		text = estimate.Amount(*c.ByTokens) + " by tokens"
	}
	if c.ByHours != nil {
		if text != "" {
			text += ", "
		}
		text += estimate.Amount(*c.ByHours) + " by GPU hours"
	}
	return cmp.Or(text, "–")
}

func whole(x float64) string { return humanize.FormatFloat("#,###.", x) }

// spanOf returns the time of a cost.
func spanOf(c *estimate.Cost) string {
	if c.Seconds == nil {
		return "–"
	}
	return span(*c.Seconds)
}

func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
