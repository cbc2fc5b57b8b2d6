package loop

import (
	"fmt"
	"slices"
	"strings"

	"coeval/runners/loop/decide"
	"coeval/runners/loop/steps"
)

// Status is how far a loop is.
type Status struct {
	Records []steps.Record
	// Iterations have the figures of the evaluated iterations.
	Iterations []IterationStatus
	// Next names the loop's next step, or the reason of its end.
	Next string
}

// IterationStatus is the figures of an iteration as text, – where one is not known.
type IterationStatus struct {
	Iteration                    int
	Gain, Agreement, Chars, Cost string
	Signs                        int
}

// Status reads how far a loop is. A running loop is not disturbed.
func (l *Loop) Status() (*Status, error) {
	var err error
	if l.state, err = steps.Read(l.Config.Dir); err != nil {
		return nil, err
	}
	s := &Status{Records: l.state.Records()}
	for t := 1; t <= l.state.Last(); t++ {
		m, err := steps.Output[measured](l.state, t, steps.Measure)
		if err != nil {
			continue // it isn't evaluated yet
		}
		it := IterationStatus{Iteration: t, Gain: "–", Agreement: "–", Chars: "–", Cost: "–", Signs: len(m.Signs)}
		if g := m.Gain; g != nil {
			it.Gain = fmt.Sprintf("%.1f %% (%.1f to %.1f)", 100*g.Value, 100*g.Low, 100*g.High)
		}
		if a := m.Agreement; a != nil {
			it.Agreement = fmt.Sprintf("%.1f %% of %d", 100*a.Share, a.Pairs)
		}
		if m.Chars != nil {
			it.Chars = fmt.Sprintf("%.0f", *m.Chars)
		}
		if m.GPUHours > 0 {
			it.Cost = fmt.Sprintf("%.2f GPU hours", m.GPUHours)
		}
		if m.USD > 0 {
			it.Cost += fmt.Sprintf(", %.2f USD", m.USD)
		}
		s.Iterations = append(s.Iterations, it)
	}
	s.Next = l.next()
	return s, nil
}

// next names the loop's next step.
func (l *Loop) next() string {
	last := l.state.Last()
	if last == 0 {
		return fmt.Sprintf("%s: no step is done; start the loop with: coeval loop LOOP.yaml", l.Config.Dir)
	}
	undone := func(s steps.Step) bool { return l.state.Find(last, s) == nil }
	if all := l.Config.Steps(last); slices.ContainsFunc(all, undone) {
		return fmt.Sprintf("next: iteration %d, %s", last, all[slices.IndexFunc(all, undone)])
	}
	d, err := steps.Output[decide.Decision](l.state, last, steps.Decide)
	if err != nil {
		return fmt.Sprintf("next: iteration %d, %s again, because its record is damaged (%v)", last, steps.Decide, err)
	}
	if !d.Stop {
		return fmt.Sprintf("next: iteration %d, %s", last+1, l.Config.Steps(last + 1)[0])
	}
	ended := fmt.Sprintf("the loop ended after iteration %d: %s", last, strings.Join(d.Reasons, "; "))
	if d.Best > 0 {
		best := l.after(d.Best)
		ended += fmt.Sprintf("\nthe best model is the model of iteration %d: %s", d.Best, best.Path)
	}
	return ended
}
