package arena

import (
	"fmt"
	"strings"

	"coeval/runners/arena/winrate"
)

// Text returns the figures for a terminal, a line for each.
func (r *Report) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-20s %s\n", name, fmt.Sprintf(format, args...))
	}
	if r.Simulated {
		line("SIMULATED", "the simulated worker answered: these figures show the form of a report, and are no evidence about any model")
	}
	for _, m := range r.Matches {
		line("match", "%s against %s", m.A, m.B)
		line("  win rate", "%s", textOf(m.WinRate))
		if c := m.LengthControlled; c != nil {
			line("  at equal length", "%s (form: %s)", textOf(&c.Estimate), c.Form)
		}
		if c := m.StyleControlled; c != nil {
			line("  at equal style", "%s", textOf(&c.Estimate))
		}
		if m.Consistent != nil && m.FirstShown != nil {
			line("  orders", "agree in %.1f %%; the answer shown first wins %.1f %%", 100**m.Consistent, 100**m.FirstShown)
		}
		line("  prompts", "%d of %d count, %d games, %d without a verdict", m.Tally.Counted, m.Tally.Prompts, m.Tally.Games, total(m.Tally.Unparsed))
		if m.MinDifference != nil {
			line("  shows", "a win rate at least %.1f points from 50 %%", 100**m.MinDifference)
		}
	}
	if len(r.Standings) > 0 {
		line("standings", "strength in logits, 0 for the baseline")
		for i, s := range r.Standings {
			line(fmt.Sprintf("  %d.", i+1), "%+.2f (%+.2f to %+.2f)  %s", s.Strength.Value, s.Strength.Low, s.Strength.High, s.Model)
		}
	}
	for _, w := range r.Warnings {
		line("WARNING", "%s", w)
	}
	return b.String()
}

func total(counts map[string]int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// textOf returns an estimate in percent.
func textOf(e *winrate.Estimate) string {
	if e == nil {
		return "not known"
	}
	return fmt.Sprintf("%.1f %% (%.1f to %.1f)", 100*e.Value, 100*e.Low, 100*e.High)
}
