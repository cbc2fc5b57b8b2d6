package infer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coeval/schemas"
)

func TestLeftover(t *testing.T) {
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
		{"a date", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "2099-01-01T00:00:00Z"}, maxRetryAfter, true},
		{"seconds of Unix", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "4070908800"}, maxRetryAfter, true},
		{"a long time", map[string]string{"X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "24h"}, maxRetryAfter, true},
		{"nonsense", map[string]string{"X-Ratelimit-Remaining-Requests": "many", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "-soon"}, 0, true},
	}
	for _, tt := range tests {
		h := http.Header{}
		for k, v := range tt.header {
			h.Set(k, v)
		}
		if wait, metered := leftover(h, 1000); wait.Round(time.Millisecond) != tt.wait || metered != tt.metered {
			t.Errorf("%s: got %s, %t; want %s, %t", tt.name, wait, metered, tt.wait, tt.metered)
		}
	}
}

// A configured quota is kept to, and used up.
func TestQuota(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Options
		most    int // requests in a minute
		all     int // in ten minutes at least
	}{
		{"requests", Options{RequestsPerMinute: 60}, 60, 10 * 58},
		// 4 choices of 25 tokens and a prompt of 100 are 200 tokens: 30 a minute. The first
		// are taken for 2,000, which is more than may go at once.
		{"tokens", Options{TokensPerMinute: 6000}, 30, 10 * 28},
		// A request is worth more than a second: 200 of 600 tokens, one every 20 s. The first is
		// taken for 2,000, of which 10 are there and the others take 202 s: that leaves 398 s.
		{"large requests", Options{TokensPerMinute: 600}, 3, 1 + 398/21},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l limiter
				e := testEndpoints(100)
				e[0].quota = newQuota(&tt.options)
				end := time.Now().Add(10 * time.Minute)
				var mu sync.Mutex
				var sent []time.Time
				var askers sync.WaitGroup
				for i := range 20 {
					askers.Go(func() {
						for {
							g, err := l.acquire(t.Context(), e, schemas.StageJudge, 4, fmt.Sprint(i))
							if err != nil {
								t.Error(err)
							}
							if time.Now().After(end) {
								l.release(g, nil)
								return
							}
							mu.Lock()
							sent = append(sent, time.Now())
							mu.Unlock()
							<-time.After(time.Second)
							l.used(g, []schemas.Generation{{PromptTokens: 100, CompletionTokens: 25}, {CompletionTokens: 25}, {CompletionTokens: 25}, {CompletionTokens: 25}})
							l.release(g, nil)
						}
					})
				}
				askers.Wait()
				for i := range sent {
					n := 0
					for n < len(sent)-i && sent[i+n].Sub(sent[i]) < time.Minute {
						n++
					}
					if n > tt.most {
						t.Fatalf("%d requests were sent in a minute, want at most %d", n, tt.most)
					}
				}
				if len(sent) < tt.all {
					t.Errorf("%d requests were sent in ten minutes, want at least %d", len(sent), tt.all)
				}
			})
		})
	}
}

// A large request goes although small ones, whose turn is first, come now and then.
func TestQuotaOfTwoKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		e := testEndpoints(100)
		// 983 tokens come back in a second, of which a small request each 5 s takes 60.
		e[0].quota = newQuota(&Options{TokensPerMinute: 60_000})
		const large, small = 7000, 300
		e[0].quota.each[class{schemas.StageGenerate, 1}], e[0].quota.each[class{schemas.StageMeta, 1}] = large, small
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		sent := map[string]int{}
		var mu sync.Mutex
		var askers sync.WaitGroup
		ask := func(stage string, tokens int, between time.Duration) {
			askers.Go(func() {
				for pauseFor(ctx, between) {
					g, err := l.acquire(ctx, e, stage, 1, stage)
					if err != nil {
						return
					}
					mu.Lock()
					sent[stage]++
					mu.Unlock()
					l.used(g, []schemas.Generation{{CompletionTokens: tokens}})
					l.release(g, nil)
				}
			})
		}
		ask(schemas.StageGenerate, large, 0)
		ask(schemas.StageMeta, small, 5*time.Second)
		askers.Wait()
		// In 600 s 590,000 tokens come; up to 120 small ones take 36,000 of them.
		if n := sent[schemas.StageGenerate]; n < 70 || n > 85 {
			t.Errorf("%d large requests went, want about 79", n)
		}
		if n := sent[schemas.StageMeta]; n < 50 {
			t.Errorf("%d small requests went", n)
		}
	})
}

// The wait for one request of many is short where the server says how many it allows: all of the
// header's fields get there.
func TestLimitHeadersAreHeeded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		for name, value := range map[string]string{"Limit": "100", "Remaining": "0", "Reset": "1000s"} {
			w.Header().Set("X-Ratelimit-"+name+"-Requests", value)
		}
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"ok"},"finish_reason":"stop"}]}`)
	}))
	defer s.Close()
	p := open(t, Options{MaxInFlight: 1})
	ask(t, p, callsOf(actorAt(s.URL), 1, 1))
	e, err := p.fleet.of(actorAt(s.URL))
	if err != nil {
		t.Fatal(err)
	}
	p.fleet.limiter.mu.Lock()
	defer p.fleet.limiter.mu.Unlock()
	// A twentieth of the reset, 50 s, is waited for.
	if wait := time.Until(e[0].paused); wait < 20*time.Second || wait > 50*time.Second {
		t.Errorf("it is left alone for %s, want 50 s less what the test takes", wait)
	}
}

// A server that says that nothing is left is left alone until it has more.
func TestRemainingRequestsAreHeeded(t *testing.T) {
	const reset = 150 * time.Millisecond
	var mu sync.Mutex
	var until time.Time
	early := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		if time.Now().Before(until) {
			early++
		}
		until = time.Now().Add(reset - 20*time.Millisecond) // as the client counts from when it has read it
		mu.Unlock()
		w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
		w.Header().Set("X-Ratelimit-Reset-Requests", reset.String())
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"ok"},"finish_reason":"stop"}]}`)
	}))
	defer s.Close()
	// One at a time: what is under way when the server says so can't be held back.
	for _, said := range ask(t, open(t, Options{MaxInFlight: 1}), callsOf(actorAt(s.URL), 6, 1)) {
		if said[0].Text != "ok" {
			t.Errorf("got %+v", said[0])
		}
	}
	if early > 0 {
		t.Errorf("%d requests came before there was room", early)
	}
}
