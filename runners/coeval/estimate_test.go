package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coeval/runners/estimate"
	"coeval/runners/plan"
	"coeval/transforms/simulator"
)

// With rates and prices a plan shows time and money, for the missing calls alone; a probe asks the
// servers, and leaves nothing behind.
func TestPlanEstimate(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{})
	out := filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, promptFile(t, 10), out)
	type planOutput struct {
		plan.Plan
		Estimate estimate.Estimate `json:"estimate"`
	}
	plan := func(more ...string) (p planOutput) {
		t.Helper()
		if err := json.Unmarshal([]byte(want(t, nil, append(append([]string{"plan"}, args[1:]...), more...)...)), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := plan("--prompt-rate=1000", "--completion-rate=100", "--prompt-price=1", "--gpu-hour-price=3600")
	var prompt, completion int64
	for _, s := range p.Stages {
		prompt += s.PromptTokens
		completion += s.CompletionTokens
	}
	seconds := float64(prompt)/1000 + float64(completion)/100
	all := p.Estimate.All
	if all.Generations != 27*10 || all.Seconds == nil || *all.Seconds != seconds || *all.ByTokens != float64(prompt)/1e6 || *all.ByHours != seconds {
		t.Errorf("%+v, want %v seconds, and as much money at 1 a second", all, seconds)
	}
	if w.Stats().Requests != 0 {
		t.Errorf("%d requests, want none without --probe", w.Stats().Requests)
	}
	if e := plan("--probe=1ms").Estimate; e.Rates.Prompt <= 0 || e.Rates.Completion <= 0 || e.All.Seconds == nil || w.Stats().Requests == 0 {
		t.Errorf("the probe finds %+v with %d requests", e.Rates, w.Stats().Requests)
	}
	if held := plan().Known; held != 0 {
		t.Errorf("after the probe the journal holds %d prompts", held)
	}
	want(t, nil, args...)
	if e := plan("--prompt-rate=1000", "--completion-rate=100").Estimate; *e.All.Seconds != 0 || len(e.Variants) == 0 {
		t.Errorf("after the run %+v", e)
	}

	for flag, wanted := range map[string]string{
		"--prompt-rate=5":  "must be given together",
		"--probe=1h":       "--probe is 1h0m0s; allowed is 0 to 10m0s",
		"--gpus=-1":        "--gpus is -1; allowed is 0 to 1,000,000,000",
		"--prompt-price=x": `--prompt-price is "x"; allowed is a number`,
		"--other-k=0":      "--other-k has 0; allowed is 1 to 1000",
		"--other-n=5,1001": "--other-n has 1001; allowed is 1 to 1000",
	} {
		if _, stderr, code := coeval(t, append(append([]string{"plan"}, args[1:]...), flag)...); code != exitUsage || !strings.Contains(stderr, wanted) {
			t.Errorf("%s: exit code %d, said %q", flag, code, stderr)
		}
	}
}

// A probe has the servers' keys wherever they are, and says which is missing.
func TestProbeHasTheKey(t *testing.T) {
	t.Parallel()
	const key = "sk-probed"
	w := newWorker(t, simulator.Options{APIKey: key})
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, key+"\n")
	plan := append([]string{"plan"}, runOf(w.URL, promptFile(t, 2), filepath.Join(t.TempDir(), "out"), "--probe=1ms")[1:]...)
	for _, tt := range []struct {
		env, set string
		code     int
		want     string
	}{
		{"", "worker.api_key_file=" + file, exitDone, ""},
		{"COEVAL_TEST_KEY=" + key, "worker.api_key_env=COEVAL_TEST_KEY", exitDone, ""},
		{"COEVAL_TEST_KEY=", "worker.api_key_env=COEVAL_TEST_KEY", exitFailed, "worker.api_key_env names the environment variable COEVAL_TEST_KEY, which is not set"},
	} {
		p := begin(t, []string{tt.env}, append(slices.Clone(plan), "--set", tt.set)...)
		if code := p.wait(t); code != tt.code || !strings.Contains(p.stderr.String(), tt.want) {
			t.Errorf("%s: exit code %d, want %d; said %q", tt.set, code, tt.code, p.stderr.String())
		}
	}
}
