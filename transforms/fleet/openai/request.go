// Package openai implements the OpenAI-compatible protocol of inference servers: it writes chat
// requests and reads answers, errors, model lists and metrics pages.
//
// It does no I/O and has no state. Its input comes from servers that may be broken or hostile, so every
// reader is bounded and fuzzed. Readers ignore fields that Coeval does not use. A used field of an unexpected
// type counts as missing. For example, an answer whose field "usage" is broken is still an answer.
//
// The packages below it do a part each. Package lenient decodes JSON whose fields may have any type. Package fault
// classifies error answers. Package logprobs writes and reads requests for the probabilities of the next token.
package openai

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// Paths below an endpoint's base URL, which mostly ends in /v1.
const (
	CompletionsPath = "/chat/completions"
	ModelsPath      = "/models"
)

// A Request is one POST to [CompletionsPath].
type Request struct {
	Role     *stage.Role
	Messages []schemas.Message
	// N is the number of choices.
	N    int
	Seed int64
	// Constraint has the fields that enforce a verdict or ask for a read, each after a comma. See
	// [Constraint] and [logprobs.Form].
	Constraint string
	// CompletionTokens sends the bound as max_completion_tokens instead of max_tokens.
	CompletionTokens bool
	// Stream asks for server-sent events instead of one body.
	Stream bool
}

// AppendBody appends the JSON of a request to b. It returns an error if a text is not valid UTF-8.
//
// Fields of the role come first: they are equal in all requests of a role.
func AppendBody(b []byte, q *Request) ([]byte, error) {
	r := q.Role
	b = append(b, `{"model":`...)
	var err error
	if b, err = jsontext.AppendQuote(b, r.Model); err != nil {
		return nil, fmt.Errorf("openai: model %q: %w", r.Model, err)
	}
	if r.Sends(stage.Temperature) {
		b = strconv.AppendFloat(append(b, `,"temperature":`...), r.Temperature, 'g', -1, 64)
	}
	if r.Sends(stage.TopP) {
		b = strconv.AppendFloat(append(b, `,"top_p":`...), r.TopP, 'g', -1, 64)
	}
	if r.MaxTokens > 0 {
		name := `,"max_tokens":`
		if q.CompletionTokens {
			name = `,"max_completion_tokens":`
		}
		b = strconv.AppendInt(append(b, name...), int64(r.MaxTokens), 10)
	}
	if len(r.Stop) > 0 {
		stop, err := json.Marshal(r.Stop)
		if err != nil {
			return nil, fmt.Errorf("openai: stop of %s: %w", r.Name, err)
		}
		b = append(append(b, `,"stop":`...), stop...)
	}
	if extra := strings.TrimSpace(r.ExtraBody); len(extra) > len("{}") {
		b = append(append(b, ','), strings.TrimSuffix(strings.TrimPrefix(extra, "{"), "}")...)
	}
	b = append(b, q.Constraint...)
	if q.N > 1 {
		b = strconv.AppendInt(append(b, `,"n":`...), int64(q.N), 10)
	}
	if r.Sends(stage.Seed) {
		b = strconv.AppendInt(append(b, `,"seed":`...), q.Seed, 10)
	}
	if q.Stream {
		b = append(b, `,"stream":true,"stream_options":{"include_usage":true}`...)
	}
	return appendMessages(append(b, `,"messages":[`...), q.Messages)
}

func appendMessages(b []byte, messages []schemas.Message) ([]byte, error) {
	var err error
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = jsontext.AppendQuote(append(b, `{"role":`...), m.Role); err != nil {
			return nil, fmt.Errorf("openai: role of message %d: %w", i, err)
		}
		if b, err = jsontext.AppendQuote(append(b, `,"content":`...), m.Content); err != nil {
			return nil, fmt.Errorf("openai: message %d: %w", i, err)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...), nil
}
