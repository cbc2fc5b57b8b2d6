// Package prose normalizes a model's text, so that parsing rules stay short. It replaces variants of
// characters, converts to lower case, splits sentences, and removes special tokens.
package prose

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers/patterns"
)

// Plain returns a line in plain characters: without emphasis, LaTeX and emoji variants, with
// narrow forms for full-width ones and ASCII digits for those of other scripts.
func Plain(line string) string {
	if isPlain(line) {
		return line
	}
	if strings.Contains(line, "</") {
		line = openEnd.ReplaceAllString(line, "")
	}
	if strings.IndexByte(line, '&') >= 0 {
		line = strings.ReplaceAll(html.UnescapeString(line), "\n", " ")
	}
	if strings.IndexByte(line, '\\') >= 0 {
		line = latexText.ReplaceAllString(line, "$1")
		line = latexFrac.ReplaceAllString(line, "$1/$2")
		line = latexBox.ReplaceAllString(line, "{")
		line = latexSpace.ReplaceAllString(line, " ")
		line = strings.ReplaceAll(line, `\/`, "/")
		line = latexMath.ReplaceAllString(line, "")
	}
	var b strings.Builder
	b.Grow(len(line))
	for _, r := range line {
		if r = plainRune(r); r >= 0 {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isPlain(line string) bool {
	for i := range len(line) {
		if c := line[i]; c >= utf8.RuneSelf || c == '*' || c == '`' || c == '_' || c == '&' || c == '<' || c == '\\' || c == '\t' || c == '\r' {
			return false
		}
	}
	return true
}

// openEnd matches closing tags at the end of a line whose element began on another one.
var openEnd = patterns.New(`(?:\s*</[A-Za-z_]{1,20}>)+\s*$`)

var (
	latexText  = patterns.New(`\\(?:text|textbf|mathrm|mathbf|textit|textsf|texttt|mathsf|underline)\s*\{([^{}]*)\}`)
	latexFrac  = patterns.New(`\\[dt]?frac\s*\{\s*(\d+(?:\.\d+)?)\s*\}\s*\{\s*(\d+)\s*\}`)
	latexBox   = patterns.New(`\\(?:f?boxed|[fm]box)\s*\{`)
	latexSpace = patterns.New(`\\[,;:! ]|\\q?quad\b`)
	latexMath  = patterns.New(`\\[()\[\]]`)
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
	case r == '٫' || r == '।':
		return '.'
	case r == '﹕' || r == '∶' || r == '︓' || r == 'ː' || r == '։':
		return ':'
	case r == '⁄' || r == '∕':
		return '/'
	case r == '٪' || r == '﹪':
		return '%'
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
	return unframed(r)
}

// frames are the rows of framed and styled digits and letters in Unicode: the first of each row,
// the number of its characters, and the plain form of the first.
var frames = []struct{ first, n, plain rune }{
	{'①', 9, '1'},
	{'⓪', 1, '0'},
	{'⓵', 9, '1'},
	{'⓿', 1, '0'},
	{'❶', 9, '1'},
	{'➀', 9, '1'},
	{'➊', 9, '1'},
	{'Ⓐ', 26, 'A'},
	{'ⓐ', 26, 'a'},
	{'🄰', 26, 'A'},
	{'🅐', 26, 'A'},
}

// The letters of mathematics are rows of A to Z and a to z, one row a style.
const firstStyled, lastStyled, lettersInStyle = 0x1d400, 0x1d6a3, 52

// unframed returns the plain form of a digit or letter in a circle, a square or another style.
func unframed(r rune) rune {
	if r < '①' {
		return r
	}
	if r >= firstStyled && r <= lastStyled {
		n := (r - firstStyled) % lettersInStyle
		if n < 26 {
			return 'A' + n
		}
		return 'a' + n - 26
	}
	for _, f := range frames {
		if r >= f.first && r < f.first+f.n {
			return f.plain + r - f.first
		}
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

// HasMoreWords reports whether a text has more than n words.
func HasMoreWords(s string, n int) bool {
	for range strings.FieldsSeq(s) {
		if n--; n < 0 {
			return true
		}
	}
	return false
}

// Fold returns the lower case of a text, with every character where it was.
func Fold(s string) string {
	if IsASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	b.Grow(len(s))
	for i, r := range s {
		l := unicode.ToLower(r)
		switch size := utf8.RuneLen(r); {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			b.WriteByte(s[i]) // no valid UTF-8
		case utf8.RuneLen(l) == size:
			b.WriteRune(l)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// IsASCII reports whether a text has ASCII characters only.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
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

// FirstSentence returns the first sentence of a text, and the text after it.
func FirstSentence(s string) (first, rest string) {
	for i, r := range s {
		end := i + utf8.RuneLen(r)
		switch {
		case r == '。':
		case (r == '.' || r == '!' || r == '?') && closesSentence(s[end:]) && !(r == '.' && IsAbbreviation(s[:end], s[end:])):
			end = len(s) - len(strings.TrimLeft(s[end:], `"')]`))
		default:
			continue
		}
		return s[:end], s[end:]
	}
	return s, ""
}

// closesSentence reports whether the text after a full stop shows that it ended a sentence.
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
