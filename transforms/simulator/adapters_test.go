package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"coeval/transforms/simulator/world"
)

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
	w := world.World{QualityMean: 3, Spread: 1} // without empty answers
	dir := filepath.Join(t.TempDir(), "adapter")
	want := world.Skill{Quality: 1, Noise: -0.5}
	if err := WriteAdapter(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAdapter(dir); err != nil || got != want {
		t.Fatalf("ReadAdapter = %+v, %v", got, err)
	}
	s, err := New(Options{World: &w, Adapters: true, Models: []string{"base"}})
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
	if got := w.Truth(trained.Choices[0].Message.Content); got.Kind != "response" {
		t.Fatalf("the adapter says %q", trained.Choices[0].Message.Content)
	}
	if trained.Choices[0].Message.Content != w.Answer(user("Question"), want.Model(), 0, 0).Text {
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
	closed, err := New(Options{World: &w})
	if err != nil {
		t.Fatal(err)
	}
	c := httptest.NewServer(closed)
	t.Cleanup(c.Close)
	if status := postJSON(t, c.URL+"/v1/load_lora_adapter", load, nil); status != http.StatusNotFound {
		t.Errorf("without the option: status %d", status)
	}
}
