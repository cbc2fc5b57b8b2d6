package inspect

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// A printer writes a view as text.
type printer struct {
	*View
	b bytes.Buffer
	// maxChars is the number of characters shown of each text, negative for all.
	maxChars int
}

// Print writes the view with the first chars characters of each text. With full it writes all texts in
// full, those of judgments and comparisons too. It returns the first error of w.
func (v *View) Print(w io.Writer, chars int, full bool) error {
	p := &printer{View: v, maxChars: chars}
	if full {
		p.maxChars = -1
	}
	p.prompt()
	p.responses()
	p.actorPair()
	p.matrix()
	p.judgePair()
	p.failures()
	if full {
		p.texts()
	}
	_, err := w.Write(p.b.Bytes())
	return err
}

func (p *printer) say(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// heading begins a part.
func (p *printer) heading(format string, args ...any) {
	p.say("\n"+format, args...)
}

// table writes rows of cells that are separated by tabs.
func (p *printer) table(rows []string) {
	t := tabwriter.NewWriter(&p.b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, row)
	}
	t.Flush() //nolint:errcheck // a buffer's write cannot fail
}

// text shows a text under a margin.
func (p *printer) text(s string) {
	left := 0
	if p.maxChars >= 0 {
		s, left = sanitize.Cut(s, p.maxChars)
	}
	for line := range strings.SplitSeq(sanitize.Text(s), "\n") {
		p.say("    │ %s", line)
	}
	if left > 0 {
		p.say("    │ … and %d more characters", left)
	}
}

func (p *printer) prompt() {
	r := &p.Prompt
	p.say("PROMPT %d  %s", p.Number, r.ID)
	p.say("%s:%d, %d characters%s", name(r.SourceFile), r.SourceLine, r.Chars, ownIDs(r.OwnID))
	for _, m := range r.Prompt {
		p.say("  %s:", sanitize.Line(m.Role))
		p.text(m.Content)
	}
}

// maxName bounds a name in a line, in characters.
const maxName = 200

// name shortens a name from a file or a server to one short line.
func name(s string) string {
	head, left := sanitize.Cut(s, maxName)
	if left > 0 {
		head += "…"
	}
	return sanitize.Line(head)
}

func ownIDs(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ", own id " + name(strings.Join(ids, ", "))
}

// responseNumber returns the number of a response in the listing, from 1.
func (p *printer) responseNumber(id string) int {
	return 1 + slices.IndexFunc(p.Responses, func(r schemas.ResponseRow) bool { return r.ID == id })
}

func (p *printer) responses() {
	p.heading("RESPONSES of %s", sanitize.Line(p.Run.Settings.Actor.Role.Identity()))
	read := ""
	if p.Run.Settings.ReadsScores() {
		read = "reads\t"
	}
	rows := []string{"\tstatus\tcharacters\tS\tV\t" + read + "scores\t"}
	for i := range p.Responses {
		r := &p.Responses[i]
		if read != "" {
			read = p.reads(r.ID) + "\t"
		}
		rows = append(rows, fmt.Sprintf("  %d\t%s\t%d\t%s\t%s\t%s%s\t%s", i+1, sanitize.Line(r.Status), r.Chars, number(r.ScoreMean), number(r.ScoreVariance), read, p.scores(r.ID), p.marks(r)))
	}
	p.table(rows)
	for i := range p.Responses {
		r := &p.Responses[i]
		p.say("  %d  %s%s", i+1, r.ID, times(len(r.Replicates)))
		p.text(r.Text)
	}
}

func times(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(", given %d times", n)
}

func number(x *float64) string {
	if x == nil {
		return "–"
	}
	return fmt.Sprintf("%.3f", *x)
}

func signed(x *float64) string {
	if x == nil {
		return "–"
	}
	return fmt.Sprintf("%+.3f", *x)
}

// scores lists the score of each judgment of a response, or the reason why it has none.
func (p *printer) scores(id string) string {
	var parts []string
	for _, j := range p.Judgments[id] {
		switch {
		case j.Score != nil:
			parts = append(parts, fmt.Sprintf("%g", *j.Score))
		case j.UnparsedReason != nil:
			parts = append(parts, sanitize.Line(*j.UnparsedReason))
		}
	}
	return strings.Join(parts, " ")
}

func (p *printer) marks(r *schemas.ResponseRow) string {
	var marks []string
	if p.Actor != nil && p.Actor.ChosenID == r.ID {
		marks = append(marks, "chosen")
	}
	if p.Actor != nil && p.Actor.RejectedID == r.ID {
		marks = append(marks, "rejected")
	}
	if r.Contested {
		marks = append(marks, "contested")
	}
	return strings.Join(marks, ", ")
}

// actorPair prints the pair and its tiers, or the reason why there is none.
func (p *printer) actorPair() {
	if p.Prompt.ActorOutcome == nil {
		p.heading("ACTOR PAIR  not wanted in this run")
		return
	}
	if pair := p.Actor; pair != nil {
		p.heading("ACTOR PAIR  %d over %d: %+.3f points, %+d characters", p.responseNumber(pair.ChosenID), p.responseNumber(pair.RejectedID), pair.ScoreMargin, pair.ChosenChars-pair.RejectedChars)
	} else {
		p.none("ACTOR PAIR", *p.Prompt.ActorOutcome, p.Prompt.ActorReason)
	}
	p.tiers()
}

// none prints the reason why there is no pair.
func (p *printer) none(what, outcome string, reason *string) {
	why := ""
	if reason != nil {
		why = ": " + sanitize.Line(*reason)
		if setting := summary.SettingBehind(*reason); setting != "" {
			why += " (see " + setting + ")"
		}
	}
	p.heading("%s  %s%s", what, sanitize.Line(outcome), why)
}

// roundings exceeds the rounding of S and of the bounds, and is far below the distance of two means.
const roundings = 1e-9

// tiers lists the responses of both tiers.
func (p *printer) tiers() {
	var highest, lowest *float64
	for i := range p.Responses {
		s := p.Responses[i].ScoreMean
		if s != nil && (highest == nil || *s > *highest) {
			highest = s
		}
		if s != nil && (lowest == nil || *s < *lowest) {
			lowest = s
		}
	}
	if highest == nil || *highest == *lowest {
		return
	}
	rho := p.Run.Settings.Method.Rho
	top, bottom := (1-rho)**highest+rho**lowest, (1-rho)**lowest+rho**highest
	var above, below []string
	for i := range p.Responses {
		s := p.Responses[i].ScoreMean
		if s != nil && *s >= top-roundings {
			above = append(above, fmt.Sprint(i+1))
		}
		if s != nil && *s <= bottom+roundings {
			below = append(below, fmt.Sprint(i+1))
		}
	}
	p.say("  top tier, S ≥ %.3f at ρ %g: %s; the shortest is chosen", top, rho, strings.Join(above, " "))
	p.say("  bottom tier, S ≤ %.3f: %s; the longest is rejected", bottom, strings.Join(below, " "))
}

// matrix prints the verdict on each ordered pair of judgments.
func (p *printer) matrix() {
	if p.Prompt.ContestedResponseID == nil {
		p.heading("CONTESTED  none: no response has judgments that differ")
		return
	}
	p.heading("CONTESTED  response %d, its judgments by %s compared by %s", p.responseNumber(*p.Prompt.ContestedResponseID),
		sanitize.Line(p.Run.Settings.Judge.Role.Identity()), sanitize.Line(p.Run.Settings.MetaJudge.Role.Identity()))
	p.rounds(*p.Prompt.ContestedResponseID)
	if len(p.Comparisons) == 0 {
		p.say("  no judgments were compared")
		return
	}
	said := map[[2]string]string{}
	for _, c := range p.Comparisons {
		said[[2]string{c.FirstID, c.SecondID}] = mark(c.Winner)
		for _, r := range p.Reads[c.ID] { // at most one
			if r.Value != nil {
				said[[2]string{c.FirstID, c.SecondID}] = fmt.Sprintf("%.0f", 100**r.Value)
			}
		}
	}
	head := []string{"", "Elo", "score", "characters", ""}
	for i := range p.Contested {
		head = append(head, fmt.Sprint(i+1))
	}
	rows := []string{strings.Join(head, "\t")}
	for i := range p.Contested {
		j := &p.Contested[i]
		row := []string{fmt.Sprintf("  %d", i+1), signed(j.Elo), fmt.Sprint(*j.Score), fmt.Sprint(j.Chars), ""}
		for k := range p.Contested {
			cell := said[[2]string{j.ID, p.Contested[k].ID}]
			if i == k {
				cell = "·"
			}
			row = append(row, cell)
		}
		rows = append(rows, strings.Join(row, "\t"))
	}
	p.table(rows)
	cells := "> the first won, < the second won, = no verdict, blank failed"
	if p.Run.Settings.ReadsComparisons() {
		cells = "per cent of the probability that the first wins, = unparsed, blank failed"
	}
	if p.Run.Settings.MetaJudge.Budget != nil {
		cells += " or not requested"
	}
	p.say("  row shown first, column second: %s", cells)
}

// mark returns the sign of a comparison's winner.
func mark(winner string) string {
	switch winner {
	case schemas.First.String():
		return ">"
	case schemas.Second.String():
		return "<"
	}
	return "="
}

func (p *printer) judgePair() {
	if p.Prompt.JudgeOutcome == nil {
		p.heading("JUDGE PAIR  not wanted in this run")
		return
	}
	pair := p.Judge
	if pair == nil {
		p.none("JUDGE PAIR", *p.Prompt.JudgeOutcome, p.Prompt.JudgeReason)
		return
	}
	p.heading("JUDGE PAIR  %d over %d: Elo %s against %s, score %g against %g, %+d characters", p.judgmentNumber(pair.ChosenID), p.judgmentNumber(pair.RejectedID),
		signed(pair.ChosenElo), signed(pair.RejectedElo), pair.ChosenScore, pair.RejectedScore, pair.ChosenChars-pair.RejectedChars)
	for _, side := range []struct {
		name     string
		messages []schemas.Message
	}{{"chosen", pair.Chosen}, {"rejected", pair.Rejected}} {
		p.say("  %s:", side.name)
		for _, m := range side.messages {
			p.text(m.Content)
		}
	}
}

func (p *printer) judgmentNumber(id string) int {
	return 1 + slices.IndexFunc(p.Contested, func(j schemas.JudgmentRow) bool { return j.ID == id })
}

func (p *printer) failures() {
	if len(p.Failures) == 0 {
		return
	}
	p.heading("FAILED CALLS")
	type told struct{ stage, code, message string }
	counts := map[told]int{}
	for i := range p.Failures {
		f := &p.Failures[i]
		counts[told{f.Stage, f.Code, f.Message}]++
	}
	for i := range p.Failures { // each message once, at its first occurrence
		f := told{p.Failures[i].Stage, p.Failures[i].Code, p.Failures[i].Message}
		calls := counts[f]
		if calls == 0 {
			continue
		}
		delete(counts, f)
		p.say("  %d× %s %s: %s", calls, name(f.stage), name(f.code), name(f.message))
	}
}

// texts prints the texts of judgments and comparisons.
func (p *printer) texts() {
	for i := range p.Responses {
		for _, j := range p.Judgments[p.Responses[i].ID] {
			what := "unparsed"
			if j.Score != nil {
				what = fmt.Sprintf("score %g", *j.Score)
			}
			p.heading("JUDGMENT %d of response %d  %s, %s", j.Replicate, i+1, j.ID, what)
			p.text(j.Text)
		}
	}
	for i := range p.Comparisons {
		c := &p.Comparisons[i]
		p.heading("COMPARISON  %d shown first, %d second: %s", p.judgmentNumber(c.FirstID), p.judgmentNumber(c.SecondID), sanitize.Line(c.Winner))
		p.text(c.Text)
	}
}
