package estimate

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Print prints time and money, as far as rates and prices are known, and other numbers.
func (e *Estimate) Print(w io.Writer) error {
	if e.All.Seconds == nil {
		fmt.Fprintln(w, "time: not known without --probe, or --prompt-rate and --completion-rate")
	} else {
		fmt.Fprintf(w, "time: %s at %s prompt and %s completion tokens a second:", Span(*e.All.Seconds), whole(e.Rates.Prompt), whole(e.Rates.Completion))
		for _, s := range e.Stages {
			fmt.Fprintf(w, " %s %s", s.Stage, Span(*s.Seconds))
		}
		fmt.Fprintln(w)
	}
	if e.All.ByTokens == nil && e.All.ByHours == nil {
		fmt.Fprintln(w, "money: not known without --prompt-price and --completion-price, or --gpu-hour-price and --gpus with rates")
	} else {
		fmt.Fprintf(w, "money: %s\n", e.All.Money())
	}
	if err := e.printBudgets(w); err != nil || len(e.Variants) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nwith other numbers and an empty journal:")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "actor.n (K)\tjudge.n (N)\tcomparisons a prompt\tgenerations\tprompt tokens\tcompletion tokens\tstorage\ttime\tmoney\t")
	for i := range e.Variants {
		v := &e.Variants[i]
		own := ""
		if v.Own {
			own = " this run"
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.K, v.N, v.Comparisons, humanize.Comma(v.Generations),
			humanize.Comma(v.PromptTokens), humanize.Comma(v.CompletionTokens), humanize.Bytes(uint64(v.JournalBytes+v.OutputBytes)), v.Time(), v.Money(), own)
	}
	return t.Flush()
}

// printBudgets prints the cost of several budgets for the comparisons, and the value of their judge
// pairs.
func (e *Estimate) printBudgets(w io.Writer) error {
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
		fmt.Fprintf(t, "%.0f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\t --set %s\n", b.Comparisons, b.Gap, b.HiddenGap, humanize.Comma(b.Generations),
			humanize.Comma(b.PromptTokens), humanize.Comma(b.CompletionTokens), b.Time(), b.Money(), strings.Join(b.Settings, " --set "))
	}
	return t.Flush()
}

// Money returns the cost by each of the known prices.
func (c *Cost) Money() string {
	text := ""
	if c.ByTokens != nil {
		text = Amount(*c.ByTokens) + " by tokens"
	}
	if c.ByHours != nil {
		if text != "" {
			text += ", "
		}
		text += Amount(*c.ByHours) + " by GPU hours"
	}
	return cmp.Or(text, "–")
}

func whole(x float64) string { return humanize.FormatFloat("#,###.", x) }

// Time returns the time, – if it is not known.
func (c *Cost) Time() string {
	if c.Seconds == nil {
		return "–"
	}
	return Span(*c.Seconds)
}

// Span returns a time in seconds as a duration.
func Span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
