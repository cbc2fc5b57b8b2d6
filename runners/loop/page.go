package loop

import (
	"fmt"
	"strings"

	"coeval/runners/loop/decide"
	"coeval/runners/loop/page"
	"coeval/runners/loop/steps"
)

// PageFile is the page over all iterations.
const PageFile = page.File

// writePage writes the page over all iterations from the state.
func (l *Loop) writePage() error {
	last := l.state.Last()
	best := 0
	var ended []string
	if d, err := steps.Output[decide.Decision](l.state, last, steps.Decide); err == nil {
		best, ended = d.Best, d.Reasons
	}
	var entries []page.Entry
	for t := 1; t <= last; t++ {
		m, err := steps.Output[measured](l.state, t, steps.Measure)
		if err != nil {
			continue // it isn't evaluated yet
		}
		e := page.Entry{
			Iteration: t, Preset: l.Config.Turn(t).Preset, Report: fmt.Sprintf("it-%d/data/report.html", t),
			Gain: m.Gain, Agreement: m.Agreement, Chars: m.Chars, Signs: strings.Join(m.Signs, "; "),
			Hours: m.GPUHours, USD: m.USD, Best: t == best,
		}
		if d, err := steps.Output[decide.Decision](l.state, t, steps.Decide); err == nil {
			e.Decision = strings.Join(d.Reasons, "; ")
		}
		entries = append(entries, e)
	}
	return page.Write(l.Config.Dir, l.Config.Evaluate.Figure, entries, last, ended)
}
