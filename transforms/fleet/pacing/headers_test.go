package pacing

import (
	"net/http"
	"testing"
	"time"
)

func TestRateLimits(t *testing.T) {
	tests := []struct {
		name    string
		header  map[string]string
		wait    time.Duration
		metered bool
	}{
		{"nothing", nil, 0, false},
		{"some left", map[string]string{"X-Ratelimit-Remaining-Requests": "5", "X-Ratelimit-Reset-Requests": "8s"}, 0, true},
		{"no requests", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "120ms"}, 120 * time.Millisecond, true},
		{"no tokens", map[string]string{"X-Ratelimit-Remaining-Requests": "5", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "1m2s"}, 62 * time.Second, true},
		{"neither", map[string]string{
			"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "2",
			"X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "3.5",
		}, 3500 * time.Millisecond, true},
		// A hundredth of the limit is there in a hundredth of the reset, but a twentieth is waited for.
		{"little is needed of much", map[string]string{"X-Ratelimit-Limit-Requests": "100", "X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "60s"}, 3 * time.Second, true},
		{"tokens for one request more", map[string]string{"X-Ratelimit-Limit-Tokens": "10000", "X-Ratelimit-Remaining-Tokens": "1000", "X-Ratelimit-Reset-Tokens": "54s"}, 0, true},
		// 700 tokens of the 9,700 that come back in 58.2 s.
		{"tokens for less than a request", map[string]string{"X-Ratelimit-Limit-Tokens": "10000", "X-Ratelimit-Remaining-Tokens": "300", "X-Ratelimit-Reset-Tokens": "58.2s"}, 4200 * time.Millisecond, true},
		{"a request is more than the limit", map[string]string{"X-Ratelimit-Limit-Tokens": "900", "X-Ratelimit-Remaining-Tokens": "300", "X-Ratelimit-Reset-Tokens": "40s"}, 40 * time.Second, true},
		{"a date that is over", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "2024-01-01T00:00:00Z"}, 0, true},
		{"a date", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "2099-01-01T00:00:00Z"}, MaxWait, true},
		{"seconds of Unix", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "4070908800"}, MaxWait, true},
		{"a long time", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "24h"}, MaxWait, true},
		{"Anthropic's", map[string]string{"Anthropic-Ratelimit-Requests-Remaining": "0", "Anthropic-Ratelimit-Requests-Reset": "2026-11-28T12:00:20Z"}, 20 * time.Second, true},
		{"the IETF's draft", map[string]string{"Ratelimit-Remaining": "0", "Ratelimit-Reset": "7"}, 7 * time.Second, true},
		{"OpenRouter's", map[string]string{"X-Ratelimit-Limit": "1", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "1795867230000"}, 30 * time.Second, true},
		{"nonsense", map[string]string{"X-Ratelimit-Remaining-Requests": "many", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "-soon"}, 0, true},
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, tt := range tests {
		h := http.Header{}
		for k, v := range tt.header {
			h.Set(k, v)
		}
		if wait, metered := RateLimits(h, 1000, now); wait.Round(time.Millisecond) != tt.wait || metered != tt.metered {
			t.Errorf("%s: got %s, %t; want %s, %t", tt.name, wait, metered, tt.wait, tt.metered)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, "-3": 0, "soon": 0, "0": 0, " 7 ": 7 * time.Second,
		"inf": MaxWait, "Infinity": MaxWait, "-inf": 0, "nan": 0, "1e300": MaxWait, "1e-300": 0, "99999999999999999999": MaxWait,
		"2m": 2 * time.Minute, "250ms": 250 * time.Millisecond,
		"Sat, 28 Nov 2026 12:01:00 GMT": time.Minute, "Sat, 28 Nov 2026 11:00:00 GMT": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": MaxWait, "Mon, 01 Jan 0001 00:00:00 GMT": 0,
		"Saturday, 28-Nov-26 12:00:09 GMT": 9 * time.Second, "Sat Nov 28 12:00:09 2026": 9 * time.Second,
		"2026-11-28T12:00:30Z": 30 * time.Second, "1795867230": 30 * time.Second, "1700000000": 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {s}}, now); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
	ms := http.Header{"Retry-After-Ms": {"1500"}, "Retry-After": {"2"}}
	if got := RetryAfter(ms, now); got != 1500*time.Millisecond {
		t.Errorf("1500 ms are %s", got)
	}
	// The server's clock is an hour ahead.
	ahead := http.Header{"Date": {"Sat, 28 Nov 2026 13:00:00 GMT"}, "Retry-After": {"Sat, 28 Nov 2026 13:00:20 GMT"}}
	if got := RetryAfter(ahead, now); got != 20*time.Second {
		t.Errorf("20 s by the server's clock are %s", got)
	}
}

func TestRetryIn(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for body, want := range map[string]time.Duration{
		`{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}`: 34500 * time.Millisecond,
		`{"error":"Model m is currently loading","estimated_time":20.0}`:                                    20 * time.Second,
		`{"retry_after": 7}`:                                   7 * time.Second,
		`{"retry_after_ms": 1500}`:                             1500 * time.Millisecond,
		`{"retryAfter":"1e300"}`:                               MaxWait,
		`{"retry_after":-3}`:                                   0,
		`{"retry_after":"nan"}`:                                0,
		`{"retry_after_seconds": 2}`:                           2 * time.Second,
		`{"retry_after":"tomorrow"}`:                           0,
		`{"message":"Please try again in 1m30.5s. Visit us."}`: 90500 * time.Millisecond,
		`{"message":"Please try again in 20ms."}`:              20 * time.Millisecond,
		`{"message":"Please try again in 7.66s."}`:             7660 * time.Millisecond,
		`{"message":"Please retry after 26 seconds."}`:         26 * time.Second,
		`{"message":"Please retry in 34.07s."}`:                34070 * time.Millisecond,
		`{"message":"Please wait 2 minutes"}`:                  2 * time.Minute,
		`{"message":"try again in 24 hours"}`:                  MaxWait,
		`{"message":"Rate limit: 60 requests a minute"}`:       0,
		``: 0,
	} {
		if got := RetryIn([]byte(body), now); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

// No header makes a client wait for a negative time or longer than MaxWait.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{"5", "nan", "-Inf", "1e400", "0x1p-2", "3h", "-3h", "Sat, 28 Nov 2026 12:01:00 GMT", "1795867230"} {
		f.Add(s, s, s, s)
	}
	f.Fuzz(func(t *testing.T, retry, remaining, limit, reset string) {
		now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
		if d := RetryAfter(http.Header{"Retry-After": {retry}, "Retry-After-Ms": {remaining}, "Date": {reset}}, now); d < 0 || d > MaxWait {
			t.Errorf("Retry-After is %s", d)
		}
		if d := RetryIn([]byte(retry+remaining), now); d < 0 || d > MaxWait {
			t.Errorf("the body's wait is %s", d)
		}
		h := http.Header{"X-Ratelimit-Remaining-Tokens": {remaining}, "X-Ratelimit-Limit-Tokens": {limit}, "X-Ratelimit-Reset-Tokens": {reset}}
		if d, _ := RateLimits(h, 1000, now); d < 0 || d > MaxWait {
			t.Errorf("the rate limit's wait is %s", d)
		}
	})
}
