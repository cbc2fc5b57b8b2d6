// Package elements reads the elements of XML that models write around a result.
//
// [Label] rewrites them as labelled lines; the text keeps its number of lines. [ThoughtEnds] finds the ends of the model's
// thoughts. A text need not be well-formed: the package leaves an element alone if nothing closes it nearby.
package elements

import (
	"strings"

	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
)

// Elements around a result: the name of the first kind becomes a label. The second kind has
// a bare value.
var (
	openElement = patterns.New(`(?i)<((?:final|total|overall)?[ _-]?(?:score|rating|grade|points|total|mark|winner|verdict|decision|choice))>`)
	openWrapper = patterns.New(`(?i)<(answer|result|output|final|final_answer|response|judge?ment|evaluation|conclusion)>`)
	formatting  = patterns.New(`</?(?:b|i|u|em|strong|p|br|span|div|code|mark|center|h[1-6]|font|li|ul|small|big|pre)(?:[ \t][^<>\n]*)?/?>`)
	// unclosed is an element with a value that nothing closes.
	unclosed     = patterns.New(`(?im)<(score|rating|grade|winner|verdict)>[ \t]*(\d+(?:[.,]\d+)?(?:[ \t]*/[ \t]*\d+)?|[AB])[ \t]*$`)
	closeElement = patterns.New(`</([a-z][a-z_ ]{0,30})>`)
	maxElement   = 400
)

// Label writes <score>4</score> as "score: 4", and <answer>4</answer> with wrapper as its label. It leaves the number of lines as it is. An element that isn't closed nearby
// is left alone: it may be a placeholder.
func Label(text, wrapper string) string {
	text = angular(text)
	if strings.IndexByte(text, '<') < 0 {
		return text
	}
	text = formatting.ReplaceAllString(text, " ")
	text = unclosed.ReplaceAllString(text, "$1: $2")
	text = replaceElements(text, openElement, func(name string) string {
		return strings.NewReplacer("_", " ", "-", " ").Replace(strings.ToLower(name)) + ": "
	})
	text = replaceElements(text, openWrapper, func(string) string { return wrapper + ": " })
	return otherElements(text)
}

// squareElement is an element in square brackets: [SCORE]4[/SCORE].
var squareElement = patterns.New(`(?i)\[((?:final|total|overall)?[ _-]?(?:score|rating|grade|points|total|winner|verdict|decision|choice|answer|result))\]([^\[\]]{0,100})\[/([a-z _-]+)\]`)

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

func replaceElements(text string, open *patterns.Pattern, label func(name string) string) string {
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

// thoughtsEnd matches the closing tag of an element with the model's thoughts or its draft.
var thoughtsEnd = patterns.New(`(?i)</(?:think(?:ing)?|thoughts?|reasoning|analysis|reflection|scratchpad|draft|cot)>`)

// ThoughtEnds returns the numbers of the lines on which an element with thoughts ends.
func ThoughtEnds(text string) (lines []int) {
	if !strings.Contains(text, "</") {
		return nil
	}
	for _, m := range thoughtsEnd.FindAllStringIndex(text, -1) {
		lines = append(lines, strings.Count(text[:m[0]], "\n"))
	}
	return lines
}
