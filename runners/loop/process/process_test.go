package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"coeval/runners/loop/process"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A command that has ended isn't started again; another line is.
func TestRunOnce(t *testing.T) {
	dir := t.TempDir()
	c := &process.Command{Dir: filepath.Join(dir, "it-1"), Name: "train", Line: "echo ran >>" + filepath.Join(dir, "count") + "; echo \"to $NAME\"", Env: []string{"NAME=the log"}}
	for range 3 {
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, filepath.Join(dir, "count")); got != "ran\n" {
		t.Errorf("it ran %q", got)
	}
	if got := read(t, c.Log()); got != "to the log\n" {
		t.Errorf("the log has %q", got)
	}
	c.Line += " again"
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c.Log()); got != "to the log again\n" {
		t.Errorf("after another line the log has %q", got)
	}
}

// A failure has its code and the end of the log, and the next Run tries again.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	c := &process.Command{Dir: dir, Name: "train", Line: "echo out of memory; test -e " + filepath.Join(dir, "mended") + " || exit 7"}
	err := c.Run(t.Context())
	failed, ok := errors.AsType[*process.ExitError](err)
	if !ok || failed.Code != 7 || !strings.Contains(failed.Error(), "out of memory") {
		t.Fatalf("error is %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mended"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// waitFor waits until the command under test has created a file.
func waitFor(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(name); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s did not come", name)
		}
	}
}

// gated is a command that ends once the file gate exists.
func gated(dir string) *process.Command {
	begun, gate, count := filepath.Join(dir, "begun"), filepath.Join(dir, "gate"), filepath.Join(dir, "count")
	return &process.Command{Dir: dir, Name: "train", Line: "echo ran >>" + count + "; touch " + begun + "; while ! test -e " + gate + "; do sleep 0.01; done"}
}

// A loop that stops leaves a command running with Finish; the next one waits for it and doesn't
// start it again.
func TestFinish(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	c.OnStop = process.Finish
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	waitFor(t, filepath.Join(dir, "begun"))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
	go func() { ended <- c.Run(t.Context()) }()
	if err := os.WriteFile(filepath.Join(dir, "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(dir, "count")); got != "ran\n" {
		t.Errorf("it ran %q", got)
	}
}

// With Kill the whole process group ends, children of the command too.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	c.Line = "(" + c.Line + ") & wait"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	waitFor(t, filepath.Join(dir, "begun"))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
	if c.Done() {
		t.Error("a killed command is done")
	}
}

// A command that is killed together with its shell is lost, and the next Run starts it again.
func TestLost(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	pid := filepath.Join(dir, "pid")
	c.Line = "echo $$ >" + pid + "; " + c.Line
	ended := make(chan error, 1)
	go func() { ended <- c.Run(t.Context()) }()
	waitFor(t, filepath.Join(dir, "begun"))
	group, err := syscall.Getpgid(atoi(t, read(t, pid)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-group, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, process.ErrLost) {
		t.Fatalf("error is %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(dir, "count")); got != "ran\nran\n" {
		t.Errorf("it ran %q", got)
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n := 0
	for _, c := range strings.TrimSpace(s) {
		n = 10*n + int(c-'0')
	}
	return n
}

// A server is started once, found again, and stopped.
func TestStartStop(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	for range 2 {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, filepath.Join(dir, "begun"))
	}
	if got := read(t, filepath.Join(dir, "count")); got != "ran\n" {
		t.Errorf("it ran %q", got)
	}
	for range 2 {
		if err := c.Stop(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// A shell that is killed alone leaves its command behind, which ends before a successor starts.
func TestOrphan(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	own := filepath.Join(dir, "own")
	c.Line = "echo $$ >" + own + "; " + c.Line + "; touch " + filepath.Join(dir, "orphan-went-on")
	ended := make(chan error, 1)
	go func() { ended <- c.Run(t.Context()) }()
	waitFor(t, filepath.Join(dir, "begun"))
	group, err := syscall.Getpgid(atoi(t, read(t, own)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(group, syscall.SIGKILL); err != nil { // the leader alone
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, process.ErrLost) {
		t.Fatalf("error is %v", err)
	}
	if err := syscall.Kill(-group, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the group still has members: %v", err)
	}
}
