package compare

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"coeval/runners/calibrate"
	"coeval/runners/runs"
	"coeval/schemas/sanitize"
)

// addPeople adds the figures of coeval calibrate about the run's judge.
func (i *Iteration) addPeople(ctx context.Context, s *runs.Settings) error {
	f, err := calibrate.Read(ctx, i.Out)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // one figure is unknown; the others are not
		i.unknown = sanitize.Line(err.Error())
		return nil
	}
	switch {
	case f == nil:
		i.unknown = fmt.Sprintf("coeval calibrate --out %s has not been run", sanitize.Line(i.Out))
	case f.Judge.Identity() != i.Judge:
		i.unknown = fmt.Sprintf("coeval calibrate used the judge %s in %s, the run's judge is %s", sanitize.Line(f.Judge.Identity()), sanitize.Line(i.Out), sanitize.Line(i.Judge))
	case f.Judge.Template != s.JudgeTemplate():
		i.unknown = fmt.Sprintf("coeval calibrate used another judge.template in %s than the run", sanitize.Line(i.Out))
	case f.Agreement == nil || f.Agreement.WithTies == nil:
		i.unknown = fmt.Sprintf("the labels in %s have no pair of responses to one prompt", sanitize.Line(i.Out))
	default:
		i.people, i.Labels, i.Agreement = f, f.Labels.SHA256, &f.Agreement.WithTies.Value
	}
	return nil
}

// people is the sign of a self-trained judge that agrees with people less than an earlier judge. It uses
// the runs that have the labels of the last run.
func people(runs []Iteration) Sign {
	last := &runs[len(runs)-1]
	s := Sign{
		Name: People,
		Threshold: fmt.Sprintf("the last judge agrees with people on the same labels at least %.0f points less than the best one before it, and by %d standard errors of the difference",
			100*fallBack, fallErrors),
		Advice: "the judge drifts away from people: continue from the judge of the peak, or add people's preferences to its training data",
	}
	if last.people == nil {
		s.Evidence = last.unknown
		return s
	}
	var peak *Iteration
	var told []string
	unknown := ""
	for i := range runs[:len(runs)-1] {
		r := &runs[i]
		switch {
		case r.people == nil:
			unknown = cmp.Or(unknown, r.unknown)
		case r.Labels != last.Labels:
			unknown = cmp.Or(unknown, fmt.Sprintf("the labels in %s are not those in %s", sanitize.Line(r.Out), sanitize.Line(last.Out)))
		case r.people.Judge.Judgments != last.people.Judge.Judgments:
			unknown = cmp.Or(unknown, fmt.Sprintf("coeval calibrate requested %d judgments of a response in %s and %d in %s",
				r.people.Judge.Judgments, sanitize.Line(r.Out), last.people.Judge.Judgments, sanitize.Line(last.Out)))
		default:
			told = append(told, fmt.Sprintf("%.1f %%", 100**r.Agreement))
			if peak == nil || *r.Agreement > *peak.Agreement {
				peak = r
			}
		}
	}
	if peak == nil {
		s.Evidence = unknown
		return s
	}
	fall, err, pairs := difference(peak.people, last.people)
	s.Known = pairs > 0
	s.Seen = pairs > 0 && fall >= fallBack && fall >= fallErrors*err
	s.Evidence = fmt.Sprintf("agreement %s → %.1f %%; from the peak to the last %+.1f points ± %.1f (standard error) on %d pairs",
		strings.Join(told, " → "), 100**last.Agreement, 0-100*fall, 100*err, pairs)
	return s
}

// difference returns the difference of two judges' agreement on the pairs that both scored, and its
// standard error: that of a mean whose values come in groups, since pairs of one prompt correlate,
//
//	√(Σ_prompts (Σ_pairs (d − mean d))²) / pairs
//
// Both are about the same labels, with their pairs in one order.
func difference(before, after *calibrate.Figures) (mean, err float64, pairs int) {
	n := min(len(before.Pairs), len(after.Pairs))
	each := func(do func(prompt string, d float64)) {
		for i := range n {
			a, b := before.Pairs[i].Agree, after.Pairs[i].Agree
			if a != nil && b != nil {
				do(after.Responses[after.Pairs[i].First].PromptID, *a-*b)
			}
		}
	}
	each(func(_ string, d float64) {
		pairs++
		mean += d
	})
	if pairs == 0 {
		return 0, 0, 0
	}
	mean /= float64(pairs)
	var order []string
	off := map[string]float64{}
	each(func(prompt string, d float64) {
		if _, seen := off[prompt]; !seen {
			order = append(order, prompt)
		}
		off[prompt] += d - mean
	})
	var squares float64
	for _, prompt := range order {
		squares += off[prompt] * off[prompt]
	}
	return mean, math.Sqrt(squares) / float64(pairs), pairs
}
