package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// A command whose result is empty because the server refused the few calls that it made ends with exit code 1 and
// the server's words, also when it replays them.
func TestEmptyBecauseOfFailures(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		http.Error(w, `{"error":{"message":"min_p is not supported"}}`, http.StatusBadRequest)
	}))
	t.Cleanup(server.Close)
	prompts := promptFile(t, 2)
	var labels strings.Builder
	for i := range 2 {
		fmt.Fprintf(&labels, `{"prompt":"Question %d","response_1":"one","response_2":"two","label":1}`+"\n", i)
	}
	pairs := filepath.Join(t.TempDir(), "pairs.jsonl")
	write(t, pairs, labels.String())
	for name, args := range map[string][]string{
		"run":          runOf(server.URL, prompts, filepath.Join(t.TempDir(), "out"), "--set", "actor.n=2"),
		"arena":        arenaOf(server.URL, prompts, filepath.Join(t.TempDir(), "out"), "--a", better),
		"answers only": arenaOf(server.URL, prompts, filepath.Join(t.TempDir(), "out"), "--a", better, "--answers-only"),
		"calibrate":    {"calibrate", "--url", server.URL, "--model", "m", "--people", pairs, "--out", filepath.Join(t.TempDir(), "out"), "--set", "judge.n=2"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := coeval(t, args...)
			if code != exitFailed || !strings.Contains(stdout+stderr, "min_p is not supported") || !strings.Contains(stderr, "because calls failed: fix the cause, then run the same command with --retry-failed") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			stdout, stderr, code = coeval(t, args...)
			if code != exitFailed || !strings.Contains(stdout+stderr, "failed calls were replayed from the journal") {
				t.Errorf("the second time, exit code %d: %s", code, stderr)
			}
		})
	}
}
