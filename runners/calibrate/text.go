package calibrate

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"coeval/datasets/labels"
	"coeval/runners/calibrate/isotonic"
	"coeval/schemas/sanitize"
)

// The thresholds of the warnings.
const (
	// fewLabels is the number of labels below which intervals are too wide to distinguish judges: with 100
	// pairs, an agreement of 80 % has an interval of ±8 points.
	fewLabels = 100
	// fewPrompts is the same number for prompts: the bootstrap draws prompts with all their labels.
	fewPrompts = 30
	// maxUnparsed is the largest acceptable share of judgments without a score.
	maxUnparsed = 0.2
	// maxError is the calibration error above which the judge's certainty is misleading.
	maxError = 0.15
)

// Warnings returns a sentence for each reason to be careful with the figures.
func (f *Figures) Warnings() []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if f.Labels.Labels < fewLabels {
		warn("%d labels are few (less than %d): look at the intervals", f.Labels.Labels, fewLabels)
	} else if f.Labels.Prompts < fewPrompts {
		warn("the labels are of %d prompts only (less than %d): intervals are over prompts, and too narrow with this few", f.Labels.Prompts, fewPrompts)
	}
	if f.Unparsed.Share > maxUnparsed {
		warn("%s of the judgments have no score (more than %s): look at judge.max_tokens, verdicts: enforced, and whether the model is up to it", percent(f.Unparsed.Share), percent(maxUnparsed))
	}
	if a := f.Agreement; a != nil && a.WithTies != nil && a.WithTies.Low != nil && *a.WithTies.Low <= chance {
		warn("the interval of the agreement with ties begins at %s: tossing a coin gives 50 %%", percent(*a.WithTies.Low))
	}
	if r := f.Reliability; r != nil && r.Error > maxError {
		warn("the calibration error is %s (more than %s): the judge's judgments agree with each other more, or less, than with people", percent(r.Error), percent(maxError))
	}
	if f.Fit != nil && f.Fit.Problem == "" && f.Fit.Mapped != nil && *f.Fit.Mapped >= f.Fit.Error {
		warn("the map errs by %.2f points where it was not fitted, the scores as they are by %.2f: it would not improve them", *f.Fit.Mapped, f.Fit.Error)
	}
	return out
}

// Summary summarizes the figures in one sentence.
func (f *Figures) Summary() string {
	a := f.Agreement
	switch {
	case a == nil || a.WithTies == nil:
		return "The labels have no pair of responses that the judge scored, so its agreement with people is not known."
	case a.WithTies.Low == nil:
		return fmt.Sprintf("The judge agrees with people in %s of %d pairs; the labels are too few for an interval.", percent(a.WithTies.Value), a.Pairs)
	case *a.WithTies.Low <= chance:
		return fmt.Sprintf("The judge agrees with people in %s of %d pairs (%s to %s), which a random judge could reach too: label more pairs before you train on its scores.",
			percent(a.WithTies.Value), a.Pairs, percent(*a.WithTies.Low), percent(*a.WithTies.High))
	}
	return fmt.Sprintf("The judge agrees with people in %s of %d pairs (%s to %s), more than chance.",
		percent(a.WithTies.Value), a.Pairs, percent(*a.WithTies.Low), percent(*a.WithTies.High))
}

// chance is the agreement of a random judge.
const chance = 0.5

// Print writes the figures as text. It returns the first error of w.
func (f *Figures) Print(w io.Writer) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	if f.Simulated {
		line("SIMULATED", "the simulated worker answered: this shows how coeval works and is no evidence about a judge")
	}
	kind := "judgments"
	if f.Judge.Reads {
		kind = "reads"
	}
	line("judge", "%s, %d %s of each response", sanitize.Line(f.Judge.Identity()), f.Judge.Judgments, kind)
	line("summary", "%s", f.Summary())
	f.printLabels(line)
	if f.Agreement != nil {
		f.printAgreement(line)
	}
	f.printRanks(line)
	f.printReliability(line)
	f.printFit(line)
	line("unparsed", "%s of %s judgments%s", percent(f.Unparsed.Share), humanize.Comma(f.Unparsed.Judgments), counts(f.Unparsed.Reasons))
	if len(f.FailedCalls) > 0 {
		line("failed calls", "%s", strings.TrimPrefix(counts(f.FailedCalls), ": "))
	}
	line("intervals", "%.0f %%, of %s resamples of the prompts", 100*f.Bootstrap.Level, humanize.Comma(int64(f.Bootstrap.Resamples)))
	if err := t.Flush(); err != nil {
		return err
	}
	for _, warning := range f.Warnings() {
		fmt.Fprintf(&b, "WARNING: %s\n", warning)
	}
	_, err := w.Write(b.Bytes())
	return err
}

type printer func(name, format string, args ...any)

func (f *Figures) printLabels(line printer) {
	what := "pairs"
	if f.Labels.Kind == labels.Scores {
		what = "scores of " + f.Labels.Scale
	}
	line("labels", "%d %s on %d prompts, %d responses (%d without a score of the judge)", f.Labels.Labels, what, f.Labels.Prompts, f.Labels.Responses, f.Labels.Unscored)
	line("", "%s, SHA-256 %.12s…", sanitize.Line(f.Labels.File), f.Labels.SHA256)
}

func (f *Figures) printAgreement(line printer) {
	a := f.Agreement
	line("agreement", "%s of the %d pairs without a tie", shown(a.WithoutTies, percent), a.Decided)
	line("", "%s of all %d, where a tie against a winner is half (ties: judge %d, people %d, both %d)", shown(a.WithTies, percent), a.Pairs, a.JudgeTies, a.PeopleTies, a.BothTie)
	if a.Unscored > 0 {
		line("", "%d pairs have no score and are left out", a.Unscored)
	}
	for i, s := range a.ByLength {
		name := ""
		if i == 0 {
			name = "  by length"
		}
		line(name, "%s", slice(s))
	}
	for i, s := range a.ByPosition {
		name := ""
		if i == 0 {
			name = "  by position"
		}
		line(name, "%s", slice(s))
	}
	if a.PeopleFirst != nil && a.JudgeFirst != nil {
		line("", "the first in the file wins %s by people, %s by the judge, which never sees two", percent(*a.PeopleFirst), percent(*a.JudgeFirst))
	}
}

func slice(s Slice) string {
	if s.Agree == nil {
		return s.Name + ": no pair"
	}
	return fmt.Sprintf("%s: %s of %d", s.Name, percent(*s.Agree), s.Pairs)
}

func (f *Figures) printRanks(line printer) {
	what := "of the judge's and people's scores"
	if f.Labels.Kind == labels.Pairs {
		what = "of the difference of scores and the preference"
	}
	number := func(x float64) string { return fmt.Sprintf("%+.3f", x) }
	line("ranks", "Spearman %s, Kendall's τ_b %s %s", shown(f.Ranks.Spearman, number), shown(f.Ranks.Kendall, number), what)
}

func (f *Figures) printReliability(line printer) {
	r := f.Reliability
	if r == nil {
		return
	}
	line("calibration error", "%s: how far the share of judgments for a response is from how often people prefer it", percent(r.Error))
	for _, b := range r.Bins {
		line("", "judgments %s sure: people agree in %s of %d", percent(b.Predicted), percent(b.Observed), b.Pairs)
	}
	if len(f.Curve) == 0 {
		return
	}
	parts := make([]string, 0, 4)
	for _, d := range []float64{0.5, 1, 2, 3} {
		if d <= f.Curve[len(f.Curve)-1].To {
			parts = append(parts, fmt.Sprintf("by %g: %s", d, percent(isotonic.Step(f.Curve, d))))
		}
	}
	if len(parts) > 0 {
		line("score difference", "people prefer the response that is higher %s (isotonic regression)", strings.Join(parts, ", "))
	}
}

func (f *Figures) printFit(line printer) {
	if f.Fit == nil {
		return
	}
	fit := f.Fit
	if fit.Labels > 0 {
		line("scale", "the judge gives %+.2f points more than people in the mean, and errs by %.2f (root mean square)", fit.Bias, fit.Error)
		if fit.Mapped != nil {
			line("", "with a map it errs by %.2f, on prompts that the map was not fitted to", *fit.Mapped)
		}
	}
	if fit.Problem != "" {
		line("map", "none: %s", fit.Problem)
		return
	}
	const most = 12
	parts := make([]string, 0, most)
	for i, p := range fit.Points {
		if n := len(fit.Points); n <= most || i*(most-1)/(n-1) != (i-1)*(most-1)/(n-1) || i == 0 {
			parts = append(parts, fmt.Sprintf("%s → %s", p.Score, p.People))
		}
	}
	line("map", "%d points: %s", len(fit.Points), strings.Join(parts, ", "))
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// shown formats a figure with its interval.
func shown(e *Estimate, format func(float64) string) string {
	switch {
	case e == nil:
		return "–"
	case e.Low == nil:
		return format(e.Value)
	}
	return fmt.Sprintf("%s (%s to %s)", format(e.Value), format(*e.Low), format(*e.High))
}

// counts lists counts after a colon, the largest first.
func counts(m map[string]int64) string {
	var parts []string
	for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) }) {
		parts = append(parts, fmt.Sprintf("%s %s", k, humanize.Comma(m[k])))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}
