package operation

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/rundir"
	"coeval/runners/estimate"
	"coeval/runners/runs/runstest"
	"coeval/schemas"
)

// Of reads only attempts from operations/, including killed ones: no lease of a run on a bucket,
// and no counts before an attempt has written its record.
func TestAttempts(t *testing.T) {
	r := runstest.Hostile(t)
	for _, name := range []string{"lease.json", "killed.calls.json"} {
		if err := os.WriteFile(filepath.Join(r.Dir, rundir.OperationsFolder, name), []byte(`{"attempt": "none"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := Of(t.Context(), r, estimate.Prices{})
	if err != nil || len(o.Attempts) != 1 || o.Unfinished != 0 {
		t.Fatalf("%+v, %v, want one attempt", o, err)
	}
	before := o.All.PromptTokens
	killed := `{"attempt": "killed", "unfinished": true, "seconds": 9, "asking_seconds": 8, "calls": {"judge": {"requests": 5, "prompt_tokens": 700}}}`
	if err := os.WriteFile(filepath.Join(r.Dir, rundir.OperationsFolder, "killed.json"), []byte(killed), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err = Of(t.Context(), r, estimate.Prices{})
	if err != nil || len(o.Attempts) != 2 || o.Unfinished != 1 || o.All.PromptTokens != before+700 {
		t.Errorf("%+v, %v, want two attempts, of which one was killed, and its tokens", o, err)
	}
}

// Time is divided by generations in flight, money by tokens and by time. Failures are listed by stage
// and code.
func TestOperation(t *testing.T) {
	attempts := []*attempt{
		// In 100 s the judge had 3/4 of the generations in flight; in another 10 s all.
		{Seconds: 120, AskingSeconds: 100, Calls: map[string]schemas.CallTally{
			"generate": {Requests: 10, Generations: 70, PromptTokens: 1e6, RequestMicros: 20e6, GenerationMicros: 100e6},
			"judge": {
				Requests: 40, Generations: 400, CompletionTokens: 2e6, RequestMicros: 60e6, GenerationMicros: 300e6,
				Retries: 3, RetriesByCode: map[string]int64{"full": 2, "timeout": 1},
			},
		}},
		{Seconds: 12, AskingSeconds: 10, Calls: map[string]schemas.CallTally{"judge": {
			Requests: 20, Generations: 100, RequestMicros: 60e6, GenerationMicros: 60e6, Retries: 2, RetriesByCode: map[string]int64{"full": 1},
		}}},
	}
	run := &schemas.Run{Ledger: schemas.Ledger{Roles: map[string]schemas.Outcomes{"actor": {Paired: 3}, "judge": {Paired: 2}}}, Stats: schemas.Stats{FailedCalls: map[string]map[string]int64{"judge": {"timeout": 4}, "meta": {"bad_request": 5}}}}
	o := newOperation(attempts, run, estimate.Prices{PromptTokens: 0.5, CompletionTokens: 2, GPUHour: 36})
	want := []struct {
		stage                           string
		seconds, request, tokens, hours float64
	}{
		// 25 s; 20 s / 10; a million tokens at 0.5; 25 s at 36 an hour.
		{"generate", 25, 2, 0.5, 0.25},
		// 75 + 10 s; 120 s / 60; two million at 2; 85 s at 36 an hour.
		{"judge", 85, 2, 4, 0.85},
	}
	near := func(got *float64, want float64) bool { return got != nil && math.Abs(*got-want) < 1e-9 }
	for i, w := range want {
		s := o.Stages[i]
		if s.Stage != w.stage || !near(s.Seconds, w.seconds) || !near(s.RequestSeconds, w.request) || !near(s.Tokens, w.tokens) || !near(s.Hours, w.hours) {
			t.Errorf("%s: %v s, %v s a request, %v and %v, want %+v", s.Stage, *s.Seconds, *s.RequestSeconds, *s.Tokens, *s.Hours, w)
		}
	}
	if o.Pairs != 5 || o.Seconds != 132 || o.Asking != 110 || !near(o.All.Seconds, 110) || !near(o.All.Tokens, 4.5) || !near(o.All.Hours, 1.1) || o.Longest != attempts[0] {
		t.Errorf("%+v", o)
	}
	troubles := []Trouble{
		{Stage: "judge", Code: "full", Retries: 3},
		{Stage: "judge", Code: unknownCode, Retries: 1},
		{Stage: "judge", Code: "timeout", Retries: 1, Failed: 4},
		{Stage: "meta", Code: "bad_request", Failed: 5},
	}
	if diff := cmp.Diff(troubles, o.Troubles); diff != "" {
		t.Error(diff)
	}
	// Attempts without the measurement have no time; without prices there is no money.
	o = newOperation([]*attempt{{AskingSeconds: 5, Calls: map[string]schemas.CallTally{"judge": {Requests: 1}}}}, &schemas.Run{}, estimate.Prices{})
	if s := o.Stages[0]; s.Seconds != nil || s.RequestSeconds != nil || s.Tokens != nil || s.Hours != nil || o.All.Tokens != nil {
		t.Errorf("%+v", s)
	}
}
