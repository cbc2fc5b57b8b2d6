package answers

import (
	"regexp"
	"slices"
	"strings"

	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/quotation"
)

// A page is a text as the grammars see it: lines in plain characters, each marked as the model's own or
// quoted.
type page struct {
	text  string // the text after elements were written as labels; JSON objects are blanked out
	lines []line
	// objects are the JSON objects of the text.
	objects []object
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
var turnMark = regexp.MustCompile(`(?i)^[\s#*>-]*(?:(?:human|user|assistant|system|student|question|q|input|prompt|instruction|task)\s*(?:\d+\s*)?:|(?:##?#?#?)\s*(?:human|user|assistant|system|instruction|response|input|question|prompt|task|rubric|conversation|answer\s+to\s+grade)\b)`)

// subject matches a heading for another answer, question or example than the first.
var subject = regexp.MustCompile(`(?i)^\W*(?:response|answer|reply|assistant|question|example|conversation|task)\s*#?(?:[2-9]|[b-h]|two)\W*$`)

// maxSubject is the length of the longest such heading.
const maxSubject = 30

// startsTurn reports whether another speaker or subject begins on a line.
func startsTurn(s string) bool {
	begin := strings.TrimLeft(s, " \t\r\v\f#*>-[(_\"")
	if begin == "" || strings.IndexByte("husqiatprcHUSQIATPRC", begin[0]) < 0 { // spares most lines the expressions
		return false
	}
	return turnMark.MatchString(s) || len(s) <= maxSubject && subject.MatchString(s)
}

// struck matches a line that is struck out: ~~Score: 4~~.
var struck = regexp.MustCompile(`(?m)^[ \t*_>-]*~~[^~\n]+~~[ \t*_]*$`)

func newPage(text string) *page {
	p := &page{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text, turns := prose.SplitTokens(text)
	if strings.Contains(text, "~~") {
		text = struck.ReplaceAllString(text, "")
	}
	inElement := quotation.Elements(text)
	thoughtEnds := thoughtLines(text)
	text = labelElements(text)
	p.objects, text = findObjects(text)
	p.text = text
	raw := strings.Split(text, "\n")
	isQuoted := quotation.Lines(raw)
	p.lines = make([]line, len(raw))
	for i, s := range raw {
		p.lines[i] = line{plain: prose.Plain(s), quoted: isQuoted[i] || inElement[i], turn: startsTurn(s) || slices.Contains(turns, i), boxed: strings.Contains(s, `boxed{`), endsThoughts: slices.Contains(thoughtEnds, i)}
	}
	return p
}

// thoughtLines returns the numbers of the lines on which an element with thoughts ends.
func thoughtLines(text string) (lines []int) {
	if !strings.Contains(text, "</") {
		return nil
	}
	for _, m := range thoughtsEnd.FindAllStringIndex(text, -1) {
		lines = append(lines, strings.Count(text[:m[0]], "\n"))
	}
	return lines
}

// Elements around a result: the name of the first kind becomes a label, that of the second
// the label of a bare value.
var (
	openElement = regexp.MustCompile(`(?i)<((?:final|total|overall)?[ _-]?(?:score|rating|grade|points|total|mark|winner|verdict|decision|choice))>`)
	openWrapper = regexp.MustCompile(`(?i)<(answer|result|output|final|final_answer|response|judge?ment|evaluation|conclusion)>`)
	formatting  = regexp.MustCompile(`</?(?:b|i|u|em|strong|p|br|span|div|code|mark|center|h[1-6]|font|li|ul|small|big|pre)(?:[ \t][^<>\n]*)?/?>`)
	// unclosed is an element with a value that nothing closes.
	unclosed     = regexp.MustCompile(`(?im)<(score|rating|grade|winner|verdict)>[ \t]*(\d+(?:[.,]\d+)?(?:[ \t]*/[ \t]*\d+)?|[AB])[ \t]*$`)
	closeElement = regexp.MustCompile(`</([a-z][a-z_ ]{0,30})>`)
	maxElement   = 400
)

// labelElements writes <score>4</score> as "score: 4" and <answer>4</answer> with the label of
// a bare value. It leaves the number of lines as it is. An element that isn't closed nearby
// is left alone: it may be a placeholder.
func labelElements(text string) string {
	text = angular(text)
	if strings.IndexByte(text, '<') < 0 {
		return text
	}
	text = formatting.ReplaceAllString(text, " ")
	text = unclosed.ReplaceAllString(text, "$1: $2")
	text = replaceElements(text, openElement, func(name string) string {
		return strings.NewReplacer("_", " ", "-", " ").Replace(strings.ToLower(name)) + ": "
	})
	text = replaceElements(text, openWrapper, func(string) string { return Wrapper + ": " })
	return otherElements(text)
}

// squareElement is an element in square brackets: [SCORE]4[/SCORE].
var squareElement = regexp.MustCompile(`(?i)\[((?:final|total|overall)?[ _-]?(?:score|rating|grade|points|total|winner|verdict|decision|choice|answer|result))\]([^\[\]]{0,100})\[/([a-z _-]+)\]`)

// angular writes elements in square brackets with angle brackets.
func angular(text string) string {
	if !strings.Contains(text, "[/") {
		return text
	}
	return squareElement.ReplaceAllStringFunc(text, func(s string) string {
		m := squareElement.FindStringSubmatch(s)
		if !strings.EqualFold(m[1], m[3]) {
			return s
		}
		return "<" + m[1] + ">" + m[2] + "</" + m[3] + ">"
	})
}

// otherElements takes the tags of all other closed elements out of a text. The end of an
// element ends a sentence.
func otherElements(text string) string {
	for _, m := range closeElement.FindAllStringSubmatch(text, -1) {
		if open := "<" + m[1] + ">"; strings.Contains(text, open) {
			text = strings.ReplaceAll(strings.ReplaceAll(text, open, " "), m[0], "… ")
		}
	}
	return text
}

func replaceElements(text string, open *regexp.Regexp, label func(name string) string) string {
	for from := 0; ; {
		m := open.FindStringSubmatchIndex(text[from:])
		if m == nil {
			return text
		}
		start, after, name := from+m[0], from+m[1], text[from+m[2]:from+m[3]]
		end := "</" + name + ">"
		n := indexFold(text[after:min(len(text), after+maxElement)], end)
		if n < 0 && open == openWrapper {
			if k := indexFold(text[after:], end); k >= 0 { // a long element is only taken apart
				text = text[:start] + text[after:after+k] + text[after+k+len(end):]
				from = start
				continue
			}
		}
		if n < 0 {
			from = after
			continue
		}
		l := label(name)
		rest := text[after+n+len(end):]
		inner := text[after : after+n]
		value := strings.TrimLeft(inner, " \t\n") // on a line of its own, the label goes there
		ending := " "
		if strings.HasPrefix(strings.TrimLeft(rest, " "), "<") {
			ending = "… " // another element follows: this one's sentence ends
		}
		text = text[:start] + inner[:len(inner)-len(value)] + l + value + ending + rest
		from = start + len(inner) - len(value) + len(l)
	}
}

func indexFold(s, sub string) int { return strings.Index(prose.Fold(s), prose.Fold(sub)) }

// Attributed matches the words that make a result somebody else's: "Score: 5 (according to the response)".
var Attributed = regexp.MustCompile(`(?i)\b(?:according\s+to|claim(?:ed|s)?\s+by|quoted\s+from|stated\s+by|written\s+by|says|in\s+the\s+words\s+of|(?:is|was|comes|came|taken|copied)\s+from)\s+(?:the\s+|this\s+|its\s+)?(?:last\s+)?(?:response|answer|assistant|reply|user|text|author|itself|judge?ment)\b` +
	`|\bas\s+(?:the\s+|this\s+)?(?:response|answer|assistant|reply|user|text|author)\s+(?:itself\s+|also\s+)?(?:claims|says|states|asserts|wants|requests|asks|suggests|demands)\b` +
	`|\b(?:response|answer|assistant|reply|user|author|text)'s\s+(?:own|self)` +
	`|\b(?:says|writes|claims|states|demands|asks|wrote|said|claimed)\s+(?:the|this)\s+(?:response|answer|assistant|reply|user|author|text)\b` +
	`|\bas\s+(?:requested|instructed|demanded|asked|told|claimed|suggested|stated|ordered)\b` +
	`|\bself-(?:assigned|reported|awarded)\b|\bit\s+(?:says|claims|writes|wrote|said)(?:\s+at\s+(?:the|its)\s+end)?[\s.)"'”’]*$|^[\s,;:([–—-]*(?:sic|quoted?|cited|example|for\s+example|e\.g\.)[\s.)\]]*$`)

// Amended matches the beginning of a sentence that replaces the result before it: "Edit: 3."
var Amended = regexp.MustCompile(`(?i)^\W*(?:edit(?:ed)?|update[d]?|amended|amendment|corrected|revised|changed?|make\s+that|no)\s*[:,–—-]\s*\S`)

// Retracted matches a sentence that takes the result before it back: "Wait, that is wrong."
var Retracted = regexp.MustCompile(`(?i)\b(?:actually|on\s+reflection|rethinking|thinking\s+about\s+it|apolog\w*|sorry|oops|my\s+mistake|typo|i\s+meant?|take\s+that\s+back|wait|hmm+|correction|second\s+thoughts?|reconsider\w*|scratch\s+that|disregard\w*|ignore\s+(?:this|that)|not\s+my|unsure|uncertain|not\s+sure)\b|^\W*no\W*$`)

// Hedged matches the beginning of a remark that leaves the result open: "but I'm not sure".
var Hedged = regexp.MustCompile(`(?i)^[\s,;:([–—-]*(?:but\s+|though\s+|although\s+)?(?:i(?:'m|\s+am)\s+|it(?:'s|\s+is)\s+|this\s+is\s+)?(?:not\s+(?:entirely\s+|quite\s+|completely\s+|fully\s+)?(?:sure|certain)|unsure|uncertain|unclear|give\s+or\s+take|(?:i|just\s+a|at\s+a)\s+guess|debatable|tentative|provisional|approximate(?:ly)?|roughly|hard\s+to\s+say` +
	`|for\s+now|so\s+far|as\s+yet|at\s+(?:the|this)\s+(?:moment|point|stage)|prelim(?:inary)?|draft|estimated?|(?:my\s+)?guess|(?:with\s+)?(?:low|little)\s+confidence|interim|intermediate)\b` +
	`|^[\s,;:([–—-]*(?:vielleicht|eventuell|möglicherweise|vermutlich|ungefähr|etwa|circa|schätzungsweise|peut-être|probablement|environ|approximativement|quizás?|tal\s+vez|probablemente|aproximadamente|más\s+o\s+menos|talvez|provavelmente|mais\s+ou\s+menos|forse|probabilmente|pressappoco|misschien|ongeveer|być\s+może|chyba|około|kanske|ungefär|måske|cirka|kanskje|ehkä|noin|snad|asi|možná|talán|körülbelül|poate|aproximativ|belki|yaklaşık|возможно|наверное|наверно|может\s+быть|примерно|приблизительно|можливо|приблизно|ίσως|περίπου|ربما|تقريبا|شايد|אולי|शायद|लगभग|প্রায়|có\s+lẽ|có\s+thể|khoảng|mungkin|barangkali|kira-kira)(?:[^\pL\pM]|$)` +
	`|^[\s,;:([–—-]*(?:可能|也许|也許|或许|或許|大概|大约|大約|左右|上下|たぶん|多分|おそらく|恐らく|かも|くらい|ぐらい|程度|アバウト|아마|정도|쯤|가량|อาจ|ประมาณ)`)

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

// isShort reports whether a line has no more words than a heading. In scripts without spaces a character
// has three bytes and says as much as a few letters.
func isShort(s string) bool {
	return len(strings.Fields(s)) <= maxHeadingWords && len(s) <= maxHeading
}

const maxHeadingWords, maxHeading = 2, 40

// ownIntro reports whether a line introduces the model's own result.
func (g *Grammar) ownIntro(s string) bool {
	if quotation.IsOwn(s) || g.leads(s) {
		return true
	}
	folded := prose.Fold(s)
	for _, at := range g.places(folded) {
		if isWord(folded, at.start, at.end) && g.kind(folded[at.start:at.end]) != Weak {
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

var continued = regexp.MustCompile(`^(?:to|or|and|bis|oder|ou|o)\s+\d|^(?:which|that|and|but|or|is|was|as|because|to|in|at|appears|for|so)\s+[a-z]`)

// headed reports whether the line above line i is a heading, and whether that heading is
// about the total.
func (p *page) headed(i int) (is, total bool) {
	for i--; i >= 0; i-- {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" {
			continue
		}
		words := len(strings.Fields(s))
		is = words <= 8 && !strings.ContainsAny(s, ".!?。=") && !prose.HasDigit(strings.TrimLeft(s, "0123456789.)# -"))
		return is, is && totalHeading.MatchString(s)
	}
	return false, false
}

var totalHeading = regexp.MustCompile(`(?i)\b(?:total|overall|final|sum|conclusion|summary|verdict|result|judge?ment|evaluation|assessment|score)\b|总|最终|結論|合計|최종|gesamt|ergebnis|insgesamt|finale|итог`)
