package openai

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/stage"
)

var letters = &stage.Read{Labels: []string{"A", "B"}}

func TestDecodeRead(t *testing.T) {
	choice := func(logprobs string) string {
		return `{"choices":[{"index":0,"message":{"content":"A"},"logprobs":` + logprobs + `,"finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`
	}
	for _, tt := range []struct {
		name, body string
		want       map[string]float64
	}{
		{"the first place of the text", choice(`{"content":[{"token":"A","logprob":-0.1,"bytes":[65],"top_logprobs":[{"token":"A","logprob":-0.1},{"token":"B","logprob":-2.5},{"token":"The","logprob":-5}]},` +
			`{"token":"B","logprob":-0.1,"top_logprobs":[{"token":"A","logprob":0}]}]}`), map[string]float64{"A": -0.1, "B": -2.5}},
		{"the written token alone", choice(`{"content":[{"token":" A","logprob":-0.25,"top_logprobs":[]}]}`), map[string]float64{"A": -0.25}},
		{"numbers in strings, and minus infinity", choice(`{"content":[{"token":"x","logprob":-1,"top_logprobs":[{"token":"A","logprob":"-0.5"},{"token":"B","logprob":-Infinity}]}]}`), map[string]float64{"A": -0.5}},
		{"no log-probabilities", choice(`null`), map[string]float64{}},
		{"of other types", choice(`{"content":{"token":"A"},"tokens":["A"]}`), map[string]float64{}},
		{"a list", choice(`[1]`), map[string]float64{}},
	} {
		got, has, flt := DecodeRead([]byte(tt.body), 1, letters)
		if flt != nil || !has[0] {
			t.Fatalf("%s: %v", tt.name, flt)
		}
		want := schemas.Generation{Text: "A", FinishReason: "length", PromptTokens: 9, CompletionTokens: 1, LogProbs: tt.want}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	// Texts have none, whatever the server sends.
	if got, _, flt := Decode([]byte(choice(`{"content":[{"token":"A","logprob":-0.1}]}`)), 1); flt != nil || got[0].LogProbs != nil {
		t.Errorf("a text has the log-probabilities %v, %v", got[0].LogProbs, flt)
	}
}

// A server that only streams sends the log-probabilities with the first token.
func TestDecodeReadStream(t *testing.T) {
	const stream = `data: {"choices":[{"index":0,"delta":{"role":"assistant"},"logprobs":null}]}

data: {"choices":[{"index":0,"delta":{"content":"B"},"logprobs":{"content":[{"token":"B","logprob":-0.5,"top_logprobs":[{"token":"A","logprob":-1}]}]}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}

data: [DONE]
`
	got, _, flt := DecodeReadStream([]byte(stream), 1, letters)
	if flt != nil {
		t.Fatal(flt.Message)
	}
	if diff := cmp.Diff(map[string]float64{"A": -1, "B": -0.5}, got[0].LogProbs); diff != "" || got[0].Text != "B" {
		t.Errorf("%q: %s", got[0].Text, diff)
	}
}

// The real refusals of OpenAI, Azure, vLLM and SGLang, and others that are about something else.
func TestTopLimit(t *testing.T) {
	for message, want := range map[string]int{
		"Invalid value for 'top_logprobs': must be less than or equal to 5.":        5,
		"Requested sample logprobs of 20, which is greater than max allowed: 10":    10,
		"1 validation error: top_logprobs: Input should be less than or equal to 8": 8,
		"top_logprobs is too large":                                       5, // a quarter of 20
		"you must set logprobs to true when using top_logprobs":           5,
		"max_tokens is too large: 20":                                     0,
		"This model's maximum context length is 5 tokens":                 0,
		"top_logprobs must be within 0 to 20, and needs logprobs: got 21": 5,
		"Number of top logprobs 20 exceeds the server's limit of 3":       3,
	} {
		if got, ok := TopLimit(message, 20); got != want || ok != (want > 0) {
			t.Errorf("%q: limit %d, want %d", message, got, want)
		}
	}
}

func TestReadFormFields(t *testing.T) {
	for want, form := range map[string]ReadForm{
		`,"logprobs":true,"top_logprobs":20`:           {Top: 20},
		`,"logprobs":true,"logprob_token_ids":[32,33]`: {Top: 20, IDs: []int64{32, 33}},
	} {
		if got := form.Fields(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The answers of vLLM and of llama.cpp, and pages that are none.
func TestReadTokens(t *testing.T) {
	for body, want := range map[string][]int64{
		`{"count":2,"max_model_len":2048,"tokens":[220,32],"token_strs":null}`: {220, 32},
		`{"tokens":[32]}`:                      {32},
		`{"tokens":[{"id":32,"piece":"A"}]}`:   nil,
		`{"tokens":[1.5]}`:                     nil,
		`<html>`:                               nil,
		``:                                     nil,
		`{"error":{"message":"no such path"}}`: nil,
	} {
		if diff := cmp.Diff(want, ReadTokens([]byte(body))); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

// Whatever a server sends, the labels' log-probabilities are finite, and nothing panics.
func FuzzDecodeRead(f *testing.F) {
	f.Add([]byte(`{"choices":[{"message":{"content":"A"},"logprobs":{"content":[{"token":"A","logprob":-0.1,"top_logprobs":[{"token":"B","logprob":-1}]}]}}]}`))
	f.Add([]byte(`{"choices":[{"message":{"content":"A"},"logprobs":{"content":[{"token":7,"logprob":"x","top_logprobs":{}}]}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, _, flt := DecodeRead(body, 1, letters)
		if flt == nil {
			for label, x := range got[0].LogProbs {
				if label != "A" && label != "B" || math.IsNaN(x) || math.IsInf(x, 0) {
					t.Errorf("%s has %v", label, x)
				}
			}
		}
		Written(body)
		ReadTokens(body)
	})
}
