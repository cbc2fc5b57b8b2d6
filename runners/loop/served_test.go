package loop_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server that somebody restarts with its first weights between two iterations is found before it is asked for data
// under the revision of the trained model.
func TestServerIsRestarted(t *testing.T) {
	t.Parallel()
	var current string // the file with the weights that the server has loaded
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data": [{"id": "base"}]}`))
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Messages []map[string]any `json:"messages"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		weights, _ := os.ReadFile(current) // the first model has no file
		h := fnv.New64a()
		fmt.Fprint(h, string(weights), body.Messages)
		draw := -rand.New(rand.NewPCG(h.Sum64(), 0)).Float64()
		_, _ = fmt.Fprintf(w, `{"choices": [{"message": {"content": "text"}, "logprobs": {"content": [{"logprob": %g}]}}]}`, draw)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)

	dir := newLoop(t, s.URL+"/v1")
	loaded := filepath.Join(dir, "loaded") // the trainer loads the model, too
	current = loaded
	file := filepath.Join(dir, "loop.yaml")
	config := strings.NewReplacer(
		"kind: lora", "kind: wait", "iterations: 3", "iterations: 2", ">{out}/weights", ">{out}/weights; cp {out}/weights "+loaded,
	).Replace(string(must1(os.ReadFile(file))))
	// The canary of the former model is recorded in the step after the training, so that the server serves it until then.
	config = strings.Replace(config, "; cp {out}/weights "+loaded, "; (while ! ls {out}/../canary-*.json; do sleep 0.02; done; cp {out}/weights "+loaded+") >"+loaded+".log 2>&1 &", 1)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runLoop(t.Context(), dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	trained := must1(os.ReadFile(filepath.Join(dir, "loop", "it-1", "model", "weights")))
	reopen(t, dir, 6) // after the first decision
	if err := os.Remove(loaded); err != nil {
		t.Fatal(err)
	}
	if err := runLoop(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), "serves the model before the swap of iteration 1 again") {
		t.Errorf("error is %v", err)
	}
	if err := os.WriteFile(loaded, trained, 0o600); err != nil {
		t.Fatal(err)
	}
	canaries, err := filepath.Glob(filepath.Join(dir, "loop", "it-2", "canary-*.json"))
	if err != nil || len(canaries) != 1 {
		t.Fatalf("the canaries are %v: %v", canaries, err)
	}
	for _, name := range []string{filepath.Join(dir, "loop", "it-2", "train.exit"), canaries[0]} { // as if iteration 2 had not begun
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := runLoop(t.Context(), dir, io.Discard); err != nil {
		t.Errorf("with the trained model: %v", err)
	}
}
