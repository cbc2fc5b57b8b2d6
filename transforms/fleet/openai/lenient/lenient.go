// Package lenient reads the JSON of inference servers, in which any field may have any type.
//
// A reader states the types that it uses: [Text], [Parts] and [Number]. Each accepts the forms that servers are
// known to send. A value of another type decodes to nothing, so that it does not spoil the rest of an answer.
// For such a value, [Object] and [List] do not change their target.
// The nesting of parts is bounded. The package does no I/O and has no state.
package lenient

import (
	"bytes"
	"cmp"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxTokens bounds the token counts that are believed: the longest contexts have about ten million
// tokens. A count beyond it is noise, and would overflow columns and quotas.
const maxTokens = 1 << 24

// Options accept faults of real servers. Bytes that are not UTF-8 become U+FFFD, and the last of two
// fields with one name counts.
var Options = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

// Unmarshal reads JSON as servers write it: after a byte order mark, and with Python's NaN and
// Infinity, which are no JSON.
func Unmarshal(body []byte, to any) error {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	err := json.Unmarshal(body, to, Options)
	if err == nil {
		return nil
	}
	relaxed, changed := withoutNaN(body)
	if !changed {
		return err
	}
	return json.Unmarshal(relaxed, to, Options)
}

// withoutNaN replaces NaN, Infinity and -Infinity outside of strings by null.
func withoutNaN(b []byte) (out []byte, changed bool) {
	for i := 0; i < len(b); {
		if b[i] == '"' {
			end := endOfString(b, i)
			out = append(out, b[i:end]...)
			i = end
			continue
		}
		word := wordAt(b[i:])
		switch strings.ToLower(string(word)) {
		case "nan", "inf", "infinity", "-nan", "-inf", "-infinity", "+inf", "+infinity":
			out, changed = append(out, "null"...), true
		default:
			word = b[i : i+max(len(word), 1)]
			out = append(out, word...)
		}
		i += len(word)
	}
	return out, changed
}

// endOfString returns the index after the string that begins at i.
func endOfString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// wordAt returns the letters at the start of b, with a sign before them.
func wordAt(b []byte) []byte {
	n := 0
	for n < len(b) && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z' || n == 0 && (b[n] == '-' || b[n] == '+')) {
		n++
	}
	return b[:n]
}

// Object reads an object. Another JSON value leaves its target as it is.
func Object[T any](d *jsontext.Decoder, to *T) error { return ofKind('{', d, to) }

// List reads a list. Another JSON value leaves its target as it is.
func List[T any](d *jsontext.Decoder, to *T) error { return ofKind('[', d, to) }

func ofKind[T any](kind jsontext.Kind, d *jsontext.Decoder, to *T) error {
	if d.PeekKind() != kind {
		return d.SkipValue()
	}
	return json.UnmarshalDecode(d, to)
}

// A Text is a string. Another JSON value decodes to the text in its content field, or to the empty string.
type Text string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *Text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var p Parts
	err := json.UnmarshalDecode(d, &p)
	*t = Text(cmp.Or(p.Text, p.Thoughts))
	return err
}

// Parts is a text that may come as a list of parts, some of which are reasoning.
type Parts struct{ Text, Thoughts string }

// maxNesting bounds parts within parts: a list of thinking parts, each with a list of texts.
const maxNesting = 4

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (p *Parts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*p = Parts{}
	if d.PeekKind() == '"' { // almost all values are strings
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		p.Text = token.String()
		return nil
	}
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	return p.add(v, 0)
}

// add appends the text and the reasoning in a value: a string, a part, or a list of them.
func (p *Parts) add(b []byte, depth int) error {
	if depth > maxNesting {
		return nil
	}
	switch jsontext.Value(b).Kind() {
	case '"':
		var s string
		err := json.Unmarshal(b, &s, Options)
		p.Text += s
		return err
	case '[':
		var list []jsontext.Value
		if err := json.Unmarshal(b, &list, Options); err != nil {
			return err
		}
		for _, v := range list {
			if err := p.add(v, depth+1); err != nil {
				return err
			}
		}
	case '{':
		return p.addPart(b, depth)
	}
	return nil
}

// addPart appends one part: {"type":"text","text":…}, or {"type":"thinking","thinking":…}.
func (p *Parts) addPart(b []byte, depth int) error {
	var fields struct {
		Type     jsontext.Value `json:"type"`
		Text     jsontext.Value `json:"text"`
		Content  jsontext.Value `json:"content"`
		Thinking jsontext.Value `json:"thinking"`
	}
	if err := json.Unmarshal(b, &fields, Options); err != nil {
		return err
	}
	var content, thought Parts
	for to, values := range map[*Parts][]jsontext.Value{&content: {fields.Text, fields.Content}, &thought: {fields.Thinking}} {
		for _, v := range values {
			if err := to.add(v, depth+1); err != nil {
				return err
			}
		}
	}
	kind := strings.ToLower(string(fields.Type))
	if strings.Contains(kind, "think") || strings.Contains(kind, "reason") {
		thought.Text += content.Text
		content.Text = ""
	}
	p.Text += content.Text
	p.Thoughts += thought.Text + thought.Thoughts + content.Thoughts
	return nil
}

// maxReason bounds a finish reason, of which the longest known has 35 characters.
const maxReason = 64

// Reason returns t as a finish reason: its first bytes, as valid UTF-8.
func (t Text) Reason() string { return strings.ToValidUTF8(string(t[:min(len(t), maxReason)]), "") }

// A Number is a number, as itself or in a string. Everything else counts as not there.
type Number struct {
	Value float64
	There bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *Number) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*n = Number{}
	b, err := d.ReadValue()
	if err != nil {
		return err
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.Trim(string(b), `"`)), 64)
	if err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
		*n = Number{v, true}
	}
	return nil
}

// Tokens returns the count, or 0 for unknown if the count is implausible.
func (n Number) Tokens() int {
	if n.Value < 0 || n.Value > maxTokens {
		return 0
	}
	return int(n.Value)
}
