package answers

import (
	"slices"
	"strings"

	"coeval/transforms/answers/elements"
	"coeval/transforms/answers/labels"
	"coeval/transforms/answers/objects"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/quotation"
)

// A page is a text as the grammars see it: lines in plain characters, each marked as the model's own or
// quoted.
type page struct {
	text  string // the text after elements were written as labels; JSON objects are blanked out
	lines []line
	// paragraphs and lastContent, the last line with content, are computed by presented.
	paragraphs  []*paragraph
	lastContent int
	// objects are the JSON objects of the text.
	objects []objects.Object
}

type line struct {
	plain string
	// quoted reports whether the line, or a part of it, is a quotation.
	quoted bool
	// turn reports whether another speaker begins here.
	turn bool
	// boxed reports whether the line has a LaTeX box.
	boxed bool
	// endsThoughts reports whether an element with the model's thoughts ends on the line.
	endsThoughts bool
}

// turnMark matches the beginning of a turn in the transcripts that models continue.
var turnMark = patterns.New(`(?i)^[\s#*>-]*(?:(?:human|user|assistant|system|student|question|q|input|prompt|instruction|task)\s*(?:\d+\s*)?:|(?:##?#?#?)\s*(?:human|user|assistant|system|instruction|response|input|question|prompt|task|rubric|conversation|answer\s+to\s+grade)\b)`)

// subject matches a heading for another answer or question than the first.
var subject = patterns.New(`(?i)^\W*(?:response|answer|reply|assistant|question|conversation|task)\s*#?(?:[2-9]|[b-h]|two)\W*$`)

// maxSubject is the length of the longest such heading.
const maxSubject = 30

// startsTurn reports whether another speaker or subject begins on a line.
func startsTurn(s string) bool {
	begin := strings.TrimLeft(s, " \t\r\v\f#*>-[(_\"")
	if begin == "" || strings.IndexByte("husqiatprcHUSQIATPRC", begin[0]) < 0 || !mayBeginTurn(begin) { // spares most lines the expressions
		return false
	}
	return turnMark.MatchString(s) || len(s) <= maxSubject && subject.MatchString(s)
}

// turnWords are the first words that turnMark and subject match.
var turnWords = strings.Fields("human user assistant system student question q input prompt instruction task response rubric conversation answer reply")

// mayBeginTurn reports whether a text begins with one of turnWords, or with other letters than those of ASCII, of which
// the expressions fold some.
func mayBeginTurn(s string) bool {
	return slices.ContainsFunc(turnWords, func(w string) bool {
		begin := s[:min(len(s), len(w))]
		return strings.EqualFold(begin, w) || !prose.IsASCII(begin)
	})
}

// struck matches a line that is struck out: ~~Score: 4~~.
var struck = patterns.New(`(?m)^[ \t*_>-]*~~[^~\n]+~~[ \t*_]*$`)

func newPage(text string) *page {
	p := &page{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text, turns := prose.SplitTokens(text)
	if strings.Contains(text, "~~") {
		text = struck.ReplaceAllString(text, "")
	}
	inElement := quotation.Elements(text)
	thoughtEnds := elements.ThoughtEnds(text)
	text = elements.Label(text, Wrapper)
	p.objects, text = objects.Find(text)
	p.text = text
	raw := strings.Split(text, "\n")
	isQuoted := quotation.Lines(raw)
	p.lines = make([]line, len(raw))
	for i, s := range raw {
		p.lines[i] = line{plain: prose.Plain(s), quoted: isQuoted[i] || inElement[i], turn: startsTurn(s) || slices.Contains(turns, i), boxed: strings.Contains(s, `boxed{`), endsThoughts: slices.Contains(thoughtEnds, i)}
	}
	return p
}

// introduced reports whether the line before line i, blank ones aside, introduces it as the words of
// others, an example, or a case. A line that ends in a colon does unless it is short, or is about the
// model's own result: models introduce quotations in more languages than package quotation knows verbs of.
func (g *Grammar) introduced(p *page, i int) bool {
	for i--; i >= 0; i-- {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" || quotation.OpensFence(s) != "" {
			continue
		}
		return quotation.Announces(s) || quotation.EndsInColon(s) && !isShort(s) && !g.ownIntro(s)
	}
	return false
}

// judgesAnother reports whether the model invents another case before line i, and judges that: a line such as "Judge:"
// follows another speaker's turn, and the turn follows text. A judge may also write all of its text as a transcript.
func (p *page) judgesAnother(i int) bool {
	text, turn := false, false
	for _, l := range p.lines[:i+1] {
		if !text && l.turn || turn && judgeTurn.MatchString(l.plain) {
			return turn
		}
		turn = turn || l.turn
		text = text || hasContent(l.plain)
	}
	return false
}

// judgeTurn begins a judge's turn in a transcript.
var judgeTurn = patterns.New(`(?i)^[\s#*>-]*(?:judge|evaluator|grader|rater)\s*:`)

// A paragraph is a run of lines without an empty one between them.
type paragraph struct {
	first, last int
	// intro is the line before the paragraph that is not empty, -1 for none.
	intro int
}

// paragraphs returns the paragraph of each line of a text. Empty lines have none.
func paragraphs(lines []line) []*paragraph {
	out := make([]*paragraph, len(lines))
	var now *paragraph
	before := -1
	for i := range lines {
		if strings.TrimSpace(lines[i].plain) == "" {
			now = nil
			continue
		}
		if now == nil {
			now = &paragraph{first: i, intro: before}
		}
		now.last, before, out[i] = i, i, now
	}
	return out
}

// presented reports whether line i stands in a paragraph of several lines that the judge quotes: the line before it
// presents the words of others, and more text follows. A paragraph at the end may be the judge's own, unless that line
// is about a part of the judged text.
func (p *page) presented(i int) bool {
	if p.paragraphs == nil {
		p.paragraphs = paragraphs(p.lines)
		for k := range p.lines {
			if hasContent(p.lines[k].plain) {
				p.lastContent = k
			}
		}
	}
	at := p.paragraphs[i]
	if at == nil || at.first == i {
		return false
	}
	ends := at.last >= p.lastContent
	if !ends && p.startsExample(at) {
		return true
	}
	if at.intro < 0 {
		return false
	}
	intro := strings.TrimSpace(p.lines[at.intro].plain)
	return quotation.EndsInColon(intro) && quotation.IsForeign(intro) || !ends && quotation.Presents(intro)
}

// startsExample reports whether a paragraph begins as an example or a letter does.
func (p *page) startsExample(at *paragraph) bool {
	first := p.lines[at.first].plain
	return exampleHead.MatchString(first) || mailHead.MatchString(first) && mailHead.MatchString(p.lines[at.first+1].plain)
}

var (
	exampleHead = patterns.New(`(?i)^[\s*#>-]*(?:example(?:\s+\d+|\s+\pL)?\s*:|dear\s+\pL)`)
	mailHead    = patterns.New(`(?i)^[\s*#>-]*(?:subject|from|to|cc|re|date)\s*:`)
)

// isShort reports whether a line has no more words than a heading. In scripts without spaces a character
// has three bytes and says as much as a few letters.
func isShort(s string) bool {
	return len(s) <= maxHeading && !prose.HasMoreWords(s, maxHeadingWords)
}

const maxHeadingWords, maxHeading = 2, 40

// ownIntro reports whether a line introduces the model's own result.
func (g *Grammar) ownIntro(s string) bool {
	if quotation.IsOwn(s) || g.leads(s) {
		return true
	}
	folded := prose.Fold(s)
	for _, at := range g.labels().Places(folded) {
		if labels.IsWord(folded, at.Start, at.End) && g.kind(folded[at.Start:at.End]) != Weak {
			return true
		}
	}
	return false
}

// continuesSentence reports whether the line below line i continues the sentence of line i.
func (p *page) continuesSentence(i int) bool {
	for i++; i < len(p.lines); i++ {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" {
			continue
		}
		return continued.MatchString(s)
	}
	return false
}

var continued = patterns.New(`^(?:to|or|and|bis|oder|ou|o)\s+\d|^(?:aber|doch|mais|pero|mas|però|maar|men|ale|но)\s+\pL|^(?:which|that|and|but|or|is|was|as|because|to|in|at|appears|for|so)\s+[a-z]`)

// headed reports whether the line above line i is a heading, and whether that heading is
// about the total.
func (p *page) headed(i int) (is, total bool) {
	for i--; i >= 0; i-- {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" {
			continue
		}
		is = !prose.HasMoreWords(s, 8) && !strings.ContainsAny(s, ".!?。=") && !prose.HasDigit(strings.TrimLeft(s, "0123456789.)# -"))
		return is, is && totalHeading.MatchString(s)
	}
	return false, false
}

var totalHeading = patterns.New(`(?i)\b(?:total|overall|final|sum|conclusion|summary|verdict|result|judge?ment|evaluation|assessment|score)\b|总|最终|結論|合計|최종|gesamt|ergebnis|insgesamt|finale|итог`)
