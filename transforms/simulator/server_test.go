package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// completion is the answer to a chat completion as a client of the protocol reads it.
type completion struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
	Choices []struct {
		Index   int `json:"index"`
		Message struct {
			Role      string  `json:"role"`
			Content   *string `json:"content"`
			Reasoning string  `json:"reasoning_content"`
		} `json:"message"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	} `json:"usage"`
}

func (c completion) texts() []string {
	var texts []string
	for _, choice := range c.Choices {
		texts = append(texts, *choice.Message.Content)
	}
	return texts
}

func user(content string) []schemas.Message {
	return []schemas.Message{{Role: "user", Content: content}}
}

func start(t *testing.T, o Options) *Running {
	t.Helper()
	r, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// body returns a request about q, with more fields.
func body(q string, fields map[string]any) []byte {
	m := map[string]any{"model": "m", "messages": user(q), "seed": 1}
	maps.Copy(m, fields)
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func post(t *testing.T, url string, b []byte) (status int, answer string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answered, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answered)
}

func chat(t *testing.T, r *Running, q string, fields map[string]any) completion {
	t.Helper()
	status, answer := post(t, r.URL()+"/chat/completions", body(q, fields))
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, answer)
	}
	var c completion
	if err := json.Unmarshal([]byte(answer), &c); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	return c
}

func get(t *testing.T, url string) (status int, answer string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestCompletion(t *testing.T) {
	w := world.Default()
	w.Reasoning, w.ReasoningApart = 1, true
	r := start(t, Options{World: &w})
	const q = "why \"so\"?\nand 🙂"
	c := chat(t, r, q, map[string]any{"n": 3, "max_tokens": 200, "top_k": 4})
	want := completion{ID: c.ID, Object: "chat.completion", Created: created, Model: "m", Choices: c.Choices}
	// 14 code points, of which 🙂 has 4 bytes: 17 bytes are 5 tokens, and 4 for the message.
	want.Usage.Prompt = 9
	for i, choice := range c.Choices {
		said := w.Answer(user(q), "m", int64(1+i), 200)
		if choice.Index != i || choice.Message.Role != "assistant" || *choice.Message.Content != said.Text ||
			choice.Message.Reasoning != said.Reasoning || choice.FinishReason != said.FinishReason {
			t.Errorf("choice %d is %+v, want %+v", i, choice, said)
		}
		want.Usage.Completion += said.Tokens
	}
	want.Usage.Total = want.Usage.Prompt + want.Usage.Completion
	if diff := cmp.Diff(want, c); diff != "" || len(c.Choices) != 3 || !strings.HasPrefix(c.ID, "chatcmpl-") {
		t.Errorf("want- got+\n%s", diff)
	}
}

func TestSameWithAndWithoutN(t *testing.T) {
	r := start(t, Options{})
	whole := chat(t, r, "q", map[string]any{"n": 7, "seed": 1 << 40}).texts()
	for i, text := range whole {
		single := chat(t, r, "q", map[string]any{"seed": 1<<40 + i}).texts()
		if diff := cmp.Diff(single, []string{text}); diff != "" {
			t.Errorf("choice %d differs: single- n+\n%s", i, diff)
		}
	}
}

func TestSameOnEveryServer(t *testing.T) {
	one, two := start(t, Options{}), start(t, Options{Slots: 1, MaxN: 9})
	_, a := post(t, one.URL()+"/chat/completions", body("q", map[string]any{"n": 7}))
	_, b := post(t, two.Root()+"/chat/completions", body("q", map[string]any{"n": 7}))
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("one- two+\n%s", diff)
	}
}

func TestFreshTexts(t *testing.T) {
	w := world.Default()
	w.Empty, w.Duplicates, w.ConstantActor = 0, 1, true
	one := start(t, Options{World: &w, FreshTexts: true})
	two := start(t, Options{World: &w, FreshTexts: true})
	seen := map[string]bool{}
	for _, r := range []*Running{one, two, one} {
		for _, text := range chat(t, r, "q", map[string]any{"n": 3}).texts() {
			if seen[text] {
				t.Errorf("came twice: %q", text)
			}
			seen[text] = true
		}
	}
	if got := one.Server().Stats().AskedTwice; got != 3 {
		t.Errorf("asked twice is %d, want 3", got)
	}
}

func TestStop(t *testing.T) {
	r := start(t, Options{World: &world.World{}})
	whole, _, _ := strings.Cut(chat(t, r, "q", nil).texts()[0], "(ref")
	for _, stop := range []any{"(ref", []string{"nowhere", "(ref"}} {
		c := chat(t, r, "q", map[string]any{"stop": stop})
		if got, want := c.texts()[0], whole; got != want || c.Choices[0].FinishReason != "stop" || c.Usage.Completion != (len(want)+3)/4 {
			t.Errorf("stop %v: %q of %d tokens, want %q", stop, got, c.Usage.Completion, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	messages := `"messages":[{"role":"user","content":"q"}]`
	for _, c := range []struct {
		name, body string
		o          Options
		status     int
		says       string
	}{
		{"no JSON", `{"messages":`, Options{}, 400, "not valid JSON"},
		{"no object", `[]`, Options{}, 400, "must be a JSON object"},
		{"something after it", `{` + messages + `}{}`, Options{}, 400, "continues after"},
		{"invalid UTF-8", "{\"model\":\"\xff\"," + messages + "}", Options{}, 400, "not valid UTF-8"},
		{"no messages", `{"model":"m"}`, Options{}, 400, "at least one message"},
		{"empty messages", `{"messages":[]}`, Options{}, 400, "at least one message"},
		{"no role", `{"messages":[{"content":"q"}]}`, Options{}, 400, "must have a role"},
		{"content of a wrong type", `{"messages":[{"role":"user","content":7}]}`, Options{}, 400, "content must be"},
		{"n of a wrong type", `{"n":"7",` + messages + `}`, Options{}, 400, "n must be an integer"},
		{"n too large", `{"n":9,` + messages + `}`, Options{MaxN: 8}, 400, "Field 'n': Value must be between 1 <= value <= 8, but got 9"},
		{"any n", `{"n":2,` + messages + `}`, Options{MaxN: 1}, 400, "Field 'n'"},
		{"n of none", `{"n":0,` + messages + `}`, Options{}, 400, "Field 'n'"},
		{"no tokens", `{"max_tokens":0,` + messages + `}`, Options{}, 400, "max_tokens must be at least 1, got 0"},
		{"stream", `{"stream":true,` + messages + `}`, Options{}, 400, "stream is not supported"},
		{"another model", `{"model":"x",` + messages + `}`, Options{Strict: true}, 404, "`x` does not exist"},
		{"no key", `{` + messages + `}`, Options{APIKey: "k"}, 401, "Invalid API Key"},
		{"vLLM, too long", `{"max_tokens":100,` + messages + `}`, Options{ContextTokens: 50}, 400, "maximum context length is 50 tokens"},
		{"OpenAI, too long", `{"max_tokens":100,` + messages + `}`, Options{ContextTokens: 50, Dialect: None}, 400, `"code":"context_length_exceeded"`},
		{"llama.cpp, too long", `{` + messages + `}`, Options{ContextTokens: 4, Dialect: LlamaCpp}, 400, `"type":"exceed_context_size_error"`},
		{"SGLang, too long", `{` + messages + `}`, Options{ContextTokens: 4, Dialect: SGLang}, 400, "The input (5 tokens) is longer than the model's context length (4 tokens)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, c.o)
			status, answer := post(t, r.URL()+"/chat/completions", []byte(c.body))
			if status != c.status || !strings.Contains(unescape(t, answer), c.says) {
				t.Errorf("answered %d %s, want %d and %q", status, answer, c.status, c.says)
			}
			if got := r.Server().Stats(); got.Rejected[c.status] != 1 || got.Generations != 0 {
				t.Errorf("stats are %+v", got)
			}
		})
	}
}

// unescape undoes the \u escapes of < and > in a JSON text.
func unescape(t *testing.T, answer string) string {
	t.Helper()
	if !json.Valid([]byte(answer)) {
		t.Errorf("no JSON: %s", answer)
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(answer)
}

func TestErrorsInEachDialect(t *testing.T) {
	for dialect, want := range map[string]string{
		VLLM:     `{"error":{"code":404,"message":"no such path","param":null,"type":"not_found_error"}}`,
		None:     `{"error":{"code":404,"message":"no such path","param":null,"type":"not_found_error"}}`,
		LlamaCpp: `{"error":{"code":404,"message":"no such path","type":"not_found_error"}}`,
		SGLang:   `{"code":404,"message":"no such path","object":"error","param":null,"type":"not_found_error"}`,
	} {
		status, answer := get(t, start(t, Options{Dialect: dialect}).Root()+"/v1/nothing")
		if status != 404 || strings.TrimSpace(answer) != want {
			t.Errorf("%s: %d %s", dialect, status, answer)
		}
	}
}

func TestAcceptedForms(t *testing.T) {
	s, err := New(Options{APIKey: "k"})
	if err != nil {
		t.Fatal(err)
	}
	text := func(body string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer k")
		s.ServeHTTP(w, r)
		var c completion
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != http.StatusOK || len(c.Choices) != 1 {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
		return c.texts()[0]
	}
	plain := text(`{"model":"m","messages":[{"role":"user","content":"a\nb"}]}`)
	for _, body := range []string{
		`{"messages":[{"content":"a\u000ab","role":"user","name":"x"}],"model":"m"}`,
		`{"model":"m","n":null,"seed":0,"stop":null,"stream":false,"max_tokens":null,"messages":[{"role":"user","content":"a\nb"}]}`,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`,
		` { "model" : "m" , "seed":7, "seed":0, "x":{"y":[1,{}]}, "messages" : [ { "role" : "user" , "content" : "a\nb" } ] } `,
	} {
		if got := text(body); got != plain {
			t.Errorf("%s gives another text", body)
		}
	}
	if text(`{"model":"m","messages":[{"role":"assistant","content":null}]}`) == plain {
		t.Error("other messages give the same text")
	}
}

func TestModelsAndHealth(t *testing.T) {
	r := start(t, Options{Models: []string{"a", "b"}})
	_, answer := get(t, r.URL()+"/models")
	var list struct {
		Object string
		Data   []struct{ ID, Object string }
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil || list.Object != "list" || len(list.Data) != 2 || list.Data[1].ID != "b" {
		t.Errorf("%v: %s", err, answer)
	}
	if !strings.Contains(answer, "coeval-simulator") {
		t.Errorf("the models don't say that they are simulated: %s", answer)
	}
	if status, _ := get(t, r.Root()+"/health"); status != http.StatusOK {
		t.Errorf("health is %d", status)
	}
}

func TestMetrics(t *testing.T) {
	for dialect, want := range map[string][]string{
		VLLM:     {`vllm:num_requests_running{model_name="simulated"} 0`, `vllm:num_requests_waiting{model_name="simulated"} 0`},
		SGLang:   {`sglang:num_running_reqs{model_name="simulated"} 0`, `sglang:num_queue_reqs{model_name="simulated"} 0`},
		LlamaCpp: {"llamacpp:requests_processing 0", "llamacpp:requests_deferred 0"},
	} {
		status, text := get(t, start(t, Options{Dialect: dialect}).Root()+"/metrics")
		for _, line := range want {
			if status != http.StatusOK || !slices.Contains(strings.Split(text, "\n"), line) {
				t.Errorf("%s: no line %q in %d\n%s", dialect, line, status, text)
			}
		}
	}
	if status, _ := get(t, start(t, Options{Dialect: None}).Root()+"/metrics"); status != http.StatusNotFound {
		t.Errorf("without a dialect metrics are %d", status)
	}
}

func TestTruthOverHTTP(t *testing.T) {
	w := world.Default()
	r := start(t, Options{World: &w})
	response := w.Answer(user("q"), "m", 1, 0).Text
	texts, err := json.Marshal([]string{response, "nobody's"})
	if err != nil {
		t.Fatal(err)
	}
	_, answer := post(t, r.Root()+"/truth", texts)
	var got []world.Truth
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]world.Truth{w.Truth(response), {}}, got); diff != "" {
		t.Errorf("want- got+\n%s", diff)
	}
	_, answer = get(t, r.Root()+"/truth")
	var parameters struct {
		Simulated bool
		World     world.World
	}
	if err := json.Unmarshal([]byte(answer), &parameters); err != nil || !parameters.Simulated || parameters.World != w {
		t.Errorf("%v: %s", err, answer)
	}
}

func TestSent(t *testing.T) {
	w := world.Default()
	w.Reasoning = 1
	r := start(t, Options{World: &w, Record: true})
	text := chat(t, r, "q", nil).texts()[0]
	_, bare, _ := strings.Cut(text, "</think>")
	texts, err := json.Marshal([]string{text, strings.TrimSpace(bare), "never"})
	if err != nil {
		t.Fatal(err)
	}
	if _, answer := post(t, r.Root()+"/sent", texts); strings.TrimSpace(answer) != `["never"]` {
		t.Errorf("never sent: %s", answer)
	}
	if r.Server().Sent("never") || !r.Server().Sent(text+"\n") {
		t.Error("Sent differs from /sent")
	}
	if status, _ := post(t, start(t, Options{}).Root()+"/sent", texts); status != http.StatusConflict {
		t.Errorf("without recording /sent answers %d", status)
	}
}

func TestStatsCountAsks(t *testing.T) {
	r := start(t, Options{})
	chat(t, r, "q", map[string]any{"n": 5, "seed": 1})              // seeds 1 to 5
	chat(t, r, "q", map[string]any{"n": 4, "seed": 4})              // 4 and 5 again
	chat(t, r, "q", map[string]any{"seed": 5})                      // 5 once more: twice is counted once
	chat(t, r, "q", map[string]any{"seed": 1, "temperature": 0.25}) // another generation
	chat(t, r, "q", map[string]any{"seed": 1, "model": "other"})
	chat(t, r, someResponse(), nil)
	st := r.Server().Stats()
	if st.AskedTwice != 2 || st.AskedAfterDelivery != 2 || st.Requests != 6 || st.Generations != 13 {
		t.Errorf("stats are %+v", st)
	}
	roles := map[string]RoleStats{schemas.RoleActor: {Requests: 5, Generations: 12}, schemas.RoleJudge: {Requests: 1, Generations: 1}}
	if diff := cmp.Diff(roles, st.Roles); diff != "" {
		t.Errorf("want- got+\n%s", diff)
	}
	_, answer := get(t, r.Root()+"/stats")
	var overHTTP Stats
	if err := json.Unmarshal([]byte(answer), &overHTTP); err != nil || overHTTP.AskedTwice != 2 || !overHTTP.FirstRequest.Equal(st.FirstRequest) {
		t.Errorf("%v: %s", err, answer)
	}
	if status, _ := post(t, r.Root()+"/stats/reset", nil); status != http.StatusNoContent {
		t.Errorf("reset is %d", status)
	}
	chat(t, r, "q", map[string]any{"seed": 5})
	if st := r.Server().Stats(); st.Requests != 1 || st.AskedTwice != 0 {
		t.Errorf("after a reset stats are %+v", st)
	}
}

// someResponse is a response of the default world.
func someResponse() string {
	w := world.Default()
	return w.Answer(user("q"), "m", 1, 0).Text
}

func TestOptionsValidate(t *testing.T) {
	w := world.Default()
	w.Taste = 1e9
	_, err := New(Options{
		Slots: -1, Latency: time.Second, DecodeRate: 10, FullStatus: 500, Dialect: "tgi", World: &w,
		RoleScale: map[string]float64{"critic": 2}, Faults: Faults{"418x": 1, "429": 2},
	})
	for _, part := range []string{"slots is -1", "latency is 1s", "full status is 500", "dialect is tgi", "taste", "critic", "418x", "fault 429 is 2"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in:\n%v", part, err)
		}
	}
}

// FuzzParseRequest compares the reading of bodies with encoding/json: an accepted body is JSON with the
// same meaning, and a body refused as no JSON is none.
func FuzzParseRequest(f *testing.F) {
	f.Add(body("q", map[string]any{"n": 2, "stop": []string{"a"}, "max_tokens": 5, "x": nil}))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"text","text":"a\ud83d\ude42"}]}],"seed":-1}`))
	f.Add([]byte(`{"messages":[{"role":"\ud800\u0041","content":"\"\\\/\b\f\n\r\t"}],"n":1e1,"x":[0,-0.5E+7,true,false,null,{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := parseRequest(b)
		if err != nil {
			if strings.Contains(err.Error(), "not valid JSON") && json.Valid(b) {
				t.Fatalf("%v in %s", err, b)
			}
			return
		}
		var fields map[string]json.RawMessage
		var messages []map[string]json.RawMessage
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatalf("accepts %q: %v", b, err)
		}
		if err := json.Unmarshal(fields["messages"], &messages); err != nil || len(messages) != len(req.messages) {
			t.Fatalf("reads %q as %+v: %v", b, req.messages, err)
		}
		for i, m := range messages {
			var role, content string
			_ = json.Unmarshal(m["role"], &role)
			if err := json.Unmarshal(m["content"], &content); err != nil && len(m["content"]) > 0 {
				continue // a list of parts
			}
			if role != req.messages[i].Role || content != req.messages[i].Content {
				t.Fatalf("reads %q as %+v", b, req.messages)
			}
		}
	})
}

// FuzzComplete sends any body through the handler: it answers 200 with a completion, or 400.
func FuzzComplete(f *testing.F) {
	f.Add(body("q", map[string]any{"n": 2, "stop": []string{"a"}, "max_tokens": 5}))
	f.Add(body(someResponse(), nil))
	f.Add([]byte(`{}`))
	w := world.Default()
	s, err := New(Options{World: &w, MaxN: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		recorder := httptest.NewRecorder()
		s.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(b)))
		var c completion
		switch err := json.Unmarshal(recorder.Body.Bytes(), &c); {
		case err != nil:
			t.Fatalf("%v in %q", err, recorder.Body)
		case recorder.Code == http.StatusOK && len(c.Choices) == 0, recorder.Code != http.StatusOK && recorder.Code != http.StatusBadRequest:
			t.Fatalf("answers %d %q", recorder.Code, recorder.Body)
		}
	})
}
