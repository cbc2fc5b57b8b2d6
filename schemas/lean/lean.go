// Package lean reads JSON in one pass and without reflection, for bodies of which few fields
// matter: those of the simulated worker's requests and of the answers of a fleet. A library takes
// nearly twice as long, and four times as long to write a string; see BenchmarkDecodeResponse of
// package infer and BenchmarkLines of package journal.
//
// It promises to refuse all that is no JSON (RFC 8259). Of an object it gives every field,
// also one that comes twice: who reads it decides.
package lean

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf16"
)

// A Parser reads the JSON of a string that is valid UTF-8.
type Parser struct {
	s     string
	at    int
	depth int
}

// New returns a parser at the start of s.
func New(s string) Parser { return Parser{s: s} }

// Offset returns how far the parser is.
func (p *Parser) Offset() int { return p.at }

// Since returns what was read since an offset.
func (p *Parser) Since(offset int) string { return p.s[offset:p.at] }

// Done says whether nothing but white space is left.
func (p *Parser) Done() bool {
	p.Peek()
	return p.at == len(p.s)
}

// maxDepth bounds how deep values may be nested.
const maxDepth = 500

var errDeep = errors.New("the body is nested too deeply")

func (p *Parser) fail() error { return fmt.Errorf("the body is no valid JSON at byte %d", p.at) }

// Peek returns the first byte of what comes next, 0 at the end.
func (p *Parser) Peek() byte {
	for p.at < len(p.s) {
		switch c := p.s[p.at]; c {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return c
		}
	}
	return 0
}

// Object reads an object, each value by a call of field.
func (p *Parser) Object(field func(name string) error) error {
	return p.list('{', '}', func() error {
		if p.Peek() != '"' {
			return p.fail()
		}
		name, err := p.Text()
		if err != nil {
			return err
		}
		if p.Peek() != ':' {
			return p.fail()
		}
		p.at++
		return field(name)
	})
}

// Array reads an array, each element by a call of element.
func (p *Parser) Array(element func() error) error { return p.list('[', ']', element) }

func (p *Parser) list(open, end byte, item func() error) error {
	if p.Peek() != open {
		return p.fail()
	}
	p.at++
	if p.depth++; p.depth > maxDepth {
		return errDeep
	}
	defer func() { p.depth-- }()
	if p.Peek() == end {
		p.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch p.Peek() {
		case ',':
			p.at++
		case end:
			p.at++
			return nil
		default:
			return p.fail()
		}
	}
}

// Raw reads any value and returns it as it was written.
func (p *Parser) Raw() (string, error) {
	p.Peek()
	start := p.at
	err := p.Skip()
	return p.s[start:p.at], err
}

// Skip reads any value.
func (p *Parser) Skip() error {
	switch c := p.Peek(); c {
	case '{':
		return p.Object(func(string) error { return p.Skip() })
	case '[':
		return p.Array(p.Skip)
	case '"':
		_, err := p.Text()
		return err
	case 't':
		return p.Word("true")
	case 'f':
		return p.Word("false")
	case 'n':
		return p.Word("null")
	default:
		return p.number()
	}
}

// Word reads one of the names true, false and null.
func (p *Parser) Word(name string) error {
	if !strings.HasPrefix(p.s[p.at:], name) {
		return p.fail()
	}
	p.at += len(name)
	return nil
}

// number reads -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?.
func (p *Parser) number() error {
	p.one("-")
	if !p.one("0") && p.digits() == 0 {
		return p.fail()
	}
	if p.one(".") && p.digits() == 0 {
		return p.fail()
	}
	if p.one("eE") {
		p.one("+-")
		if p.digits() == 0 {
			return p.fail()
		}
	}
	return nil
}

// one reads a byte if it is one of these.
func (p *Parser) one(of string) bool {
	if p.at < len(p.s) && strings.IndexByte(of, p.s[p.at]) >= 0 {
		p.at++
		return true
	}
	return false
}

func (p *Parser) digits() (n int) {
	for p.one("0123456789") {
		n++
	}
	return n
}

// Plain returns the place of the first byte of s, from a place on, that doesn't stand for itself
// in a JSON string, or the length of s. It looks at eight bytes at a time.
func Plain(s string, from int) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := from
	for ; i+8 <= len(s); i += 8 {
		b := s[i : i+8]
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		quote, backslash := w^ones*'"', w^ones*'\\'
		// The high bit of a byte is set where w is below a space, or one of the others is 0. A borrow
		// can set more bits, but only above one that is rightly set.
		if found := ((w-ones*' ')&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & high; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\'; i++ {
	}
	return i
}

// AppendQuoted appends s, which is valid UTF-8, as a JSON string.
func AppendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := Plain(s, 0); i < len(s); i = Plain(s, from) {
		b = append(b, s[from:i]...)
		from = i + 1
		c := s[i]
		switch c {
		case '\b':
			c = 'b'
		case '\f':
			c = 'f'
		case '\n':
			c = 'n'
		case '\r':
			c = 'r'
		case '\t':
			c = 't'
		case '"', '\\':
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			continue
		}
		b = append(b, '\\', c)
	}
	return append(append(b, s[from:]...), '"')
}

// Text reads a string. Without escapes it is a part of the body and costs nothing.
func (p *Parser) Text() (string, error) {
	s, _, err := p.text()
	return s, err
}

// Copy reads a string that is never a part of the body.
func (p *Parser) Copy() (string, error) {
	s, part, err := p.text()
	if part {
		s = strings.Clone(s)
	}
	return s, err
}

// text says also whether the string is a part of the body.
func (p *Parser) text() (s string, part bool, err error) {
	p.at++ // the opening quote, which the caller has seen
	var b strings.Builder
	for start := p.at; p.at < len(p.s); start = p.at {
		p.at = Plain(p.s, p.at)
		plain := p.s[start:p.at]
		switch {
		case p.one(`"`):
			if b.Cap() == 0 {
				return plain, true, nil
			}
			b.WriteString(plain)
			return b.String(), false, nil
		case !p.one(`\`):
			return "", false, p.fail()
		}
		if b.Cap() == 0 {
			// The next quote is where the string ends, or not before.
			b.Grow(len(plain) + max(strings.IndexByte(p.s[p.at:], '"'), 0) + 1)
		}
		b.WriteString(plain)
		if err := p.escape(&b); err != nil {
			return "", false, err
		}
	}
	return "", false, p.fail()
}

// escape reads what follows a backslash and appends what it stands for.
func (p *Parser) escape(b *strings.Builder) error {
	if p.at == len(p.s) {
		return p.fail()
	}
	c := p.s[p.at]
	if c == 'u' {
		return p.unicode(b)
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 {
		return p.fail()
	}
	p.at++
	b.WriteByte("\"\\/\b\f\n\r\t"[i])
	return nil
}

// unicode reads a \u escape, or two that are one surrogate pair. Half of a pair stands for
// the replacement character.
func (p *Parser) unicode(b *strings.Builder) error {
	r, ok := p.hex(p.at)
	if !ok {
		return p.fail()
	}
	p.at += 5
	if utf16.IsSurrogate(r) {
		low, ok := rune(0), false
		if strings.HasPrefix(p.s[p.at:], `\u`) {
			low, ok = p.hex(p.at + 1)
		}
		if r = utf16.DecodeRune(r, low); ok && r != unicode.ReplacementChar {
			p.at += 6
		}
	}
	b.WriteRune(r)
	return nil
}

// hex reads the four digits after the u at this place.
func (p *Parser) hex(at int) (rune, bool) {
	if at+5 > len(p.s) {
		return 0, false
	}
	r := rune(0)
	for _, c := range []byte(p.s[at+1 : at+5]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
