package pacing

import (
	"math"
	"testing"
	"time"
)

// A server that reports an absurd number of tokens delays each request by about a minute at most, and
// booking it takes one step.
func TestQuotaAbsurdUsage(t *testing.T) {
	for _, tokens := range []int{1e18, math.MaxInt, math.MinInt, -1} {
		q, c := NewQuota(600, 60_000), Class{Stage: "judge", N: 11}
		now, sent := time.Unix(1e9, 0), 0
		for end := now.Add(time.Hour); now.Before(end); {
			wait := q.Take(now, c)
			// A minute's allowance is owed, and a full bucket is needed: 60 s and 1,000/983 s.
			if wait < 0 || wait > time.Minute+1020*time.Millisecond {
				t.Fatalf("%d tokens: a request waits %s", tokens, wait)
			}
			if wait > 0 {
				now = now.Add(wait)
				continue
			}
			sent++
			if sent == 1 {
				q.Used(c, tokens)
			} else {
				q.Used(c, 100)
			}
		}
		// The estimate falls by a tenth with every answer: after 10 minutes it is a third of a
		// minute's allowance, and later 100 tokens, of which 600 requests a minute are fewer than
		// the allowance of tokens.
		if sent < 1000 {
			t.Errorf("%d tokens: %d requests in an hour", tokens, sent)
		}
	}
}
