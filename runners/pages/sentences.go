package pages

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"coeval/runners/estimate"
	"coeval/runners/figures"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// A tile is one of the figures at the top.
type tile struct{ Value, Name, Note string }

// dropped is a reason why prompts have no pair for a role.
type dropped struct {
	Role, What, Reason string
	Prompts            int64
	Share              float64
	Setting            string
}

// sentences returns the sentences of the paragraph at the top. Warned is the number of warnings that follow it.
func sentences(s *summary.Summary, f *figures.Figures, warned int) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s.Prompts == 0 {
		say("There was no prompt, and so there is no pair.")
		return out
	}
	var got []string
	for _, r := range roles(s) {
		got = append(got, fmt.Sprintf("%s a pair for the %s", gave(r.role.Paired, s.Prompts), r.name))
	}
	say("Of %s, %s.", prompts(s.Prompts), strings.Join(got, ", and "))
	if a := s.Actor; a != nil && a.Paired > 0 {
		text := fmt.Sprintf("In the actor's pairs the chosen response scores %s points more than the rejected one and is %s in the mean", points(a.ScoreMargin), longer(a.LengthDifference))
		if c := f.CrossFit; c != nil {
			text += fmt.Sprintf("; judgments that did not choose the pairs see %s points", signed(c.Margin, 2))
		}
		if c := f.Length.Control; c != nil {
			text += fmt.Sprintf("; at equal length a single judgment would prefer it in %s of cases", percent(c.Controlled))
		}
		say("%s.", text)
	}
	if c := f.Calibration; c != nil {
		say("Mean scores are on people's scale, by a map of %s from %s responses; single judgments, and the variance of those of a response, are on the judge's own.", sanitize.Line(c.Date), comma(int64(c.Responses)))
	}
	if c := s.Collapse; c != nil {
		text := fmt.Sprintf("In the judge's pairs the chosen judgment gives the higher score in %s, by %s points in the mean", percent(c.HigherChosen), signed(c.ScoreDifference, 2))
		if m := f.Meta; m != nil && m.BothOrders > 0 {
			text += fmt.Sprintf("; the meta-judge picks the same winner in both orders in %s of cases, where tossing a coin would in 50\u00a0%%", percent(m.Consistent))
		}
		say("%s.", text)
	}
	if r := s.Reads; r != nil {
		say("Verdicts of one token: %s. raw/reads has the labels' log-probabilities.", r.Text())
	}
	if j := s.Judging; j != nil {
		say("Coeval requested %s judgments of %s contested responses in rounds (%.1f each); responses by the reason for the stop: %s.", comma(j.Asked), comma(j.Responses), j.Each(), j.Why())
	}
	if a := s.Asking; a != nil {
		say("Coeval requested %s of %s comparisons (%s); prompts by the reason for the stop: %s (column asking_stopped of raw/prompts). Its picks are expected to lose %s of the distance between the best and the worst judgment.",
			comma(a.Asked), comma(a.Possible), percent(ratio(a.Asked, a.Possible)), a.Why(), percent(a.Regret))
	}
	for _, r := range roles(s) {
		if n := r.role.Dropped + r.role.Failed; n > 0 {
			say("No pair for the %s came of %s: %s.", r.name, prompts(n), reasons(r.role))
		}
	}
	if s.BadLines > 0 {
		say("%s of %s lines of the input were no prompt.", comma(s.BadLines), comma(s.Lines))
	}
	switch warned {
	case 0:
		say("No figure crossed a threshold, so none speaks against training on this data.")
	case 1:
		say("One figure crossed a threshold: look at it before training on this data.")
	default:
		say("%d figures crossed a threshold: look at them before training on this data.", warned)
	}
	return out
}

func prompts(n int64) string {
	if n == 1 {
		return "1 prompt"
	}
	return comma(n) + " prompts"
}

// gave phrases a part of the prompts.
func gave(part, whole int64) string {
	switch part {
	case whole:
		return "all gave"
	case 0:
		return "none gave"
	}
	return fmt.Sprintf("%s (%s) gave", comma(part), percent(ratio(part, whole)))
}

// longer phrases a difference in length.
func longer(chars float64) string {
	switch rounded := math.Round(chars); {
	case rounded > 0:
		return fmt.Sprintf("%.0f characters longer", rounded)
	case rounded < 0:
		return fmt.Sprintf("%.0f characters shorter", -rounded)
	}
	return "as long"
}

type namedRole struct {
	name string
	role *summary.Role
}

func roles(s *summary.Summary) []namedRole {
	var out []namedRole
	if s.Actor != nil {
		out = append(out, namedRole{schemas.RoleActor, s.Actor})
	}
	if s.Judge != nil {
		out = append(out, namedRole{schemas.RoleJudge, s.Judge})
	}
	return out
}

// reasons lists why prompts have no pair, the most frequent first.
func reasons(r *summary.Role) string {
	var parts []string
	for _, d := range dropsOf("", r, 1) {
		parts = append(parts, fmt.Sprintf("%s %s", d.Reason, comma(d.Prompts)))
	}
	return strings.Join(parts, ", ")
}

func drops(s *summary.Summary) []dropped {
	var out []dropped
	for _, r := range roles(s) {
		out = append(out, dropsOf(r.name, r.role, s.Prompts)...)
	}
	return out
}

func dropsOf(name string, r *summary.Role, prompts int64) []dropped {
	var out []dropped
	for reason, n := range r.DroppedByReason {
		out = append(out, dropped{Role: name, What: "dropped", Reason: reason, Prompts: n, Share: ratio(n, prompts), Setting: summary.SettingBehind(reason)})
	}
	for code, n := range r.FailedByCode {
		out = append(out, dropped{Role: name, What: "failed", Reason: code, Prompts: n, Share: ratio(n, prompts), Setting: "--retry-failed=" + code + " repeats them"})
	}
	slices.SortFunc(out, func(a, b dropped) int {
		return cmp.Or(cmp.Compare(b.Prompts, a.Prompts), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.What, b.What))
	})
	return out
}

func tiles(s *summary.Summary, f *figures.Figures) []tile {
	var out []tile
	for _, r := range roles(s) {
		out = append(out, tile{comma(r.role.Paired), r.name + " pairs", percent(ratio(r.role.Paired, s.Prompts)) + " of the prompts"})
	}
	if s.Actor != nil && s.Actor.Paired > 0 {
		out = append(out, tile{signed(s.Actor.ScoreMargin, 2), "points of margin", "chosen − rejected response"})
		if c := f.CrossFit; c != nil {
			out = append(out, tile{signed(c.Margin, 2), "points, cross-fitted", "by judgments that did not choose"})
		}
		out = append(out, tile{signed(s.Actor.LengthDifference, 0), "characters", fmt.Sprintf("chosen − rejected, of %.0f", s.Actor.MeanLength)})
	}
	if r := f.Reliability; r != nil && r.Within != nil {
		out = append(out, tile{points(*r.Within), "reliability of S", fmt.Sprintf("within a prompt, of %.1f judgments", r.Judgments)})
	}
	if c := f.Length.Control; c != nil {
		out = append(out, tile{percent(c.Controlled), "win share", "of the chosen at equal length"})
	}
	if m := f.Meta; m != nil && m.Verdicts > 0 {
		out = append(out, tile{percent(m.HigherWins), "higher score wins", "with the meta-judge; 50 % is blind to scores"})
	}
	return out
}

// A counted thing, as a reason.
type counted struct {
	Name  string
	Count int64
}

// sorted lists counts, the largest first.
func sorted(counts map[string]int64) []counted {
	var out []counted
	for name, n := range counts {
		out = append(out, counted{name, n})
	}
	slices.SortFunc(out, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func comma(n int64) string { return humanize.Comma(n) }

// percent keeps the sign with its number.
func percent(x float64) string { return fmt.Sprintf("%.1f\u00a0%%", 100*x) }

func wholeOf(x float64) string { return humanize.FormatFloat("#,###.", x) }

func points(x float64) string { return fmt.Sprintf("%.2f", x) }

// signed has a plus or the minus of print.
func signed(x float64, digits int) string {
	text := fmt.Sprintf("%+.*f", digits, x)
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		return "−" + rest
	}
	return text
}

func costOf(x *float64) string {
	if x == nil {
		return "–"
	}
	return estimate.Amount(*x)
}

// per formats the cost of one of many.
func per(x *float64, of int64) string { return estimate.Amount(*x / float64(of)) }

func secondsOf(x *float64) string {
	if x == nil {
		return "–"
	}
	return duration(*x)
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		d = d.Round(time.Millisecond)
	case d < time.Minute:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Second)
	}
	return d.String()
}

func elo(x *float64) string {
	if x == nil {
		return "unknown"
	}
	return signed(*x, 2)
}

func visibleLine(s string) string { return sanitize.Line(s) }

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
