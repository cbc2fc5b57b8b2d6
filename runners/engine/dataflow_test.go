package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coeval/runners/engine/enginetest"
)

// dataflow is as much of Google's service as looking for a job and cancelling it needs, with credentials
// for it. The
// job is known to it from the second question on, and is in the state that it was asked to be in.
func dataflow(t *testing.T, known bool) (endpoint string, asked *atomic.Int64, cancelled func() []string) {
	t.Helper()
	asked = new(atomic.Int64)
	var updates atomic.Pointer[[]string]
	var busy atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1b3/projects/p/locations/us-central1/jobs", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 1 && known {
			enginetest.Answer(w, http.StatusOK, `{"jobs": [{"id": "other", "name": "another"}, {"id": "id-1", "name": "coeval-1"}]}`)
			return
		}
		enginetest.Answer(w, http.StatusOK, `{"jobs": [{"id": "other", "name": "another"}]}`)
	})
	mux.HandleFunc("GET /v1b3/projects/p/locations/us-central1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		enginetest.Answer(w, http.StatusOK, fmt.Sprintf(`{"id": %q, "currentState": "JOB_STATE_%s"}`, r.PathValue("id"), strings.ToUpper(r.PathValue("id"))))
	})
	mux.HandleFunc("PUT /v1b3/projects/p/locations/us-central1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if busy.Add(1)%2 == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		updates.Store(&[]string{r.PathValue("id"), strings.TrimSpace(string(body))})
		enginetest.Answer(w, http.StatusOK, `{}`)
	})
	mux.HandleFunc("GET /v1b3/projects/{project}/locations/{region}/jobs", func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1); {
		case r.PathValue("project") == "p":
			enginetest.Answer(w, http.StatusBadRequest, enginetest.WrongRegion)
		case r.PathValue("project") == "busy" && asked.Load() == 1:
			enginetest.Answer(w, http.StatusServiceUnavailable, `{}`)
		case r.PathValue("project") == "busy":
			enginetest.Answer(w, http.StatusOK, `{}`)
		case r.PathValue("project") == "gone":
			enginetest.Answer(w, http.StatusServiceUnavailable, `{}`)
		default:
			enginetest.Answer(w, http.StatusForbidden, `{"error": {"code": 403, "message": "me lacks dataflow.jobs.list"}}`)
		}
	})
	endpoint, credentials := enginetest.Google(t, mux)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", credentials)
	return endpoint, asked, func() []string {
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
	shorten(t, &pollInterval, time.Millisecond)
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
	shorten(t, &pollInterval, time.Millisecond)
	shorten(t, &dataflowTime, 100*time.Millisecond)
	endpoint, asked, _ := dataflow(t, false)
	err := jobAt("p", endpoint).cancel(make(chan struct{}))
	var u *Uncancelled
	if !errors.As(err, &u) || asked.Load() < 2 {
		t.Errorf("after %d polls: %v", asked.Load(), err)
	}
}

// If a job can't be cancelled, the run ends at once instead of waiting for the job.
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
	shorten(t, &pollInterval, time.Millisecond)
	endpoint, _, _ := dataflow(t, true)
	for id, want := range map[string]string{
		"done": "", "cancelled": "the Dataflow job coeval-1 (cancelled) ended CANCELLED, not DONE", "drained": "ended DRAINED", "updated": "ended UPDATED",
	} {
		err := jobAt("p", endpoint).await(t.Context(), func() (string, error) { return id, nil })
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", id, err, want)
		}
	}
	failed := errors.New("failed")
	if err := jobAt("p", endpoint).await(t.Context(), func() (string, error) { return "", failed }); !errors.Is(err, failed) {
		t.Errorf("it says %v", err)
	}
}

// One that Dataflow never comes to know is looked for until the run ends.
func TestCancelDataflowOfNoJob(t *testing.T) {
	shorten(t, &pollInterval, time.Millisecond)
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

// The error for a job that can't be cancelled names the next step.
func TestCancelDataflowFails(t *testing.T) {
	endpoint, _, _ := dataflow(t, true)
	err := jobAt("another", endpoint).cancel(make(chan struct{}))
	var u *Uncancelled
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "the Dataflow job coeval-1 could not be cancelled") || strings.Contains(err.Error(), "\n") {
		t.Errorf("it says %v", err)
	}
}

// Whether Dataflow takes jobs of a project in a region is known before anything is asked.
func TestReachOfDataflow(t *testing.T) {
	shorten(t, &pollInterval, time.Millisecond)
	shorten(t, &answerTime, 10*time.Second)
	for _, test := range []struct{ project, region, want string }{
		{"p", "us-central1", ""},
		{"busy", "us-central1", ""}, // at first
		{"p", "us-central9", "--region=us-central9 of --project=p: Dataflow accepts no jobs there (400: (0): The workflow could not be created, since"},
		{"another", "us-central1", "--project=another: no permission to list its Dataflow jobs (403: me lacks dataflow.jobs.list)"},
	} {
		endpoint, _, _ := dataflow(t, true)
		err := dataflowJob{project: test.project, region: test.region, endpoint: endpoint}.reach(t.Context())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s in %s: %v, want %q", test.project, test.region, err, test.want)
		}
	}
	shorten(t, &answerTime, 20*time.Millisecond)
	endpoint, _, _ := dataflow(t, true)
	if err := jobAt("gone", endpoint).reach(t.Context()); err == nil || !strings.Contains(err.Error(), "Dataflow did not answer for 20ms") {
		t.Errorf("with an unreachable service: %v", err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "none.json"))
	if err := jobAt("p", endpoint).reach(t.Context()); err == nil || !strings.Contains(err.Error(), "no credentials for --runner=dataflow: set GOOGLE_APPLICATION_CREDENTIALS") {
		t.Errorf("without credentials: %v", err)
	}
}
