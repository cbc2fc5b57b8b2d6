package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"coeval/schemas"
)

func pairOfTexts(chosen, rejected string) schemas.Pair {
	return schemas.Pair{
		Chosen:   []schemas.Message{{Role: "assistant", Content: chosen}},
		Rejected: []schemas.Message{{Role: "assistant", Content: rejected}},
	}
}

// truePairs returns n pairs of responses of which the truly better one is chosen, and their swapped
// ones.
func truePairs(w *World, n int) (right, wrong []schemas.Pair) {
	for i := range n {
		texts := askModel(w, "m", fmt.Sprintf("Question %d", i), 2)
		if w.Truth(texts[0]).Quality < w.Truth(texts[1]).Quality {
			texts[0], texts[1] = texts[1], texts[0]
		}
		right = append(right, pairOfTexts(texts[0], texts[1]))
		wrong = append(wrong, pairOfTexts(texts[1], texts[0]))
	}
	return right, wrong
}

// True pairs improve the actor, wrong ones spoil it by as much, and foreign texts teach nothing.
func TestLearnActor(t *testing.T) {
	w := quiet()
	right, wrong := truePairs(w, 100)
	up, down := w.Learn(Skill{}, w.Lesson(right, nil)), w.Learn(Skill{}, w.Lesson(wrong, nil))
	if up.Quality <= 0 || math.Abs(up.Quality+down.Quality) > 1e-12 || up.Noise != 0 {
		t.Errorf("true pairs give %+v, wrong ones %+v", up, down)
	}
	// Of two normal qualities with the deviation 0.6 the better lies 0.6·2/√π = 0.68 above the other.
	if l := w.Lesson(right, nil); math.Abs(l.QualityGap-0.68) > 4*0.051 || l.ActorPairs != 100 {
		t.Errorf("lesson is %+v; want a gap of 0.68", l)
	}
	if s := w.Learn(Skill{}, w.Lesson([]schemas.Pair{pairOfTexts("a real text", "another")}, nil)); s != (Skill{}) {
		t.Errorf("foreign texts give %+v", s)
	}
}

// True judgments sharpen the judge, and more pairs teach more.
func TestLearnJudge(t *testing.T) {
	w := quiet()
	page := "Judge <response-0123456789ab>\nan answer\n</response-0123456789ab>"
	texts := askModel(w, "m", page, 200)
	var right []schemas.Pair
	for i := 0; i < len(texts); i += 2 {
		a, b := texts[i], texts[i+1]
		if w.Truth(a).Error > w.Truth(b).Error {
			a, b = b, a
		}
		right = append(right, pairOfTexts(a, b))
	}
	some, all := w.Learn(Skill{}, w.Lesson(nil, right[:20])), w.Learn(Skill{}, w.Lesson(nil, right))
	if some.Noise >= 0 || all.Noise >= some.Noise || all.Quality != 0 {
		t.Errorf("20 pairs give %+v, 100 %+v", some, all)
	}
}

// Quality never passes the ceiling, with any lesson.
func TestLearnCeiling(t *testing.T) {
	w := quiet()
	s := Skill{}
	for range 200 {
		s = w.Learn(s, Lesson{ActorPairs: 10_000, JudgePairs: 10_000, QualityGap: 2, ErrorGap: 2, LengthGap: 2})
	}
	if w.QualityMean+s.Quality > ceiling+1e-9 || s.Noise < -maxNoise || s.Length > 5 {
		t.Errorf("after 200 trainings the skill is %+v", s)
	}
}

// postJSON sends a body and decodes the answer.
func postJSON(t *testing.T, url string, body, out any) int {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode
}

// An adapter answers with its skill under its name, lists its root, and has log-probabilities of its
// own. A server without the option reads no path.
func TestAdapters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "adapter")
	want := Skill{Quality: 1, Noise: -0.5}
	if err := WriteAdapter(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAdapter(dir); err != nil || got != want {
		t.Fatalf("ReadAdapter = %+v, %v", got, err)
	}
	s, err := New(Options{World: quiet(), Adapters: true, Models: []string{"base"}})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	load := map[string]string{"lora_name": "it-1", "lora_path": dir}
	if status := postJSON(t, h.URL+"/v1/load_lora_adapter", load, nil); status != http.StatusOK {
		t.Fatalf("load: status %d", status)
	}
	type answer struct {
		Choices []struct {
			Message  struct{ Content string }
			Logprobs struct{ Content []struct{ Logprob float64 } }
		}
	}
	ask := func(model string) answer {
		var a answer
		postJSON(t, h.URL+"/v1/chat/completions", map[string]any{
			"model": model, "logprobs": true, "messages": []map[string]string{{"role": "user", "content": "Question"}},
		}, &a)
		return a
	}
	base, trained := ask("base"), ask("it-1")
	if got := quiet().Truth(trained.Choices[0].Message.Content); got.Kind != "response" {
		t.Fatalf("the adapter says %q", trained.Choices[0].Message.Content)
	}
	if trained.Choices[0].Message.Content != askModel(quiet(), want.Model(), "Question", 1)[0] {
		t.Error("the adapter doesn't answer with its skill")
	}
	if len(base.Choices[0].Logprobs.Content) == 0 || base.Choices[0].Logprobs.Content[0] == trained.Choices[0].Logprobs.Content[0] {
		t.Error("base model and adapter have the same log-probabilities, or none")
	}
	if again := ask("it-1"); again.Choices[0].Logprobs.Content[0] != trained.Choices[0].Logprobs.Content[0] {
		t.Error("log-probabilities change from ask to ask")
	}
	load["lora_path"] = filepath.Join(dir, "absent")
	if status := postJSON(t, h.URL+"/v1/load_lora_adapter", load, nil); status != http.StatusNotFound {
		t.Errorf("a folder that isn't there: status %d", status)
	}
	closed, err := New(Options{World: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	c := httptest.NewServer(closed)
	t.Cleanup(c.Close)
	if status := postJSON(t, c.URL+"/v1/load_lora_adapter", load, nil); status != http.StatusNotFound {
		t.Errorf("without the option: status %d", status)
	}
}
