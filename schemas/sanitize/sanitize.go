// Package sanitize makes untrusted text safe to display.
//
// A text can contain control characters: terminal escapes move the cursor and recolour the screen.
// Bidirectional marks disguise one text as another, and tag characters hide whole sentences. [Text] and [Line]
// make each of them visible; Text leaves line feeds and tabs as they are. Both also replace invalid UTF-8 by
// U+FFFD, and Text shortens CRLF to LF. Neither escapes for HTML or any other language. [JSON] replaces the
// same characters, if they are U+007F or above, by JSON escapes. If its input is valid UTF-8, a decoder gets
// the same values as before.
package sanitize

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns s with every such character made visible. Line feeds and tabs stay.
func Text(s string) string { return clean(s, true) }

// Line is Text for a single line: it makes line feeds and tabs visible too.
func Line(s string) string { return clean(s, false) }

// Writer returns a writer that passes each Write to w through [Text]. A Write must contain whole characters.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.to, Text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// JSON returns a JSON text that is safe to display: every such character of its strings is an escape, as
// \u202e, so that a reader of the JSON gets the same values. Encoders escape only those below U+0020.
func JSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, r := range string(b) {
		switch {
		case !acts(r) || r < 0x20: // between the values; encoders escape those within strings
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			first, second := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, first, second)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// Cut returns the first characters of a text, and the number of the others.
func Cut(s string, chars int) (head string, left int) {
	at := 0
	for range chars {
		if at >= len(s) {
			return s, 0
		}
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return s[:at], utf8.RuneCountInString(s[at:])
}

func clean(s string, lines bool) string {
	if strings.IndexFunc(s, acts) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i, r := range s {
		switch {
		case r == '\n' && lines, r == '\t' && lines:
			b.WriteRune(r)
		case r == '\r' && lines && strings.HasPrefix(s[i+1:], "\n"): // a line end of two characters
		case r < 0x20:
			b.WriteRune(0x2400 + r) // ␀ to ␟
		case r == 0x7f:
			b.WriteRune('␡')
		case acts(r):
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		default:
			b.WriteRune(r) // invalid UTF-8 becomes U+FFFD
		}
	}
	return b.String()
}

// acts reports whether a character has an effect instead of a shape: the controls of C0 and C1, line and
// paragraph separators, direction marks, the byte order mark, annotations, and tags. Joiners stay, since
// scripts and emoji need them.
func acts(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
	case r == 0x061c, r == 0x200e, r == 0x200f, r == 0x2028, r == 0x2029:
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x206f:
	case r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f:
	default:
		return false
	}
	return true
}
