package openai

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/stage"
)

func TestAppendBody(t *testing.T) {
	r := &stage.Role{
		Name: schemas.RoleActor, Model: `a "model"`, Temperature: 0.8, TopP: 0.95, MaxTokens: 10,
		Stop: []string{"\n\n"}, ExtraBody: `{"chat_template_kwargs":{"enable_thinking":false},"top_k":20}`,
	}
	messages := []schemas.Message{{Role: "system", Content: "Be \\ brief.\n"}, {Role: "user", Content: "Größe\u2028?"}}
	b, err := AppendBody(nil, &Request{Role: r, Messages: messages, N: 7, Seed: 42, Constraint: `,"regex":"a"`})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	want := map[string]any{
		"model": `a "model"`, "temperature": 0.8, "top_p": 0.95, "max_tokens": 10.0, "stop": []any{"\n\n"},
		"chat_template_kwargs": map[string]any{"enable_thinking": false}, "top_k": 20.0, "n": 7.0, "seed": 42.0, "regex": "a",
		"messages": []any{
			map[string]any{"role": "system", "content": "Be \\ brief.\n"},
			map[string]any{"role": "user", "content": "Größe\u2028?"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if b, err = AppendBody(nil, &Request{Role: &stage.Role{Model: "m", ExtraBody: "{}"}, Messages: messages[:1], N: 1}); err != nil || !json.Valid(b) {
		t.Errorf("%s, %v", b, err)
	}
	messages[0].Content = "\xff"
	if b, err = AppendBody(nil, &Request{Role: r, Messages: messages, N: 1}); err == nil {
		t.Errorf("a text that is not UTF-8 is sent: %s", b)
	}
}

// one returns an answer with one choice and these fields.
func one(message, more string) string {
	return `{"choices":[{"index":0,"message":` + message + `,"finish_reason":"stop"}]` + more + `}`
}

func TestDecode(t *testing.T) {
	const usage = `"usage":{"prompt_tokens":9,"completion_tokens":7}`
	a := []schemas.Generation{{Text: "a", FinishReason: "stop"}}
	counted := []schemas.Generation{{Text: "a", FinishReason: "stop", PromptTokens: 9, CompletionTokens: 7}}
	said := `{"content":"a"}`
	tests := []struct {
		name, body string
		n          int
		want       []schemas.Generation
		has        []bool
		code       string
		kind       fault.Kind
	}{
		{
			name: "a choice that was withheld", n: 2, has: []bool{true, true},
			body: `{"choices":[{"index":0,"message":{"content":null},"finish_reason":"content_filter"},{"index":1,"message":{"content":"b"},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{Code: fault.CodeContentFilter, Message: "the server's content filter withheld the text (content_filter)"}, {Text: "b", FinishReason: "stop"}},
		},
		{
			name: "a choice that the server abandoned", n: 2, has: []bool{false, true},
			body: `{"choices":[{"index":0,"message":{"content":"half a te"},"finish_reason":"abort"},{"index":1,"message":{"content":"b"},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{}, {Text: "b", FinishReason: "stop"}},
		},
		{
			name: "all choices abandoned", n: 1, code: fault.CodeServerError,
			body: `{"choices":[{"index":0,"message":{"content":"half a te"},"finish_reason":"network_error"}]}`,
		},
		{name: "an error that states nothing", n: 1, want: a, has: []bool{true}, body: `{"error":{"code":0,"message":"","param":null,"details":[]},"choices":[{"index":0,"message":` + said + `,"finish_reason":"stop"}]}`},
		{name: "an error that states success", n: 1, want: a, has: []bool{true}, body: `{"error":{"code":200,"message":"Success"},"choices":[{"index":0,"message":` + said + `,"finish_reason":"stop"}]}`},
		{name: "an error beside choices", n: 1, code: fault.CodeServerError, body: `{"error":{"code":0,"message":"out of memory"},"choices":[{"index":0,"message":` + said + `,"finish_reason":"stop"}]}`},
		{name: "another index", n: 1, want: a, has: []bool{true}, body: `{"choices":[{"index":1,"message":` + said + `,"finish_reason":"stop"}]}`},
		{
			name: "indices from 1", n: 2, has: []bool{true, true}, want: []schemas.Generation{{Text: "a", FinishReason: "stop"}, {Text: "b", FinishReason: "stop"}},
			body: `{"choices":[{"index":"2","message":{"content":"b"},"finish_reason":"stop"},{"index":"1","message":{"content":"a"},"finish_reason":"stop"}]}`,
		},
		{name: "a chunk of a stream", n: 1, want: a, has: []bool{true}, body: `{"object":"chat.completion.chunk","choices":[{"index":0,"delta":` + said + `,"finish_reason":"stop"}]}`},
		{name: "a stream with another header", n: 1, want: counted, has: []bool{true}, body: ": processing\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7}}]}\n\ndata: [DONE]\n"},
		{name: "an empty stream", n: 1, code: fault.CodeMalformed, kind: fault.NoChoice, body: ": processing\n\n"},
		{name: "Anthropic's usage", n: 1, want: counted, has: []bool{true}, body: `{"choices":[{"index":0,"message":` + said + `,"finish_reason":"stop"}],"usage":{"input_tokens":9,"output_tokens":7}}`},
		{name: "thinking", n: 1, want: []schemas.Generation{{Text: "a", FinishReason: "stop", Reasoning: "t"}}, has: []bool{true}, body: `{"choices":[{"index":0,"message":{"content":"a","thinking":"t"},"finish_reason":"stop"}]}`},
		{
			name: "two choices, out of order", n: 2, has: []bool{true, true},
			body: `{"choices":[{"index":1,"message":{"content":"b"},"finish_reason":"length"},{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],` + usage + `}`,
			want: []schemas.Generation{ // 7 tokens over 2 choices: 4 and 3
				{Text: "a", FinishReason: "stop", PromptTokens: 9, CompletionTokens: 4},
				{Text: "b", FinishReason: "length", PromptTokens: 9, CompletionTokens: 3},
			},
		},
		{
			name: "fewer than asked for", n: 3, has: []bool{true, false, false}, body: one(said, ""),
			want: append([]schemas.Generation{a[0]}, make([]schemas.Generation, 2)...),
		},
		{
			name: "null content is an empty text", n: 1, has: []bool{true}, body: one(`{"content":null,"reasoning_content":"hm"}`, ""),
			want: []schemas.Generation{{Reasoning: "hm", FinishReason: "stop"}},
		},
		{
			name: "a refusal is a text", n: 1, has: []bool{true}, body: one(`{"content":null,"refusal":"No."}`, ""),
			want: []schemas.Generation{{Text: "No.", FinishReason: "refusal"}},
		},
		{
			name: "one index twice, one out of range", n: 2, has: []bool{true, true},
			body: `{"choices":[{"index":1,"message":{"content":"a"}},{"index":1,"message":{"content":"b"}},{"index":0,"message":{"content":"d"}},{"index":7,"message":{"content":"c"}}]}`,
			want: []schemas.Generation{{Text: "d"}, {Text: "a"}},
		},
		{
			name: "indices that a gateway lost", n: 3, has: []bool{true, true, false},
			body: `{"choices":[{"index":0,"message":{"content":"a"}},{"index":0,"message":{"content":"b"}}]}`,
			want: []schemas.Generation{{Text: "a"}, {Text: "b"}, {}},
		},
		{
			name: "indices as strings and floats", n: 2, has: []bool{true, true},
			body: `{"choices":[{"index":"1","message":{"content":"b"}},{"index":0.0,"message":{"content":"a"}}]}`,
			want: []schemas.Generation{{Text: "a"}, {Text: "b"}},
		},
		{
			name: "no index", n: 1, has: []bool{true}, body: `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}`, want: a,
		},
		{
			name: "invalid UTF-8", n: 1, has: []bool{true}, body: one("{\"content\":\"a\xffb\"}", ""),
			want: []schemas.Generation{{Text: "a\uFFFDb", FinishReason: "stop"}},
		},
		{
			name: "content as a list of parts, with thoughts", n: 1, has: []bool{true},
			body: one(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a "},"b",{"type":"output_text","text":"c"}]}`, ""),
			want: []schemas.Generation{{Text: "a bc", Reasoning: "hm", FinishReason: "stop"}},
		},
		{name: "a part alone", n: 1, has: []bool{true}, body: one(`{"content":{"type":"text","text":"a"}}`, ""), want: a},
		{name: "a byte order mark", n: 1, has: []bool{true}, body: "\xef\xbb\xbf" + one(said, ""), want: a},
		{
			name: "NaN where nothing is read", n: 1, has: []bool{true},
			body: `{"choices":[{"index":0,"message":{"content":"a"},"logprobs":{"x":[NaN,-Infinity,inf]},"finish_reason":"stop"}],` + usage + `,"score":NaN}`, want: counted,
		},
		{
			name: "NaN between the counts of another provider", n: 1, has: []bool{true}, want: counted,
			body: `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"input_tokens":9,"cost":NaN,"output_tokens":7}}`,
		},
		{
			name: "NaN between the counts of two providers", n: 1, has: []bool{true},
			body: `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"input_tokens":9,"cost":NaN,"completion_tokens":7}}`,
			want: []schemas.Generation{{Text: "a", FinishReason: "stop", CompletionTokens: 7}},
		},
		{name: "NaN in a text stays", n: 1, has: []bool{true}, body: one(`{"content":"NaN \"NaN","x":NaN}`, ""), want: []schemas.Generation{{Text: `NaN "NaN`, FinishReason: "stop"}}},
		{name: "usage as floats", n: 1, has: []bool{true}, body: one(said, `,"usage":{"prompt_tokens":9.0,"completion_tokens":7.2}`), want: counted},
		{name: "usage as strings", n: 1, has: []bool{true}, body: one(said, `,"usage":{"prompt_tokens":"9","completion_tokens":" 7"}`), want: counted},
		{name: "usage beyond belief", n: 1, has: []bool{true}, body: one(said, `,"usage":{"prompt_tokens":1e18,"completion_tokens":3000000000}`), want: a},
		{name: "usage beyond a float", n: 1, has: []bool{true}, body: one(said, `,"usage":{"prompt_tokens":1e999,"completion_tokens":99999999999999999999999}`), want: a},
		{name: "negative usage", n: 1, has: []bool{true}, body: one(said, `,"usage":{"prompt_tokens":-9,"completion_tokens":-1e300}`), want: a},
		{name: "usage of other types", n: 1, has: []bool{true}, body: one(said, `,"usage":[1,2]`), want: a},
		{name: "counts of other types", n: 1, has: []bool{true}, body: one(said, `,"usage":{"prompt_tokens":{},"completion_tokens":[7]}`), want: a},
		{name: "an empty error", n: 1, has: []bool{true}, body: one(said, `,"error":""`), want: a},
		{name: "an error without fields", n: 1, has: []bool{true}, body: one(said, `,"error":{ }`), want: a},
		{name: "error: false", n: 1, has: []bool{true}, body: one(said, `,"error":false`), want: a},
		{name: "fields of other types", n: 1, has: []bool{true}, body: one(`{"content":"a","refusal":{},"reasoning":7,"tool_calls":"x"}`, `,"id":{},"model":[]`), want: a},
		{name: "a completion's text", n: 1, has: []bool{true}, body: `{"choices":[{"index":0,"text":"a","finish_reason":"stop"}]}`, want: a},
		{name: "a finish reason of another type", n: 1, has: []bool{true}, body: `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":7}]}`, want: []schemas.Generation{{Text: "a"}}},
		{name: "an error object", n: 1, body: `{"error":{"message":"died"}}`, code: fault.CodeServerError},
		{name: "an error in words", n: 1, body: `{"error":"died"}`, code: fault.CodeServerError},
		{name: "an error that is 429", n: 1, body: `{"error":{"message":"slow down","code":429}}`, code: fault.CodeServerError, kind: fault.Overloaded},
		{name: "an error that is 503 in a string", n: 1, body: `{"error":{"message":"no room","code":"503"}}`, code: fault.CodeServerError, kind: fault.Overloaded},
		{name: "an error by its name", n: 1, body: `{"error":{"message":"wait","type":"rate_limit_error"}}`, code: fault.CodeServerError, kind: fault.Overloaded},
		{name: "an error that is 400", n: 1, body: `{"object":"error","message":"maximum context length is 8","code":400}`, code: fault.CodeContextLength, kind: fault.Refused},
		{name: "an error that is 403", n: 1, body: `{"error":{"code":403,"message":"no such right"}}`, kind: fault.Denied},
		{name: "a detail about a key", n: 1, body: `{"detail":"Not authenticated"}`, kind: fault.Denied},
		{name: "a message about a key", n: 1, body: `{"message":"Invalid API key"}`, kind: fault.Denied},
		{name: "an error about a key", n: 1, body: `{"error":"Missing API key"}`, kind: fault.Denied},
		{name: "a detail about a path", n: 1, body: `{"detail":"Not Found"}`, kind: fault.Denied},
		{name: "a detail about the load", n: 1, body: `{"detail":"Too many requests"}`, code: fault.CodeServerError, kind: fault.Overloaded},
		{name: "an unknown detail", n: 1, body: `{"detail":"no"}`, code: fault.CodeMalformed, kind: fault.NoChoice},
		{name: "no credit", n: 1, body: `{"error":{"code":"insufficient_quota","message":"pay"}}`, kind: fault.Denied},
		{name: "something behind the answer", n: 1, body: `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}` + "\x00\n", want: a, has: []bool{true}},
		{name: "a second object behind the answer", n: 1, body: `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}{"done":true}`, want: a, has: []bool{true}},
		{name: "an object without choices, and another", n: 1, body: `{"a":1}{"b":2}`, code: fault.CodeMalformed},
		{name: "a choice that was abandoned", n: 1, body: `{"choices":[{"message":{"content":"a"},"finish_reason":"error","error":{"code":502,"message":"upstream"}}]}`, code: fault.CodeServerError},
		{name: "no choice", n: 1, body: `{"choices":[]}`, code: fault.CodeMalformed, kind: fault.NoChoice},
		{name: "an empty error and no choice", n: 1, body: `{"error":{}}`, code: fault.CodeMalformed, kind: fault.NoChoice},
		{name: "a proxy's page", n: 1, body: `<html>Bad gateway</html>`, code: fault.CodeMalformed},
		{name: "truncated", n: 1, body: `{"choices":[{"index":0,"mess`, code: fault.CodeMalformed},
		{name: "choices of another type", n: 1, body: `{"choices":"a"}`, code: fault.CodeMalformed},
		{name: "empty", n: 1, body: ``, code: fault.CodeMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, has, f := Decode([]byte(tt.body), tt.n)
			if f == nil {
				f = &fault.Fault{}
			}
			if f.Code != tt.code || f.Kind != tt.kind {
				t.Fatalf("fault %+v, want code %q and kind %d", f, tt.code, tt.kind)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.has, has); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Deep nesting costs no more than the body: parts within parts are bounded.
func TestDecodeDeepParts(t *testing.T) {
	const depth = 9000
	body := one(`{"content":`+strings.Repeat("[", depth)+`"`+strings.Repeat("a", 1<<20)+`"`+strings.Repeat("]", depth)+`}`, "")
	if got, _, flt := Decode([]byte(body), 1); flt == nil && got[0].Text != "" {
		t.Errorf("%d characters of text, want none", len(got[0].Text))
	}
}

func TestReadModels(t *testing.T) {
	got := ReadModels([]byte(`{"object":"list","data":[{"id":"m","owned_by":"o","root":null,"created":1.5},{"id":7}]}`))
	if diff := cmp.Diff([]Model{{ID: "m", OwnedBy: "o"}, {}}, got); diff != "" {
		t.Error(diff)
	}
	if got := ReadModels([]byte("<html>")); got != nil {
		t.Errorf("a page has models %v", got)
	}
}

// For any bytes of a server, the result is valid UTF-8, has n places and believable counts, and nothing
// panics.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":7}}`,
		"{\"choices\":[{\"index\":1,\"message\":{\"content\":\"\xff\"}}]}",
		`{"error":null,"choices":[{"index":-1}]}`,
		`{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"text":"a"}]},["b"]]},"x":NaN}],"usage":{"prompt_tokens":"1e18"}}`,
		`{"error":{"code":"429"}}`,
		"\xef\xbb\xbf{}",
	} {
		f.Add([]byte(s), 2)
	}
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		if n < 1 || n > 64 {
			return
		}
		got, has, flt := Decode(body, n)
		if flt != nil {
			if !utf8.ValidString(flt.Message) || flt.Code == "" && flt.Kind != fault.Denied {
				t.Errorf("fault %+v", flt)
			}
			return
		}
		if len(got) != n || len(has) != n {
			t.Fatalf("%d generations and %d places for %d", len(got), len(has), n)
		}
		for _, g := range got {
			if !utf8.ValidString(g.Text) || !utf8.ValidString(g.Reasoning) || !utf8.ValidString(g.FinishReason) {
				t.Errorf("not UTF-8: %+v", g)
			}
			if g.PromptTokens < 0 || g.CompletionTokens < 0 || int64(g.PromptTokens)+int64(g.CompletionTokens) > math.MaxInt32 {
				t.Errorf("tokens %d and %d", g.PromptTokens, g.CompletionTokens)
			}
		}
	})
}

// The answer of a judge with n=11, of 2,000 characters a choice.
func BenchmarkDecode(b *testing.B) {
	choices := make([]string, 11)
	for i := range choices {
		choices[i] = fmt.Sprintf(`{"index":%d,"message":{"role":"assistant","content":"%s","reasoning":null},"logprobs":null,"finish_reason":"stop"}`, i, strings.Repeat("Judged\\n ", 200))
	}
	body := []byte(`{"id":"a","choices":[` + strings.Join(choices, ",") + `],"usage":{"prompt_tokens":900,"completion_tokens":700}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, flt := Decode(body, 11); flt != nil {
			b.Fatal(flt.Message)
		}
	}
}
