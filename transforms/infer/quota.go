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
		// What a second allows may go at once, and is taken off the rest of the minute.
		burst := max(n/60, 1)
		return rate.NewLimiter(rate.Limit(max(float64(n-burst), 0.5)/60), burst)
	}
	return &quota{requests: perMinute(o.RequestsPerMinute), tokens: perMinute(o.TokensPerMinute), each: map[class]float64{}}
}

// take takes what a request needs, or returns how long to wait before it may.
func (q *quota) take(now time.Time, c class) (wait time.Duration) {
	each, ok := q.each[c]
	if !ok {
		each = guessedTokens * float64(c.n)
	}
	if wait = max(lack(q.requests, now, 1), lack(q.tokens, now, int(each))); wait == 0 {
		spend(q.requests, now, 1)
		spend(q.tokens, now, int(each))
	}
	return wait
}

// lack returns how long it takes until so much may be spent. More than may go at once needs only as
// much: the rest is owed.
func lack(l *rate.Limiter, now time.Time, n int) time.Duration {
	if l == nil {
		return 0
	}
	missing := float64(min(n, l.Burst())) - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/float64(l.Limit())*float64(time.Second)) + time.Millisecond
}

func spend(l *rate.Limiter, now time.Time, n int) {
	for l != nil && n > 0 {
		part := min(n, l.Burst())
		l.ReserveN(now, part)
		n -= part
	}
}

// used takes note of how many tokens a request took.
func (q *quota) used(c class, tokens int) {
	each := q.each[c]
	blend(&each, float64(tokens), 0.1)
	q.each[c] = each
}

// leftover reads from a server's headers how long it has no room for a request of so many tokens,
// and whether it says how much it allows at all. The names are OpenAI's, which many take over.
func leftover(h http.Header, tokens float64) (wait time.Duration, metered bool) {
	for _, of := range []struct {
		what   string
		needed float64
	}{{"Requests", 1}, {"Tokens", max(tokens, 1)}} {
		left, err := strconv.ParseFloat(h.Get("X-Ratelimit-Remaining-"+of.what), 64)
		if err != nil {
			continue
		}
		metered = true
		if left < of.needed {
			wait = max(wait, refilled(h, of.what, left, of.needed))
		}
	}
	return min(wait, maxRetryAfter), metered
}

// leastRefill is the least part of a reset to wait for: where all comes at once at its end, few
// requests find that out.
const leastRefill = 0.05

// refilled returns how long it takes until a request has room. A reset is when all of the limit is
// there again, of which as much comes back every second; where the limit isn't told it has to be waited for.
func refilled(h http.Header, of string, left, needed float64) time.Duration {
	reset := resetAfter(h.Get("X-Ratelimit-Reset-" + of))
	limit, err := strconv.ParseFloat(h.Get("X-Ratelimit-Limit-"+of), 64)
	if err != nil || limit <= needed || left < 0 {
		return reset
	}
	return time.Duration(max((needed-left)/(limit-left), leastRefill) * float64(reset))
}

// resetAfter reads a time such as 6m0s or 20ms, a number of seconds, or when that is: a date, or
// the seconds of Unix.
func resetAfter(s string) time.Duration {
	if d, err := time.ParseDuration(s); err == nil {
		return max(d, 0)
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return max(time.Until(at), 0)
	}
	seconds, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || seconds < 0 || seconds > 1e10:
		return 0
	case seconds > 1e9:
		return max(time.Until(time.Unix(int64(seconds), 0)), 0)
	}
	return time.Duration(min(seconds, 1e6) * float64(time.Second))
}

// heed takes note of what a server's headers say.
func (l *limiter) heed(e *endpoint, h http.Header) {
	if len(h) == 0 {
		return
	}
	e.mu.Lock()
	each := e.each
	e.mu.Unlock()
	wait, metered := leftover(h, each)
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
