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

// appendQuick appends a generation's record as the library writes it, in half of the time.
// It leaves to the library what has a prompt, or what is no UTF-8.
func appendQuick(b []byte, r *Record) ([]byte, bool) {
	if r.Prompt != nil {
		return b, false
	}
	for _, s := range [...]string{r.Key, r.PromptID, r.Role, r.Text, r.Reasoning, r.FinishReason, r.Code, r.Message} {
		if !utf8.ValidString(s) {
			return b, false
		}
	}
	b = lean.AppendQuoted(append(b, `{"key":`...), r.Key)
	b = strconv.AppendInt(append(b, `,"replicate":`...), int64(r.Replicate), 10)
	b = lean.AppendQuoted(append(b, `,"prompt_id":`...), r.PromptID)
	b = appendText(b, `,"role":`, r.Role)
	b = appendText(b, `,"text":`, r.Text)
	b = appendText(b, `,"reasoning":`, r.Reasoning)
	b = appendText(b, `,"finish_reason":`, r.FinishReason)
	b = strconv.AppendInt(append(b, `,"prompt_tokens":`...), int64(r.PromptTokens), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(r.CompletionTokens), 10)
	b = appendText(b, `,"code":`, r.Code)
	b = appendText(b, `,"message":`, r.Message)
	return append(b, '}'), true
}

// appendText appends a field that is left out when it is empty.
func appendText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return lean.AppendQuoted(append(b, name...), s)
}
