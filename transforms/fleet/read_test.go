package fleet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/simulator"
	"coeval/transforms/stage"
)

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
func TestFindRead(t *testing.T) {
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
			f := open(t, Options{})
			r := actorAt(s.URL + "/v1")
			r.Name, r.MaxTokens, r.Read = schemas.RoleJudge, 1, &stage.Read{Labels: tt.labels}
			err := f.VerifyConstraints(t.Context(), []stage.Role{*r}, &counters.Tally{})
			if tt.cause != "" {
				if err == nil || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), s.URL) || !strings.Contains(err.Error(), "judge.verdict: reasoned") || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want a sentence with %q, the server and what to do", err, tt.cause)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			endpoints, err := f.endpointsOf(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := endpoints[0].ConstraintOf(r); got != tt.fields {
				t.Errorf("asked with %s, want %s", got, tt.fields)
			}
			if notes := f.counters.Snapshot().Notes; len(notes) != 1 || !strings.Contains(notes[0], "judge reads "+strings.Join(tt.labels, ", ")) {
				t.Errorf("notes are %q, want one that names the form", notes)
			}
		})
	}
}

// The simulated worker answers reads in the form of its dialect: vLLM's has logprob_token_ids, which is
// proved by labels that are reported although they are unlikely, SGLang's has /generate. The labels'
// probabilities sum to read_mass.
func TestReadsOfDialects(t *testing.T) {
	t.Parallel()
	for dialect, want := range map[string]string{
		simulator.VLLM: "meta_judge reads A, B of URL by logprob_token_ids with 4 tokens", simulator.LlamaCpp: "meta_judge reads A, B of URL by top_logprobs: 20",
		simulator.SGLang: "meta_judge reads A, B of URL by /generate with 4 tokens", simulator.None: "meta_judge reads A, B of URL by top_logprobs: 20",
	} {
		w := simulator.DefaultWorld()
		w.ReadOther, w.MetaUnparsed = 0.25, 0
		s := start(t, simulator.Options{Dialect: dialect, World: &w})
		f := open(t, Options{})
		r := actorAt(s.URL())
		r.Name, r.MaxTokens, r.Read = schemas.RoleMetaJudge, 1, &stage.Read{Labels: []string{"A", "B"}}
		first := w.Answer([]schemas.Message{{Role: "user", Content: "x"}}, "m", 1, 0).Text
		page := func(seed int64) string {
			return w.Answer([]schemas.Message{{Role: "user", Content: first}}, "m", seed, 0).Text
		}
		call := Request{Role: r, Stage: schemas.StageMeta, PromptID: "p", N: 1, CallN: 1, Messages: func() []schemas.Message {
			return []schemas.Message{{Role: "user", Content: page(1) + "\n" + page(2)}}
		}}
		g := ask(t, f, []Request{call})[0][0]
		mass := math.Exp(g.LogProbs["A"]) + math.Exp(g.LogProbs["B"])
		if len(g.LogProbs) != 2 || math.Abs(mass-0.75) > 1e-3 {
			t.Errorf("%s: labels have %v, a mass of %v; want 0.75", dialect, g.LogProbs, mass)
		}
		if notes := f.counters.Snapshot().Notes; len(notes) != 1 || strings.Replace(notes[0], s.URL(), "URL", 1) != want {
			t.Errorf("%s: the notes are %q, want %q", dialect, notes, want)
		}
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
// same probabilities, and the labels' own, without a mask. Everywhere else they are asked with top_logprobs.
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
			f := open(t, Options{})
			r := actorAt(s.URL + "/v1")
			r.Name, r.MaxTokens, r.Read, r.ExtraBody = schemas.RoleMetaJudge, 1, &stage.Read{Labels: []string{"A", "B"}}, tt.extra
			r.Model = cmp.Or(tt.model, r.Model)
			err := f.VerifyConstraints(t.Context(), []stage.Role{*r}, &counters.Tally{})
			if tt.cause != "" {
				if err == nil || !strings.Contains(err.Error(), tt.cause) {
					t.Fatalf("%v, want %q", err, tt.cause)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := "meta_judge reads A, B of " + s.URL + "/v1 by top_logprobs: 20"
			if tt.takes {
				want = "meta_judge reads A, B of " + s.URL + "/v1 by /generate with 4 tokens"
			}
			if notes := f.counters.Snapshot().Notes; len(notes) != 1 || notes[0] != want {
				t.Fatalf("notes are %q, want %q", notes, want)
			}
			asked = nil
			call := Request{Role: r, Stage: schemas.StageMeta, PromptID: "p", N: 1, CallN: 1, Messages: func() []schemas.Message {
				return []schemas.Message{{Role: "user", Content: "A or B?"}}
			}}
			g := ask(t, f, []Request{call})[0][0]
			if !tt.takes {
				if len(asked) != 0 || len(g.LogProbs) != 0 { // the three likeliest tokens are no labels
					t.Errorf("asked /generate %d times, and got %v", len(asked), g.LogProbs)
				}
				return
			}
			// log 0.2 = -1.609438 and log 0.5 = -0.693147
			if len(asked) != 1 || g.LogProbs["A"] != -1.609438 || g.LogProbs["B"] != -0.693147 || g.PromptTokens != 7 || g.FinishReason != "length" {
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
