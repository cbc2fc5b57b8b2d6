package pacing

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxWait is the longest time that a server's headers can make a client wait.
const MaxWait = 5 * time.Minute

// RetryAfter returns how long a server asks the client to send it nothing, by its headers
// Retry-After-Ms or Retry-After: seconds or a date. The result is between 0 and [MaxWait]. It is 0
// if the headers are missing or unreadable. A date is read against the header Date, so that the
// clocks of client and server may differ.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(strings.TrimSpace(h.Get("Retry-After-Ms")), 64); err == nil {
		return bounded(ms / 1000)
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return bounded(secondsOf(h.Get("Retry-After"), now))
}

// RateLimits returns how long a server has no room for a request of so many tokens, and whether it
// reports an allowance at all. It reads OpenAI's headers X-Ratelimit-*, which many servers send. The
// wait is between 0 and [MaxWait].
func RateLimits(h http.Header, tokens float64, now time.Time) (wait time.Duration, metered bool) {
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
			wait = max(wait, bounded(refillTime(h, of.what, left, of.needed, now)))
		}
	}
	return wait, metered
}

// minRefill is the smallest part of a reset to wait for. If the whole allowance returns at the end of the
// reset, at most 1/0.05 = 20 requests find that out in vain.
const minRefill = 0.05

// refillTime returns how many seconds it takes until a request has room. At the reset the whole
// allowance is available again, and a proportional part of it every second before. If the server
// doesn't report its allowance, the whole reset has to pass.
func refillTime(h http.Header, of string, left, needed float64, now time.Time) float64 {
	reset := secondsOf(h.Get("X-Ratelimit-Reset-"+of), now)
	limit, err := strconv.ParseFloat(h.Get("X-Ratelimit-Limit-"+of), 64)
	if err != nil || !(limit > needed) || !(left >= 0) || math.IsInf(limit, 0) {
		return reset
	}
	return max((needed-left)/(limit-left), minRefill) * reset
}

// secondsOf reads a number of seconds, a duration such as 6m0s or 20ms, or the moment at which a wait
// ends: an HTTP date, an RFC 3339 date or seconds since 1970.
func secondsOf(s string, now time.Time) float64 {
	s = strings.TrimSpace(s)
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		if seconds > 1e9 && seconds < 1e10 { // 2001 to 2286
			return seconds - float64(now.UnixNano())/1e9
		}
		return seconds
	}
	if d, err := time.ParseDuration(s); err == nil {
		return d.Seconds()
	}
	if at, err := http.ParseTime(s); err == nil {
		return at.Sub(now).Seconds()
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at.Sub(now).Seconds()
	}
	return 0
}

// bounded returns a wait that a client can keep. An invalid number counts as none.
func bounded(seconds float64) time.Duration {
	if !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, MaxWait.Seconds()) * float64(time.Second))
}
