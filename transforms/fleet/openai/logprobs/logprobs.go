// Package logprobs implements the wire format of reads: requests for the probabilities of the next token.
//
// A [Form] writes the fields of a read. [First] takes the log-probabilities from the choice of a chat completion.
// [Form.AppendGenerate] and [Form.DecodeGenerated] exchange a read through SGLang's own API. The package also writes and
// reads requests to a tokenizer.
//
// It does no I/O and has no state. All readers are bounded: the input comes from servers.
package logprobs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/transforms/fleet/openai/lenient"
	"coeval/transforms/stage"
)

// A Form is one of the forms in which servers report the probabilities of the next token.
type Form struct {
	// Top is the number of most likely tokens to report. All servers with log-probabilities have this
	// form.
	Top int
	// IDs are the tokens to report instead: the tokens that spell a label. Recent versions of vLLM have
	// this form. It reports unlikely labels too.
	IDs []int64
	// Spellings are the texts of IDs.
	Spellings []string
	// Generate asks SGLang's [GeneratePath] for the tokens of IDs. The prompt is the chat as [TokenizePath]
	// renders it.
	Generate bool
}

// MaxTop is the largest number of tokens that OpenAI and vLLM report.
const MaxTop = 20

// Fields returns the fields of a chat request, after a comma. It returns none for Generate.
func (f Form) Fields() string {
	if f.Generate {
		return ""
	}
	b := []byte(`,"logprobs":true`)
	if len(f.IDs) == 0 {
		return string(strconv.AppendInt(append(b, `,"top_logprobs":`...), int64(f.Top), 10))
	}
	b = appendIDs(append(b, `,"logprob_token_ids":[`...), f.IDs)
	return string(append(b, ']'))
}

// String names the form in messages.
func (f Form) String() string {
	if f.Generate {
		return fmt.Sprintf("%s with %d tokens", GeneratePath, len(f.IDs))
	}
	if len(f.IDs) > 0 {
		return fmt.Sprintf("logprob_token_ids with %d tokens", len(f.IDs))
	}
	return fmt.Sprintf("top_logprobs: %d", f.Top)
}

// FieldNames returns the names of the request fields of reads.
func FieldNames() []string { return []string{"logprobs", "top_logprobs", "logprob_token_ids"} }

// token is one entry of an answer's log-probabilities.
type token struct {
	Token   lenient.Text   `json:"token"`
	LogProb lenient.Number `json:"logprob"`
	Top     list           `json:"top_logprobs"`
}

// list is a list of tokens. Everything else counts as none.
type list []token

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *list) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	type plain list
	return lenient.List(d, (*plain)(l))
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *token) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*t = token{}
	type plain token
	return lenient.Object(d, (*plain)(t))
}

// maxReported bounds the tokens that are read from one answer.
const maxReported = 1024

// First returns the tokens that a choice's logprobs report for the first place of the text, nil if
// there are none. The written token is one of them.
func First(logprobs jsontext.Value) []stage.TokenLogProb {
	if logprobs.Kind() != '{' {
		return nil
	}
	var l struct {
		Content list `json:"content"`
	}
	if json.Unmarshal(logprobs, &l, lenient.Options) != nil || len(l.Content) == 0 {
		return nil
	}
	first := l.Content[0]
	var out []stage.TokenLogProb
	for _, t := range append([]token{first}, first.Top[:min(len(first.Top), maxReported)]...) {
		if t.LogProb.There {
			out = append(out, stage.TokenLogProb{Token: string(t.Token), LogProb: t.LogProb.Value})
		}
	}
	return out
}

// Written returns the tokens of a whole text as a choice's logprobs list them.
func Written(logprobs jsontext.Value) []string {
	var l struct {
		Content list `json:"content"`
	}
	if logprobs.Kind() != '{' || json.Unmarshal(logprobs, &l, lenient.Options) != nil {
		return nil
	}
	var tokens []string
	for _, t := range l.Content[:min(len(l.Content), maxReported)] {
		tokens = append(tokens, string(t.Token))
	}
	return tokens
}

// topLimit finds the number in refusals such as "top_logprobs must be at most 5".
var (
	topRefusal = regexp.MustCompile(`(?i)top_?logprobs|number of (?:top )?logprobs|logprobs? of`)
	topNumber  = regexp.MustCompile(`\b(\d{1,3})\b`)
)

// TopLimit returns the largest number of tokens that a server reports, from its refusal of top_logprobs
// with this number. It returns false if the message is about something else. Without a number in the
// message it is a quarter of the refused one.
func TopLimit(message string, asked int) (limit int, ok bool) {
	if !topRefusal.MatchString(message) {
		return 0, false
	}
	for _, m := range topNumber.FindAllString(message, -1) {
		if n, err := strconv.Atoi(m); err == nil && n > 0 && n < asked && n > limit {
			limit = n
		}
	}
	if limit == 0 {
		limit = asked / 4
	}
	return limit, limit > 0
}

// TokenizePath is beside /v1 at vLLM, SGLang and llama.cpp.
const TokenizePath = "/tokenize"

// AppendTokenize appends the body of a request for the tokens of a text, which vLLM calls prompt and
// llama.cpp content.
func AppendTokenize(b []byte, model, text string) []byte {
	quote := func(s string) {
		var err error
		if b, err = jsontext.AppendQuote(b, s); err != nil {
			b = append(b, `""`...) // a model's name and a label are UTF-8
		}
	}
	b = append(b, `{"model":`...)
	quote(model)
	b = append(b, `,"prompt":`...)
	quote(text)
	b = append(b, `,"content":`...)
	quote(text)
	return append(b, `,"add_special_tokens":false,"add_special":false}`...)
}

// ReadTokens returns the tokens in an answer of [TokenizePath], nil if it is none.
func ReadTokens(body []byte) []int64 {
	var r struct {
		Tokens []lenient.Number `json:"tokens"`
	}
	if strings.TrimSpace(string(body)) == "" || json.Unmarshal(body, &r, lenient.Options) != nil {
		return nil
	}
	var ids []int64
	for _, t := range r.Tokens {
		if !t.There || t.Value < 0 || t.Value != float64(int64(t.Value)) {
			return nil
		}
		ids = append(ids, int64(t.Value))
	}
	return ids
}
