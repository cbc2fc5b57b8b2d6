package summary

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// Print writes the summary as text. It returns the first error of w.
func (s *Summary) Print(w io.Writer) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	if s.Simulated {
		line("SIMULATED", "the simulated worker answered: this data shows how coeval works; do not train on it")
	}
	line("prompts", "%s%s", humanize.Comma(s.Prompts), s.lines())
	if s.BadLines > 0 {
		line("  bad lines", "%s", counts(s.BadLinesByCode))
	}
	line("responses", "%s", &s.Responses)
	for _, r := range s.roles() {
		r.role.print(line, r.name, s.Prompts)
	}
	s.printCollapse(line)
	if j := s.Judging; j != nil {
		line("judgments in rounds", "%s of %s contested responses (%.1f each); responses by the reason for the stop: %s", humanize.Comma(j.Asked), humanize.Comma(j.Responses), j.Each(), j.Why())
	}
	s.printAsking(line)
	if s.Reads != nil {
		line("reads", "%s", s.Reads.Text())
	}
	s.printCalls(line)
	s.printFailures(line)
	if len(s.UnknownFinishes) > 0 {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(s.UnknownFinishes)) {
			reasons = append(reasons, fmt.Sprintf("%q %s", reason, humanize.Comma(s.UnknownFinishes[reason])))
		}
		line("unknown ends", "texts with finish reasons that are not known count as cut off: %s", strings.Join(reasons, ", "))
	}
	if s.SlotUse != nil {
		line("slot use", "%s of %s", percent(*s.SlotUse), s.SlotUseOf)
	}
	line("time", "%s", time.Duration(s.Seconds*float64(time.Second)).Round(100*time.Millisecond))
	line("files", "%d with %s in %s; the dataset card is %s/README.md", s.Files, humanize.Bytes(uint64(s.Bytes)), sanitize.Line(s.Out), sanitize.Line(s.Out))
	if err := t.Flush(); err != nil {
		return err
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", warning)
	}
	fmt.Fprintf(&b, "next: coeval report %s\n", sanitize.Line(s.Out))
	_, err := sanitize.Writer(w).Write(b.Bytes())
	return err
}

func (s *Summary) lines() string {
	if s.BadLines == 0 && s.Merged == 0 {
		return ""
	}
	return fmt.Sprintf(" of %s lines (%d bad, %d merged)", humanize.Comma(s.Lines), s.BadLines, s.Merged)
}

func (r *Role) print(line func(string, string, ...any), name string, prompts int64) {
	line(name+" pairs", "%s of %s (%s)", humanize.Comma(r.Paired), humanize.Comma(prompts), percent(share(float64(r.Paired), prompts)))
	if r.Paired > 0 {
		line("", "chosen − rejected: %+.3f points, %+.0f characters (mean length %.0f)", r.ScoreMargin, r.LengthDifference, r.MeanLength)
	}
	if r.Dropped > 0 {
		line("  dropped", "%s: %s", humanize.Comma(r.Dropped), counts(r.DroppedByReason))
	}
	if r.Failed > 0 {
		line("  failed", "%s: %s", humanize.Comma(r.Failed), counts(r.FailedByCode))
	}
}

// counts lists counts, the largest first.
func counts(m map[string]int64) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%s %s", k, humanize.Comma(m[k]))
	}
	return strings.Join(parts, ", ")
}

func (s *Summary) printCollapse(line func(string, string, ...any)) {
	c := s.Collapse
	if c == nil {
		return
	}
	line("judge collapse", "chosen has the higher score in %s of pairs, by %+.2f points in the mean", percent(c.HigherChosen), c.ScoreDifference)
	parts := make([]string, len(c.ChosenScores))
	for i, b := range c.ChosenScores {
		parts[i] = fmt.Sprintf("%g: %.0f %%", b.Score, 100*b.Share)
	}
	line("", "chosen scores %s", strings.Join(parts, ", "))
}

func (s *Summary) printAsking(line func(string, string, ...any)) {
	a := s.Asking
	if a == nil {
		return
	}
	line("comparisons", "%s of %s requested (%s); prompts by the reason for the stop: %s", humanize.Comma(a.Asked), humanize.Comma(a.Possible), percent(share(float64(a.Asked), a.Possible)), a.Why())
	line("", "expected regret of the picks: %s of the distance between best and worst judgment", percent(a.Regret))
}

func (s *Summary) printCalls(line func(string, string, ...any)) {
	c := s.Calls
	line("calls", "%s generations in %s requests (%s retries), %s replayed from the journal", humanize.Comma(c.Generations), humanize.Comma(c.Requests), humanize.Comma(c.Retries), humanize.Comma(c.Replayed))
	line("unparsed", "%s: judgments %s, comparisons %s", percent(s.Unparsed), percent(s.UnparsedByStage[schemas.StageJudge]), percent(s.UnparsedByStage[schemas.StageMeta]))
	if len(s.UnparsedReasons) > 0 {
		line("", "%s", counts(s.UnparsedReasons))
	}
}

func (s *Summary) printFailures(line func(string, string, ...any)) {
	if len(s.FailedCalls) == 0 {
		line("failed calls", "none")
		return
	}
	for _, stage := range schemas.Stages {
		if codes := s.FailedCalls[stage]; len(codes) > 0 {
			line("failed calls", "%s: %s", stage, counts(codes))
		}
	}
	if s.FailureMessage != nil {
		line("", "%s", s.FailureMessage)
	}
	parts := make([]string, len(s.FailedByLength))
	for i, q := range s.FailedByLength {
		parts[i] = fmt.Sprintf("from %d: %s", q.FromChars, percent(q.Failed))
	}
	line("", "prompts with one, by quarter of length in characters: %s", strings.Join(parts, ", "))
}
