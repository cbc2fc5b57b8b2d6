package openai

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// An event is one part of a stream.
type event struct {
	Choices []struct {
		Index        number  `json:"index"`
		Delta        message `json:"delta"`
		Message      message `json:"message"` // of servers that send everything in one event
		Text         text    `json:"text"`
		FinishReason text    `json:"finish_reason"`
		Usage        usage   `json:"usage"` // of Moonshot

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
	finish                      text
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
func DecodeStream(body []byte, n int) ([]schemas.Generation, []bool, *Fault) {
	return DecodeReadStream(body, n, nil)
}

// DecodeReadStream is DecodeStream for an answer to a read; see [DecodeRead].
func DecodeReadStream(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *Fault) {
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
		if unmarshal(data, &d) != nil {
			return nil, nil, &Fault{Kind: Broken, Code: CodeMalformed, Message: "an event of the stream is not the JSON of a chat completion: " + excerpt(data)}
		}
		if flt := errorIn(&response{Choices: make([]choice, len(d.Choices)), Error: d.Error}, data); flt != nil {
			return nil, nil, flt
		}
		events++
		if d.Usage.PromptTokens.there || d.Usage.CompletionTokens.there {
			used = d.Usage
		}
		for _, part := range d.Choices {
			if part.Usage.CompletionTokens.there {
				used = part.Usage
			}
		}
		choices = d.addTo(choices, n)
	}
	if events == 0 {
		if isStream(body) {
			return nil, nil, &Fault{Kind: NoChoice, Code: CodeMalformed, Message: "a stream without an event: " + excerpt(body)}
		}
		return DecodeRead(body, n, read) // one body, in spite of its header
	}
	whole := response{Usage: used}
	for _, c := range choices {
		if c.finish == "" && !done {
			return nil, nil, &Fault{Kind: Broken, Code: CodeMalformed, Message: "the stream broke off after: " + excerpt(body[max(0, len(body)-200):])}
		}
		whole.Choices = append(whole.Choices, choice{Index: number{float64(c.index), true}, FinishReason: c.finish, LogProbs: c.logProbs, Message: message{
			there: true, Content: parts{string(c.content), string(c.thoughts)},
			ReasoningContent: text(c.reasoningContent), Reasoning: text(c.reasoning), Refusal: text(c.refusal),
		}})
	}
	generations, has := whole.generations(n, read)
	if !slices.Contains(has, true) {
		return nil, nil, &Fault{Kind: NoChoice, Code: CodeMalformed, Message: "a stream without a choice: " + excerpt(body)}
	}
	return generations, has, nil
}

// addTo appends an event's parts to the choices with an index below n.
func (d *event) addTo(choices []*streamed, n int) []*streamed {
	for _, part := range d.Choices {
		index := part.Index.tokens()
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
			c.content = append(c.content, m.Content.text...)
			c.thoughts = append(c.thoughts, m.Content.thoughts...)
			c.reasoningContent = append(c.reasoningContent, m.ReasoningContent...)
			c.reasoning = append(append(c.reasoning, m.Reasoning...), m.Thinking...)
			c.refusal = append(c.refusal, m.Refusal...)
		}
		c.content = append(c.content, part.Text...)
		if c.logProbs == nil && len(tokensOf(part.LogProbs)) > 0 {
			c.logProbs = part.LogProbs
		}
		if part.FinishReason != "" {
			c.finish = part.FinishReason
		}
	}
	return choices
}
