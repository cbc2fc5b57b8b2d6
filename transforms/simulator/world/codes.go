package world

import (
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// A code identifies a response: its prompt, and its sample of that prompt. Every response contains
// its code.
type code struct {
	prompt uint32
	sample uint64 // 48 bits, never 0
	shift  shift
}

// A shift is the effect of the model's skill on a response, in hundredths of a point and of a
// standard deviation of log length.
type shift struct{ quality, length int16 }

// A note identifies a judgment. Every judgment contains its note. The note carries the score, so that
// the truth remains known after a client has removed the score line.
type note struct {
	about code
	nonce uint64 // 48 bits, never 0
	score int    // thousandths
}

// The written forms, all hexadecimal except the marks:
//
//	(ref pppppppp-ssssssssssss)
//	(note pppppppp-ssssssssssss-nnnnnnnnnnnn-kkkk)
//
// where k is the score under a mask that depends on all digits before it. A shift other than zero
// follows the sample as +qqqqllll, with 8000 for zero.
const (
	refMark  = "(ref "
	noteMark = "(note "
	refLen   = 8 + 1 + 12
	shiftLen = 1 + 4 + 4
	noteLen  = 1 + 12 + 1 + 4 // after the code
)

func (c code) appendTo(b []byte) []byte {
	b = append(b, refMark...)
	b = c.digits(b)
	return append(b, ')')
}

func (c code) digits(b []byte) []byte {
	b = appendHex(b, uint64(c.prompt), 8)
	b = append(b, '-')
	b = appendHex(b, c.sample, 12)
	if c.shift == (shift{}) {
		return b
	}
	b = append(b, '+')
	b = appendHex(b, uint64(uint16(c.shift.quality))^0x8000, 4)
	return appendHex(b, uint64(uint16(c.shift.length))^0x8000, 4)
}

func (n note) appendTo(b []byte) []byte {
	b = append(b, noteMark...)
	b = n.about.digits(b)
	b = append(b, '-')
	b = appendHex(b, n.nonce, 12)
	b = append(b, '-')
	b = appendHex(b, uint64(n.score)^n.mask(), 4)
	return append(b, ')')
}

func (n note) mask() uint64 {
	return Mix(Mix(n.about.sample^uint64(n.about.prompt)<<16)^n.nonce) & 0xffff
}

func appendHex(b []byte, x uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[x>>shift&15])
	}
	return b
}

// scan calls found for every code in s, in order. For a response's code n is zero.
func scan(s string, found func(c code, n note)) {
	for {
		i := strings.IndexByte(s, '(')
		if i < 0 {
			return
		}
		s = s[i:]
		if c, ok := parseRef(s); ok {
			found(c, note{})
		} else if n, ok := parseNote(s); ok {
			found(n.about, n)
		}
		s = s[1:]
	}
}

func parseRef(s string) (code, bool) {
	if !strings.HasPrefix(s, refMark) {
		return code{}, false
	}
	c, rest, ok := parseCode(s[len(refMark):])
	return c, ok && strings.HasPrefix(rest, ")")
}

func parseNote(s string) (note, bool) {
	if !strings.HasPrefix(s, noteMark) {
		return note{}, false
	}
	about, s, ok := parseCode(s[len(noteMark):])
	if !ok || len(s) <= noteLen || s[noteLen] != ')' || s[0] != '-' || s[13] != '-' {
		return note{}, false
	}
	nonce, err := strconv.ParseUint(s[1:13], 16, 64)
	if err != nil || nonce == 0 {
		return note{}, false
	}
	masked, err := strconv.ParseUint(s[14:noteLen], 16, 64)
	if err != nil {
		return note{}, false
	}
	n := note{about: about, nonce: nonce}
	n.score = int(masked ^ n.mask())
	return n, n.score <= 5000
}

// parseCode returns the code at the start of s, and the rest of s.
func parseCode(s string) (c code, rest string, ok bool) {
	if len(s) <= refLen || s[8] != '-' {
		return code{}, "", false
	}
	prompt, err1 := strconv.ParseUint(s[:8], 16, 32)
	sample, err2 := strconv.ParseUint(s[9:refLen], 16, 64)
	if err1 != nil || err2 != nil || sample == 0 {
		return code{}, "", false
	}
	c, rest = code{prompt: uint32(prompt), sample: sample}, s[refLen:]
	if rest[0] != '+' {
		return c, rest, true
	}
	if len(rest) <= shiftLen {
		return code{}, "", false
	}
	quality, err1 := strconv.ParseUint(rest[1:5], 16, 16)
	length, err2 := strconv.ParseUint(rest[5:shiftLen], 16, 16)
	c.shift = shift{quality: int16(quality ^ 0x8000), length: int16(length ^ 0x8000)}
	return c, rest[shiftLen:], err1 == nil && err2 == nil
}

// fenceMark begins the tag before a quoted response. A code of at most maxDigits digits follows the
// mark.
const (
	fenceMark = "<response-"
	maxDigits = 12
)

// foreign derives the code of a quoted response that contains none. The response is the text between
// tags.
func foreign(s string) (code, bool) {
	for at := 0; ; {
		i := strings.Index(s[at:], fenceMark)
		if i < 0 {
			return code{}, false
		}
		begin := at + i
		at = begin + len(fenceMark)
		digits := strings.IndexByte(s[at:min(len(s), at+maxDigits+1)], '>')
		if digits < 1 {
			continue
		}
		end := strings.Index(s[at:], "</response-"+s[at:at+digits]+">")
		if end < 0 {
			continue
		}
		text := s[at+digits+1 : at+end]
		return code{
			prompt: uint32(xxhash.Sum64String(s[:begin]) >> 32), sample: bits48(Mix(xxhash.Sum64String(text))),
		}, true
	}
}

// bits48 takes the 48 bits of a code from a hash.
func bits48(x uint64) uint64 { return x>>16 | 1 }
