package endpoint

import (
	"slices"
	"testing"
	"time"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// The time that a request may take follows what its model's tokens take at the endpoint.
func TestTimeoutBySize(t *testing.T) {
	e := &Endpoint{models: map[string]*modelState{}}
	role := func(model string, tokens int) *stage.Role { return &stage.Role{Model: model, MaxTokens: tokens} }
	answer := func(model string, tokens, n int, took time.Duration) {
		generations, has := make([]schemas.Generation, n), slices.Repeat([]bool{true}, n)
		for i := range generations {
			generations[i].CompletionTokens = tokens
		}
		e.RecordTiming(role(model, 0), generations, has, took)
	}
	check := func(what string, r *stage.Role, timeouts int, want time.Duration) {
		t.Helper()
		if got := e.Timeout(r, timeouts); got.Round(time.Millisecond) != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("nothing known, 100 tokens of 0.2 s", role("slow", 100), 0, 30*time.Second)
	check("nothing known, no bound: 16,384 tokens", role("slow", 0), 0, 3286800*time.Millisecond)
	check("more than an hour", role("slow", 50000), 0, time.Hour)
	// The slowest of 4 choices of 50 tokens takes 5 s: 0.1 s a token, at most.
	answer("slow", 50, 4, 5*time.Second)
	for range 1000 { // many quick ones of another model change nothing
		answer("quick", 100, 1, 100*time.Millisecond)
	}
	check("twice 2,000 tokens of 0.1 s", role("slow", 2000), 0, 410*time.Second)
	check("twice 2,000 tokens of 1 ms", role("quick", 2000), 0, 14*time.Second)
	check("the third try", role("quick", 2000), 2, 56*time.Second)
}
