package openai

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// maxTokens bounds the token counts that are believed: the longest contexts have about ten million
// tokens. A count beyond it is noise, and would overflow columns and quotas.
const maxTokens = 1 << 24

// lenient accepts faults of real servers. Bytes that are not UTF-8 become U+FFFD, and the last of two
// fields with one name counts.
var lenient = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

// response contains the fields of an answer that are read. Any of them may have any JSON type.
type response struct {
	Choices []choice       `json:"choices"`
	Usage   usage          `json:"usage"`
	Error   jsontext.Value `json:"error"`
}

type choice struct {
	Index        number  `json:"index"`
	Message      message `json:"message"`
	Delta        message `json:"delta"` // of gateways that answer with the one chunk of a stream
	Text         text    `json:"text"`  // of servers that answer a chat as a completion
	FinishReason text    `json:"finish_reason"`
	// Error is for the message of an abandoned choice.
	Error jsontext.Value `json:"error"`
	// LogProbs is decoded for reads alone.
	LogProbs jsontext.Value `json:"logprobs"`
}

type message struct {
	there            bool
	Content          parts `json:"content"`
	ReasoningContent text  `json:"reasoning_content"`
	Reasoning        text  `json:"reasoning"`
	Thinking         text  `json:"thinking"`
	Refusal          text  `json:"refusal"`
}

// NoJSON begins the message about a 200 whose body is not JSON, for example a web page.
const NoJSON = "the body is not the JSON of a chat completion"

// Decode reads the body of a 200 that was to have n choices. It returns a generation for each index
// that the answer has, and reports which indices those are. An answer with an error, or without
// any choice, is a fault.
func Decode(body []byte, n int) ([]schemas.Generation, []bool, *Fault) {
	return DecodeRead(body, n, nil)
}

// DecodeRead is Decode for an answer to a read, whose generations have the labels' log-probabilities.
// Read is nil for texts.
func DecodeRead(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *Fault) {
	var r response
	if err := unmarshal(body, &r); err != nil {
		if first := firstValue(body); first != nil && unmarshal(first, &r) == nil && len(r.Choices) > 0 {
			return DecodeRead(first, n, read)
		}
		if isStream(body) { // in spite of its header
			return DecodeReadStream(body, n, read)
		}
		return nil, nil, &Fault{Kind: Broken, Code: CodeMalformed, Message: NoJSON + ": " + excerpt(body)}
	}
	if flt := errorIn(&r, body); flt != nil {
		return nil, nil, flt
	}
	generations, has := r.generations(n, read)
	if !slices.Contains(has, true) {
		kind := NoChoice
		if len(r.Choices) > 0 { // the server abandoned them
			kind = Broken
		}
		if flt := r.abandoned(); flt != nil {
			return nil, nil, flt
		}
		return nil, nil, &Fault{Kind: kind, Code: CodeMalformed, Message: "200 without a choice: " + excerpt(body)}
	}
	return generations, has, nil
}

// abandoned returns the fault of an answer whose first choice the server abandoned, nil for another answer.
func (r *response) abandoned() *Fault {
	if len(r.Choices) == 0 {
		return nil
	}
	c := &r.Choices[0]
	reason := reasonOf(c.FinishReason)
	if stage.FinishOf(reason) != stage.FinishAbandoned {
		return nil
	}
	message := "200 with the finish reason " + excerpt([]byte(reason)) + ", so without a text"
	if !empty(c.Error) {
		message += ": " + excerpt(c.Error)
	}
	return &Fault{Kind: Broken, Code: CodeServerError, Message: message}
}

// firstValue returns the JSON object at the beginning of a body with something behind it, nil for another body.
func firstValue(body []byte) []byte {
	d := jsontext.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))), lenient)
	value, err := d.ReadValue()
	if err != nil || value.Kind() != '{' {
		return nil
	}
	return bytes.Clone(value)
}

// unmarshal reads JSON as servers write it: after a byte order mark, and with Python's NaN and
// Infinity, which are no JSON.
func unmarshal(body []byte, to any) error {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	err := json.Unmarshal(body, to, lenient)
	if err == nil {
		return nil
	}
	relaxed, changed := withoutNaN(body)
	if !changed {
		return err
	}
	return json.Unmarshal(relaxed, to, lenient)
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

// generations returns one generation for each index below n, and whether the answer has it.
func (r *response) generations(n int, read *stage.Read) ([]schemas.Generation, []bool) {
	out, has := make([]schemas.Generation, n), make([]bool, n)
	positions, first := r.numbering(n)
	for i := range r.Choices {
		c := &r.Choices[i]
		at := c.Index.value - first
		if positions {
			at = float64(i)
		}
		if !c.Message.there && c.Delta.there {
			c.Message = c.Delta
		}
		if at < 0 || at >= float64(n) || at != math.Trunc(at) || has[int(at)] || !c.Message.there && c.Text == "" {
			continue
		}
		k := int(at)
		reason := reasonOf(c.FinishReason)
		kind := stage.FinishOf(reason)
		if kind == stage.FinishAbandoned {
			continue
		}
		has[k] = true
		if kind == stage.FinishFiltered {
			out[k] = schemas.Generation{Code: CodeContentFilter, Message: "the server's content filter withheld the text (" + reason + ")"}
			continue
		}
		out[k] = c.generation()
		if read != nil {
			out[k].LogProbs = read.Sum(tokensOf(c.LogProbs))
		}
		out[k].PromptTokens = r.Usage.PromptTokens.tokens()
		out[k].CompletionTokens = share(r.Usage.CompletionTokens.tokens(), len(r.Choices), k)
	}
	return out, has
}

// numbering reports whether the position of a choice replaces its index. Some gateways send 0 for all
// choices, no index at all, or an arbitrary index for a single choice. First is the index of the first
// choice: 1 if the server counts from 1.
func (r *response) numbering(n int) (positions bool, first float64) {
	if len(r.Choices) == 1 {
		return n == 1 || !r.Choices[0].Index.there, 0
	}
	lowest, highest := math.Inf(1), math.Inf(-1)
	for i := range r.Choices {
		lowest, highest = min(lowest, r.Choices[i].Index.value), max(highest, r.Choices[i].Index.value)
	}
	if lowest == 1 && highest == float64(n) {
		return false, 1
	}
	return lowest == 0 && highest == 0, 0
}

func (c *choice) generation() schemas.Generation {
	m := &c.Message
	g := schemas.Generation{
		Text: cmp.Or(m.Content.text, string(c.Text)), FinishReason: reasonOf(c.FinishReason),
		Reasoning: cmp.Or(string(m.ReasoningContent), string(m.Reasoning), string(m.Thinking), m.Content.thoughts),
	}
	if m.Refusal != "" && g.Text == "" {
		g.Text, g.FinishReason = string(m.Refusal), stage.FinishRefusal
	}
	return g
}

// maxReason bounds a finish reason, of which the longest known has 35 characters.
const maxReason = 64

func reasonOf(t text) string { return strings.ToValidUTF8(string(t[:min(len(t), maxReason)]), "") }

// share splits total over n choices as evenly as whole tokens allow: servers report no more.
func share(total, n, i int) int {
	s := total / n
	if i < total%n {
		s++
	}
	return s
}

// Usage returns the tokens of one answer: the tokens of its prompt, which every choice repeats, and the
// sum over all choices.
func Usage(generations []schemas.Generation) (prompt, completion int) {
	for i := range generations {
		prompt = max(prompt, generations[i].PromptTokens)
		completion += generations[i].CompletionTokens
	}
	return prompt, completion
}

// text is a string. Another JSON value decodes to the text in its content field, or to the empty string.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var p parts
	err := p.UnmarshalJSON(b)
	*t = text(cmp.Or(p.text, p.thoughts))
	return err
}

// parts is a text that may come as a list of parts, some of which are reasoning.
type parts struct{ text, thoughts string }

// maxNesting bounds parts within parts: a list of thinking parts, each with a list of texts.
const maxNesting = 4

// UnmarshalJSON implements json.Unmarshaler.
func (p *parts) UnmarshalJSON(b []byte) error {
	*p = parts{}
	return p.add(b, 0)
}

// add appends the text and the reasoning in a value: a string, a part, or a list of them.
func (p *parts) add(b []byte, depth int) error {
	if depth > maxNesting {
		return nil
	}
	switch jsontext.Value(b).Kind() {
	case '"':
		var s string
		err := json.Unmarshal(b, &s, lenient)
		p.text += s
		return err
	case '[':
		var list []jsontext.Value
		if err := json.Unmarshal(b, &list, lenient); err != nil {
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
func (p *parts) addPart(b []byte, depth int) error {
	var fields struct {
		Type     jsontext.Value `json:"type"`
		Text     jsontext.Value `json:"text"`
		Content  jsontext.Value `json:"content"`
		Thinking jsontext.Value `json:"thinking"`
	}
	if err := json.Unmarshal(b, &fields, lenient); err != nil {
		return err
	}
	var content, thought parts
	for to, values := range map[*parts][]jsontext.Value{&content: {fields.Text, fields.Content}, &thought: {fields.Thinking}} {
		for _, v := range values {
			if err := to.add(v, depth+1); err != nil {
				return err
			}
		}
	}
	kind := strings.ToLower(string(fields.Type))
	if strings.Contains(kind, "think") || strings.Contains(kind, "reason") {
		thought.text += content.text
		content.text = ""
	}
	p.text += content.text
	p.thoughts += thought.text + thought.thoughts + content.thoughts
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *message) UnmarshalJSON(b []byte) error {
	if jsontext.Value(b).Kind() != '{' {
		return nil
	}
	type plain message
	m.there = true
	return json.Unmarshal(b, (*plain)(m), lenient)
}

// usage also has the names of Anthropic and Bedrock, which some gateways leave in.
type usage struct {
	PromptTokens     number `json:"prompt_tokens"`
	CompletionTokens number `json:"completion_tokens"`
	InputTokens      number `json:"input_tokens"`
	OutputTokens     number `json:"output_tokens"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (u *usage) UnmarshalJSON(b []byte) error {
	if jsontext.Value(b).Kind() != '{' {
		return nil
	}
	type plain usage
	err := json.Unmarshal(b, (*plain)(u), lenient)
	if !u.PromptTokens.there && !u.CompletionTokens.there {
		u.PromptTokens, u.CompletionTokens = u.InputTokens, u.OutputTokens
	}
	return err
}

// number is a number, as itself or in a string. Everything else counts as not there.
type number struct {
	value float64
	there bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number{}
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.Trim(string(b), `"`)), 64)
	if err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
		*n = number{v, true}
	}
	return nil
}

// tokens returns the count, or 0 for unknown if the count is implausible.
func (n number) tokens() int {
	if n.value < 0 || n.value > maxTokens {
		return 0
	}
	return int(n.value)
}
