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
	// Texts have no log-probabilities, even if the server sends them.
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

// For any bytes of a server, the labels' log-probabilities are finite, and nothing panics.
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
	})
}
