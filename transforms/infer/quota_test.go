package infer

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

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
	states, _ := p.fleet.limiter.States()
	// A twentieth of the reset, 50 s, is waited for.
	if wait := time.Until(states[0].NotBefore); wait < 20*time.Second || wait > 50*time.Second {
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
