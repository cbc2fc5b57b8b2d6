package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
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

// Each server that can't answer reads is found before the run pays for anything, in one sentence that
// names the server, the cause and what to do; and each that can answer is asked in the form that it has.
func TestFindRead(t *testing.T) {
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
// proved by labels that are reported although they are unlikely. The labels' probabilities sum to read_mass.
func TestReadsOfDialects(t *testing.T) {
	for dialect, want := range map[string]string{
		simulator.VLLM: `"logprob_token_ids":[65,321,66,322]`, simulator.LlamaCpp: `"top_logprobs":20`, simulator.SGLang: `"top_logprobs":20`,
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
		endpoints, err := f.endpointsOf(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := endpoints[0].ConstraintOf(r); !strings.Contains(got, want) {
			t.Errorf("%s: asked with %s, want %s", dialect, got, want)
		}
	}
}
