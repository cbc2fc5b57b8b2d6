package reads_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/reads"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

// maxBody bounds the answers of the servers below.
const maxBody = 1 << 20

// probe returns the probe of a server, which is asked once for each text.
func probe(t *testing.T, url string, r *stage.Role) *reads.Probe {
	t.Helper()
	c, err := transport.New(stage.Endpoint{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP, err = transport.NewHTTPClient(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	e := endpoint.New(c, schedule.NewServer(url, pacing.New(0), pacing.NewQuota(0, 0)))
	ask := func(ctx context.Context, content, fields string, tokens int) (*schemas.Generation, []byte, error) {
		short := *r
		short.MaxTokens, short.Read = tokens, nil
		messages := []schemas.Message{{Role: "user", Content: content}}
		body, err := openai.AppendBody(nil, &openai.Request{Role: &short, Messages: messages, N: 1, Constraint: fields})
		if err != nil {
			return nil, nil, err
		}
		a, err := e.Post(ctx, body, maxBody, time.Minute)
		if err != nil {
			return nil, nil, err
		}
		if a.Status != http.StatusOK {
			flt := fault.Classify(a.Status, a.Header, a.Body)
			return &schemas.Generation{Code: flt.Code, Message: flt.Message}, a.Body, nil
		}
		generations, _, flt := openai.Decode(a.Body, 1)
		if flt != nil {
			return nil, nil, errors.New(flt.Message)
		}
		return &generations[0], a.Body, nil
	}
	return &reads.Probe{Endpoint: e, Role: r, Ask: ask}
}

// reader is a server that answers reads in its own way.
type reader struct {
	// most is the largest number of tokens that it reports: above it refuses if refuses is set, and
	// reports fewer otherwise. 0 ignores logprobs.
	most    int
	refuses bool
	// masked reports the probabilities after a grammar's mask.
	masked bool
	// spaced has a space as a token of its own before each label, digits one token for each digit.
	spaced, digits bool
	// thinks begins each text with reasoning.
	thinks bool
}

func (s reader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
		http.Error(w, `{"error":{"message":"no such path"}}`, http.StatusNotFound)
		return
	}
	var body struct {
		LogProbs  bool `json:"logprobs"`
		Top       int  `json:"top_logprobs"`
		MaxTokens int  `json:"max_tokens"`
		Messages  []schemas.Message
	}
	b, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(b, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.refuses && body.Top > s.most {
		http.Error(w, fmt.Sprintf(`{"error":{"message":"Invalid value for 'top_logprobs': must be less than or equal to %d","code":400}}`, s.most), http.StatusBadRequest)
		return
	}
	label, repeat := strings.CutPrefix(body.Messages[0].Content, "Repeat this and write nothing else: ")
	written := []string{"OK"}
	switch {
	case s.thinks:
		written = []string{"<think>"}
	case s.masked:
		written = []string{"A"}
	case repeat && s.digits:
		written = strings.Split(label, "")
	case repeat && s.spaced:
		written = []string{" ", label}
	case repeat:
		written = []string{label}
	}
	written = written[:min(len(written), body.MaxTokens)]
	type entry struct {
		Token   string  `json:"token"`
		LogProb float64 `json:"logprob"`
		Top     []entry `json:"top_logprobs"`
	}
	var content []entry
	for _, token := range written {
		e := entry{Token: token, LogProb: -0.01}
		for i := range min(body.Top, s.most) {
			e.Top = append(e.Top, entry{Token: fmt.Sprint("t", i), LogProb: -5 - float64(i)})
		}
		if s.masked {
			e.Top = []entry{{Token: "A", LogProb: math.Log(0.31)}, {Token: "B", LogProb: math.Log(0.69)}, {Token: "OK", LogProb: -9999}}
		}
		content = append(content, e)
	}
	choice := map[string]any{"index": 0, "message": map[string]string{"content": strings.Join(written, "")}, "finish_reason": "length"}
	if body.LogProbs && s.most > 0 {
		choice["logprobs"] = map[string]any{"content": content}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{choice}})
}

// Each server that can't answer reads is found before the run pays for a text. One sentence names the
// server, the cause and the next step. Each server that can answer is asked in the form that it
// supports.
func TestFind(t *testing.T) {
	t.Parallel()
	ab, points, ten := []string{"A", "B"}, []string{"0", "1", "2", "3", "4", "5"}, []string{"1", "5", "10"}
	for _, tt := range []struct {
		name   string
		server reader
		labels []string
		fields string // of the form that was found
		cause  string // or why there is none
	}{
		{"reports 20", reader{most: 20, refuses: true}, points, `,"logprobs":true,"top_logprobs":20`, ""},
		{"refuses more than 5", reader{most: 5, refuses: true}, ab, `,"logprobs":true,"top_logprobs":5`, ""},
		{"reports 5 at most", reader{most: 5}, ab, `,"logprobs":true,"top_logprobs":20`, ""},
		{"reports 5 of 6 labels", reader{most: 5, refuses: true}, points, "", "at most 5 tokens, and a read of the judge has the 6 labels 0, 1, 2, 3, 4, 5"},
		{"ignores logprobs", reader{}, ab, "", "it ignores logprobs and top_logprobs"},
		{"refuses logprobs", reader{refuses: true}, ab, "", "it refuses logprobs with top_logprobs"},
		{"after a mask", reader{most: 20, masked: true}, ab, "", "after a grammar's mask"},
		{"digits are tokens", reader{most: 20, digits: true}, ten, "", `the label "10" as several tokens (2)`},
		{"digits are tokens, and labels digits", reader{most: 20, digits: true}, points, `,"logprobs":true,"top_logprobs":20`, ""},
		{"a space is a token", reader{most: 20, spaced: true}, ab, "", "as several tokens (2)"},
		{"reasons first", reader{most: 20, thinks: true}, ab, "", "begins its texts with reasoning"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.server)
			t.Cleanup(s.Close)
			r := &stage.Role{Name: schemas.RoleJudge, Model: "simulated", Temperature: 0.8, TopP: 0.95, MaxTokens: 1, Read: &stage.Read{Labels: tt.labels}}
			form, ok, err := probe(t, s.URL+"/v1", r).Find(t.Context())
			if tt.cause != "" {
				if err == nil || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), s.URL) || !strings.Contains(err.Error(), "judge.verdict: reasoned") || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want a sentence with %q, the server and what to do", err, tt.cause)
				}
				return
			}
			if err != nil || !ok {
				t.Fatalf("found %t, %v", ok, err)
			}
			if got := form.Fields(); got != tt.fields {
				t.Errorf("asked with %s, want %s", got, tt.fields)
			}
		})
	}
}

// generator is SGLang's server, which reports the three likeliest tokens of a text that has nothing to do with the labels:
// yes has 0.6, no 0.3 and maybe 0.05. The labels A and B have 0.001 each, and 0.2 and 0.5 after any other text.
type generator struct {
	// tokenizes is false without messages at /tokenize.
	tokenizes bool
	// prompt is added to the tokens of a rendered chat, which are 7.
	prompt int
	// status of /generate, if not 200; body of it, if not the right one.
	status int
	body   string
	// masked reports probabilities of labels after a mask, at /generate alone.
	masked bool
	// other reports the probabilities of another model at /generate, as one without the adapter.
	other bool
	// pieces are the tokens of A.
	pieces int
	asked  *[]map[string]any
}

func (s generator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Messages []schemas.Message
		Prompt   *string
		IDs      []int64 `json:"token_ids_logprob"`
		Input    []int64 `json:"input_ids"`
	}
	b, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(b, &body)
	words := []string{"yes", "no", "maybe", "A", "B", " A", " B"}
	neutral := []float64{0.6, 0.3, 0.05, 0.001, 0.001, 1e-9, 1e-9}
	probabilities := map[bool][]float64{true: neutral, false: {0.1, 0.1, 0.1, 0.2, 0.5, 0, 0}}
	entry := func(at int, list []float64) map[string]any {
		return map[string]any{"token": words[at], "logprob": math.Log(max(list[at], 1e-30))}
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/chat/completions"):
		list := probabilities[strings.HasPrefix(body.Messages[0].Content, "Say OK. ")]
		first := entry(0, list)
		first["top_logprobs"] = []any{entry(0, list), entry(1, list), entry(2, list)}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"choices": []any{map[string]any{"message": map[string]string{"content": "yes"}, "finish_reason": "length", "logprobs": map[string]any{"content": []any{first}}}},
			"usage":   map[string]int{"prompt_tokens": 7, "completion_tokens": 1},
		})
	case r.URL.Path == "/tokenize" && body.Prompt != nil:
		tokens := []int{10 + slices.Index(words, *body.Prompt)}
		if *body.Prompt == "A" || *body.Prompt == " A" {
			tokens = append(tokens, make([]int, s.pieces)...)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"tokens": tokens})
	case r.URL.Path == "/tokenize" && s.tokenizes && len(body.Messages) == 1:
		tokens := make([]int, 7+s.prompt)
		if strings.HasPrefix(body.Messages[0].Content, "Say OK. ") {
			tokens[0] = 1
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"tokens": tokens})
	case r.URL.Path == "/generate":
		var fields map[string]any
		_ = json.Unmarshal(b, &fields)
		*s.asked = append(*s.asked, fields)
		list := slices.Clone(probabilities[len(body.Input) > 0 && body.Input[0] == 1])
		if s.masked {
			list[3], list[4] = 0.5, 0.49
		}
		if s.other {
			list[0], list[1] = 0.3, 0.6
		}
		triples := []any{}
		for _, id := range body.IDs {
			triples = append(triples, []any{math.Log(max(list[id-10], 1e-30)), id, nil})
		}
		if s.status != 0 {
			w.WriteHeader(s.status)
		}
		if s.body != "" {
			_, _ = io.WriteString(w, s.body)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"text": "B", "meta_info": map[string]any{
			"finish_reason": map[string]any{"type": "length", "length": 1}, "prompt_tokens": len(body.Input), "completion_tokens": 1,
			"output_token_ids_logprobs": []any{triples},
		}})
	default:
		http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
	}
}

// Reads go to /generate where it answers a text as the chat completion does: with the same number of prompt tokens, the
// same probabilities, and the labels' own, without a mask. Everywhere else the form is top_logprobs.
func TestFindGenerate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		server generator
		extra  string
		model  string
		takes  bool
		cause  string
	}{
		{name: "answers", server: generator{tokenizes: true}, takes: true},
		{name: "an adapter", server: generator{tokenizes: true}, model: "base:tuned", takes: true},
		{name: "a template's option", server: generator{tokenizes: true}, extra: `{"chat_template_kwargs":{"enable_thinking":false}}`, takes: true},
		{name: "a field that changes probabilities", server: generator{tokenizes: true}, extra: `{"logit_bias":{"10":5}}`},
		{name: "renders no messages", server: generator{}},
		{name: "renders another prompt", server: generator{tokenizes: true, prompt: 1}},
		{name: "404", server: generator{tokenizes: true, status: 404}},
		{name: "501", server: generator{tokenizes: true, status: 501}},
		{name: "nonsense", server: generator{tokenizes: true, body: `{"generated_text":"A"}`}},
		{name: "a web page", server: generator{tokenizes: true, body: `<html></html>`}},
		{name: "one label of two", server: generator{tokenizes: true, body: `{"text":"A","meta_info":{"prompt_tokens":7,"output_token_ids_logprobs":[[[-0.5,13,null]]]}}`}},
		{name: "after a mask", server: generator{tokenizes: true, masked: true}},
		{name: "another model", server: generator{tokenizes: true, other: true}},
		{name: "a label of two tokens", server: generator{tokenizes: true, pieces: 1}, cause: `the label "A" as several tokens (2)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []map[string]any
			tt.server.asked = &asked
			s := httptest.NewServer(tt.server)
			t.Cleanup(s.Close)
			r := &stage.Role{
				Name: schemas.RoleMetaJudge, Model: cmp.Or(tt.model, "simulated"), Temperature: 0.8, TopP: 0.95, MaxTokens: 1,
				Read: &stage.Read{Labels: []string{"A", "B"}}, ExtraBody: tt.extra,
			}
			p := probe(t, s.URL+"/v1", r)
			form, ok, err := p.Find(t.Context())
			if tt.cause != "" {
				if err == nil || !strings.Contains(err.Error(), tt.cause) {
					t.Fatalf("%v, want %q", err, tt.cause)
				}
				return
			}
			want := "top_logprobs: 20"
			if tt.takes {
				want = "/generate with 4 tokens"
			}
			if err != nil || !ok || form.String() != want || form.Generate != tt.takes {
				t.Fatalf("found %t: %s, %v; want %s", ok, form, err, want)
			}
			if !tt.takes {
				return
			}
			asked = nil
			messages := []schemas.Message{{Role: "user", Content: "A or B?"}}
			chat, err := openai.AppendBody(nil, &openai.Request{Role: r, Messages: messages, N: 1})
			if err != nil {
				t.Fatal(err)
			}
			a, err := reads.Post(t.Context(), p.Endpoint, &reads.Rendered{Role: r, Form: &form, N: 1}, chat, maxBody, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			got, _, flt := form.DecodeGenerated(a.Body, 1, r.Read)
			if flt != nil {
				t.Fatal(flt.Message)
			}
			// log 0.2 = -1.609438 and log 0.5 = -0.693147
			if g := got[0]; len(asked) != 1 || g.LogProbs["A"] != -1.609438 || g.LogProbs["B"] != -0.693147 || g.PromptTokens != 7 || g.FinishReason != "length" {
				t.Fatalf("asked /generate %d times, and got %+v", len(asked), g)
			}
			adapter, _ := asked[0]["lora_path"].(string)
			sampling, _ := asked[0]["sampling_params"].(map[string]any)
			if sampling["max_new_tokens"] != 1.0 || sampling["temperature"] != 0.8 || tt.model != "" && adapter != "tuned" || tt.model == "" && adapter != "" {
				t.Errorf("asked with %v", asked[0])
			}
		})
	}
}
