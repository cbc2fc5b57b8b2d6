package infer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"unicode/utf8"

	v2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/simulator"
)

func TestRequestBody(t *testing.T) {
	r := &Role{
		Name: schemas.RoleActor, Model: `a "model"`, Temperature: 0.8, TopP: 0.95, MaxTokens: 10,
		Stop: []string{"\n\n"}, ExtraBody: `{"chat_template_kwargs":{"enable_thinking":false},"top_k":20}`,
	}
	messages := []schemas.Message{{Role: "system", Content: "Be \\ brief.\n"}, {Role: "user", Content: "Größe\u2028?"}}
	b, err := appendBody(nil, r, messages, 7, 42, `,"regex":"a"`)
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
	if b, err = appendBody(nil, &Role{Model: "m", ExtraBody: "{}"}, messages[:1], 1, 0, ""); err != nil || !json.Valid(b) {
		t.Errorf("%s, %v", b, err)
	}
	messages[0].Content = "\xff"
	if b, err = appendBody(nil, r, messages, 1, 0, ""); err == nil {
		t.Errorf("what is no UTF-8 is sent: %s", b)
	}
}

func TestDecodeResponse(t *testing.T) {
	const usage = `"usage":{"prompt_tokens":9,"completion_tokens":7}`
	tests := []struct {
		name, body string
		n          int
		want       []schemas.Generation
		has        []bool
		code       string
	}{
		{
			name: "a choice that was withheld", n: 2, has: []bool{true, true},
			body: `{"choices":[{"index":0,"message":{"content":null},"finish_reason":"content_filter"},{"index":1,"message":{"content":"b"},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{Code: CodeContentFilter, Message: "the server's content filter withheld the text"}, {Text: "b", FinishReason: "stop"}},
		},
		{
			name: "a choice that the server gave up", n: 2, has: []bool{false, true},
			body: `{"choices":[{"index":0,"message":{"content":"half a te"},"finish_reason":"abort"},{"index":1,"message":{"content":"b"},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{}, {Text: "b", FinishReason: "stop"}},
		},
		{
			name: "two choices, out of order", n: 2, has: []bool{true, true},
			body: `{"choices":[{"index":1,"message":{"content":"b"},"finish_reason":"length"},{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],` + usage + `}`,
			want: []schemas.Generation{ // 7 tokens over 2 choices: 4 and 3
				{Text: "a", FinishReason: "stop", PromptTokens: 9, CompletionTokens: 4},
				{Text: "b", FinishReason: "length", PromptTokens: 9, CompletionTokens: 3},
			},
		},
		{
			name: "fewer than asked for", n: 3, has: []bool{true, false, false},
			body: `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{Text: "a", FinishReason: "stop"}, {}, {}},
		},
		{
			name: "null content is an empty text", n: 1, has: []bool{true},
			body: `{"choices":[{"index":0,"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{Reasoning: "hm", FinishReason: "stop"}},
		},
		{
			name: "a refusal is a text", n: 1, has: []bool{true},
			body: `{"choices":[{"index":0,"message":{"content":null,"refusal":"No."},"finish_reason":"stop"}]}`,
			want: []schemas.Generation{{Text: "No.", FinishReason: "refusal"}},
		},
		{
			name: "one index twice, one out of range", n: 2, has: []bool{true, false},
			body: `{"choices":[{"index":0,"message":{"content":"a"}},{"index":0,"message":{"content":"b"}},{"index":7,"message":{"content":"c"}}]}`,
			want: []schemas.Generation{{Text: "a"}, {}},
		},
		{
			name: "invalid UTF-8", n: 1, has: []bool{true},
			body: "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"a\xffb\"}}]}",
			want: []schemas.Generation{{Text: "a\uFFFDb"}},
		},
		{name: "an error object", n: 1, body: `{"error":{"message":"overloaded"}}`, code: CodeServerError},
		{name: "no choice", n: 1, body: `{"choices":[]}`, code: CodeMalformed},
		{name: "a proxy's page", n: 1, body: `<html>Bad gateway</html>`, code: CodeMalformed},
		{name: "truncated", n: 1, body: `{"choices":[{"index":0,"mess`, code: CodeMalformed},
		{name: "wrong types", n: 1, body: `{"choices":[{"index":"0","message":{"content":5}}]}`, code: CodeMalformed},
		{name: "empty", n: 1, body: ``, code: CodeMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, has, f := decodeResponse([]byte(tt.body), tt.n)
			if code := codeOf(f); code != tt.code {
				t.Fatalf("fault %+v, want code %q", f, tt.code)
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

func codeOf(f *fault) string {
	if f == nil {
		return ""
	}
	return f.code
}

func TestClassify(t *testing.T) {
	tests := []struct {
		status int
		body   string
		want   treatment
		code   string
	}{
		{429, "", full, CodeServerError},
		{503, "", full, CodeServerError},
		{408, "", full, CodeServerError},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination", retry, CodeServerError},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: overflow", full, CodeServerError},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure", full, CodeServerError},
		{500, "", retry, CodeServerError},
		{502, "<html>", retry, CodeServerError},
		{504, "", retry, CodeServerError},
		{401, "", stop, ""},
		{402, "", stop, ""},
		{403, "", stop, ""},
		{404, "", stop, ""},
		{405, "", stop, ""},
		{307, "", stop, ""},
		{413, "", refuse, CodeTooLarge},
		{422, "", refuse, CodeBadRequest},
		{400, "what", refuse, CodeBadRequest},
		{400, `{"error":{"code":400,"type":"exceed_context_size_error","n_ctx":2048}}`, refuse, CodeContextLength},
		{400, `{"message":"This model's maximum context length is 4096 tokens."}`, refuse, CodeContextLength},
		{400, `{"message":"The input (9000 tokens) is longer than the model's context length (8192 tokens)."}`, refuse, CodeContextLength},
		{400, `{"error":{"code":"context_length_exceeded"}}`, refuse, CodeContextLength},
		{400, `{"error":{"message":"You passed 9000 input tokens and requested 2048 output tokens. However, the model's context length is only 8192 tokens"}}`, refuse, CodeContextLength},
		{500, `{"detail":"The prompt (total length 9000) is longer than the maximum model length of 8192."}`, refuse, CodeContextLength},
		{403, `{"error":{"code":"content_filter","message":"flagged"}}`, refuse, CodeContentFilter},
		{500, `{"error":{"message":"the request exceeds the available context size"}}`, refuse, CodeContextLength},
		{400, `{"error":{"code":"content_filter","innererror":{}}}`, refuse, CodeContentFilter},
		{400, `{"error":{"code":"content_policy_violation"}}`, refuse, CodeContentFilter},
		{400, `{"error":{"message":"The model is unknown","code":"model_not_found"}}`, stop, ""},
		{400, `{"error":"model not found"}`, stop, ""},
		// What was asked, said back, is no complaint.
		{422, `{"detail":[{"msg":"field required","input":"why is my model not found? content_filter, prompt is too long"}]}`, refuse, CodeBadRequest},
		{400, `{"error":{"message":"bad","param":"unknown model"}}`, refuse, CodeBadRequest},
	}
	for _, tt := range tests {
		f := classify(tt.status, nil, []byte(tt.body))
		if f.treatment != tt.want || f.code != tt.code {
			t.Errorf("%d %s: treatment %d code %q, want %d %q", tt.status, tt.body, f.treatment, f.code, tt.want, tt.code)
		}
	}
}

// Whatever a server says, what is taken from it is valid UTF-8, has n places and never panics.
func FuzzDecodeResponse(f *testing.F) {
	f.Add([]byte(`{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":7}}`), 1)
	f.Add([]byte("{\"choices\":[{\"index\":1,\"message\":{\"content\":\"\xff\"}}]}"), 3)
	f.Add([]byte(`{"error":null,"choices":[{"index":-1}]}`), 2)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		if n < 1 || n > 64 {
			return
		}
		got, has, flt := decodeResponse(body, n)
		if flt != nil {
			if !utf8.ValidString(flt.message) || flt.code == "" {
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
		}
	})
}

// What is read quickly is what the library reads.
func FuzzQuickResponse(f *testing.F) {
	for _, s := range []string{
		`{"id":"a","choices":[{"index":0,"message":{"role":"assistant","content":"a\"\\u00e9\\ud83d\\ude00\n","reasoning":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":7}}`,
		`{"choices":[{"index":0,"index":1}],"choices":[]}`,
		`{"error":null,"choices":[{"index":-1}]} `,
		`{"usage":null,"choices":null}`,
		`{"choices":[{"message":{"content":"\ud800","reasoning_content":"x"},"index":1e0}]}`,
		`{"choices":[{"message":{"Content":"a","refusal":"no"},"index":01}],"error":{"a":1}}`,
		`{"choices":[null,{"message":null,"finish_reason":null,"index":null}],"usage":{"prompt_tokens":9223372036854775808}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		own := bytes.Clone(body)
		got, ok := quickResponse(own)
		if !ok {
			return
		}
		clear(own) // what was read is no part of it
		var want response
		if err := v2.Unmarshal(body, &want, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)); err != nil {
			t.Fatalf("%q: the library says %v", body, err)
		}
		if len(want.Choices) == 0 {
			want.Choices = nil // [] and null are the same
		}
		if want.Error.Kind() == 'n' {
			want.Error = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", body, diff)
		}
	})
}

// The answer of a judge with n=11, as a server sends it.
func BenchmarkDecodeResponse(b *testing.B) {
	s, err := simulator.New(simulator.Options{})
	if err != nil {
		b.Fatal(err)
	}
	body, err := appendBody(nil, &Role{Model: "m"}, []schemas.Message{{Role: "user", Content: "Why is the sky blue?"}}, 11, 1, "")
	if err != nil {
		b.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body)))
	answer := w.Body.Bytes()
	read := func(b *testing.B, by func() bool) {
		b.SetBytes(int64(len(answer)))
		b.ReportAllocs()
		for b.Loop() {
			if !by() {
				b.Fatalf("can't read %s", answer)
			}
		}
	}
	b.Run("quick", func(b *testing.B) {
		read(b, func() bool { _, ok := quickResponse(answer); return ok })
	})
	b.Run("library", func(b *testing.B) {
		read(b, func() bool {
			var r response
			return v2.Unmarshal(answer, &r, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) == nil
		})
	})
}
