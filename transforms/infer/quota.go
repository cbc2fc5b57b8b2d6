package infer

import (
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"coeval/schemas"
)

// A quota is what a hosted API allows in a minute. The server's own headers say what is left of
// it; a config may say what it is.
type quota struct {
	requests, tokens *rate.Limiter // nil where nothing is configured
	// each is how many tokens a request of a class takes, as answers have told.
	each map[class]float64
}

// guessedTokens is what a choice is taken for before an answer has told.
const guessedTokens = 500

func newQuota(o *Options) *quota {
	perMinute := func(n int) *rate.Limiter {
		if n <= 0 {
			return nil
		}
		// What a tenth of a minute allows may go at once.
		return rate.NewLimiter(rate.Limit(float64(n)/60), max(n/10, 1))
	}
	return &quota{requests: perMinute(o.RequestsPerMinute), tokens: perMinute(o.TokensPerMinute), each: map[class]float64{}}
}

// take takes what a request needs, or returns how long to wait before it may.
func (q *quota) take(now time.Time, c class) (wait time.Duration) {
	var one *rate.Reservation
	if q.requests != nil {
		one = q.requests.ReserveN(now, 1)
		if wait = one.DelayFrom(now); wait > 0 {
			one.CancelAt(now)
			return wait
		}
	}
	if q.tokens != nil {
		each, ok := q.each[c]
		if !ok {
			each = guessedTokens * float64(c.n)
		}
		if int(each) > q.tokens.Burst() { // or it could never go
			q.tokens.SetBurstAt(now, int(each))
		}
		r := q.tokens.ReserveN(now, int(each))
		if wait = r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			if one != nil {
				one.CancelAt(now)
			}
			return wait
		}
	}
	return 0
}

// used takes note of how many tokens a request took.
func (q *quota) used(c class, tokens int) {
	each := q.each[c]
	blend(&each, float64(tokens), 0.1)
	q.each[c] = each
}

// leftover reads from a server's headers how long it wants no more requests, and whether it
// says how many it allows at all. The names are OpenAI's, which many take over.
func leftover(h http.Header) (wait time.Duration, metered bool) {
	for _, of := range []string{"Requests", "Tokens"} {
		left, err := strconv.ParseFloat(h.Get("X-Ratelimit-Remaining-"+of), 64)
		if err != nil {
			continue
		}
		metered = true
		if left < 1 {
			wait = max(wait, resetAfter(h.Get("X-Ratelimit-Reset-"+of)))
		}
	}
	return min(wait, maxRetryAfter), metered
}

// resetAfter reads a time such as 6m0s, 20ms, or a number of seconds.
func resetAfter(s string) time.Duration {
	if d, err := time.ParseDuration(s); err == nil {
		return max(d, 0)
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil && seconds >= 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	return 0
}

// heed takes note of what a server's headers say.
func (l *limiter) heed(e *endpoint, h http.Header) {
	wait, metered := leftover(h)
	if !metered {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.metered = true
	if wait > 0 {
		l.pause(e, time.Now().Add(wait))
	}
}

// used takes note of the tokens of an answer.
func (l *limiter) used(g *grant, generations []schemas.Generation) {
	if g.endpoint.quota == nil {
		return
	}
	prompt, completion := usage(generations)
	l.mu.Lock()
	defer l.mu.Unlock()
	g.endpoint.quota.used(g.class, prompt+completion)
}
