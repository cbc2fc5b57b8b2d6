package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// A state that names a process which no command can be is refused: 0, 1 and negative numbers mean other
// processes, or all, to kill(2).
func TestForgedState(t *testing.T) {
	for _, pid := range []string{"0", "1", "-1", "-4242"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "train.process.json"), []byte(`{"pid":`+pid+`,"started":"x","line":"y"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &process.Command{Dir: dir, Name: "train", Line: "true"}
		if err := errors.Join(c.Run(t.Context()), c.Stop(time.Second)); err == nil || !strings.Contains(err.Error(), "contains the process ID "+pid+",") {
			t.Errorf("%s: %v", pid, err)
		}
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

// A command line that changes while the former one runs never runs beside it: a command that is to finish is
// left alone, and any other one ends first.
func TestAnotherLineRuns(t *testing.T) {
	for _, onStop := range []process.OnStop{process.Finish, process.Kill} {
		dir := t.TempDir()
		c := gated(dir)
		c.OnStop = onStop
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, filepath.Join(dir, "begun"))
		another := *c
		another.Line = "echo another >>" + filepath.Join(dir, "count")
		for _, run := range []func() error{func() error { return another.Run(t.Context()) }, another.Start} {
			err := run()
			if onStop == process.Finish && (err == nil || !strings.Contains(err.Error(), "train: process group ") || !c.Runs()) {
				t.Errorf("%s: error is %v, the former command runs: %t", onStop, err, c.Runs())
			}
			if onStop != process.Finish && (err != nil || c.Runs()) {
				t.Errorf("%s: error is %v, the former command runs: %t", onStop, err, c.Runs())
			}
		}
		if got := read(t, filepath.Join(dir, "count")); onStop == process.Finish && got != "ran\n" || onStop != process.Finish && !strings.HasPrefix(got, "ran\nanother\n") {
			t.Errorf("%s: it ran %q", onStop, got)
		}
		if err := c.Stop(5 * time.Second); err != nil {
			t.Fatal(err)
		}
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
	// The killed command is a zombie until the first process of the system collects it.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the group still has members")
		}
	}
}

// A command runs on under its state although the time zone, the locale or the PATH of the next start differ.
func TestFinishInAnotherZone(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	c.OnStop = process.Finish
	t.Setenv("TZ", "UTC")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { first <- c.Run(ctx) }()
	waitFor(t, filepath.Join(dir, "begun"))
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"} {
		t.Setenv(name, value)
		if !c.Runs() {
			t.Errorf("with %s=%s the command is taken for another", name, value)
		}
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil {
		t.Setenv("PATH", "")
		if !c.Runs() {
			t.Error("without ps the command is taken for another")
		}
	}
	if err := c.Stop(time.Second); err != nil {
		t.Error(err)
	}
}

// A state of an earlier version has the start in the words of ps, in the time zone of that loop or in UTC. Its command is
// found, and a process that began at another time is not.
func TestStateOfEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	c := gated(dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, filepath.Join(dir, "begun"))
	name := filepath.Join(dir, "train.process.json")
	var state map[string]any
	if err := json.Unmarshal([]byte(read(t, name)), &state); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-int(state["pid"].(float64)), syscall.SIGKILL) })
	t.Setenv("TZ", "JST-9")
	for zone, runs := range map[string]bool{"JST-9": true, "UTC0": true, "EST5": false} {
		ps := exec.Command("env", "TZ="+zone, "ps", "-o", "lstart=", "-p", fmt.Sprint(state["pid"]))
		out, err := ps.Output()
		if err != nil {
			t.Fatal(err)
		}
		state["started"] = strings.TrimSpace(string(out))
		b, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.Runs() != runs {
			t.Errorf("with the start %s of %s the command runs: %t, want %t", out, zone, !runs, runs)
		}
	}
}

// A command that ended well runs again if its output or its code is gone.
func TestOutputIsGone(t *testing.T) {
	dir := t.TempDir()
	out, count := filepath.Join(dir, "out"), filepath.Join(dir, "count")
	c := &process.Command{Dir: dir, Name: "produce", Line: "echo ran >>" + count + "; echo x >" + out, Output: out}
	for i, harm := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(out) },
		func() error { return os.Remove(c.Log()) },
		func() error { return os.Truncate(filepath.Join(dir, "produce.exit"), 0) },
		func() error { return os.WriteFile(filepath.Join(dir, "produce.exit"), []byte("zero"), 0o600) },
	} {
		if err := errors.Join(harm(), c.Run(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got := read(t, count); got != strings.Repeat("ran\n", max(i+1, 1)) {
			t.Errorf("after harm %d it ran %q", i, got)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "produce.process.json"), []byte("hm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "produce.process.json is damaged") || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("a damaged state: %v", err)
	}
}
