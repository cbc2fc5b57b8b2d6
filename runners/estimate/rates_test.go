package estimate

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
		servers = append(servers, Server{Endpoint: keyed(t, serve(t, s)+"/v1/", "secret"), Model: "m"})
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
		"401 Unauthorized: no":              func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
		"not the JSON of a chat completion": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"returns no token counts": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"choices":[{"message":{"content":"a"}}]}`)
		},
		"wrong: Bearer (the API key)": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "wrong: "+r.Header.Get("Authorization"), http.StatusForbidden)
		},
	} {
		_, err := MeasureRates(t.Context(), []Server{{Endpoint: keyed(t, serve(t, h), "sk-swordfish"), Model: "m"}}, time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := MeasureRates(t.Context(), nil, time.Second); err == nil {
		t.Error("no server has rates")
	}
}

func keyed(t *testing.T, url, key string) stage.Endpoint {
	t.Helper()
	t.Setenv("PROBE_KEY", key)
	return stage.Endpoint{URL: url, APIKeyEnv: "PROBE_KEY"}
}

// The probe connects as a run does: with worker.ca_file, to servers of HTTP/2, and it repeats a request in the
// form that the server accepts.
func TestRatesConnectAsARun(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch said := string(body); {
		case err != nil || r.ProtoMajor != 2:
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		case !strings.Contains(said, `"stream":true`):
			http.Error(w, `{"error":{"message":"This model only support stream mode"}}`, http.StatusBadRequest)
		case strings.Contains(said, `"max_tokens"`):
			http.Error(w, `{"error":{"message":"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}`, http.StatusBadRequest)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that end early
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	rates, err := MeasureRates(t.Context(), []Server{{Endpoint: stage.Endpoint{URL: s.URL, CAFile: ca}, Model: "m"}}, time.Millisecond)
	if err != nil || rates.Prompt <= 0 || rates.Completion <= 0 {
		t.Errorf("%+v, %v", rates, err)
	}
	if _, err := MeasureRates(t.Context(), []Server{{Endpoint: stage.Endpoint{URL: s.URL}, Model: "m"}}, time.Millisecond); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
}
