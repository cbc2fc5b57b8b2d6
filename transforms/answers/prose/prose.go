// Package prose brings a model's text into a form in which rules can be short: plain characters, lower case,
// sentences, and no special tokens.
package prose

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain returns a line in plain characters: without emphasis, LaTeX and emoji variants, with
// narrow forms for full-width ones and ASCII digits for those of other scripts.
func Plain(line string) string {
	if isPlain(line) {
		return line
	}
	if strings.IndexByte(line, '\\') >= 0 {
		line = latexText.ReplaceAllString(line, "$1")
		line = latexBox.ReplaceAllString(line, "{")
		line = latexSpace.ReplaceAllString(line, " ")
		line = strings.ReplaceAll(line, `\/`, "/")
		line = latexMath.ReplaceAllString(line, "")
	}
	var b strings.Builder
	for _, r := range line {
		if r = plainRune(r); r >= 0 {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isPlain(line string) bool {
	for i := range len(line) {
		if c := line[i]; c >= utf8.RuneSelf || c == '*' || c == '`' || c == '_' || c == '\\' || c == '\t' || c == '\r' {
			return false
		}
	}
	return true
}

var (
	latexText  = regexp.MustCompile(`\\(?:text|textbf|mathrm|mathbf|textit|mbox)\s*\{([^{}]*)\}`)
	latexBox   = regexp.MustCompile(`\\f?boxed\s*\{`)
	latexSpace = regexp.MustCompile(`\\[,;:! ]|\\q?quad\b`)
	latexMath  = regexp.MustCompile(`\\[()\[\]]`)
)

// plainRune returns the plain form of a character, or -1 if it has none.
func plainRune(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		switch r {
		case '*', '`', '\r':
			return -1
		case '_', '\t':
			return ' '
		}
		return r
	case r == '\u00a0' || r == '\u3000' || r == '\u202f' || r == '\u2009':
		return ' '
	case r == '\ufe0f' || r == '\u20e3' || r == '\u200b' || r == '\ufeff' || r == '\u200e' || r == '\u200f':
		return -1
	case r == '−' || r == '‐' || r == '‑':
		return '-'
	case r == '‒':
		return '–'
	case r == '٫':
		return '.'
	case r == '،':
		return ','
	case r == '؟':
		return '?'
	case r == '～' || r == '〜' || r == '∼':
		return '~'
	case r >= '！' && r <= '～':
		return r - '！' + '!'
	case r == '【' || r == '「' || r == '〔' || r == '『' || r == '《' || r == '«':
		return '['
	case r == '】' || r == '」' || r == '〕' || r == '』' || r == '》' || r == '»':
		return ']'
	case unicode.Is(unicode.Nd, r):
		return digit(r)
	}
	return r
}

// digit returns the ASCII digit for a decimal digit of another script. Unicode has the ten
// digits of a script in a row, and sets of digits that touch are all of ten.
func digit(r rune) rune {
	zero := r
	for unicode.Is(unicode.Nd, zero-1) {
		zero--
	}
	return '0' + (r-zero)%10
}

// HasDigit reports whether a text has an ASCII digit.
func HasDigit(s string) bool { return strings.ContainsAny(s, "0123456789") }

// Fold returns the lower case of a text, with every character where it was.
func Fold(s string) string {
	ascii := true
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			ascii = false
			break
		}
	}
	if ascii {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if l := unicode.ToLower(r); utf8.RuneLen(l) == utf8.RuneLen(r) {
			r = l
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Sentences splits a line after its full stops, question and exclamation marks. The point of
// a number and that of a short form such as e.g. end nothing.
func Sentences(s string) []string {
	var out []string
	from := 0
	for i, r := range s {
		end := i + utf8.RuneLen(r)
		switch r {
		case '.', '!', '?', ';', '…':
			if end < len(s) && !closesSentence(s[end:]) || r == '.' && IsAbbreviation(s[from:end], s[end:]) {
				continue
			}
		case '。':
		default:
			continue
		}
		if end > len(s) {
			end = len(s)
		}
		if t := strings.TrimSpace(s[from:end]); t != "" {
			out = append(out, t)
		}
		from = end
	}
	if t := strings.TrimSpace(s[from:]); t != "" {
		out = append(out, t)
	}
	return out
}

// closesSentence reports whether what follows a full stop shows that it ended a sentence.
func closesSentence(rest string) bool {
	rest = strings.TrimLeft(rest, `"'”’)]}`)
	r, _ := utf8.DecodeRuneInString(rest)
	return rest == "" || unicode.IsSpace(r)
}

// IsAbbreviation reports whether the full stop at the end of s belongs to a short form or to
// the number of a list; rest is the text after it.
func IsAbbreviation(s, rest string) bool {
	s = strings.ToLower(s)
	for _, a := range []string{"e.g.", "i.e.", "vs.", "approx."} {
		if strings.HasSuffix(s, a) {
			return true
		}
	}
	if next := strings.TrimLeft(rest, " "); strings.HasSuffix(s, "no.") && next != "" && next[0] >= '0' && next[0] <= '9' {
		return true
	}
	at := strings.LastIndexAny(s[:len(s)-1], " \t") + 1
	word := s[at : len(s)-1]
	return word != "" && len(word) <= 2 && strings.Trim(word, "0123456789") == "" && at == 0 // a list number
}
