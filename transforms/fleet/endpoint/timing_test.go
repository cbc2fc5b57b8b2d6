package endpoint

import (
	"slices"
	"testing"
	"time"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// The time limit of a request follows the time of its model's tokens at the endpoint.
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

// A read is one token, whose time is its prompt's and the queue's: it neither takes its limit from the tokens of texts, nor
// gives texts a limit of its own time for each of their tokens.
func TestTimeoutOfReads(t *testing.T) {
	e := &Endpoint{models: map[string]*modelState{}}
	text := &stage.Role{Model: "m", MaxTokens: 1000}
	read := &stage.Role{Model: "m", MaxTokens: 1, Read: &stage.Read{Labels: []string{"A", "B"}}}
	if got := e.Timeout(read, 0); got != 70*time.Second { // 10 s + 4·15 s
		t.Errorf("the first read may take %s, want 70 s", got)
	}
	e.RecordTiming(text, []schemas.Generation{{CompletionTokens: 100}}, []bool{true}, time.Second)
	e.RecordTiming(read, []schemas.Generation{{CompletionTokens: 1}}, []bool{true}, 5*time.Second)
	if got := e.Timeout(read, 1); got != 60*time.Second { // (10 s + 4·5 s)·2
		t.Errorf("the second try of a read may take %s, want 60 s", got)
	}
	if got := e.Timeout(text, 0); got != 30*time.Second { // 10 s + 2·1000·10 ms
		t.Errorf("a text may take %s, want 30 s", got)
	}
}
