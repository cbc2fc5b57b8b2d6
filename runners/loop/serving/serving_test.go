package serving

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coeval/runners/loop/process"
	"coeval/runners/loop/swap"
)

// The test's own program is the server that a command starts, if these variables are set.
const (
	addressVariable = "COEVAL_TEST_SERVE_AT"
	modelVariable   = "COEVAL_TEST_MODEL"
	startsVariable  = "COEVAL_TEST_STARTS"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(addressVariable); address != "" {
		fmt.Fprintln(os.Stderr, serve(address))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve lists one model until the process ends, and adds a line to the file of starts.
func serve(address string) error {
	starts, err := os.OpenFile(os.Getenv(startsVariable), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(starts, os.Getpid()); err != nil {
		return err
	}
	s := http.Server{Addr: address, ReadHeaderTimeout: time.Second, Handler: models(os.Getenv(modelVariable))}
	return errors.Join(starts.Close(), s.ListenAndServe())
}

func models(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/models") {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"data":[{"id":%q}]}`, name)
	})
}

// log collects the progress.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *log) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.lines, "\n"), part)
}

// newServer returns a server of this model that the test's program plays, and the file of its starts.
func newServer(t *testing.T, url, model string, out *log) (*Server, string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	starts := filepath.Join(dir, "starts")
	s := &Server{
		Command: &process.Command{
			Dir: dir, Name: "server", Line: "exec '" + program + "' # " + model,
			Env: []string{addressVariable + "=" + strings.TrimPrefix(url, "http://"), modelVariable + "=" + model, startsVariable + "=" + starts},
		},
		HTTP: &swap.Server{URL: url}, Model: model, Check: func() error { return nil }, Ready: time.Minute, Grace: time.Minute, Say: out.say,
	}
	t.Cleanup(func() {
		if err := s.Command.Stop(time.Minute); err != nil {
			t.Error(err)
		}
	})
	return s, starts
}

// freeURL returns the URL of an address at which nothing listens.
func freeURL(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was written
	return "http://" + l.Addr().String()
}

// pids returns the process IDs of the server's starts.
func pids(t *testing.T, starts string) []string {
	t.Helper()
	b, err := os.ReadFile(starts)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// A server that ends is started again while the work goes on, and serves the same model.
func TestKeep(t *testing.T) {
	t.Parallel()
	var out log
	s, starts := newServer(t, freeURL(t), "m", &out)
	err := Keep(t.Context(), []*Server{s}, func() error {
		if err := s.HTTP.WaitReady(t.Context(), "m", time.Second); err != nil {
			t.Errorf("it is not ready when the work begins: %v", err)
		}
		if err := s.Command.Stop(time.Minute); err != nil { // as a crash ends it
			return err
		}
		return s.HTTP.WaitReady(t.Context(), "m", 100*time.Millisecond)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(pids(t, starts)); n != 2 || !out.has("ended; starting it again") {
		t.Errorf("%d starts, want 2, and a line that says so: %q", n, out.lines)
	}
	if !s.Command.Runs() {
		t.Error("the server ended with the work; the next step needs it")
	}
}

// Keep returns the error of the work.
func TestKeepReturnsTheError(t *testing.T) {
	t.Parallel()
	failed := errors.New("the work failed")
	if err := Keep(t.Context(), nil, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}

// A server that answers without a command of the loop is the user's: no command is started.
func TestEnsureLeavesTheUsersServer(t *testing.T) {
	t.Parallel()
	users := httptest.NewServer(models("another"))
	defer users.Close()
	s, starts := newServer(t, users.URL, "m", &log{})
	if err := s.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(pids(t, starts)); n != 0 || s.Command.Runs() {
		t.Errorf("%d starts, want 0", n)
	}
}

// Replace ends the server of the former model before it starts the next one at the same address.
func TestReplace(t *testing.T) {
	t.Parallel()
	var out log
	former, starts := newServer(t, freeURL(t), "former", &out)
	if err := former.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := *former
	command := *former.Command
	command.Line = strings.Replace(command.Line, "# former", "# next", 1)
	command.Env = append([]string{}, command.Env...)
	command.Env[1] = modelVariable + "=next"
	next.Command, next.Model = &command, "next"
	next.Check = func() error { return errors.New("the files changed") }
	for range 2 { // the second time it runs already
		if err := next.Replace(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	served, err := next.HTTP.Models(t.Context())
	if _, ok := served["next"]; err != nil || !ok || len(served) != 1 {
		t.Errorf("it serves %v (%v), want next", served, err)
	}
	if n := len(pids(t, starts)); n != 2 || !out.has("warning: the files changed") {
		t.Errorf("%d starts, want 2, and a warning: %q", n, out.lines)
	}
}

// A server that never serves its model is an error that names the model and the file of its output.
func TestStartWithoutTheModel(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, freeURL(t), "m", &log{})
	s.Model, s.Ready = "other", 1500*time.Millisecond
	err := s.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"other"`) || !strings.Contains(err.Error(), s.Command.Log()) {
		t.Errorf("error is %v", err)
	}
}
