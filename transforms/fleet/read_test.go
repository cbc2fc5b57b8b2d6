package fleet

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// A server that can't answer reads stops the run before it pays for a text. A form that was found is sent with each
// request of the role, and one note names it.
func TestReadsAreProvedFirst(t *testing.T) {
	t.Parallel()
	for reported, want := range map[string]string{
		`null`: "it ignores logprobs and top_logprobs",
		`{"content":[{"token":"OK","logprob":-0.1,"top_logprobs":[{"token":"t0","logprob":-5},{"token":"t1","logprob":-6}]}]}`: "",
	} {
		url := chat(t, func(w http.ResponseWriter, r *http.Request) {
			text := "OK"
			if strings.Contains(promptOf(r), "Repeat this") {
				text = "A"
			}
			_, _ = fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"content":%q},"logprobs":%s,"finish_reason":"length"}]}`, text, strings.ReplaceAll(reported, "OK", text))
		})
		f := open(t, Options{})
		r := actorAt(url)
		r.Name, r.MaxTokens, r.Read = schemas.RoleJudge, 1, &stage.Read{Labels: []string{"A", "B"}}
		err := f.VerifyConstraints(t.Context(), []stage.Role{*r}, &counters.Tally{})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("%v, want %q", err, want)
		}
		if err != nil {
			continue
		}
		endpoints, err := f.endpointsOf(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := endpoints[0].ConstraintOf(r); got != `,"logprobs":true,"top_logprobs":20` {
			t.Errorf("asked with %s", got)
		}
		if notes := f.counters.Snapshot().Notes; len(notes) != 1 || !strings.Contains(notes[0], "judge reads A, B of "+url+" by top_logprobs: 20") {
			t.Errorf("notes are %q, want one that names the form", notes)
		}
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
		w := world.Default()
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
