package infer

import (
	"errors"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"coeval/schemas/lean"
)

// errUnusual is the error of a body that needs the library: it is wrong, or right in a way that
// no server was seen to be.
var errUnusual = errors.New("infer: unusual")

// quickResponse reads the answers that servers give, in about half of the library's time. What
// it returns the library would return as well; false leaves it to the library.
func quickResponse(body []byte) (r response, ok bool) {
	if !utf8.Valid(body) {
		return r, false
	}
	p := lean.New(unsafe.String(unsafe.SliceData(body), len(body))) // nobody changes it, and what is kept is copied
	q := quick{Parser: &p}
	err := q.fields(func(name string) error {
		switch name {
		case "choices":
			return q.choices(&r)
		case "usage":
			return q.usage(&r)
		case "error":
			return q.null() // an error is not what has to be quick
		}
		return p.Skip()
	})
	return r, err == nil && p.Done()
}

// quick reads values of the kinds that a response has. Its texts are copies: a part of the
// body would keep all of it.
type quick struct{ *lean.Parser }

// known are the names of all fields that are read, at any depth.
var known = map[string]uint16{
	"choices": 1, "usage": 1 << 1, "error": 1 << 2, "index": 1 << 3, "message": 1 << 4, "finish_reason": 1 << 5, "content": 1 << 6,
	"reasoning_content": 1 << 7, "reasoning": 1 << 8, "refusal": 1 << 9, "prompt_tokens": 1 << 10, "completion_tokens": 1 << 11,
}

// fields reads an object of which no known field comes twice: the library merges those.
func (q quick) fields(field func(name string) error) error {
	if q.Peek() != '{' {
		return errUnusual
	}
	var seen uint16
	return q.Object(func(name string) error {
		bit := known[name]
		if seen&bit != 0 {
			return errUnusual
		}
		seen |= bit
		return field(name)
	})
}

func (q quick) null() error { return q.Word("null") }

func (q quick) isNull() bool { return q.Peek() == 'n' }

func (q quick) choices(r *response) error {
	if q.Peek() != '[' {
		return errUnusual
	}
	return q.Array(func() error {
		r.Choices = append(r.Choices, choice{})
		c := &r.Choices[len(r.Choices)-1]
		return q.fields(func(name string) error {
			switch name {
			case "index":
				return q.integer(&c.Index)
			case "message":
				c.Message = &message{}
				return q.message(c.Message)
			case "finish_reason":
				return q.text(&c.FinishReason)
			}
			return q.Skip()
		})
	})
}

func (q quick) message(m *message) error {
	return q.fields(func(name string) error {
		switch name {
		case "content":
			return q.text(&m.Content)
		case "reasoning_content":
			return q.text(&m.ReasoningContent)
		case "reasoning":
			return q.text(&m.Reasoning)
		case "refusal":
			return q.text(&m.Refusal)
		}
		return q.Skip()
	})
}

func (q quick) usage(r *response) error {
	if q.isNull() {
		return q.null()
	}
	r.Usage = &tokens{}
	return q.fields(func(name string) error {
		switch name {
		case "prompt_tokens":
			return q.integer(&r.Usage.PromptTokens)
		case "completion_tokens":
			return q.integer(&r.Usage.CompletionTokens)
		}
		return q.Skip()
	})
}

func (q quick) text(to *string) error {
	if q.isNull() {
		return q.null()
	}
	if q.Peek() != '"' {
		return errUnusual
	}
	var err error
	*to, err = q.Copy()
	return err
}

func (q quick) integer(to *int) error {
	raw, err := q.Raw()
	if err != nil {
		return err
	}
	if *to, err = strconv.Atoi(raw); err != nil {
		return errUnusual // null, and numbers that are none
	}
	return nil
}
