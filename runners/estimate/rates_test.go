package estimate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coeval/transforms/simulator"
	"coeval/transforms/stage"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// Every server is asked, and their tokens add up.
func TestRates(t *testing.T) {
	var servers []Server
	var fleet []*simulator.Server
	for range 2 {
		s, err := simulator.New(simulator.Options{APIKey: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		fleet = append(fleet, s)
		servers = append(servers, Server{URL: serve(t, s) + "/v1/", Access: bearer("secret"), Model: "m"})
	}
	rates, err := MeasureRates(t.Context(), servers, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if rates.Prompt <= 0 || rates.Completion <= 0 {
		t.Errorf("%+v", rates)
	}
	for i, s := range fleet {
		// Each of the requests at once is sent at least once in each half.
		if got := s.Stats().Requests; got < 2*atOnce {
			t.Errorf("server %d was asked %d times, want at least %d", i, got, 2*atOnce)
		}
	}
}

func TestRatesRefuses(t *testing.T) {
	for want, h := range map[string]http.HandlerFunc{
		"status 401":              func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
		"the answer is not JSON":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"returns no token counts": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"choices":[]}`) },
		"wrong: Bearer (the API key)": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "wrong: "+r.Header.Get("Authorization"), http.StatusForbidden)
		},
	} {
		_, err := MeasureRates(t.Context(), []Server{{URL: serve(t, h), Access: bearer("sk-swordfish"), Model: "m"}}, time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := MeasureRates(t.Context(), nil, time.Second); err == nil {
		t.Error("no server has rates")
	}
}

func bearer(key string) *stage.Credentials {
	return &stage.Credentials{Key: key, Header: http.Header{"Authorization": {"Bearer " + key}}, Secrets: []string{key}}
}
