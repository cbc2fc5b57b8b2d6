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
}

// turnMark matches the beginning of a turn in the transcripts that models continue.
var turnMark = regexp.MustCompile(`(?i)^[\s#*>-]*(?:(?:human|user|assistant|system|student|question|q|input|prompt|instruction|task)\s*(?:\d+\s*)?:|(?:###?#?)\s*(?:human|user|assistant|system|instruction|response|input|question|prompt|task)\b)`)

func newPage(text string) *page {
	p := &page{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text, turns := prose.SplitTokens(text)
	inElement := quotation.Elements(text)
	text = labelElements(text)
	p.objects, text = findObjects(text)
	p.text = text
	raw := strings.Split(text, "\n")
	isQuoted := quotation.Lines(raw)
	p.lines = make([]line, len(raw))
	for i, s := range raw {
		p.lines[i] = line{plain: prose.Plain(s), quoted: isQuoted[i] || inElement[i], turn: turnMark.MatchString(s) || slices.Contains(turns, i), boxed: strings.Contains(s, `boxed{`)}
	}
	return p
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

func indexFold(s, sub string) int { return strings.Index(strings.ToLower(s), strings.ToLower(sub)) }

// Attributed matches the words that make a result somebody else's: "Score: 5 (according to the response)".
var Attributed = regexp.MustCompile(`(?i)\b(?:according\s+to|claim(?:ed|s)?\s+by|quoted\s+from|stated\s+by|written\s+by|says|in\s+the\s+words\s+of|(?:is|was|comes|came|taken|copied)\s+from)\s+(?:the\s+|this\s+|its\s+)?(?:last\s+)?(?:response|answer|assistant|reply|user|text|author|itself|judge?ment)\b` +
	`|\bself-(?:assigned|reported|awarded)\b|\bit\s+(?:says|claims|writes|wrote|said)(?:\s+at\s+(?:the|its)\s+end)?[\s.)"'”’]*$|^[\s,;:([–—-]*(?:sic|quoted?|cited|example|for\s+example|e\.g\.)[\s.)\]]*$`)

// Amended matches the beginning of a sentence that replaces the result before it: "Edit: 3."
var Amended = regexp.MustCompile(`(?i)^\W*(?:edit(?:ed)?|update[d]?|amended|amendment|corrected|revised|changed?|make\s+that|no)\s*[:,–—-]\s*\S`)

// introduced reports whether the line before line i, blank ones aside, introduces it as
// the words of others, an example, or a case.
func (p *page) introduced(i int) bool {
	for i--; i >= 0; i-- {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" || quotation.OpensFence(s) != "" {
			continue
		}
		return quotation.Announces(s)
	}
	return false
}

// goesOn reports whether the line below a report continues a sentence around it.
func (p *page) goesOn(i int) bool {
	for i++; i < len(p.lines); i++ {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" {
			continue
		}
		return continued.MatchString(s)
	}
	return false
}

var continued = regexp.MustCompile(`^(?:which|that|and|but|or|is|was|as|because|to|in|at|appears|for|so)\s+[a-z]`)

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
