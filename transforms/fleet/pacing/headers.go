package pacing

import (
	"math"
	"net/http"
	"regexp"
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

// RetryIn returns how long a server asks the client to wait in the body of a refusal: in a field
// (Google's retryDelay, Hugging Face's estimated_time) or in a sentence ("Please try again in 1m30s").
// The result is between 0 and [MaxWait].
func RetryIn(body []byte, now time.Time) time.Duration {
	const maxSearched = 16 << 10
	body = body[:min(len(body), maxSearched)]
	if m := retryField.FindSubmatch(body); m != nil {
		seconds := secondsOf(string(m[2]), now)
		if strings.Contains(strings.ToLower(string(m[1])), "ms") && !strings.ContainsAny(string(m[2]), "smh") {
			seconds /= 1000
		}
		return bounded(seconds)
	}
	if m := retrySentence.FindSubmatch(body); m != nil {
		return bounded(secondsOf(units.Replace(strings.ToLower(string(m[1]))), now))
	}
	return 0
}

var (
	retryField    = regexp.MustCompile(`(?i)"((?:retry_?delay|retry_?after|estimated_time)(?:_?(?:seconds|secs|ms))?)"\s*:\s*"?([^",}\s]+)`)
	retrySentence = regexp.MustCompile(`(?i)\b(?:again|retry|retrying|wait)(?: your request)?(?: in| after| for)? (?:about )?(\d+(?:\.\d+)?(?: ?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h)\b|(?:[hms]|ms)(?:\d+(?:\.\d+)?(?:ms|[hms]))*)?)`)
	units         = strings.NewReplacer(" ", "", "milliseconds", "ms", "millisecond", "ms", "seconds", "s", "second", "s", "secs", "s", "sec", "s",
		"minutes", "m", "minute", "m", "mins", "m", "min", "m", "hours", "h", "hour", "h")
)

// allowances are the names of the headers that report an allowance: OpenAI's, Anthropic's, the IETF
// draft's, and the older form of the draft's. The place of the kind is marked by a star.
var allowances = []struct{ remaining, limit, reset string }{
	{"X-Ratelimit-Remaining-*", "X-Ratelimit-Limit-*", "X-Ratelimit-Reset-*"},
	{"Anthropic-Ratelimit-*-Remaining", "Anthropic-Ratelimit-*-Limit", "Anthropic-Ratelimit-*-Reset"},
	{"Ratelimit-Remaining", "Ratelimit-Limit", "Ratelimit-Reset"},
	{"X-Ratelimit-Remaining", "X-Ratelimit-Limit", "X-Ratelimit-Reset"},
}

// RateLimits returns how long a server has no room for a request of this many tokens, and whether it
// reports an allowance at all. See [allowances] for the headers. The wait is between 0 and [MaxWait].
func RateLimits(h http.Header, tokens float64, now time.Time) (wait time.Duration, metered bool) {
	for _, of := range []struct {
		what   string
		needed float64
	}{{"Requests", 1}, {"Tokens", max(tokens, 1)}} {
		for _, names := range allowances {
			if !strings.Contains(names.remaining, "*") && of.what != "Requests" {
				continue // they count requests
			}
			value := func(name string) string { return h.Get(strings.Replace(name, "*", of.what, 1)) }
			left, err := strconv.ParseFloat(value(names.remaining), 64)
			if err != nil {
				continue
			}
			metered = true
			if left < of.needed {
				wait = max(wait, bounded(refillTime(value(names.reset), value(names.limit), left, of.needed, now)))
			}
		}
	}
	return wait, metered
}

// minRefill is the smallest part of a reset to wait for. If the server refills only at the end of the
// reset, at most 1/0.05 = 20 requests are rejected before that.
const minRefill = 0.05

// refillTime returns how many seconds it takes until a request has room. At the reset the whole
// allowance is available again, and a proportional part of it every second before. If the server
// doesn't report its allowance, the whole reset has to pass.
func refillTime(end, allowance string, left, needed float64, now time.Time) float64 {
	reset := secondsOf(end, now)
	limit, err := strconv.ParseFloat(allowance, 64)
	if err != nil || !(limit > needed) || !(left >= 0) || math.IsInf(limit, 0) {
		return reset
	}
	return max((needed-left)/(limit-left), minRefill) * reset
}

// secondsOf reads a number of seconds, a duration (6m0s, 20ms), or the end of the wait: an HTTP date,
// an RFC 3339 date, or seconds or milliseconds since 1970.
func secondsOf(s string, now time.Time) float64 {
	s = strings.TrimSpace(s)
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		if seconds > 1e9 && seconds < 1e10 { // 2001 to 2286
			return seconds - float64(now.UnixNano())/1e9
		}
		if seconds > 1e12 && seconds < 1e13 { // the same in milliseconds
			return seconds/1e3 - float64(now.UnixNano())/1e9
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
