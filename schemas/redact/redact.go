// Package redact replaces secrets in texts that are kept or shown.
//
// A server can echo the API key that it received: in an error, a model list or an answer. A [Redactor]
// replaces the keys of a run before a text is cut, stored or printed. It finds a key of eight or more
// characters that is unchanged, escaped for JSON, URLs or HTML (once or several times), or encoded in
// hexadecimal or Base64. For Base64 it accepts both alphabets, any offset, and missing padding. It also finds
// any [MinPart] consecutive characters of a key in these forms, since a server may shorten its echo. It
// replaces a shorter key only as a whole word, and never a placeholder such as EMPTY.
//
// [Hide] is for unknown secrets, for example in a config in which a user put a key in the wrong place. It
// replaces values that look like keys, or that follow a name such as api_key.
//
// The package does not find a key that is encrypted, compressed, reversed, or split by other text.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// Mark replaces each secret.
const Mark = "(the API key)"

// MinPart is the number of consecutive characters of a key that are replaced wherever they occur.
// Fewer characters of a long key are left: they reveal little, and texts contain them by chance.
const MinPart = 16

const (
	// minKey is the length from which a key is searched for everywhere. Most shorter ones are
	// placeholders such as EMPTY or none, which texts contain as words: replacing these would damage
	// training data. See placeholder.
	minKey = 8
	// gram is the number of bytes that the search compares first.
	gram = 8
)

// A Redactor replaces known secrets. It is safe for concurrent use. The nil Redactor and that of no
// secrets return every text as it is.
type Redactor struct {
	forms []form
	// grams maps the bytes of a look to their places in forms.
	grams map[uint64][]place
	// filter has the bits of all grams, and ends most looks.
	filter [1 << 10]uint64
	// stride is the distance of looks: each long enough part of a form contains a look.
	stride int
	// words are short keys, which are replaced as whole words only.
	words []string
	// decoded has the bytes that escapes are decoded to: only these occur in forms.
	decoded [256]bool
}

// form is one way to write a secret.
type form struct {
	text string
	// least is the number of consecutive bytes that reveal too much of the secret.
	least int
}

// place is a position in a form.
type place struct{ form, at int }

// New returns a Redactor of these secrets. It ignores space around a secret, and empty secrets. Each word
// of a secret of several words, as in "Bearer KEY", is a secret too.
func New(secrets ...string) *Redactor {
	r := &Redactor{grams: map[uint64][]place{}}
	secrets = withParts(secrets)
	for i := 0; i < len(secrets); i++ {
		s := secrets[i]
		if plain := unescapeAll(s); !slices.Contains(secrets, plain) {
			secrets = append(secrets, plain) // a decoded text contains this form
		}
		switch {
		case placeholder(s):
		case len(s) < minKey:
			r.words = append(r.words, s)
		default:
			r.forms = append(r.forms, formsOf(s)...)
		}
	}
	r.index()
	return r
}

// withParts returns the secrets and their words, without repetitions.
func withParts(secrets []string) []string {
	var all []string
	for _, s := range secrets {
		all = append(all, strings.TrimSpace(s))
		words := strings.Fields(s)
		if len(words) > 1 {
			all = append(all, words...)
		}
		if len(words) == 2 && strings.EqualFold(words[0], "basic") {
			if b, err := base64.StdEncoding.DecodeString(words[1]); err == nil {
				_, password, _ := strings.Cut(string(b), ":")
				all = append(all, string(b), password)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// placeholder reports whether a key is too weak to be secret, such as EMPTY, none, Bearer or 1234: short,
// and not a mix of letters and digits.
func placeholder(key string) bool {
	if len(key) >= minKey {
		return false
	}
	digit := strings.ContainsFunc(key, isDigit)
	other := strings.ContainsFunc(key, func(c rune) bool { return !isDigit(c) })
	return len(key) < 4 || !digit || !other
}

func isDigit(c rune) bool { return c >= '0' && c <= '9' }

// formsOf returns the ways to write a secret of at least minKey bytes, apart from escapes, which the
// search decodes.
func formsOf(s string) []form {
	least := min(len(s), MinPart)
	lower := hex.EncodeToString([]byte(s))
	forms := []form{{s, least}, {lower, 2 * least}, {strings.ToUpper(lower), 2 * least}}
	for _, cased := range []string{strings.ToLower(s), strings.ToUpper(s)} {
		if cased != s && len(cased) >= MinPart { // texts contain shorter ones by chance
			forms = append(forms, form{cased, least})
		}
	}
	for offset := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, base64Form(encoding, s, offset, least))
		}
	}
	return forms
}

// base64Form returns the common part of the Base64 of all texts with s at this offset (modulo 3): the
// digits whose 6 bits lie in s.
func base64Form(encoding *base64.Encoding, s string, offset, least int) form {
	encoded := encoding.EncodeToString([]byte(strings.Repeat("\x00", offset) + s))
	whole := func(from, length int) (first, end int) { return (8*from + 5) / 6, 8 * (from + length) / 6 }
	first, end := whole(offset, len(s))
	// Any least bytes of s, at any offset, have at least this many digits of their own.
	digits := end - first
	for o := range 3 {
		f, e := whole(o, least)
		digits = min(digits, e-f)
	}
	return form{encoded[first:end], digits}
}

// index prepares the search.
func (r *Redactor) index() {
	for i, f := range r.forms {
		if r.stride == 0 || f.least-gram+1 < r.stride {
			r.stride = f.least - gram + 1
		}
		for at := range len(f.text) - gram + 1 {
			g := gramOf(f.text[at:])
			r.grams[g] = append(r.grams[g], place{i, at})
			h := hash(g)
			r.filter[h>>6] |= 1 << (h & 63)
		}
		for j := range len(f.text) {
			r.decoded[f.text[j]] = true
		}
	}
	for _, w := range r.words {
		for j := range len(w) {
			r.decoded[w[j]] = true
		}
	}
	for _, c := range []byte(`\%&`) { // the first bytes of escapes: some texts are escaped twice
		r.decoded[c] = true
	}
}

func gramOf[T []byte | string](b T) uint64 { return binary.LittleEndian.Uint64([]byte(b[:gram])) }

// hash returns 16 bits.
func hash(g uint64) uint64 { return g * 0x9E3779B97F4A7C15 >> 48 }

// String returns the text without secrets.
func (r *Redactor) String(text string) string {
	if r.empty() {
		return text
	}
	if found := r.find([]byte(text)); len(found) > 0 {
		return string(replace([]byte(text), found))
	}
	return text
}

// Bytes returns the text without secrets: text itself when it has none, and else a copy.
func (r *Redactor) Bytes(text []byte) []byte {
	if r.empty() {
		return text
	}
	if found := r.find(text); len(found) > 0 {
		return replace(text, found)
	}
	return text
}

func (r *Redactor) empty() bool { return r == nil || len(r.forms)+len(r.words) == 0 }

// span is a part of a text.
type span struct{ from, to int }

// maxEscapes bounds how often a text is decoded: JSON in JSON in a URL is 3.
const maxEscapes = 4

// find returns the spans of secrets in the text, in order.
func (r *Redactor) find(text []byte) []span {
	found := r.search(nil, text, nil)
	var levels []origin
	for decoded := text; len(levels) < maxEscapes; {
		var o origin
		var changed bool
		if decoded, o, changed = r.decode(decoded); !changed {
			break
		}
		levels = append(levels, o)
		found = r.search(found, decoded, levels)
	}
	if len(found) < 2 {
		return found
	}
	slices.SortFunc(found, func(a, b span) int { return a.from - b.from })
	merged := found[:1]
	for _, s := range found[1:] {
		last := &merged[len(merged)-1]
		if s.from <= last.to {
			last.to = max(last.to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// search adds the secrets in a text that was decoded through these levels, by their offsets in the
// original text.
func (r *Redactor) search(found []span, text []byte, levels []origin) []span {
	add := func(from, to int) {
		for _, o := range slices.Backward(levels) {
			from, to = o.of(from), o.of(to)
		}
		found = append(found, span{from, to})
	}
	if r.stride > 0 {
		for i := 0; i+gram <= len(text); i += r.stride {
			g := binary.LittleEndian.Uint64(text[i:])
			if h := hash(g); r.filter[h>>6]&(1<<(h&63)) == 0 {
				continue
			}
			for _, p := range r.grams[g] {
				if from, to := extend(text, i, r.forms[p.form].text, p.at); to-from >= r.forms[p.form].least {
					add(from, to)
				}
			}
		}
	}
	for _, w := range r.words {
		for from := 0; ; {
			i := bytes.Index(text[from:], []byte(w))
			if i < 0 {
				break
			}
			from += i
			if to := from + len(w); isBoundary(text, from-1) && isBoundary(text, to) {
				add(from, to)
			}
			from++
		}
	}
	return found
}

// extend returns the largest range of text around i that equals the form around at.
func extend(text []byte, i int, form string, at int) (from, to int) {
	from, to = i, i
	for k := at; k > 0 && from > 0 && text[from-1] == form[k-1]; k-- {
		from--
	}
	for k := at; k < len(form) && to < len(text) && text[to] == form[k]; k++ {
		to++
	}
	return from, to
}

// isBoundary reports whether no word goes through the byte at i.
func isBoundary(text []byte, i int) bool {
	if i < 0 || i >= len(text) {
		return true
	}
	c := text[i]
	return c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c < 0x80
}

func replace(text []byte, found []span) []byte {
	out := make([]byte, 0, len(text)+len(found)*len(Mark))
	at := 0
	for _, s := range found {
		out = append(append(out, text[at:s.from]...), Mark...)
		at = s.to
	}
	return append(out, text[at:]...)
}
