package engine

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// dataflow is as much of Google's service as cancelling a job needs, with credentials for it. The
// job is known to it from the second question on, and is in the state that it was asked to be in.
func dataflow(t *testing.T, known bool) (endpoint string, asked *atomic.Int64, cancelled func() []string) {
	t.Helper()
	asked = new(atomic.Int64)
	var updates atomic.Pointer[[]string]
	var busy atomic.Int64
	answer := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `{"access_token": "token", "token_type": "Bearer", "expires_in": 3600}`)
	})
	mux.HandleFunc("GET /v1b3/projects/p/locations/us-central1/jobs", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 1 && known {
			answer(w, `{"jobs": [{"id": "other", "name": "another"}, {"id": "id-1", "name": "coeval-1"}]}`)
			return
		}
		answer(w, `{"jobs": [{"id": "other", "name": "another"}]}`)
	})
	mux.HandleFunc("GET /v1b3/projects/p/locations/us-central1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		answer(w, fmt.Sprintf(`{"id": %q, "currentState": "JOB_STATE_%s"}`, r.PathValue("id"), strings.ToUpper(r.PathValue("id"))))
	})
	mux.HandleFunc("PUT /v1b3/projects/p/locations/us-central1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if busy.Add(1)%2 == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		updates.Store(&[]string{r.PathValue("id"), strings.TrimSpace(string(body))})
		answer(w, `{}`)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "me@p.iam.gserviceaccount.com", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	return s.URL + "/", asked, func() []string {
		if u := updates.Load(); u != nil {
			return *u
		}
		return nil
	}
}

func jobAt(project, endpoint string) dataflowJob {
	return dataflowJob{project: project, region: "us-central1", endpoint: endpoint, name: "coeval-1"}
}

// A job of Dataflow is cancelled by its name, also one that is only being submitted.
func TestCancelDataflow(t *testing.T) {
	shorten(t, &lookAgain, time.Millisecond)
	endpoint, asked, cancelled := dataflow(t, true)
	err := jobAt("p", endpoint).cancel(make(chan struct{}))
	if err != nil {
		t.Fatal(err)
	}
	if got := cancelled(); len(got) != 2 || got[0] != "id-1" || got[1] != `{"requestedState":"JOB_STATE_CANCELLED"}` {
		t.Errorf("asked for %q after %d looks", got, asked.Load())
	}
}

// Cancelling has an end, too.
func TestCancelDataflowInTime(t *testing.T) {
	shorten(t, &lookAgain, time.Millisecond)
	shorten(t, &lookTime, 100*time.Millisecond)
	endpoint, asked, _ := dataflow(t, false)
	err := jobAt("p", endpoint).cancel(make(chan struct{}))
	var u *Uncancelled
	if !errors.As(err, &u) || asked.Load() < 2 {
		t.Errorf("after %d looks it says %v", asked.Load(), err)
	}
}

// A run whose job can't be cancelled ends at once, and does not wait for the job.
func TestDataflowJobThatGoesOn(t *testing.T) {
	endpoint, _, _ := dataflow(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	goesOn := make(chan struct{})
	t.Cleanup(func() { close(goesOn) })
	err := jobAt("another", endpoint).await(ctx, func() (string, error) {
		cancel()
		<-goesOn
		return "", nil
	})
	if _, ok := errors.AsType[*Uncancelled](err); !ok {
		t.Errorf("it says %v", err)
	}
}

// Only a job that is done makes a run complete: Beam takes a cancelled one for as good.
func TestDataflowJobsThatAreNotDone(t *testing.T) {
	shorten(t, &lookAgain, time.Millisecond)
	endpoint, _, _ := dataflow(t, true)
	for id, want := range map[string]string{
		"done": "", "cancelled": "the Dataflow job coeval-1 (cancelled) ended CANCELLED, not DONE", "drained": "ended DRAINED", "updated": "ended UPDATED",
	} {
		err := jobAt("p", endpoint).await(t.Context(), func() (string, error) { return id, nil })
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: it says %v, want %q", id, err, want)
		}
	}
	failed := errors.New("failed")
	if err := jobAt("p", endpoint).await(t.Context(), func() (string, error) { return "", failed }); !errors.Is(err, failed) {
		t.Errorf("it says %v", err)
	}
}

// One that Dataflow never comes to know is looked for until the run ends.
func TestCancelDataflowOfNoJob(t *testing.T) {
	shorten(t, &lookAgain, time.Millisecond)
	endpoint, asked, cancelled := dataflow(t, false)
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- jobAt("p", endpoint).cancel(ended)
	}()
	for asked.Load() < 3 {
		select {
		case err := <-done:
			t.Fatalf("it ended with %v before the run did", err)
		case <-time.After(time.Millisecond):
		}
	}
	close(ended)
	if err := <-done; err != nil || cancelled() != nil {
		t.Errorf("%v, cancelled %q", err, cancelled())
	}
}

// What can't be cancelled says what to do.
func TestCancelDataflowFails(t *testing.T) {
	endpoint, _, _ := dataflow(t, true)
	err := jobAt("another", endpoint).cancel(make(chan struct{}))
	var u *Uncancelled
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "the Dataflow job coeval-1 could not be cancelled") || strings.Contains(err.Error(), "\n") {
		t.Errorf("it says %v", err)
	}
}
