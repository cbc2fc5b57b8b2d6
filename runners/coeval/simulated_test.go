package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/transforms/simulator"
)

// disguised is a worker that cannot be told from a real server: it answers without the name of the
// simulator, and lists no models.
func disguised(t *testing.T, o simulator.Options) string {
	t.Helper()
	w := newWorker(t, o)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(rw, r)
			return
		}
		w.ServeHTTP(&nameless{rw}, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

type nameless struct{ http.ResponseWriter }

func (n *nameless) WriteHeader(status int) {
	n.Header().Del("Server")
	n.ResponseWriter.WriteHeader(status)
}

func (n *nameless) Write(b []byte) (int, error) {
	n.Header().Del("Server")
	return n.ResponseWriter.Write(b)
}

// tree returns the content of every file below a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Real and simulated answers never share a journal, in either order and however the simulated worker is
// asked. A refused run asks nobody, and leaves all files as they were.
func TestSimulatedAnswersStayApart(t *testing.T) {
	t.Parallel()
	world := uneven()
	url := disguised(t, simulator.Options{World: world})
	open := newWorker(t, simulator.Options{World: world})
	prompts := promptFile(t, 6)
	small := []string{"--prompts", prompts, "--model", "m", "--json", "--set", "actor.n=3", "--set", "judge.n=3"}
	ways := map[string][]string{
		"real":     append([]string{"run", "--url", url}, small...),
		"simulate": append([]string{"run", "--simulate", "--set", "simulate.latency=0s"}, small...),
		"server":   append([]string{"run", "--url", open.URL}, small...),
	}
	labels := map[string]bool{"real": false, "simulate": true, "server": true}
	for first, firstArgs := range ways {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			complete(t, append(slices.Clone(firstArgs), "--out", out)...)
			before := tree(t, out)
			for second, secondArgs := range ways {
				if labels[first] == labels[second] {
					continue
				}
				args := append(slices.Clone(secondArgs), "--out", out)
				// One more answer is wanted of each prompt: a server would have to be asked.
				args = append(args, "--set", "actor.n=4")
				_, stderr, code := coeval(t, args...)
				if code != exitFailed || !strings.Contains(stderr, "answers of") || !strings.Contains(stderr, "--out") {
					t.Errorf("%s after %s: exit code %d:\n%s", second, first, code, stderr)
				}
				plan := want(t, nil, append([]string{"plan"}, slices.DeleteFunc(slices.Clone(args[1:]), func(a string) bool { return a == "--json" })...)...)
				kind := map[bool]string{false: "real servers", true: "the simulated worker"}[labels[first]]
				if !strings.Contains(plan, "answers of "+kind) {
					t.Errorf("plan does not say that the journal has answers of %s:\n%s", kind, plan)
				}
			}
			after := tree(t, out)
			after["operations/.lock"] = before["operations/.lock"]
			for name := range after { // where a bucket was loaded, its view is kept
				if before[name] == "" && (strings.HasPrefix(name, "journal/b") && !strings.HasSuffix(name, ".zst") || strings.HasPrefix(name, "operations/")) {
					delete(after, name)
				}
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("a refused run changed files: %s", diff)
			}
			again := complete(t, append(slices.Clone(firstArgs), "--out", out)...)
			if again.Simulated != labels[first] || again.Calls.Generations != 0 {
				t.Errorf("%s again: simulated %v with %d generations", first, again.Simulated, again.Calls.Generations)
			}
		})
	}
}

// Another world answers anew: no answer of one is taken for the other's.
func TestWorldsStayApart(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	args := []string{"run", "--simulate", "--prompts", promptFile(t, 4), "--json", "--out", out, "--set", "actor.n=3", "--set", "judge.n=3", "--set", "simulate.latency=0s"}
	first := complete(t, args...)
	other := complete(t, append(args, "--set", "simulate.world=bad")...)
	if first.Calls.Generations == 0 || other.Calls.Generations < first.Calls.Generations/2 {
		t.Errorf("%d generations, and %d in another world", first.Calls.Generations, other.Calls.Generations)
	}
	for _, same := range [][]string{args, append(args, "--set", "simulate.world=bad"), append(args, "--set", "simulate.slots=8")} {
		if again := complete(t, same...); again.Calls.Generations != 0 {
			t.Errorf("%d generations of a world that the journal has", again.Calls.Generations)
		}
	}
}

// A gateway that answers before the simulated worker behind it is ready does not make the run's journal one of
// real servers.
func TestSimulatedWorkerThatComesLate(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{})
	var requests atomic.Int64
	gateway := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 4 {
			http.Error(rw, "<html>502 Bad Gateway</html>", http.StatusBadGateway)
			return
		}
		w.ServeHTTP(&nameless{rw}, r)
	}))
	t.Cleanup(gateway.Close)
	for _, n := range []string{"2", "5"} {
		requests.Store(0)
		out := filepath.Join(t.TempDir(), "out")
		if s := complete(t, runOf(gateway.URL+"/v1", promptFile(t, 3), out, "--set", "actor.n="+n)...); !s.Simulated {
			t.Errorf("actor.n=%s: the run passes for one of real servers", n)
		}
	}
}
