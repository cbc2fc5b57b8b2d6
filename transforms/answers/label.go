package answers

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers/labels"
	"coeval/transforms/answers/leads"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/quotation"
)

// reports returns the reports of a page in their order.
func (g *Grammar) reports(p *page) []Report {
	var out []Report
	next := 0
	for i := range p.lines {
		for ; next < len(p.objects) && p.objects[next].Line <= i; next++ {
			if r, ok := g.objectReport(p, &p.objects[next]); ok {
				out = append(out, r)
			}
		}
		out = append(out, g.lineReports(p, i)...)
	}
	for k := 1; k < len(out); k++ { // the lines below a quoted one go on with the quotation
		if before := out[k-1]; before.introduced && out[k].line == before.endLine+1 {
			out[k].quoted, out[k].introduced = true, true
		}
	}
	return out
}

// lineReports returns the reports that begin on a line.
func (g *Grammar) lineReports(p *page, i int) []Report {
	l := p.lines[i].plain
	if isRow(l) {
		return g.rowReport(p, i)
	}
	folded := prose.Fold(l)
	marks := g.marks(l, folded)
	var out []Report
	for k, m := range marks {
		end := len(l)
		if k+1 < len(marks) {
			end = marks[k+1].start
		}
		value := strings.TrimSpace(l[m.value:end])
		if r, ok := g.report(p, i, m, value); ok {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return g.boxReport(p, i)
	}
	return out
}

// marks returns the labels of a line. Of labels with no value between them, as in "Final
// score: 4", "Score: Points: 4" and "The winner is... Judgment A", the last one with a
// separator counts.
func (g *Grammar) marks(l, folded string) []mark {
	var out []mark
	places := g.labels().Places(folded)
	for _, at := range places[max(0, len(places)-maxPlaces):] {
		m, ok := g.mark(l, folded, at.Start, at.End)
		if !ok {
			continue
		}
		if n := len(out); n > 0 && m.start <= out[n-1].value {
			before := &out[n-1]
			switch between := folded[min(before.value, at.Start):at.Start]; {
			case !before.bare && (m.bare || !leads.Only(between, g.leading)), article.MatchString(between):
				continue
			case m.kind == Weak && !before.bare:
				m.kind = before.kind
			}
			out[n-1] = m
			continue
		}
		out = append(out, m)
	}
	return out
}

// maxPlaces bounds the labels of a line that are read, the last ones: each costs a look at all of the line before it.
const maxPlaces = 256

// article is the letter A between two labels, which may be a judgment's name: "Judgment A > Judgment B".
var article = patterns.New(`\ba\b`)

// A mark is a label in a line and the place of its value.
type mark struct {
	kind  Kind
	start int // of the label with the words before it
	value int
	note  string // of its parenthesis
	bare  bool   // no separator stands between label and value
	boxed bool   // the label stands in brackets
	head  bool   // the line begins with another heading, for example "5. Form: it is short. Score: 1"
}

// labels returns the index of the labels.
func (g *Grammar) labels() *labels.Index {
	g.once.Do(func() { g.index = labels.NewIndex(maps.Keys(g.Labels)) })
	return g.index
}

type compiled struct {
	once  sync.Once
	index *labels.Index
}

// mark reads the label at [start, end) of a line with the words around it. It returns false if the
// label is part of another word, belongs to another sentence, or has no separator after it.
func (g *Grammar) mark(l, folded string, start, end int) (m mark, ok bool) {
	if !labels.IsWord(folded, start, end) {
		return m, false
	}
	m.kind = g.kind(folded[start:end])
	segment := segmentStart(folded, start)
	words := folded[segment:start]
	if inQuotes(l[:start], l[start:]) || !g.leads(words) {
		return m, false
	}
	m.start = segment
	if strings.Contains(folded[:segment], ":") {
		head := headed.FindString(folded[:segment])
		m.head = head != "" && !leads.Only(head, g.leading)
	}
	total := leads.HasTotal(folded[segment:end])
	at := end
	if n := leads.After(folded[at:]); n > 0 {
		if strings.TrimSpace(folded[at:at+n]) == "criteria" { // a number of criteria
			return m, false
		}
		total = total || leads.HasTotal(folded[at:at+n])
		at += n
	}
	if n := noteAt(folded[at:]); n != "" {
		m.note = strings.TrimSpace(n)
		at += len(n)
		at += leads.After(folded[at:])
	}
	sep := ""
	if !isASCIILetter(nextByte(folded[at:])) {
		sep = separator.FindString(folded[at:])
	}
	if sep == "" && !bareTotals[folded[start:end]] {
		sep = copula.FindString(folded[at:])
	}
	if strings.HasPrefix(strings.TrimSpace(sep), ";") && !g.Parse(strings.TrimSpace(l[at+len(sep):])).whole() {
		return m, false // the end of a clause: "the score; it reflects"
	}
	switch {
	case strings.Contains(sep, "would") && !concluding.MatchString(folded[segment:at]):
		return m, false
	case sep != "":
	case strings.TrimSpace(folded[at:]) == "":
		m.bare = true // a heading
	case folded[at] == ' ' || folded[at] == ']' || folded[at] >= utf8.RuneSelf:
		m.bare, m.boxed = true, folded[at] == ']'
		at += len(folded[at:]) - len(strings.TrimLeft(folded[at:], "] "))
	default:
		return m, false
	}
	m.value = at + len(sep)
	if total {
		m.kind = Total
	}
	return m, true
}

// noteAt returns the note with which the text after a label begins.
func noteAt(s string) string {
	if c := nextByte(s); c < utf8.RuneSelf && strings.IndexByte("([/,ouvsd", c) < 0 { // spares most labels the expression
		return ""
	}
	return notes.FindString(s)
}

// nextByte returns the first byte of a text after its spaces, or 0.
func nextByte(s string) byte {
	if s = strings.TrimLeft(s, " \t\n\f\r"); s == "" {
		return 0
	}
	return s[0]
}

func isASCIILetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// concluding is a word without which "The score would be:" is about a case.
var concluding = patterns.New(`\b(?:so|thus|hence|therefore|accordingly|consequently|overall|finally|final|total|conclusion)\b`)

// kind returns the kind of a label as it stands in a text.
func (g *Grammar) kind(label string) Kind {
	if k, ok := g.Labels[label]; ok {
		return k
	}
	return g.Labels[strings.Join(strings.FieldsFunc(label, func(r rune) bool { return r == ' ' || r == '-' }), " ")]
}

// bareTotals are labels of partial sums too: "So the total is 4 points" is a step of the reasoning.
var bareTotals = map[string]bool{"total": true, "sum": true, "totale": true, "summe": true, "somme": true, "totaal": true}

// segmentStart returns where the sentence begins in which the label stands.
func segmentStart(s string, at int) int {
	start := 0
	for i, r := range s[:at] {
		end := i + utf8.RuneLen(r)
		switch r {
		case '.', '!', '?', ';':
			if end < at && (s[end] == ' ' || strings.IndexByte(`"')]`, s[end]) >= 0) && !(r == '.' && prose.IsAbbreviation(s[start:end], s[end:])) {
				start = end
			}
		case '。', '…', '✓', '✗', '✔', '✘', '✅', '❌':
			start = end
		case ',':
			if concludes(s[end:at]) {
				start = end
			}
		case '→', '⇒', '➜': // text before a conclusion, or a value that the next one replaces
			if !quotation.Attributes(s[start:i]) {
				start = end
			}
		}
	}
	return start
}

// concludes reports whether a clause begins with the word for a conclusion.
func concludes(s string) bool {
	s = strings.TrimLeft(s, " ")
	for _, w := range [...]string{"so ", "thus ", "hence ", "therefore ", "因此", "所以", "故"} {
		if strings.HasPrefix(s, w) {
			return true
		}
	}
	return false
}

// inQuotes reports whether quotation marks are open at the beginning of a line's rest. One that opens the
// line may enclose all of it, unless text follows the mark that closes it.
func inQuotes(before, rest string) bool {
	opens := strings.TrimLeft(before, " '‘#-")
	if strings.HasPrefix(opens, "[") && strings.Contains(rest, "]と") { // 「…」と, as package prose writes it
		return true
	}
	if quotation.Opens(opens) && quotation.Closing(opens) != 0 {
		if end := strings.IndexRune(rest, quotation.Closing(opens)); end >= 0 && strings.ContainsAny(rest[:end], ":=：") && hasContent(rest[end:]) && !goesOn.MatchString(rest[end:]) {
			return true
		}
	}
	return quotation.Closing(strings.TrimLeft(before, " \"'“‘„«「#-")) != 0
}

// goesOn is the rest of a line after the judge's own result in quotation marks.
var goesOn = patterns.New(`(?i)^["”“»」]\W*(?:/|out\s+of\b|of\s+\d|points?\b|is\s+(?:my|the)\b|as\s+my\b|because\b|since\b)`)

var (
	headed = patterns.New(`^[\s#•>+-]*(?:\(?\d+[.):]\s*)?[\pL\s/&-]{2,40}(?:\d+\s*)?:`)
	// notes are the parenthesis and the scale after a label: (0-5), [out of 5], /5, out of 5.
	notes     = patterns.New(`^\s*(?:\([^()]{1,60}\)|\[[^\[\]]{1,60}\]|/\s*\d+|(?:on|using)\s+(?:a|the)\s+scale\s+(?:of|from)?\s*\d+\s*(?:to|-|–)\s*\d+|,?\s*(?:out\s+of|von|sur|de|su|из)\s+(?:\d+|five|ten))(?:\s*(?:points?|pts?|分|点|점))?`)
	separator = patterns.New(`^["'”’)\]}>$\s\p{So}]*(?::=|[:=]+>?|;|[-–—~]+>|→|⇒|➜|\.{3,}|[—–]|-\s|\|)\s*[:=]?`)
	copula    = patterns.New(`^\s*(?:,\s*(?:therefore|thus|then|hence|overall|clearly)\s*,\s*)?(?:(?:is|was|lautet|beträgt)\s*(?::|…|\.\.+)|would\s+(?:therefore\s+|thus\s+)?be\s*:|(?:is|was|est|es|ist|é|è|är|er|jest|je|este|είναι|adalah|là|است|है|wynosi|составляет|равна|равен|equals|lautet|beträgt|является|comes to|adds up to)\s+(?:(?:therefore|thus|then|now|hence|also|de|als[ou]|daher|donc|así|quindi)\s+)*:?|(?:为|為|是|は|が|는|은|—)\s*:?)\s*`)
)

func (g *Grammar) leading(w string) bool { _, ok := g.Labels[w]; return ok }

// report reads the value of a mark.
func (g *Grammar) report(p *page, i int, m mark, value string) (Report, bool) {
	r := Report{Kind: m.kind, line: i, endLine: i, quoted: p.lines[i].quoted}
	if value == "" {
		if p.objectFollows(i) {
			return r, false
		}
		return g.reportBelow(p, i, m, r)
	}
	v := g.Parse(value)
	if v.Reason != "" && grounds.MatchString(value) {
		return r, false
	}
	if whole := v.whole(); m.bare && (!whole || m.kind == Weak && !m.boxed) || m.kind == Weak && !whole && v.Reason != Placeholder {
		return r, false
	}
	r.Value, r.Reason, r.remark, r.rest = v.N, v.Reason, v.Remark, v.After
	g.finish(p, i, m, &r)
	return r, true
}

// grounds is the predicate of a sentence about how a result came about: "The score is based on the rubric."
var grounds = patterns.New(`(?i)^(?:(?:mainly|primarily|solely|therefore|fully)\s+)?(?:based|derived|determined|justified|explained|supported|grounded)\b`)

// finish sets the properties of a report that follow from its label and the lines above.
func (g *Grammar) finish(p *page, i int, m mark, r *Report) {
	if reason := g.Label(m.note); reason != "" && r.Reason != Placeholder {
		r.Reason = reason
	}
	if strings.TrimSpace(p.lines[i].plain[:m.start]) == "" && (g.introduced(p, i) || p.presented(i)) {
		r.quoted, r.introduced = true, true
	}
	r.start, r.label = m.start, p.lines[i].plain[m.start:m.value]
	is, total := p.headed(i)
	r.Headed = is && !total
	if is && total && r.Kind == Strong {
		r.Kind = Total
	}
	r.Partial = m.head
}

// reportBelow reads the value of a label from the next line. That line must be nothing but a
// value, or a list under the heading "Score:" would count as one. Below a weak label it must also end the text.
func (g *Grammar) reportBelow(p *page, i int, m mark, r Report) (Report, bool) {
	for k := i + 1; k < len(p.lines); k++ {
		l := strings.TrimLeft(strings.TrimSpace(p.lines[k].plain), "> ")
		if l == "" || underline.MatchString(l) {
			continue
		}
		l = bullet.ReplaceAllString(l, "")
		if p.lines[k].quoted && !r.quoted {
			break
		}
		v := g.Parse(l)
		r.Value, r.Reason = v.N, v.Reason
		if m.kind == Weak && !(v.whole() && p.ends(k)) {
			return r, false
		}
		switch {
		case r.Reason == "" && !v.whole():
			r.Value, r.Reason = 0, Ambiguous
		case r.Reason != "" && g.labelled(l):
			return r, false
		}
		if m.bare && r.Reason != "" {
			return r, false
		}
		r.endLine = k
		g.finish(p, i, m, &r)
		if m.kind == Weak && r.Headed { // the points of one criterion
			return r, false
		}
		return r, true
	}
	if m.bare || m.kind == Weak {
		return r, false
	}
	r.Reason = g.Parse("").Reason
	g.finish(p, i, m, &r)
	return r, true
}

// ends reports whether no content follows line i.
func (p *page) ends(i int) bool {
	return !slices.ContainsFunc(p.lines[i+1:], func(l line) bool { return hasContent(l.plain) })
}

// underline makes a heading of the line above it.
var underline = patterns.New(`^(?:-{3,}|={3,})$`)

var bullet = patterns.New(`^[-•–]\s+`)

// objectFollows reports whether the next text from line i on is a JSON object: the label before it
// has its value there.
func (p *page) objectFollows(i int) bool {
	for k := range p.objects {
		if o := &p.objects[k]; o.Line >= i {
			return !slices.ContainsFunc(p.lines[min(i+1, o.Line):o.Line], func(l line) bool { return hasContent(l.plain) })
		}
	}
	return false
}

// labelled reports whether a line contains a whole report.
func (g *Grammar) labelled(l string) bool {
	folded := prose.Fold(l)
	for _, at := range g.labels().Places(folded) {
		if m, ok := g.mark(l, folded, at.Start, at.End); ok && !m.bare {
			return true
		}
	}
	return false
}

// hasContent reports whether a text has letters or digits.
func hasContent(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// boxed matches a line that ends in a box or in double brackets, as \boxed{4} and "My verdict: [[A]]" do.
var boxed = patterns.New(`^(.*?)(\{[^{}]*\}?|\[\[[^\[\]]*\]\])[\s.$"'”!。)]*$`)

// boxReport reads a line without a label that ends in a box or in double brackets.
func (g *Grammar) boxReport(p *page, i int) []Report {
	l := p.lines[i].plain
	if !p.lines[i].boxed && !strings.Contains(l, "[[") {
		return nil
	}
	r := Report{Kind: Strong, line: i, endLine: i, quoted: p.lines[i].quoted || g.introduced(p, i)}
	before, value := "", strings.TrimSpace(l)
	if m := boxed.FindStringSubmatch(l); m != nil && (m[2][0] == '[' || p.lines[i].boxed) {
		before, value = strings.Trim(m[1], " $\"'“"), m[2]
	}
	if value[0] != '{' && !strings.HasPrefix(value, "[[") || strings.ContainsAny(before, "[{") || quotation.Attributes(before) {
		return nil
	}
	if value[0] == '[' && !strings.Contains(value, "]]") { // [[A may be the beginning of [[A>>B]]
		return nil
	}
	v := g.Parse(value)
	if v.Reason != "" && (v.Reason == Placeholder || !strings.HasSuffix(value, "}") && !strings.HasSuffix(value, "]]")) {
		return nil
	}
	r.Value, r.Reason, r.rest = v.N, v.Reason, v.After
	folded := prose.Fold(before)
	if head := before[segmentStart(folded, len(folded)):]; headed.MatchString(prose.Fold(head)) && !g.leads(head) && !g.says(head, v.N) {
		r.Value, r.Reason = 0, Ambiguous // one criterion's
	}
	return []Report{r}
}

// says reports whether a text states a value in a sentence.
func (g *Grammar) says(s string, n int) bool {
	if g.Sentence == nil {
		return false
	}
	said, ok := g.Sentence(strings.TrimRight(s, ": "), g.leads)
	return ok && said == n
}

func isRow(l string) bool {
	l = strings.TrimSpace(l)
	return strings.HasPrefix(l, "|") && strings.Count(l, "|") >= 2
}

// rowReport reads a row of a table whose first cell is a label and of whose other cells one
// is a value.
func (g *Grammar) rowReport(p *page, i int) []Report {
	cells := strings.Split(strings.Trim(strings.TrimSpace(p.lines[i].plain), "|"), "|")
	for len(cells) > 2 && strings.Trim(cells[0], " 0123456789.#") == "" { // the number of the row
		cells = cells[1:]
	}
	label := strings.TrimSpace(strings.TrimRight(strings.TrimSpace(cells[0]), ":"))
	folded := prose.Fold(label)
	at := g.labels().Places(folded)
	if len(at) == 0 {
		return nil
	}
	last := at[len(at)-1]
	m, ok := g.mark(label, folded, last.Start, last.End)
	if !ok || strings.TrimSpace(folded[m.value:]) != "" {
		return nil
	}
	r := Report{Kind: m.kind, line: i, endLine: i, quoted: p.lines[i].quoted}
	if r.Kind == Weak {
		r.Kind = Strong
	}
	values := 0
	for _, cell := range cells[1:] {
		v := g.Parse(strings.TrimSpace(cell))
		if v.whole() {
			r.Value = v.N
			values++
		} else if prose.HasDigit(cell) && v.Reason != "" && v.Reason != Placeholder {
			r.Reason = v.Reason
		}
	}
	switch {
	case values == 0 && r.Reason == "":
		return nil
	case values > 1:
		r.Reason = Ambiguous
	}
	g.finish(p, i, m, &r)
	if r.Reason != "" {
		r.Value = 0
	}
	return []Report{r}
}
