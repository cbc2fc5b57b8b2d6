package simulator

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// A parser reads JSON in one pass over a string that is valid UTF-8. It is here because
// reading requests is most of what the server does, and encoding/json would take most of its time:
// this gives the few fields that matter, and the others as they were written.
type parser struct {
	s     string
	at    int
	depth int
}

// maxDepth bounds how deep values may be nested.
const maxDepth = 500

var errDeep = errors.New("the body is nested too deeply")

func (p *parser) fail() error { return fmt.Errorf("the body is no valid JSON at byte %d", p.at) }

// peek returns the first byte of what comes next, 0 at the end.
func (p *parser) peek() byte {
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

// object reads an object, each value by a call of field.
func (p *parser) object(field func(name string) error) error {
	return p.list('{', '}', func() error {
		if p.peek() != '"' {
			return p.fail()
		}
		name, err := p.text()
		if err != nil {
			return err
		}
		if p.peek() != ':' {
			return p.fail()
		}
		p.at++
		return field(name)
	})
}

// array reads an array, each element by a call of element.
func (p *parser) array(element func() error) error { return p.list('[', ']', element) }

func (p *parser) list(open, end byte, item func() error) error {
	if p.peek() != open {
		return p.fail()
	}
	p.at++
	if p.depth++; p.depth > maxDepth {
		return errDeep
	}
	defer func() { p.depth-- }()
	if p.peek() == end {
		p.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch p.peek() {
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

// raw reads any value and returns it as it was written.
func (p *parser) raw() (string, error) {
	p.peek()
	start := p.at
	err := p.skip()
	return p.s[start:p.at], err
}

// skip reads any value.
func (p *parser) skip() error {
	switch c := p.peek(); c {
	case '{':
		return p.object(func(string) error { return p.skip() })
	case '[':
		return p.array(p.skip)
	case '"':
		_, err := p.text()
		return err
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	default:
		return p.number()
	}
}

// word reads one of the names true, false and null.
func (p *parser) word(name string) error {
	if !strings.HasPrefix(p.s[p.at:], name) {
		return p.fail()
	}
	p.at += len(name)
	return nil
}

// number reads -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?.
func (p *parser) number() error {
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
func (p *parser) one(of string) bool {
	if p.at < len(p.s) && strings.IndexByte(of, p.s[p.at]) >= 0 {
		p.at++
		return true
	}
	return false
}

func (p *parser) digits() (n int) {
	for p.one("0123456789") {
		n++
	}
	return n
}

// plain says which bytes stand for themselves in a string.
var plain = func() (t [256]bool) {
	for i := range t {
		t[i] = i >= ' ' && i != '"' && i != '\\'
	}
	return t
}()

// text reads a string. Without escapes it is a part of the body and costs nothing.
func (p *parser) text() (string, error) {
	p.at++ // the opening quote, which the caller has seen
	var b strings.Builder
	for start := p.at; p.at < len(p.s); start = p.at {
		for p.at < len(p.s) && plain[p.s[p.at]] {
			p.at++
		}
		part := p.s[start:p.at]
		switch {
		case p.one(`"`):
			if b.Len() == 0 {
				return part, nil
			}
			b.WriteString(part)
			return b.String(), nil
		case !p.one(`\`):
			return "", p.fail()
		}
		if b.Len() == 0 {
			// The next quote is where the string ends, or not before.
			b.Grow(len(part) + max(strings.IndexByte(p.s[p.at:], '"'), 0) + 1)
		}
		b.WriteString(part)
		if err := p.escape(&b); err != nil {
			return "", err
		}
	}
	return "", p.fail()
}

// escape reads what follows a backslash and appends what it stands for.
func (p *parser) escape(b *strings.Builder) error {
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
func (p *parser) unicode(b *strings.Builder) error {
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
func (p *parser) hex(at int) (rune, bool) {
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
