package journal

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"coeval/schemas/lean"
)

// encodeLines appends the records as JSON lines.
func encodeLines(b []byte, records []Record) ([]byte, error) {
	for i := range records {
		r := &records[i]
		var ok bool
		if b, ok = appendQuick(b, r); !ok {
			line, err := json.Marshal(r)
			if err != nil {
				return nil, fmt.Errorf("journal: record of prompt %s: %w", r.PromptID, err)
			}
			b = append(b, line...)
		}
		b = append(b, '\n')
	}
	return b, nil
}

// decodeLines reads JSON lines and calls each with the records of the prompts that keep wants.
func decodeLines(b []byte, keep func(string) bool, each func(*Record)) error {
	for line := range bytes.Lines(b) {
		r := new(Record)
		if err := json.Unmarshal(line, r); err != nil {
			return fmt.Errorf("not a record: %w", err)
		}
		if r.Key == "" || r.PromptID == "" {
			return errors.New("a record without key or prompt_id")
		}
		if keep == nil || keep(r.PromptID) {
			each(r)
		}
	}
	return nil
}

// field is one that a generation's record has: a string or an integer.
type field struct {
	name   string
	text   func(*Record) *string
	number func(*Record) *int
	always bool // also when it is ""
}

// fields are all but the prompt, in their order.
var fields = []field{
	{name: "key", text: func(r *Record) *string { return &r.Key }, always: true},
	{name: "replicate", number: func(r *Record) *int { return &r.Replicate }},
	{name: "prompt_id", text: func(r *Record) *string { return &r.PromptID }, always: true},
	{name: "role", text: func(r *Record) *string { return &r.Role }},
	{name: "text", text: func(r *Record) *string { return &r.Text }},
	{name: "reasoning", text: func(r *Record) *string { return &r.Reasoning }},
	{name: "finish_reason", text: func(r *Record) *string { return &r.FinishReason }},
	{name: "prompt_tokens", number: func(r *Record) *int { return &r.PromptTokens }},
	{name: "completion_tokens", number: func(r *Record) *int { return &r.CompletionTokens }},
	{name: "code", text: func(r *Record) *string { return &r.Code }},
	{name: "message", text: func(r *Record) *string { return &r.Message }},
}

// appendQuick appends a generation's record as the library writes it, in half of the time.
// It leaves to the library what has a prompt, or what is no UTF-8.
func appendQuick(b []byte, r *Record) ([]byte, bool) {
	if r.Prompt != nil {
		return b, false
	}
	before := len(b)
	separator := byte('{')
	for i := range fields {
		f := &fields[i]
		if f.text == nil {
			b = append(append(append(b, separator, '"'), f.name...), '"', ':')
			b = strconv.AppendInt(b, int64(*f.number(r)), 10)
			separator = ','
			continue
		}
		s := *f.text(r)
		if s == "" && !f.always {
			continue
		}
		if !utf8.ValidString(s) {
			return b[:before], false
		}
		b = append(append(append(b, separator, '"'), f.name...), '"', ':')
		b = lean.AppendQuoted(b, s)
		separator = ','
	}
	return append(b, '}'), true
}
