package redact

import (
	"bytes"
	"html"
	"sort"
	"strconv"
	"strings"
)

// origin maps offsets in a decoded text to offsets in its original. It lists the start of each run of
// unchanged bytes in both, and the end. The nil origin is the identity.
type origin []struct{ decoded, original int }

// of returns the original offset of a decoded byte, or of the text's end.
func (o origin) of(at int) int {
	if o == nil {
		return at
	}
	i := sort.Search(len(o), func(i int) bool { return o[i].decoded > at }) - 1
	return o[i].original + at - o[i].decoded
}

// decode undoes one level of escapes, as in JSON, URLs and HTML, and reports whether there were any. It
// decodes only escapes of bytes that occur in secrets, so that it copies few texts.
func (r *Redactor) decode(text []byte) (decoded []byte, o origin, changed bool) {
	at := 0 // the end of the copied part
	for i := nextEscape(text, 0); i < len(text); i = nextEscape(text, i+1) {
		if i < at {
			continue // within an escape
		}
		char, size := unescape(text[i:])
		if size == 0 || !r.decoded[char] {
			continue
		}
		if !changed {
			changed = true
			decoded, o = make([]byte, 0, len(text)), origin{{}}
		}
		decoded = append(append(decoded, text[at:i]...), char)
		at = i + size
		o = append(o, struct{ decoded, original int }{len(decoded) - 1, i}, struct{ decoded, original int }{len(decoded), at})
	}
	if !changed {
		return text, nil, false
	}
	return append(decoded, text[at:]...), o, true
}

// unescapeAll undoes one level of all escapes of a secret.
func unescapeAll(s string) string {
	var r Redactor
	for i := range r.decoded {
		r.decoded[i] = true
	}
	decoded, _, _ := r.decode([]byte(s))
	return string(decoded)
}

// nextEscape returns the offset of the next byte from i on that can begin an escape.
func nextEscape(text []byte, i int) int {
	for ; i < len(text); i++ {
		if c := text[i]; c == '\\' || c == '%' || c == '&' {
			return i
		}
	}
	return i
}

// unescape returns the ASCII byte of an escape at the start of text, and the escape's length: 0 without
// one.
func unescape(text []byte) (char byte, size int) {
	switch text[0] {
	case '\\':
		return unescapeJSON(text)
	case '%':
		if c, ok := hexByte(text, 1, 2); ok {
			return c, 3
		}
	case '&':
		return unescapeHTML(text)
	}
	return 0, 0
}

func unescapeJSON(text []byte) (char byte, size int) {
	if len(text) < 2 {
		return 0, 0
	}
	switch text[1] {
	case '"', '\\', '/', '\'':
		return text[1], 2
	case 'u', 'U':
		return unescapeUnicode(text)
	case 'x':
		if c, ok := hexByte(text, 2, 2); ok {
			return c, 4
		}
	case '0', '1', '2', '3':
		const octal = 3
		if len(text) > octal {
			if c, err := strconv.ParseUint(string(text[1:1+octal]), 8, 8); err == nil {
				return byte(c), 1 + octal
			}
		}
	}
	return 0, 0
}

// unescapeUnicode reads \u0041, and the forms of other languages: \U00000041 and \u{41}.
func unescapeUnicode(text []byte) (char byte, size int) {
	if text[1] == 'u' && len(text) > 2 && text[2] == '{' {
		end := bytes.IndexByte(text[:min(len(text), maxEntity)], '}')
		if end < 0 {
			return 0, 0
		}
		c, err := strconv.ParseUint(string(text[3:end]), 16, 8)
		if err != nil {
			return 0, 0
		}
		return byte(c), end + 1
	}
	zeros := []byte("00")
	if text[1] == 'U' {
		zeros = []byte("000000")
	}
	digits := 2 + len(zeros)
	if !bytes.HasPrefix(text[2:], zeros) {
		return 0, 0
	}
	if c, ok := hexByte(text, digits, 2); ok {
		return c, digits + 2
	}
	return 0, 0
}

// maxEntity is the length of the longest HTML escape of an ASCII character, with room for zeros.
const maxEntity = 12

func unescapeHTML(text []byte) (char byte, size int) {
	end := bytes.IndexByte(text[:min(len(text), maxEntity)], ';')
	if end < 0 {
		return 0, 0
	}
	entity := string(text[:end+1])
	s := html.UnescapeString(entity)
	if len(s) != 1 || s == entity || strings.HasPrefix(entity, s+"&") {
		return 0, 0
	}
	return s[0], end + 1
}

// hexByte reads hexadecimal digits of an ASCII character.
func hexByte(text []byte, from, digits int) (byte, bool) {
	if len(text) < from+digits {
		return 0, false
	}
	c, err := strconv.ParseUint(string(text[from:from+digits]), 16, 8)
	return byte(c), err == nil
}
