package openai

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/openai/lenient"
	"coeval/transforms/fleet/openai/logprobs"
	"coeval/transforms/stage"
)

// response contains the fields of an answer that are read. Any of them may have any JSON type.
type response struct {
	Choices []choice       `json:"choices"`
	Usage   usage          `json:"usage"`
	Error   jsontext.Value `json:"error"`
}

type choice struct {
	Index        lenient.Number `json:"index"`
	Message      message        `json:"message"`
	Delta        message        `json:"delta"` // of gateways that answer with the one chunk of a stream
	Text         lenient.Text   `json:"text"`  // of servers that answer a chat as a completion
	FinishReason lenient.Text   `json:"finish_reason"`
	// Error is for the message of an abandoned choice.
	Error jsontext.Value `json:"error"`
	// LogProbs is decoded for reads alone.
	LogProbs jsontext.Value `json:"logprobs"`
}

type message struct {
	there            bool
	Content          lenient.Parts `json:"content"`
	ReasoningContent lenient.Text  `json:"reasoning_content"`
	Reasoning        lenient.Text  `json:"reasoning"`
	Thinking         lenient.Text  `json:"thinking"`
	Refusal          lenient.Text  `json:"refusal"`
}

// NoJSON begins the message about a 200 whose body is not JSON, for example a web page.
const NoJSON = "the body is not the JSON of a chat completion"

// Decode reads the body of a 200 that was to have n choices. It returns a generation for each index
// that the answer has, and reports which indices those are. An answer with an error, or without
// any choice, is a fault.
func Decode(body []byte, n int) ([]schemas.Generation, []bool, *fault.Fault) {
	return DecodeRead(body, n, nil)
}

// DecodeRead is Decode for an answer to a read, whose generations have the labels' log-probabilities.
// Read is nil for texts.
func DecodeRead(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *fault.Fault) {
	var r response
	if err := lenient.Unmarshal(body, &r); err != nil {
		if first := firstValue(body); first != nil && lenient.Unmarshal(first, &r) == nil && len(r.Choices) > 0 {
			return DecodeRead(first, n, read)
		}
		if isStream(body) { // in spite of its header
			return DecodeReadStream(body, n, read)
		}
		return nil, nil, &fault.Fault{Kind: fault.Broken, Code: fault.CodeMalformed, Message: NoJSON + ": " + fault.Excerpt(body)}
	}
	if flt := fault.In(body, r.Error, len(r.Choices) > 0); flt != nil {
		return nil, nil, flt
	}
	generations, has := r.generations(n, read)
	if !slices.Contains(has, true) {
		kind := fault.NoChoice
		if len(r.Choices) > 0 { // the server abandoned them
			kind = fault.Broken
		}
		if flt := r.abandoned(); flt != nil {
			return nil, nil, flt
		}
		return nil, nil, &fault.Fault{Kind: kind, Code: fault.CodeMalformed, Message: "200 without a choice: " + fault.Excerpt(body)}
	}
	return generations, has, nil
}

// Reported returns the tokens that an answer reports for the first place of its text.
func Reported(body []byte) []stage.TokenLogProb {
	var r response
	if lenient.Unmarshal(body, &r) != nil || len(r.Choices) == 0 {
		return nil
	}
	return logprobs.First(r.Choices[0].LogProbs)
}

// Written returns the tokens of a text as an answer's log-probabilities list them.
func Written(body []byte) []string {
	var r response
	if lenient.Unmarshal(body, &r) != nil || len(r.Choices) == 0 {
		return nil
	}
	return logprobs.Written(r.Choices[0].LogProbs)
}

// abandoned returns the fault of an answer whose first choice the server abandoned, nil for another answer.
func (r *response) abandoned() *fault.Fault {
	if len(r.Choices) == 0 {
		return nil
	}
	c := &r.Choices[0]
	reason := c.FinishReason.Reason()
	if stage.FinishOf(reason) != stage.FinishAbandoned {
		return nil
	}
	message := "200 with the finish reason " + fault.Excerpt([]byte(reason)) + ", so without a text"
	if !fault.Empty(c.Error) {
		message += ": " + fault.Excerpt(c.Error)
	}
	return &fault.Fault{Kind: fault.Broken, Code: fault.CodeServerError, Message: message}
}

// firstValue returns the JSON object at the beginning of a body with something behind it, nil for another body.
func firstValue(body []byte) []byte {
	d := jsontext.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))), lenient.Options)
	value, err := d.ReadValue()
	if err != nil || value.Kind() != '{' {
		return nil
	}
	return bytes.Clone(value)
}

// generations returns one generation for each index below n, and whether the answer has it.
func (r *response) generations(n int, read *stage.Read) ([]schemas.Generation, []bool) {
	out, has := make([]schemas.Generation, n), make([]bool, n)
	positions, first := r.numbering(n)
	for i := range r.Choices {
		c := &r.Choices[i]
		at := c.Index.Value - first
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
		reason := c.FinishReason.Reason()
		kind := stage.FinishOf(reason)
		if kind == stage.FinishAbandoned {
			continue
		}
		has[k] = true
		if kind == stage.FinishFiltered {
			out[k] = schemas.Generation{Code: fault.CodeContentFilter, Message: "the server's content filter withheld the text (" + reason + ")"}
			continue
		}
		out[k] = c.generation()
		if read != nil {
			out[k].LogProbs = read.Sum(logprobs.First(c.LogProbs))
		}
		out[k].PromptTokens = r.Usage.PromptTokens.Tokens()
		out[k].CompletionTokens = share(r.Usage.CompletionTokens.Tokens(), len(r.Choices), k)
	}
	return out, has
}

// numbering reports whether the position of a choice replaces its index. Some gateways send 0 for all
// choices, no index at all, or an arbitrary index for a single choice. First is the index of the first
// choice: 1 if the server counts from 1.
func (r *response) numbering(n int) (positions bool, first float64) {
	if len(r.Choices) == 1 {
		return n == 1 || !r.Choices[0].Index.There, 0
	}
	lowest, highest := math.Inf(1), math.Inf(-1)
	for i := range r.Choices {
		lowest, highest = min(lowest, r.Choices[i].Index.Value), max(highest, r.Choices[i].Index.Value)
	}
	if lowest == 1 && highest == float64(n) {
		return false, 1
	}
	return lowest == 0 && highest == 0, 0
}

func (c *choice) generation() schemas.Generation {
	m := &c.Message
	g := schemas.Generation{
		Text: cmp.Or(m.Content.Text, string(c.Text)), FinishReason: c.FinishReason.Reason(),
		Reasoning: cmp.Or(string(m.ReasoningContent), string(m.Reasoning), string(m.Thinking), m.Content.Thoughts),
	}
	if m.Refusal != "" && g.Text == "" {
		g.Text, g.FinishReason = string(m.Refusal), stage.FinishRefusal
	}
	return g
}

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

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (m *message) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type plain message
	m.there = m.there || d.PeekKind() == '{'
	return lenient.Object(d, (*plain)(m))
}

// usage also has the names of Anthropic and Bedrock, which some gateways leave in.
type usage struct {
	PromptTokens     lenient.Number `json:"prompt_tokens"`
	CompletionTokens lenient.Number `json:"completion_tokens"`
	InputTokens      lenient.Number `json:"input_tokens"`
	OutputTokens     lenient.Number `json:"output_tokens"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (u *usage) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type plain usage
	if err := lenient.Object(d, (*plain)(u)); err != nil {
		return err
	}
	if !u.PromptTokens.There && !u.CompletionTokens.There {
		u.PromptTokens, u.CompletionTokens = u.InputTokens, u.OutputTokens
	}
	return nil
}
