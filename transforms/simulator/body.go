package simulator

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"coeval/schemas"
	"coeval/schemas/lean"
)

// A request is the body of a chat completion, as far as it matters here.
type request struct {
	messages  []schemas.Message
	model     string
	n         int
	seed      int64
	maxTokens int
	stop      []string
	stream    bool
	logprobs  bool
	// constraints are the fields that bind the text, as they came.
	constraints map[string]string
	// sampling is a hash of all other fields, in whatever order they came.
	sampling uint64
}

// maxChoices bounds n where Options.MaxN doesn't.
const maxChoices = 1024

var errNoMessages = errors.New("messages must be a list with at least one message")

// parseRequest reads a body in one pass. Fields that it doesn't know only count for the
// request's identity. Errors are sentences for the one who sent the body.
func parseRequest(body []byte) (request, error) {
	req := request{n: 1}
	if !utf8.Valid(body) {
		return req, errors.New("the body is no valid UTF-8")
	}
	p := lean.New(string(body))
	if p.Peek() != '{' {
		return req, errors.New("the body must be a JSON object")
	}
	if err := p.Object(func(name string) error { return req.field(&p, name) }); err != nil {
		return req, err
	}
	if !p.Done() {
		return req, errors.New("the body goes on after its JSON object")
	}
	if len(req.messages) == 0 {
		return req, errNoMessages
	}
	return req, nil
}

// field reads the value of one field of the body.
func (req *request) field(p *lean.Parser, name string) error {
	switch name {
	case "messages":
		return req.readMessages(p)
	case "model":
		return readText(p, name, &req.model)
	case "stop":
		p.Peek()
		start := p.Offset()
		err := req.readStop(p)
		req.sampling += sampled(name, p.Since(start))
		return err
	}
	value, err := p.Raw()
	if err != nil {
		return err
	}
	switch name {
	case "n":
		req.n, err = readInt(name, value, 1)
	case "seed":
		req.seed, err = readInt(name, value, int64(0))
	case "stream":
		req.stream = value == "true"
	case "logprobs": // changes no text
		req.logprobs = value == "true"
	case "max_tokens", "max_completion_tokens":
		req.sampling += sampled("max_tokens", value)
		req.maxTokens, err = readInt(name, value, 0)
		if err == nil && req.maxTokens < 1 && value != "null" {
			return fmt.Errorf("%s must be at least 1, got %d", name, req.maxTokens)
		}
	default:
		req.sampling += sampled(name, value)
		if isConstraint(name) && value != "null" {
			if req.constraints == nil {
				req.constraints = map[string]string{}
			}
			req.constraints[name] = value
		}
	}
	return err
}

// sampled hashes one field. Sums of it don't depend on the order of the fields.
func sampled(name, value string) uint64 {
	return mix(xxhash.Sum64String(name) ^ mix(xxhash.Sum64String(value)))
}

// readInt returns null as the value that an absent field has.
func readInt[T int | int64](name, value string, absent T) (T, error) {
	if value == "null" {
		return absent, nil
	}
	i, err := strconv.ParseInt(value, 10, 64)
	if err != nil || int64(T(i)) != i {
		return 0, fmt.Errorf("%s must be an integer", name)
	}
	return T(i), nil
}

// readText reads a string, and null as none.
func readText(p *lean.Parser, name string, to *string) (err error) {
	switch p.Peek() {
	case '"':
		*to, err = p.Text()
		return err
	case 'n':
		*to = ""
		return p.Word("null")
	default:
		return fmt.Errorf("%s must be a string", name)
	}
}

// readStop reads null, a string or a list of strings. Empty strings stop nothing.
func (req *request) readStop(p *lean.Parser) error {
	req.stop = nil
	add := func() error {
		var s string
		err := readText(p, "stop", &s)
		if s != "" {
			req.stop = append(req.stop, s)
		}
		return err
	}
	if p.Peek() == '[' {
		return p.Array(add)
	}
	return add()
}

func (req *request) readMessages(p *lean.Parser) error {
	req.messages = nil
	if c := p.Peek(); c != '[' && c != 0 {
		return errNoMessages
	}
	return p.Array(func() error {
		if c := p.Peek(); c != '{' && c != 0 {
			return errors.New("each message must be an object")
		}
		m, err := readMessage(p)
		req.messages = append(req.messages, m)
		return err
	})
}

func readMessage(p *lean.Parser) (m schemas.Message, err error) {
	err = p.Object(func(name string) error {
		switch name {
		case "role":
			return readText(p, name, &m.Role)
		case "content":
			return readContent(p, &m.Content)
		default:
			return p.Skip()
		}
	})
	if err == nil && m.Role == "" {
		err = errors.New("each message must have a role")
	}
	return m, err
}

// readContent reads a string, null, or a list of parts, whose texts it joins.
func readContent(p *lean.Parser, to *string) error {
	if p.Peek() != '[' {
		return readText(p, "content", to)
	}
	var texts []string
	err := p.Array(func() error {
		var text string
		if c := p.Peek(); c != '{' && c != 0 {
			return errors.New("each part of content must be an object")
		}
		err := p.Object(func(name string) error {
			if name == "text" {
				return readText(p, name, &text)
			}
			return p.Skip()
		})
		texts = append(texts, text)
		return err
	})
	*to = strings.Join(texts, "\n")
	return err
}

// stopAt ends a choice before the first of the stop strings.
func (c *Choice) stopAt(stop []string) {
	at := -1
	for _, s := range stop {
		if i := strings.Index(c.Text, s); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		c.Text, c.FinishReason = c.Text[:at], "stop"
		c.Tokens = tokens(len(c.Reasoning) + at)
	}
}

// created is the time that every answer claims, so that equal requests get equal bodies.
const created = 1735689600

// appendAnswer writes the body of a whole answer. Fault is "" or one that changes the contents.
func appendAnswer(b []byte, id uint64, req *request, q *Question, choices []Choice, fault Fault) []byte {
	b = append(b, `{"id":"chatcmpl-`...)
	b = appendHex(b, id, 16)
	b = append(b, `","object":"chat.completion","created":`...)
	b = strconv.AppendInt(b, created, 10)
	b = append(b, `,"model":`...)
	b = appendQuoted(b, req.model)
	b = append(b, `,"choices":[`...)
	completion := 0
	for i := range choices {
		completion += choices[i].Tokens
		if i > 0 {
			b = append(b, ',')
		}
		b = appendChoice(b, i, &choices[i], fault, req.logprobs, q)
	}
	b = append(b, `],"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, int64(q.PromptTokens), 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, int64(completion), 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, int64(q.PromptTokens+completion), 10)
	return append(b, `}}`...)
}

func appendChoice(b []byte, index int, c *Choice, fault Fault, logprobs bool, q *Question) []byte {
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, int64(index), 10)
	b = append(b, `,"message":{"role":"assistant","content":`...)
	switch fault {
	case FaultEmpty:
		b = append(b, `""`...)
	case FaultNull, FaultFilter:
		b = append(b, `null`...)
	case FaultUTF8:
		b = append(b, '"', 0xff)
		b = append(b, appendQuoted(nil, strings.TrimPrefix(c.Text, "\uFFFD"))[1:]...)
	default:
		b = appendQuoted(b, c.Text)
	}
	if c.Reasoning != "" {
		b = append(b, `,"reasoning_content":`...)
		b = appendQuoted(b, c.Reasoning)
	}
	b = append(b, `},"logprobs":`...)
	if logprobs {
		b = appendLogprobs(b, q, c)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"finish_reason":"`...)
	if fault == FaultFilter {
		b = append(b, "content_filter"...)
	} else {
		b = append(b, c.FinishReason...)
	}
	return append(b, `"}`...)
}

// appendQuoted writes s as a JSON string. What is no UTF-8 becomes the replacement
// character.
func appendQuoted(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s)) // one for each byte
	}
	return lean.AppendQuoted(b, s)
}
