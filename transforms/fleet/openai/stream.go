package openai

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/openai/lenient"
	"coeval/transforms/fleet/openai/logprobs"
	"coeval/transforms/stage"
)

// An event is one part of a stream.
type event struct {
	Choices []struct {
		Index        lenient.Number `json:"index"`
		Delta        message        `json:"delta"`
		Message      message        `json:"message"` // of servers that send everything in one event
		Text         lenient.Text   `json:"text"`
		FinishReason lenient.Text   `json:"finish_reason"`
		Usage        usage          `json:"usage"` // of Moonshot

		LogProbs jsontext.Value `json:"logprobs"`
	} `json:"choices"`
	Usage usage          `json:"usage"`
	Error jsontext.Value `json:"error"`
}

// streamed collects the parts of one choice.
type streamed struct {
	index                       int
	content, thoughts           []byte
	reasoningContent, reasoning []byte
	refusal                     []byte
	finish                      lenient.Text
	logProbs                    jsontext.Value // of the first token
}

// isStream reports whether a body begins like server-sent events, and not like JSON.
func isStream(body []byte) bool {
	body = bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n")
	for _, field := range []string{"data:", "event:", "id:", "retry:", ":"} {
		if bytes.HasPrefix(body, []byte(field)) {
			return true
		}
	}
	return false
}

// DecodeStream reads a 200 of server-sent events, as [Decode] reads one body. Every choice must have
// a finish reason, unless the stream ends with [DONE].
func DecodeStream(body []byte, n int) ([]schemas.Generation, []bool, *fault.Fault) {
	return DecodeReadStream(body, n, nil)
}

// DecodeReadStream is DecodeStream for an answer to a read; see [DecodeRead].
func DecodeReadStream(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *fault.Fault) {
	var choices []*streamed
	var used usage
	done, events := false, 0
	for line := range bytes.Lines(body) {
		data, ok := bytes.CutPrefix(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")), []byte("data:"))
		if data = bytes.TrimSpace(data); !ok || len(data) == 0 {
			continue
		}
		if string(data) == "[DONE]" {
			done = true
			break
		}
		var d event
		if lenient.Unmarshal(data, &d) != nil {
			return nil, nil, &fault.Fault{Kind: fault.Broken, Code: fault.CodeMalformed, Message: "an event of the stream is not the JSON of a chat completion: " + fault.Excerpt(data)}
		}
		if flt := fault.In(data, d.Error, len(d.Choices) > 0); flt != nil {
			return nil, nil, flt
		}
		events++
		if d.Usage.PromptTokens.There || d.Usage.CompletionTokens.There {
			used = d.Usage
		}
		for _, part := range d.Choices {
			if part.Usage.CompletionTokens.There {
				used = part.Usage
			}
		}
		choices = d.addTo(choices, n)
	}
	if events == 0 {
		if isStream(body) {
			return nil, nil, &fault.Fault{Kind: fault.NoChoice, Code: fault.CodeMalformed, Message: "a stream without an event: " + fault.Excerpt(body)}
		}
		return DecodeRead(body, n, read) // one body, in spite of its header
	}
	whole := response{Usage: used}
	for _, c := range choices {
		if c.finish == "" && !done {
			return nil, nil, &fault.Fault{Kind: fault.Broken, Code: fault.CodeMalformed, Message: "the stream broke off after: " + fault.Excerpt(body[max(0, len(body)-200):])}
		}
		whole.Choices = append(whole.Choices, choice{Index: lenient.Number{Value: float64(c.index), There: true}, FinishReason: c.finish, LogProbs: c.logProbs, Message: message{
			there: true, Content: lenient.Parts{Text: string(c.content), Thoughts: string(c.thoughts)},
			ReasoningContent: lenient.Text(c.reasoningContent), Reasoning: lenient.Text(c.reasoning), Refusal: lenient.Text(c.refusal),
		}})
	}
	generations, has := whole.generations(n, read)
	if !slices.Contains(has, true) {
		return nil, nil, &fault.Fault{Kind: fault.NoChoice, Code: fault.CodeMalformed, Message: "a stream without a choice: " + fault.Excerpt(body)}
	}
	return generations, has, nil
}

// addTo appends an event's parts to the choices with an index below n.
func (d *event) addTo(choices []*streamed, n int) []*streamed {
	for _, part := range d.Choices {
		index := part.Index.Tokens()
		if n == 1 {
			index = 0
		}
		if index >= n {
			continue
		}
		i := slices.IndexFunc(choices, func(c *streamed) bool { return c.index == index })
		if i < 0 {
			i = len(choices)
			choices = append(choices, &streamed{index: index})
		}
		c := choices[i]
		for _, m := range []*message{&part.Delta, &part.Message} {
			c.content = append(c.content, m.Content.Text...)
			c.thoughts = append(c.thoughts, m.Content.Thoughts...)
			c.reasoningContent = append(c.reasoningContent, m.ReasoningContent...)
			c.reasoning = append(append(c.reasoning, m.Reasoning...), m.Thinking...)
			c.refusal = append(c.refusal, m.Refusal...)
		}
		c.content = append(c.content, part.Text...)
		if c.logProbs == nil && len(logprobs.First(part.LogProbs)) > 0 {
			c.logProbs = part.LogProbs
		}
		if part.FinishReason != "" {
			c.finish = part.FinishReason
		}
	}
	return choices
}
