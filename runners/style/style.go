// Package style counts the Markdown of answers, so that figures can separate formatting from quality.
//
// It counts as Arena-Hard v2 does: headers, list items and bold spans outside of code blocks. It keeps no
// state and reads no Markdown beyond that: tables, links and emphasis do not count.
package style

import (
	"regexp"
	"strings"
)

// Style counts the Markdown of an answer outside of its code blocks.
type Style struct {
	Headers int `json:"headers"`
	Lists   int `json:"lists"`
	Bold    int `json:"bold"`
}

var (
	headerPattern   = regexp.MustCompile(`(?m)^#{1,6}\s`)
	orderedPattern  = regexp.MustCompile(`(?m)^\s*\d+\.\s`)
	bulletedPattern = regexp.MustCompile(`(?m)^\s*[-*+]\s`)
	boldPattern     = regexp.MustCompile(`\*\*[^*\n]+\*\*|__[^_\n]+__`)
)

// Any reports whether the answer has any Markdown that counts.
func (s Style) Any() bool { return s.Headers+s.Lists+s.Bold > 0 }

// Of returns the style of a text.
func Of(text string) Style {
	text = withoutCode(text)
	return Style{
		Headers: len(headerPattern.FindAllStringIndex(text, -1)),
		Lists:   len(orderedPattern.FindAllStringIndex(text, -1)) + len(bulletedPattern.FindAllStringIndex(text, -1)),
		Bold:    len(boldPattern.FindAllStringIndex(text, -1)),
	}
}

// withoutCode removes fenced blocks. A fence that never closes runs to the end, as in CommonMark.
func withoutCode(text string) string {
	var kept strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence == "" && (strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~")):
			fence = trimmed[:3]
		case fence != "" && strings.HasPrefix(trimmed, fence) && strings.Trim(trimmed, fence[:1]) == "":
			fence = ""
		case fence == "":
			kept.WriteString(line)
		}
	}
	return kept.String()
}
