package openai

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/transforms/stage"
)

// A ReadForm is one of the ways in which servers are asked for the probabilities of the next token.
type ReadForm struct {
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
func (f ReadForm) Fields() string {
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
func (f ReadForm) String() string {
	if f.Generate {
		return fmt.Sprintf("%s with %d tokens", GeneratePath, len(f.IDs))
	}
	if len(f.IDs) > 0 {
		return fmt.Sprintf("logprob_token_ids with %d tokens", len(f.IDs))
	}
	return fmt.Sprintf("top_logprobs: %d", f.Top)
}

// ReadFields returns the names of the request fields of reads.
func ReadFields() []string { return []string{"logprobs", "top_logprobs", "logprob_token_ids"} }

// token is one entry of an answer's log-probabilities.
type token struct {
	Token   text   `json:"token"`
	LogProb number `json:"logprob"`
	Top     list   `json:"top_logprobs"`
}

// list is a list of tokens. Everything else counts as none.
type list []token

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(b []byte) error {
	*l = nil
	if jsontext.Value(b).Kind() != '[' {
		return nil
	}
	type plain list
	return json.Unmarshal(b, (*plain)(l), lenient)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *token) UnmarshalJSON(b []byte) error {
	*t = token{}
	if jsontext.Value(b).Kind() != '{' {
		return nil
	}
	type plain token
	return json.Unmarshal(b, (*plain)(t), lenient)
}

// maxReported bounds the tokens that are read from one answer.
const maxReported = 1024

// tokensOf returns the tokens that a choice's logprobs report for the first place of the text, nil if
// there are none. The written token is one of them.
func tokensOf(logprobs jsontext.Value) []stage.TokenLogProb {
	if logprobs.Kind() != '{' {
		return nil
	}
	var l struct {
		Content list `json:"content"`
	}
	if json.Unmarshal(logprobs, &l, lenient) != nil || len(l.Content) == 0 {
		return nil
	}
	first := l.Content[0]
	var out []stage.TokenLogProb
	for _, t := range append([]token{first}, first.Top[:min(len(first.Top), maxReported)]...) {
		if t.LogProb.there {
			out = append(out, stage.TokenLogProb{Token: string(t.Token), LogProb: t.LogProb.value})
		}
	}
	return out
}

// Written returns the tokens of a text as an answer's log-probabilities list them.
func Written(body []byte) []string {
	var r response
	if unmarshal(body, &r) != nil || len(r.Choices) == 0 {
		return nil
	}
	var l struct {
		Content list `json:"content"`
	}
	if r.Choices[0].LogProbs.Kind() != '{' || json.Unmarshal(r.Choices[0].LogProbs, &l, lenient) != nil {
		return nil
	}
	var tokens []string
	for _, t := range l.Content[:min(len(l.Content), maxReported)] {
		tokens = append(tokens, string(t.Token))
	}
	return tokens
}

// Reported returns the tokens that an answer reports for the first place of its text.
func Reported(body []byte) []stage.TokenLogProb {
	var r response
	if unmarshal(body, &r) != nil || len(r.Choices) == 0 {
		return nil
	}
	return tokensOf(r.Choices[0].LogProbs)
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
		Tokens []number `json:"tokens"`
	}
	if strings.TrimSpace(string(body)) == "" || json.Unmarshal(body, &r, lenient) != nil {
		return nil
	}
	var ids []int64
	for _, t := range r.Tokens {
		if !t.there || t.value < 0 || t.value != float64(int64(t.value)) {
			return nil
		}
		ids = append(ids, int64(t.value))
	}
	return ids
}
