package arena

import (
	"regexp"
	"strings"
)

// Style counts the Markdown of an answer outside of its code blocks, as Arena-Hard v2 counts it.
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

// StyleOf returns the style of a text.
func StyleOf(text string) Style {
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

// features returns the differences of two answers, each between −1 and 1:
//
//	(L_a − L_b) / (L_a + L_b)                       length
//	(D_a − D_b) / (D_a + D_b + 1),  D = count/(L+1)  headers, lists, bold
//
// Lengths are in Unicode code points. Arena-Hard counts tokens; the first ratio hardly depends on
// the unit, and four characters stand for a token in the densities.
func features(a, b *Answer) [4]float64 {
	const charsPerToken = 4
	lengthA, lengthB := float64(a.Chars)/charsPerToken, float64(b.Chars)/charsPerToken
	var f [4]float64
	if lengthA+lengthB > 0 {
		f[0] = (lengthA - lengthB) / (lengthA + lengthB)
	}
	for i, counts := range [3][2]int{
		{a.Style.Headers, b.Style.Headers}, {a.Style.Lists, b.Style.Lists}, {a.Style.Bold, b.Style.Bold},
	} {
		densityA, densityB := float64(counts[0])/(lengthA+1), float64(counts[1])/(lengthB+1)
		f[1+i] = (densityA - densityB) / (densityA + densityB + 1)
	}
	return f
}
