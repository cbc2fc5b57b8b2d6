package infer

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/schemas/lean"
	"coeval/transforms/fleet/pacing"
)

// appendBody renders POST /chat/completions. The role's own fields come first: they are the
// same in every request of a role. So is the constraint: fields after a comma, or nothing.
func appendBody(b []byte, r *Role, messages []schemas.Message, n int, seed int64, constraint string) ([]byte, error) {
	size := 512 + len(constraint)
	for _, m := range messages {
		size += len(m.Content) + len(m.Content)/16 + 32
	}
	b = append(slices.Grow(b, size), `{"model":`...)
	var err error
	if b, err = jsontext.AppendQuote(b, r.Model); err != nil {
		return nil, fmt.Errorf("infer: model %q: %w", r.Model, err)
	}
	b = strconv.AppendFloat(append(b, `,"temperature":`...), r.Temperature, 'g', -1, 64)
	b = strconv.AppendFloat(append(b, `,"top_p":`...), r.TopP, 'g', -1, 64)
	if r.MaxTokens > 0 {
		b = strconv.AppendInt(append(b, `,"max_tokens":`...), int64(r.MaxTokens), 10)
	}
	if len(r.Stop) > 0 {
		stop, err := json.Marshal(r.Stop)
		if err != nil {
			return nil, fmt.Errorf("infer: stop of %s: %w", r.Name, err)
		}
		b = append(append(b, `,"stop":`...), stop...)
	}
	if extra := strings.TrimSpace(r.ExtraBody); len(extra) > len("{}") {
		b = append(append(b, ','), strings.TrimSuffix(strings.TrimPrefix(extra, "{"), "}")...)
	}
	b = append(b, constraint...)
	if n > 1 {
		b = strconv.AppendInt(append(b, `,"n":`...), int64(n), 10)
	}
	b = strconv.AppendInt(append(b, `,"seed":`...), seed, 10)
	return appendMessages(append(b, `,"messages":`...), messages)
}

func appendMessages(b []byte, messages []schemas.Message) ([]byte, error) {
	var err error
	for i, m := range messages {
		b = append(b, "[,"[min(i, 1)])
		if b, err = appendQuoted(append(b, `{"role":`...), m.Role); err != nil {
			return nil, fmt.Errorf("infer: role of message %d: %w", i, err)
		}
		if b, err = appendQuoted(append(b, `,"content":`...), m.Content); err != nil {
			return nil, fmt.Errorf("infer: message %d: %w", i, err)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...), nil
}

// appendQuoted appends a JSON string, or says what is wrong with it.
func appendQuoted(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return jsontext.AppendQuote(b, s)
	}
	return lean.AppendQuoted(b, s), nil
}

// response is what of POST /chat/completions is read. Null is "" and 0.
type response struct {
	Choices []choice       `json:"choices"`
	Usage   *tokens        `json:"usage"`
	Error   jsontext.Value `json:"error"`
}

type choice struct {
	Index        int      `json:"index"`
	Message      *message `json:"message"`
	FinishReason string   `json:"finish_reason"`
}

type message struct {
	Content          string `json:"content"`
	ReasoningContent string `json:"reasoning_content"`
	Reasoning        string `json:"reasoning"`
	Refusal          string `json:"refusal"`
}

type tokens struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// generations returns one generation for each index below n that the response has, and whether
// it has it.
func (r *response) generations(n int) ([]schemas.Generation, []bool) {
	out, has := make([]schemas.Generation, n), make([]bool, n)
	for _, c := range r.Choices {
		if c.Index < 0 || c.Index >= n || has[c.Index] || c.Message == nil {
			continue
		}
		switch c.FinishReason {
		case "abort", "error": // the server gave up: vLLM, SGLang and gateways that lose their server
			continue
		}
		g := &out[c.Index]
		has[c.Index] = true
		if c.FinishReason == CodeContentFilter {
			g.Code, g.Message = CodeContentFilter, "the server's content filter withheld the text"
			continue
		}
		g.Text, g.FinishReason = c.Message.Content, c.FinishReason
		g.Reasoning = cmp.Or(c.Message.ReasoningContent, c.Message.Reasoning)
		if c.Message.Refusal != "" && g.Text == "" {
			g.Text, g.FinishReason = c.Message.Refusal, "refusal"
		}
		if r.Usage != nil {
			g.PromptTokens = max(r.Usage.PromptTokens, 0)
			g.CompletionTokens = share(max(r.Usage.CompletionTokens, 0), len(r.Choices), c.Index)
		}
	}
	return out, has
}

// share splits total over n choices as evenly as whole tokens allow: no server tells more.
func share(total, n, i int) int {
	s := total / n
	if i < total%n {
		s++
	}
	return s
}

// usage returns the tokens of one answer: those of its prompt, which every choice tells, and
// those of all choices.
func usage(generations []schemas.Generation) (prompt, completion int) {
	for i := range generations {
		prompt = max(prompt, generations[i].PromptTokens)
		completion += generations[i].CompletionTokens
	}
	return prompt, completion
}

// treatment is what the client does about an answer.
type treatment int

const (
	retry  treatment = iota // the worker failed: ask again, up to a budget
	full                    // the worker has no room: ask again later
	refuse                  // the call can never succeed: a failure record
	stop                    // nothing can succeed: the run ends
)

// fault is an answer that is no generation.
type fault struct {
	treatment treatment
	// code is what a failure record says when this is the end of it.
	code    string
	message string
	// after is how long the worker asks to wait; 0 when it doesn't say.
	after time.Duration
	// dial says that there was no connection.
	dial bool
}

// The codes of failed calls.
const (
	CodeContextLength = "context_length"
	CodeContentFilter = "content_filter"
	CodeBadRequest    = "bad_request"
	CodeTooLarge      = "too_large"
	CodeServerError   = "server_error"
	CodeTimeout       = "timeout"
	CodeConnection    = "connection"
	CodeMalformed     = "malformed"
)

// decodeResponse reads a 200. Choices may be fewer than asked for; none at all is a fault.
func decodeResponse(body []byte, n int) ([]schemas.Generation, []bool, *fault) {
	r, err := readResponse(body)
	if err != nil {
		return nil, nil, &fault{treatment: retry, code: CodeMalformed, message: "the body is not the JSON of a chat completion: " + excerpt(body)}
	}
	if len(r.Error) > 0 && r.Error.Kind() != 'n' {
		return nil, nil, &fault{treatment: retry, code: CodeServerError, message: "200 with an error: " + excerpt(r.Error)}
	}
	generations, has := r.generations(n)
	for _, ok := range has {
		if ok {
			return generations, has, nil
		}
	}
	return nil, nil, &fault{treatment: retry, code: CodeMalformed, message: "200 without a choice: " + excerpt(body)}
}

func readResponse(body []byte) (response, error) {
	if r, ok := quickResponse(body); ok {
		return r, nil
	}
	var r response
	err := json.Unmarshal(body, &r, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	return r, err
}

// classify says what to do about a status that is not 200.
func classify(status int, header http.Header, body []byte) *fault {
	f := &fault{message: fmt.Sprintf("%d %s: %s", status, http.StatusText(status), excerpt(body))}
	switch {
	case status == http.StatusServiceUnavailable && lost(body):
		f.treatment, f.code = retry, CodeServerError
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusRequestTimeout:
		// The code is for one that is turned away for ever.
		f.treatment, f.code, f.after = full, CodeServerError, pacing.RetryAfter(header, time.Now())
	case status == http.StatusForbidden && filtered(body):
		f.treatment, f.code = refuse, CodeContentFilter
	case status < 400, status >= 401 && status <= 405:
		f.treatment = stop // a redirect, no or a wrong key, nothing paid, no such model, a wrong path
	case status == http.StatusRequestEntityTooLarge:
		f.treatment, f.code = refuse, CodeTooLarge
	case status >= 500 && !tooLong(body):
		f.treatment, f.code = retry, CodeServerError
	case noModel(body):
		f.treatment = stop
	case tooLong(body):
		f.treatment, f.code = refuse, CodeContextLength
	case filtered(body):
		f.treatment, f.code = refuse, CodeContentFilter
	default:
		f.treatment, f.code = refuse, CodeBadRequest
	}
	return f
}

// tooLong recognises a context that is exceeded, as llama.cpp, vLLM, SGLang, OpenAI and others
// say it, some of them with a 500.
func tooLong(body []byte) bool {
	s := complaint(body)
	for _, sign := range []string{
		"exceed_context_size_error", "context_length_exceeded", "maximum context length",
		"longer than the model's context length", "context window", "max_new_tokens` must be <=", "prompt is too long",
		"requested tokens exceed", "exceeds the available context size", "context length is only", "maximum model length",
	} {
		if strings.Contains(s, sign) {
			return true
		}
	}
	return false
}

// complaint returns what a server says is wrong, in lower case: of a JSON object what it calls
// message, code or type, as some say back in others what they were asked.
func complaint(body []byte) string {
	var said struct {
		Error jsontext.Value `json:"error"`
		reproach
	}
	relaxed := []json.Options{jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)}
	if json.Unmarshal(body, &said, relaxed...) != nil {
		return strings.ToLower(string(body[:min(len(body), 4096)]))
	}
	inner := said.reproach
	if said.Error.Kind() == '{' && json.Unmarshal(said.Error, &inner, relaxed...) != nil {
		return strings.ToLower(string(said.Error))
	}
	parts := []string{string(inner.Message), string(inner.Code), string(inner.Type), string(inner.Detail)}
	if said.Error.Kind() == '"' {
		parts = append(parts, string(said.Error))
	}
	return strings.ToLower(strings.Join(parts, " "))
}

// reproach is how servers say what is wrong: any of it may be a string, a number or nothing.
type reproach struct {
	Message text `json:"message"`
	Code    text `json:"code"`
	Type    text `json:"type"`
	Detail  text `json:"detail"`
}

// text is a string, or nothing where something else stands.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if jsontext.Value(b).Kind() != '"' {
		return nil
	}
	return json.Unmarshal(b, (*string)(t), jsontext.AllowInvalidUTF8(true))
}

// filtered recognises a prompt that a hosted API will not have answered.
func filtered(body []byte) bool {
	s := complaint(body)
	return strings.Contains(s, "content_filter") || strings.Contains(s, "content_policy")
}

// lost recognises a 503 with which Envoy, and the gateways made of it, say that the server closed
// the connection on which it had the request: it isn't full, but may have died of it.
func lost(body []byte) bool {
	s := complaint(body)
	return strings.Contains(s, "reset reason: connection termination") || strings.Contains(s, "reset reason: remote reset")
}

// noModel recognises a refusal of the model itself, for which some servers have no 404.
func noModel(body []byte) bool {
	s := complaint(body)
	for _, sign := range []string{"model_not_found", "model not found", "invalid model", "unknown model"} {
		if strings.Contains(s, sign) {
			return true
		}
	}
	return false
}

// excerpt shows the start of what a server said, on one line.
func excerpt(b []byte) string {
	const most = 300
	s := strings.ToValidUTF8(string(b[:min(len(b), most)]), "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(b) > most {
		s += "…"
	}
	if s == "" {
		return "(an empty body)"
	}
	return s
}
