package main

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coeval/transforms/simulator"
)

// While a run goes on, people can watch it.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorker(t, slowly(simulator.Options{}))
	// Of the 60 prompts 60 requests are the actor's and at most 180 the judge's: more are the meta-judge's.
	w.closeAfter(t, 400)
	out := filepath.Join(t.TempDir(), "out")
	p := begin(t, nil, runOf(w.URL, promptFile(t, 60), out, "--metrics-addr", "127.0.0.1:0", "--max-in-flight", "8")...)
	base := metricsOf(t, p)
	if body, status := get(t, base+"/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	if _, status := get(t, base+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles are served unasked: %d", status)
	}
	wanted := []string{
		`coeval_requests_total{outcome="ok",role="actor",server_address="` + w.URL + `",stage="generate"} `,
		`coeval_generations_total{outcome="ok",role="judge",server_address="` + w.URL + `",stage="judge"} `,
		`coeval_slots_busy{server_address="` + w.URL + `"} `,
		`coeval_permits{server_address="` + w.URL + `"} `,
		`coeval_server_up{server_address="` + w.URL + `"} 1`,
		`coeval_queue{stage="meta"} `,
		`gen_ai_client_operation_duration_seconds_bucket{gen_ai_operation_name="chat",gen_ai_request_model="simulated",n="`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_request_model="simulated",gen_ai_token_type="output",server_address="` + w.URL + `",stage="judge"} `,
		"process_cpu_seconds_total ",
	}
	eventually(t, "requests of the last stage in flight", w.holds)
	var page string
	eventually(t, "metrics of all stages", func() bool {
		page, _ = get(t, base+"/metrics")
		// A stage has a queue only while requests of it wait for a permit.
		wanted = slices.DeleteFunc(wanted, func(line string) bool { return strings.Contains(page, line) })
		return len(wanted) == 0
	})
	p.kill(t)
}

// Profiles are served with --pprof.
func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newWorker(t, slowly(simulator.Options{}))
	w.closeAfter(t, 1) // so that the run waits
	p := begin(t, nil, runOf(w.URL, promptFile(t, 2), filepath.Join(t.TempDir(), "out"), "--metrics-addr", "127.0.0.1:0", "--pprof")...)
	base := metricsOf(t, p)
	if page, status := get(t, base+"/debug/pprof/goroutine?debug=1"); status != http.StatusOK || !strings.Contains(page, "goroutine profile: total") {
		t.Errorf("/debug/pprof/goroutine: %d %.200q", status, page)
	}
	p.kill(t)
}

// metricsOf returns the address that a run serves its metrics at.
func metricsOf(t *testing.T, p *process) (base string) {
	t.Helper()
	at := regexp.MustCompile(`metrics at (http://\S+)/metrics`)
	eventually(t, "an address of metrics", func() bool {
		m := at.FindStringSubmatch(p.stderr.String())
		if m != nil {
			base = m[1]
		}
		return m != nil
	})
	return base
}

// get returns the body and the status, or the error and 0.
func get(t *testing.T, url string) (string, int) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return err.Error(), 0
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), 0
	}
	return string(b), resp.StatusCode
}

func TestMetricsAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{})
	taken := strings.TrimSuffix(strings.TrimPrefix(w.URL, "http://"), "/v1")
	_, stderr, code := coeval(t, runOf(w.URL, promptFile(t, 1), filepath.Join(t.TempDir(), "out"), "--metrics-addr", taken)...)
	if code != exitFailed || !strings.Contains(stderr, "--metrics-addr "+taken) || !strings.Contains(stderr, "in use") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
