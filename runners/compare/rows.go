package compare

import "fmt"

// Row is a figure of all runs, for tables and charts.
type Row struct {
	Name string
	Unit string
	// Values are by run; null without the figure.
	Values []*float64
	// Percent reports whether the values are shares. Digits is the number of decimals to show.
	Percent bool
	Digits  int
}

// LengthRow is the name of the length of chosen responses, at the comparison's ρ.
const LengthRow = "Length of chosen responses at one ρ"

// Rows lists the figures of all runs in the order of the table.
func (c *Comparison) Rows() []Row {
	row := func(name, unit string, digits int, of func(*Iteration) *float64) Row {
		r := Row{Name: name, Unit: unit, Digits: digits, Percent: unit == "%"}
		for i := range c.Runs {
			r.Values = append(r.Values, of(&c.Runs[i]))
		}
		return r
	}
	scored := func(i *Iteration, v *float64) *float64 { return known(i.Responses > 0, v) }
	return []Row{
		row("Mean score of a response", "points", 2, func(i *Iteration) *float64 { return scored(i, &i.MeanScore) }),
		row("Spread within a prompt", "points", 2, func(i *Iteration) *float64 { return scored(i, &i.Spread) }),
		row("Variance of a response's judgments", "points²", 2, func(i *Iteration) *float64 { return scored(i, &i.Variance) }),
		row("Judgments at the top", "%", 1, func(i *Iteration) *float64 { return scored(i, &i.Top) }),
		row("Ties", "%", 1, func(i *Iteration) *float64 { return scored(i, &i.Ties) }),
		row("Agreement of judge and people", "%", 1, func(i *Iteration) *float64 { return i.Agreement }),
		row(LengthRow, "characters", 0, func(i *Iteration) *float64 { return known(i.ChosenPairs > 0, &i.ChosenChars) }),
		row("The first shown wins", "%", 1, func(i *Iteration) *float64 { return i.First }),
		row("Order conflicts", "%", 1, func(i *Iteration) *float64 { return i.Conflicts }),
		row("The higher score wins", "%", 1, func(i *Iteration) *float64 { return i.HigherWins }),
		row("Unparsed judgments", "%", 1, func(i *Iteration) *float64 { return &i.UnparsedJudgments }),
		row("Unparsed comparisons", "%", 1, func(i *Iteration) *float64 { return i.UnparsedComparisons }),
		row("Actor pairs per prompt", "pairs", 2, func(i *Iteration) *float64 { return i.ActorPairs }),
		row("Judge pairs per prompt", "pairs", 2, func(i *Iteration) *float64 { return i.JudgePairs }),
	}
}

// known returns a value, or null without data.
func known(is bool, v *float64) *float64 {
	if !is {
		return nil
	}
	return v
}

// Show formats a value of the row for a table.
func (r *Row) Show(v *float64) string {
	switch {
	case v == nil:
		return "–"
	case r.Percent:
		return fmt.Sprintf("%.*f %%", r.Digits, 100**v)
	}
	return fmt.Sprintf("%.*f", r.Digits, *v)
}
