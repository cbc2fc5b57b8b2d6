// Package labels finds the labels of results, such as "final score", in a line.
//
// An [Index] finds them in a line that is already in lower case. A label that it finds may be a part of a longer
// word; [IsWord] reports whether it is a word of its own. The package does not decide whether a label announces a result.
package labels

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An Index has labels by their first and second byte, longer ones first.
type Index [256]*[256][]words

// NewIndex returns an index of labels: words in lower case with one space between them.
func NewIndex(labels iter.Seq[string]) *Index {
	x := &Index{}
	for _, label := range slices.SortedFunc(labels, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) {
		x.add(strings.Split(label, " "))
	}
	return x
}

func (x *Index) add(label words) {
	first := label[0]
	if x[first[0]] == nil {
		x[first[0]] = new([256][]words)
	}
	for second := range x[first[0]] {
		if len(first) == 1 || first[1] == byte(second) {
			x[first[0]][second] = append(x[first[0]][second], label)
		}
	}
}

// A Place is the position of a label in a line.
type Place struct{ Start, End int }

// Places returns the labels of a line from left to right; where several begin, the longest
// counts. Every line of every judgment is searched, so labels are indexed by their first two bytes:
// a regular expression of all labels took two thirds of a run's CPU time.
func (x *Index) Places(folded string) []Place {
	var out []Place
	for i := 0; i < len(folded); {
		size := 0
		for _, l := range x.at(folded[i:]) {
			if size = l.match(folded[i:]); size > 0 {
				out = append(out, Place{i, i + size})
				break
			}
		}
		i += max(size, 1)
		for isASCIIWord(folded[i-1]) && i < len(folded) && isASCIIWord(folded[i]) { // the rest of a word; see IsWord
			i++
		}
	}
	return out
}

// words are the words of a label.
type words []string

// match returns the length of the label at the beginning of a text, or 0. Between two words
// may stand any number of spaces and hyphens.
func (l words) match(s string) (size int) {
	at := 0
	for i, word := range l {
		for i > 0 && at < len(s) && (s[at] == ' ' || s[at] == '-') {
			at++
		}
		if !strings.HasPrefix(s[at:], word) {
			return 0
		}
		at += len(word)
	}
	return at
}

// at returns the labels that may begin a text. The text is not empty.
func (x *Index) at(s string) []words {
	seconds := x[s[0]]
	if seconds == nil {
		return nil
	}
	if len(s) == 1 {
		return seconds[0]
	}
	return seconds[s[1]]
}

// IsWord reports whether the characters around [start, end) show that it is a word of its
// own. Scripts without spaces have no such characters.
func IsWord(s string, start, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:start])
	after, _ := utf8.DecodeRuneInString(s[end:])
	first, _ := utf8.DecodeRuneInString(s[start:])
	last, _ := utf8.DecodeLastRuneInString(s[:end])
	joined := func(a, b rune) bool {
		return spaced(a) && spaced(b)
	}
	return (start == 0 || !joined(before, first)) && (end == len(s) || !joined(last, after))
}

// spaced reports whether a character is a letter or digit of a script that has spaces
// between words.
func spaced(r rune) bool {
	return (unicode.IsLetter(r) || unicode.IsDigit(r)) && !unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

func isASCIIWord(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
