package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coeval/datasets/journal"
	"coeval/datasets/shards"
	"coeval/runners/summary"
	"coeval/runners/verify"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

// The tests run the program as people do: the binary in a process of its own, against a
// simulated worker that the test can look into. Commands that end before a pipeline is made run
// in the process of the test: see refused and reading.

// program is the path of the binary.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coeval-program-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "coeval")
	// Most tests wait for processes, stores and leases rather than for a core.
	flag.Parse()
	atOnce := false
	flag.Visit(func(f *flag.Flag) { atOnce = atOnce || f.Name == "test.parallel" })
	if !atOnce {
		if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := 1
	// Without debug information it links in half the time.
	if said, err := exec.Command("go", "build", "-ldflags=-w", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, said)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// worker is a simulated worker behind a server that knows its connections.
type worker struct {
	*simulator.Server
	URL string

	mu   sync.Mutex
	open map[net.Conn]bool
	// gate, when there is one, holds the requests for completions until it is closed, but for so
	// many that it lets through first.
	gate    chan struct{}
	through int
	held    int
	// waiting are held now.
	waiting int
}

// newWorker starts a worker that ends with the test.
func newWorker(t *testing.T, o simulator.Options) *worker {
	t.Helper()
	s, err := simulator.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{Server: s, open: map[net.Conn]bool{}}
	h := httptest.NewUnstartedServer(w)
	h.Config.ConnState = func(c net.Conn, state http.ConnState) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.open[c] = true
		if state == http.StateClosed || state == http.StateHijacked {
			delete(w.open, c)
		}
	}
	h.Start()
	t.Cleanup(h.CloseClientConnections)
	t.Cleanup(h.Close)
	w.URL = h.URL + "/v1"
	return w
}

// ServeHTTP lets requests through the gate.
func (w *worker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	gate := w.gate
	switch {
	case gate == nil || r.Method != http.MethodPost:
		gate = nil
	case w.through > 0:
		gate = nil
		w.through--
	default:
		w.held++
		w.waiting++
	}
	w.mu.Unlock()
	if gate == nil || w.passes(r, gate) {
		w.Server.ServeHTTP(rw, r)
	}
}

// passes holds a request until the gate is opened, and returns false when its client goes before:
// a server sees that only when it has read all of the request.
func (w *worker) passes(r *http.Request, gate <-chan struct{}) bool {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waiting--
	}()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	select {
	case <-gate:
		return true
	case <-r.Context().Done():
		return false
	}
}

// closeAfter lets so many requests through and holds all others until the function that it returns
// is called: until then the program does not end, however slow the test is.
func (w *worker) closeAfter(t *testing.T, requests int) (open func()) {
	gate := make(chan struct{})
	open = sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(gate)
		w.gate = nil
	})
	t.Cleanup(open)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate, w.through = gate, requests
	return open
}

func (w *worker) holds() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held > 0
}

// settled returns the worker's figures when all that a dead client asked for has been served:
// connections are accepted in order, so that after one of our own all of the client's are
// known, and its last request is served when the last of them is closed.
func (w *worker) settled(t *testing.T) simulator.Stats {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(w.URL, "http://"), "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	own := c.LocalAddr().String()
	eventually(t, "all connections of the client are closed", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		seen := false
		for conn := range w.open {
			seen = seen || conn.RemoteAddr().String() == own
		}
		return seen && len(w.open) == 1
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Stats()
}

// eventually waits until a condition holds. The wait is no property of the program: other tests have
// the same cores, and the race detector makes all of it some ten times slower.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	within(t, 5*time.Minute, what, so)
}

// within waits until a condition holds, at most for this time.
func within(t *testing.T, patience time.Duration, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-tick.C
	}
}

// said collects the output of a process.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// process is the program at work.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr said
	ended          chan struct{}
}

// begin starts the program. It is killed if the test ends before it.
func begin(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	return launch(t, cmd)
}

// launch starts a command. It is killed if the test ends before it.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if cmd.Stderr == nil { // else a terminal has it
		p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code tells
		close(p.ended)
	}()
	t.Cleanup(func() {
		if p.alive() {
			p.signal(t, os.Kill)
			<-p.ended
		}
	})
	return p
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// kill is kill -9.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, os.Kill)
	<-p.ended
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	patience := time.NewTimer(5 * time.Minute) // as for eventually
	defer patience.Stop()
	select {
	case <-p.ended:
	case <-patience.C:
		t.Fatalf("the program does not end: %s", strings.Join(p.cmd.Args, " "))
	}
	return p.cmd.ProcessState.ExitCode()
}

// coeval runs the program to its end and returns its output and its exit code.
func coeval(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	if reading[args[0]] {
		return refused(t, args...)
	}
	p := begin(t, nil, args...)
	code = p.wait(t)
	return p.stdout.String(), p.stderr.String(), code
}

// reading are commands that only read. The helpers run them in the process of the test, because the start of
// a process costs more than their work. TestNothingListensUnasked and TestResultsThatCannotBeWritten start them as
// processes.
var reading = map[string]bool{"report": true, "compare": true, "inspect": true, "verify": true, "config": true, "plan": true}

// refused is coeval in the process of the test. It is for commands that end before engine.Init, which changes the
// state of the process. They take no time beside the start of a process.
func refused(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	code = execute(t.Context(), args, &out, &errs)
	if flag.CommandLine.ErrorHandling() != flag.ExitOnError { // Init sets another one
		t.Fatalf("%q began a run in the process of the test: call coeval instead", args)
	}
	return out.String(), errs.String(), code
}

// coevalIn is coeval in another working folder.
func coevalIn(t *testing.T, folder string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = folder
	p := launch(t, cmd)
	code = p.wait(t)
	return p.stdout.String(), p.stderr.String(), code
}

// want runs the program and fails the test if it doesn't end with exit code 0.
func want(t *testing.T, env []string, args ...string) (stdout string) {
	t.Helper()
	if len(env) == 0 && reading[args[0]] {
		stdout, stderr, code := refused(t, args...)
		if code != exitDone {
			t.Fatalf("exit code %d of %s\n%s", code, strings.Join(args, " "), stderr)
		}
		return stdout
	}
	p := begin(t, env, args...)
	if code := p.wait(t); code != exitDone {
		t.Fatalf("exit code %d of %s\n%s", code, strings.Join(args, " "), p.stderr.String())
	}
	return p.stdout.String()
}

// runOf is the command line of a run with three responses and four judgments of each: per
// prompt 3 + 3·4 + 4·3 = 27 generations where nothing is merged, cut off or unparsed.
func runOf(url, prompts, out string, more ...string) []string {
	return append([]string{
		"run", "--url", url, "--model", "simulated", "--prompts", prompts, "--out", out, "--json",
		"--set", "actor.n=3", "--set", "judge.n=4", "--set", "prompts.max_bad_prompts=0.1",
	}, more...)
}

// complete makes a whole run and returns its summary.
func complete(t *testing.T, args ...string) *summary.Summary {
	t.Helper()
	var s summary.Summary
	if err := json.Unmarshal([]byte(want(t, nil, args...)), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// promptFile writes the first n prompts of Arena-Hard and more lines after them.
func promptFile(t *testing.T, n int, more ...string) string {
	t.Helper()
	b, err := os.ReadFile("../../datasets/arena-hard/arena-hard-v0.1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "prompts.jsonl")
	lines := slices.Concat(strings.SplitN(string(b), "\n", n+1)[:n], more)
	write(t, name, strings.Join(lines, "\n")+"\n")
	return name
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files returns the digest of every file below a run's folder that a second run must leave as
// it is: all but the journal and the reports of attempts.
func files(t *testing.T, out string) map[string]string {
	t.Helper()
	digests := map[string]string{}
	err := fs.WalkDir(os.DirFS(out), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (name == "journal" || name == "operations") {
			return cmp.Or(err, fs.SkipDir)
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(out, name))
		sum := sha256.Sum256(b)
		digests[name] = hex.EncodeToString(sum[:8])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return digests
}

// segments returns the names and sizes of the journal's segments.
func segments(t *testing.T, out string) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	names, err := filepath.Glob(filepath.Join(out, "journal", "*", "*.jsonl.zst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = info.Size()
	}
	return sizes
}

// durable counts the generations in the journal by role.
func durable(t *testing.T, out string) map[string]int64 {
	t.Helper()
	dir := filepath.Join(out, "journal")
	lengths, err := journal.FindPrefixBits(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	buckets, err := filepath.Glob(filepath.Join(dir, "b*"))
	if err != nil {
		t.Fatal(err)
	}
	byRole := map[string]int64{}
	for _, bucket := range buckets {
		name := filepath.Base(bucket)
		if len(name) != 1+lengths.Longest() {
			t.Fatalf("the journal has bucket %s beside those of %d bits, which read it too", name, lengths.Longest())
		}
		contents, err := journal.Read(t.Context(), dir, lengths, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, records := range contents {
			for _, r := range records {
				if r.Prompt == nil {
					byRole[r.Role]++
				}
			}
		}
	}
	return byRole
}

func readRun(t *testing.T, out string) *schemas.Run {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	var run schemas.Run
	if err := json.Unmarshal(b, &run); err != nil {
		t.Fatal(err)
	}
	return &run
}

// rows returns all rows of a table.
func rows[T shards.Row](t *testing.T, out string, table shards.Table) []T {
	t.Helper()
	var all []T
	for _, f := range readRun(t, out).Files {
		if filepath.Dir(f.Path) != string(table) {
			continue
		}
		err := shards.ReadTable(t.Context(), filepath.Join(out, f.Path), func(row *T) error {
			all = append(all, *row)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// proved fails the test if the folder does not hold a run that can be proved.
func proved(t *testing.T, out string) {
	t.Helper()
	r, err := verify.Out(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range r.Problems {
		t.Errorf("verify: %s", problem)
	}
}

func sum[K comparable](counts map[K]int64) int64 { return schemas.Sum(counts) }

// texts returns all that was said, from the raw tables.
func texts(t *testing.T, out string) []string {
	t.Helper()
	var all []string
	for _, r := range rows[schemas.ResponseRow](t, out, shards.Responses) {
		all = append(all, r.Text)
	}
	for _, j := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
		all = append(all, j.Text)
	}
	for _, c := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		all = append(all, c.Text)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}
