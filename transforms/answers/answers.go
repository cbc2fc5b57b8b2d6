// Package answers finds the result that a model reports at the end of a text.
//
// A judge ends with a score and a meta-judge with a verdict. Each is a labelled line such as "Score: 4",
// a table row, an XML element, a JSON object or a LaTeX box. A [Grammar] defines the labels and parses a
// value. This package finds the result that counts.
//
// Scores and verdicts share the rules of this paragraph. The last labelled result outside quotations counts. If it
// is unreadable, the text has no result. Text between the tags of package prompting, or after a line such
// as "It says:", is quoted and ignored. A Markdown block is quoted unless it ends the text, or a line
// announces it as the model's own. Text after the result may explain it. An explanation that contradicts the
// result, or states another one in prose, makes the text ambiguous. A wrong score is worse than a missing
// one, so the parser rejects forms that it does not know.
//
// Each [Grammar] adds rules of its own. Without a labelled result, the last sentence of a meta-judge may name
// the winner ([Grammar.Sentence]). An earlier verdict with another winner always makes the text ambiguous. In
// an arena, an earlier A>>B counts instead of a later A>B ([Grammar.Refine]). Of several scores the last one
// counts, with three exceptions. The text is ambiguous if prose separates two different scores, unless the
// prose corrects the first one or the last one is the total of a list. It is ambiguous if its scores may be
// those of single criteria. It is ambiguous if they differ and the last label is weak ([Weak]). The last two
// exceptions do not apply if the last label means a total.
//
// The packages below it find the parts of a text: labels with the words around them (package leads), objects,
// elements and quotations. Package prose normalizes lines, and package remarks recognizes sentences that take a
// result back.
package answers

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"coeval/transforms/answers/leads"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/quotation"
)

// The reasons why a text has no result.
const (
	// CutOff is a text that the model didn't finish.
	CutOff = "cut_off"
	// Filtered is a text that the server's content filter ended.
	Filtered = "filtered"
	// Empty is a text without content.
	Empty = "empty"
	// Missing is a text without a report, or whose last report repeats the placeholder.
	Missing = "missing"
	// Quoted is a text whose reports are all quotations.
	Quoted = "quoted"
	// Ambiguous is a text whose last report has no single clear value.
	Ambiguous = "ambiguous"
)

// Placeholder is the reason that a grammar gives for a value which repeats the instruction,
// such as <points>. A text never has it as its reason.
const Placeholder = "placeholder"

// Wrapper is the label of a bare value in an element such as <answer>4</answer>.
const Wrapper = "⟪answer⟫"

// A Kind is the strength of a label as evidence.
type Kind int

const (
	// Strong labels such as Score always announce a result.
	Strong Kind = iota
	// Total labels mean a result, and also end a list of partial scores.
	Total
	// Weak labels mean a result only when the rest of the line is nothing but a value, as
	// Note does: "Note: 4/5" is French for a score, "Note: it is short" is a remark.
	Weak
)

// A Grammar describes the reports of one kind of answer.
type Grammar struct {
	// Labels are the words before a value in lower case, spaces for underscores.
	Labels map[string]Kind
	// Keys are the keys of JSON objects in lower case without separators.
	Keys map[string]Kind
	// Parse reads the text after a label.
	Parse func(text string) Value
	// Label reads a label's parenthesis and scale, as in "Score (0-5)". It returns a reason
	// if they contradict the grammar's values.
	Label func(note string) (reason string)
	// Sentence reads a sentence that reports without a label. Leads reports whether a text may
	// precede the report in its sentence. May be nil.
	Sentence func(sentence string, leads func(string) bool) (n int, ok bool)
	// Contests reports whether a sentence after the report contradicts its value.
	Contests func(sentence string, n int) bool
	// Joins reports whether two sentences after a report are one statement, of which Contests reads both at once. May
	// be nil.
	Joins func(a, b string) bool
	// States reports whether a sentence states the result in other words than a report.
	States func(sentence string) bool
	// Merge decides between the reports of a text, the last of which is n. It returns a
	// reason if they contradict each other.
	Merge func(reports []Report) (reason string)
	// Refine returns the value of reports that Merge accepts. Nil means the last one's.
	Refine func(reports []Report) (n int)

	compiled
}

// A Value is what a grammar reads after a label.
type Value struct {
	N int
	// Remark is the rest of the value's own sentence, and After the sentences that follow.
	Remark, After string
	// Reason is the reason why the text is no value.
	Reason string
}

// whole reports whether the text was nothing but a value.
func (v Value) whole() bool { return v.Reason == "" && !hasContent(v.Remark+v.After) }

// A Report is one labelled value of a text.
type Report struct {
	Kind   Kind
	Value  int
	Reason string // why it has no value
	// Headed reports whether a heading, as the name of a criterion, stands above the label.
	Headed bool
	// Partial reports whether the line is about one criterion alone.
	Partial bool
	// Then is the passage between the report and the next one.
	Then Passage

	line, endLine int
	start         int    // of the label with the words before it, in its line
	label         string // with the words before it
	remark, rest  string // the rest of the value's sentence, and the sentences after it on its line
	object        bool   // the report is a JSON object
	quoted        bool
	// introduced reports whether the line above makes the report a quotation.
	introduced bool
}

// Read returns the value that a text reports, or the reason why it reports none.
func (g *Grammar) Read(text string) (n int, reason string) {
	if strings.TrimSpace(text) == "" {
		return 0, Empty
	}
	return g.read(text)
}

func (g *Grammar) read(text string) (n int, reason string) {
	p := newPage(text)
	reports := g.reports(p)
	own := reports[:0:0]
	for _, r := range reports {
		if !r.quoted {
			own = append(own, r)
		}
	}
	if len(own) == 0 {
		if n, ok := g.lastSentence(p); ok {
			return n, ""
		}
		if len(reports) > 0 {
			return 0, Quoted
		}
		return 0, Missing
	}
	if last := reports[len(reports)-1]; last.quoted {
		if at, open := quotation.OpensAt(strings.Split(p.text, "\n")); open && at < last.line {
			return 0, Quoted // perhaps the model's own
		}
	}
	return g.decide(p, own)
}

// decide returns the value of the last report unless the rest of the text contradicts it.
func (g *Grammar) decide(p *page, own []Report) (n int, reason string) {
	own, foreign, runsOn := splitTurns(p, own)
	last := own[len(own)-1]
	switch {
	case runsOn && last.Kind == Weak, p.judgesAnother(own[0].line):
		return 0, Missing
	case last.Reason == Placeholder:
		return 0, Missing
	case last.Reason != "":
		return 0, last.Reason
	case p.continuesSentence(last.endLine):
		return 0, Ambiguous
	}
	for _, r := range foreign {
		if r.Reason != "" || r.Value != last.Value {
			return 0, Ambiguous
		}
	}
	for i := range own[1:] {
		own[i].Then = p.passage(own[i], own[i+1])
	}
	if reason := g.Merge(own); reason != "" {
		return 0, reason
	}
	if g.Refine != nil {
		last.Value = g.Refine(own)
	}
	var after []string
	after = append(after, prose.Sentences(last.rest)...)
	for i := last.endLine + 1; i < len(p.lines); i++ {
		if !p.lines[i].quoted {
			after = append(after, prose.Sentences(p.lines[i].plain)...)
		}
	}
	for _, s := range g.statements(after) {
		if g.Contests(s, last.Value) {
			return 0, Ambiguous
		}
	}
	return last.Value, ""
}

// statements returns sentences, those that Joins joins as one.
func (g *Grammar) statements(sentences []string) []string {
	if g.Joins == nil {
		return sentences
	}
	out := sentences[:0:0]
	for i, s := range sentences {
		if n := len(out) - 1; i > 0 && g.Joins(sentences[i-1], s) {
			out[n] = strings.TrimRight(out[n], ".;! ") + ", and " + s
			continue
		}
		out = append(out, s)
	}
	return out
}

// splitTurns separates the reports after the line where a model goes on with another turn,
// such as "User:", from those before it. A text whose first report comes later doesn't run on.
func splitTurns(p *page, own []Report) (before, after []Report, runsOn bool) {
	for i := own[0].endLine + 1; i < len(p.lines); i++ {
		if !p.lines[i].turn {
			continue
		}
		for k, r := range own {
			if r.line >= i {
				return own[:k], own[k:], true
			}
		}
		return own, nil, true
	}
	return own, nil, false
}

// lastSentence reads a report without a label from the last sentence of the text.
func (g *Grammar) lastSentence(p *page) (n int, ok bool) {
	if g.Sentence == nil {
		return 0, false
	}
	for i := len(p.lines) - 1; i >= 0; i-- {
		l := &p.lines[i]
		if strings.TrimSpace(l.plain) == "" {
			continue
		}
		if l.quoted || l.turn || g.introduced(p, i) || g.aboutCriterion(p, i) {
			return 0, false
		}
		all := prose.Sentences(l.plain)
		if len(all) == 0 {
			return 0, false
		}
		if n, ok = g.Sentence(all[len(all)-1], g.leads); !ok {
			return 0, false
		}
		for _, s := range all[:len(all)-1] {
			if g.Contests(s, n) {
				return 0, false
			}
		}
		return n, true
	}
	return 0, false
}

// intro matches a clause before the main one: "After weighing both judgments, ".
var intro = patterns.New(`^\W*(?:(?:of|between)\s+the\s+two|after|based|considering|given|taking|looking|having|weighing|comparing|upon|in\s+light|in\s+view|all\s+things|with\s+(?:this|that|all)|judging|following|for\s+(?:this|these)\s+reasons?|as\s+a\s+result)\b[^,;:]*,\s*`)

// leads reports whether a text may precede a report in its sentence: leads, with a clause before them or not.
func (g *Grammar) leads(s string) bool {
	if strings.TrimSpace(s) == "" {
		return true
	}
	s = prose.Fold(s)
	if !g.endsInLead(s) {
		return false
	}
	clause := ""
	if strings.ContainsAny(s, ",:，：、–—-") { // spares most texts the expressions
		if clause = intro.FindString(s); clause == "" {
			clause = quotation.Summary(s)
		}
	}
	return leads.Only(s[len(clause):], g.leading) && (clause == "" || !quotation.Attributes(clause))
}

// endsInLead reports whether the last word of a text is a lead, or may belong to a clause before the main one, which
// ends in punctuation. It spares most texts the expressions of [Grammar.leads].
func (g *Grammar) endsInLead(s string) bool {
	s = strings.TrimRightFunc(s, unicode.IsSpace)
	word := strings.TrimLeftFunc(s[max(strings.LastIndexFunc(s, leads.NotInWord), 0):], leads.NotInWord)
	return word == "" || leads.Only(word, g.leading)
}

// aboutCriterion reports whether a line begins with the name of a criterion, or stands under it.
func (g *Grammar) aboutCriterion(p *page, i int) bool {
	l := prose.Fold(p.lines[i].plain)
	if head := headed.FindString(l); head != "" && !leads.Only(head, g.leading) && len(head) < len(strings.TrimRight(l, " ")) {
		return true
	}
	is, total := p.headed(i)
	return is && !total
}

// ReadEnforced reads a text whose last line a server has constrained to a label and a value, or all of
// which it has constrained to a JSON object. Such a line is never a quotation.
func (g *Grammar) ReadEnforced(text string) (n int, reason string) {
	text, _ = prose.TrimSpecialTokens(text)
	last := strings.TrimSpace(text[strings.LastIndexByte(strings.TrimSpace(text), '\n')+1:])
	if label, value, ok := strings.Cut(last, ":"); ok && g.leading(prose.Fold(label)) {
		if v := g.Parse(strings.TrimSpace(value)); v.whole() {
			return v.N, ""
		}
	}
	return g.Read(text)
}

// ReadMatch reads the group of a pattern's last match in a text.
func (g *Grammar) ReadMatch(pattern *regexp.Regexp, text string) (n int, reason string) {
	if strings.TrimSpace(text) == "" {
		return 0, Empty
	}
	all := pattern.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return 0, Missing
	}
	v := g.Parse(strings.TrimSpace(prose.Plain(all[len(all)-1][1])))
	switch {
	case v.Reason == Placeholder:
		return 0, Missing
	case v.Reason != "":
		return 0, v.Reason
	case !v.whole():
		return 0, Ambiguous
	}
	return v.N, ""
}

// CompilePattern compiles a pattern for [Grammar.ReadMatch]. It returns an error if the
// pattern is no regular expression, or doesn't have exactly one group.
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	if re.NumSubexp() != 1 {
		return nil, fmt.Errorf("it has %d groups; write exactly one, around the value", re.NumSubexp())
	}
	return re, nil
}
