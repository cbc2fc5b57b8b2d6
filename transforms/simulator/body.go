package simulator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// A request is the body of a chat completion, reduced to the fields that the simulator uses.
type request struct {
	messages  []schemas.Message
	model     string
	n         int
	seed      int64
	maxTokens int
	stop      []string
	stream    bool
	logprobs  bool
	// topLogprobs is the number of likely tokens to report, logprobIDs the tokens to report instead.
	topLogprobs int
	logprobIDs  []int64
	// generate is true for a request of SGLang's own API.
	generate bool
	// constraints are the fields that constrain the text, undecoded.
	constraints map[string]string
	// sampling is a hash of all other fields. It does not depend on their order.
	sampling uint64
}

// maxChoices bounds n when Options.MaxN does not.
const maxChoices = 1024

var errNoMessages = errors.New("messages must be a list with at least one message")

// parseRequest decodes a body. Fields that the simulator does not use only count for the request's
// identity. The client sees the errors.
func parseRequest(body []byte) (request, error) {
	req := request{n: 1}
	if !utf8.Valid(body) {
		return req, errors.New("the body is not valid UTF-8")
	}
	// Real servers accept repeated names and unpaired surrogates.
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if k := dec.PeekKind(); k != '{' && k != 0 {
		return req, errors.New("the body must be a JSON object")
	}
	if err := eachField(dec, func(name string) error { return req.field(dec, name) }); err != nil {
		if _, ok := errors.AsType[*jsontext.SyntacticError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return req, fmt.Errorf("the body is not valid JSON at byte %d", dec.InputOffset())
		}
		return req, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return req, errors.New("the body continues after its JSON object")
	}
	if len(req.messages) == 0 {
		return req, errNoMessages
	}
	return req, nil
}

// eachField reads an object and calls see with each name. The function must read the value.
func eachField(dec *jsontext.Decoder, see func(name string) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if err := see(name.String()); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// eachElement reads an array and calls see for each element. The function must read the element.
func eachElement(dec *jsontext.Decoder, see func() error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != ']' {
		if err := see(); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// field decodes the value of one field of the body.
func (req *request) field(dec *jsontext.Decoder, name string) error {
	switch name {
	case "messages":
		return req.readMessages(dec)
	case "model":
		return readText(dec, name, &req.model)
	}
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	value := string(raw)
	switch name {
	case "stop":
		req.sampling += sampled(name, value)
		return req.readStop(value)
	case "n":
		req.n, err = readInt(name, value, 1)
	case "seed":
		req.seed, err = readInt(name, value, int64(0))
	case "stream":
		req.stream = value == "true"
	case "logprobs": // changes no text
		req.logprobs = value == "true"
	case "top_logprobs": // nor does this
		req.topLogprobs, err = readInt(name, value, 0)
	case "logprob_token_ids":
		if json.Unmarshal(raw, &req.logprobIDs) != nil {
			return fmt.Errorf("%s must be a list of integers", name)
		}
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

// sampled hashes one field. A sum of hashes does not depend on the order of the fields.
func sampled(name, value string) uint64 {
	return world.Mix(xxhash.Sum64String(name) ^ world.Mix(xxhash.Sum64String(value)))
}

// readInt parses an integer. Null counts as an absent field.
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

// readText decodes a string. Null counts as the empty string.
func readText(dec *jsontext.Decoder, name string, to *string) error {
	if k := dec.PeekKind(); k != '"' && k != 'n' && k != 0 {
		return fmt.Errorf("%s must be a string", name)
	}
	token, err := dec.ReadToken()
	if err != nil {
		return err
	}
	*to = ""
	if token.Kind() == '"' {
		*to = token.String()
	}
	return nil
}

// readStop decodes null, a string or a list of strings. Empty strings stop no text.
func (req *request) readStop(value string) error {
	req.stop = nil
	dec := jsontext.NewDecoder(strings.NewReader(value), jsontext.AllowInvalidUTF8(true))
	add := func() error {
		var s string
		err := readText(dec, "stop", &s)
		if s != "" {
			req.stop = append(req.stop, s)
		}
		return err
	}
	if dec.PeekKind() == '[' {
		return eachElement(dec, add)
	}
	return add()
}

func (req *request) readMessages(dec *jsontext.Decoder) error {
	req.messages = nil
	if k := dec.PeekKind(); k != '[' && k != 0 {
		return errNoMessages
	}
	return eachElement(dec, func() error {
		if k := dec.PeekKind(); k != '{' && k != 0 {
			return errors.New("each message must be an object")
		}
		m, err := readMessage(dec)
		req.messages = append(req.messages, m)
		return err
	})
}

func readMessage(dec *jsontext.Decoder) (m schemas.Message, err error) {
	err = eachField(dec, func(name string) error {
		switch name {
		case "role":
			return readText(dec, name, &m.Role)
		case "content":
			return readContent(dec, &m.Content)
		default:
			return dec.SkipValue()
		}
	})
	if err == nil && m.Role == "" {
		err = errors.New("each message must have a role")
	}
	return m, err
}

// readContent decodes a string, null, or a list of parts, whose texts it joins.
func readContent(dec *jsontext.Decoder, to *string) error {
	if dec.PeekKind() != '[' {
		return readText(dec, "content", to)
	}
	var texts []string
	err := eachElement(dec, func() error {
		if k := dec.PeekKind(); k != '{' && k != 0 {
			return errors.New("each part of content must be an object")
		}
		var text string
		err := eachField(dec, func(name string) error {
			if name == "text" {
				return readText(dec, name, &text)
			}
			return dec.SkipValue()
		})
		texts = append(texts, text)
		return err
	})
	*to = strings.Join(texts, "\n")
	return err
}

// created is the time in every answer, constant so that equal requests get equal bodies.
const created = 1735689600

// appendAnswer writes the body of a complete answer. Fault is "" or a fault that changes the contents.
func appendAnswer(b []byte, id uint64, req *request, q *world.Question, choices []choice, fault Fault) []byte {
	b = append(b, `{"id":"chatcmpl-`...)
	b = fmt.Appendf(b, "%016x", id)
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

func appendChoice(b []byte, index int, c *choice, fault Fault, logprobs bool, q *world.Question) []byte {
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, int64(index), 10)
	b = append(b, `,"message":{"role":"assistant","content":`...)
	b = appendText(b, c, fault)
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

// appendText writes the text of a choice as JSON.
func appendText(b []byte, c *choice, fault Fault) []byte {
	switch fault {
	case FaultEmpty:
		return append(b, `""`...)
	case FaultNull, FaultFilter:
		return append(b, `null`...)
	case FaultUTF8:
		b = append(b, '"', 0xff)
		return append(b, appendQuoted(nil, strings.TrimPrefix(c.Text, "\uFFFD"))[1:]...)
	}
	return appendQuoted(b, c.Text)
}

// appendQuoted writes s as a JSON string. Each invalid byte becomes the replacement character.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // its error only reports that it has replaced bytes
	return b
}
