// Package worldtest makes requests to simulated models for tests, and compares shares of draws with their
// probabilities.
//
// Nothing but tests may import it.
package worldtest

import (
	"math"
	"strings"
	"testing"

	"coeval/schemas"
)

// Requests returns the request to each role, about 10 kB for the judges. Answer returns the model's text for messages
// and a seed.
func Requests(answer func(messages []schemas.Message, seed int64) string) map[string][]schemas.Message {
	user := func(content string) []schemas.Message { return []schemas.Message{{Role: "user", Content: content}} }
	rubric := strings.Repeat("The rubric adds a point for each thing that holds. ", 40)
	question := strings.Repeat("What is the use of a long question? ", 20)
	response := answer(user(question), 1)
	judge := user(rubric + question + strings.Repeat(" ", 5000) + response)
	meta := user(rubric + question + response + answer(judge, 1) + answer(judge, 2))
	return map[string][]schemas.Message{
		schemas.RoleActor: user(question), schemas.RoleJudge: judge, schemas.RoleMetaJudge: meta,
	}
}

// Near fails the test unless a share of n draws lies within 4 standard deviations of p.
func Near(t *testing.T, what string, hits, n int, p float64) {
	t.Helper()
	got, sd := float64(hits)/float64(n), math.Sqrt(p*(1-p)/float64(n))
	if math.Abs(got-p) > 4*sd {
		t.Errorf("%s: share is %.4f of %d, want %.4f ± %.4f", what, got, n, p, 4*sd)
	}
}
