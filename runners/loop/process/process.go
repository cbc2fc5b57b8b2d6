// Package process runs the long commands of a loop, such as a training, so that a restarted loop
// finds them again.
//
// A command runs in a new process group, with its output in a file. A shell wrapper writes its exit code to
// another file. A restarted loop reads this file. It accepts a command that ended with code 0 and whose output
// is there, and it waits for a running one. It starts any other command again, for example one that a crash of
// the machine ended. While a loop waits for a command, it reports an end without an exit code as [ErrLost].
//
// The package works on Linux and macOS. It promises nothing for a command that leaves its process
// group.
package process

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files of a command in its folder, by the name of the command.
const (
	logSuffix   = ".log"
	stateSuffix = ".process.json"
	exitSuffix  = ".exit"
)

// OnStop is what a stopping loop does with a running command.
type OnStop string

// The states of a process.
const (
	// Kill ends the whole process group.
	Kill OnStop = "kill"
	// Finish leaves it running. The next start of the loop finds it.
	Finish OnStop = "finish"
)

// A Command is one command line of a step.
type Command struct {
	// Dir is where its files lie, Name begins their names.
	Dir, Name string
	// Line is the command line, for sh -c.
	Line string
	// Env are variables in addition to those of the loop, as NAME=value.
	Env []string
	// WorkDir is the command's working directory; empty is the loop's.
	WorkDir string
	OnStop  OnStop
	// Output is a file or a folder that the command leaves. If it is gone, a command that ended with code 0 runs again.
	Output string
	// Grace is how long a stopped command may take to end after SIGTERM. Zero means 10 seconds.
	Grace time.Duration
}

// state is the record of a started command.
type state struct {
	PID int `json:"pid"`
	// Started distinguishes processes with one ID; see [startOf].
	Started string `json:"started"`
	Line    string `json:"line"`
}

// ErrLost is the error of a command that ended without an exit code while the loop waited: it was killed together
// with its shell.
var ErrLost = errors.New("it ended without an exit code")

// ExitError is the error of a command that failed.
type ExitError struct {
	Code int
	// Log is the file with its output, Tail its end.
	Log, Tail string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("exit code %d; the end of %s:\n%s", e.Code, e.Log, e.Tail)
}

func (c *Command) path(suffix string) string { return filepath.Join(c.Dir, c.Name+suffix) }

// Log returns the file with the command's output.
func (c *Command) Log() string { return c.path(logSuffix) }

// Run starts the command, or joins one that a former loop started, and waits for it. A command that
// has ended with code 0 isn't started again. A failed or lost one is, by the next Run. If a command with
// this name and another line runs, Run ends it first, or returns an error where it was to [Finish]. Run returns
// an [*ExitError] if the command fails, and an error that wraps [ErrLost] if it was lost.
func (c *Command) Run(ctx context.Context) error {
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		return err
	}
	was, err := c.load()
	if err != nil {
		return err
	}
	if was != nil && was.Line == c.Line {
		running := alive(was)
		code, ended, err := c.exitCode() // after alive: a command writes its code before it ends
		switch {
		case err != nil:
			return err
		case ended && code == 0 && c.hasOutput():
			return nil
		case !ended && running:
			return c.wait(ctx, was)
		}
	}
	if err := c.replace(was); err != nil {
		return err
	}
	started, err := c.start()
	if err != nil {
		return err
	}
	return c.wait(ctx, started)
}

// replace ends the remaining processes of the former command, whose line may differ. It returns an error if that
// command runs and was to [Finish].
func (c *Command) replace(was *state) error {
	if was == nil {
		return nil
	}
	if !alive(was) {
		return c.stopOrphans(was)
	}
	if _, ended, err := c.exitCode(); err != nil {
		return err
	} else if !ended && c.OnStop == Finish {
		return fmt.Errorf("%s: process group %d still runs the command line of a former start, and the command line is another one now. "+
			"Restore the former one, which is in %s, to wait for it; or end it with: kill -- -%d", c.Name, was.PID, c.path(stateSuffix), was.PID)
	}
	return c.stop(was, cmp.Or(c.Grace, stopGrace))
}

// hasOutput reports whether the log and the output of a command that has ended are there.
func (c *Command) hasOutput() bool {
	for _, name := range []string{c.Log(), cmp.Or(c.Output, c.Log())} {
		if _, err := os.Stat(name); err != nil {
			return false
		}
	}
	return true
}

// stopOrphans ends the remaining processes of a command whose shell has vanished: they would run at the
// same time as its successor. While a group has members its number is no other process's, so that a
// group without its leader is the command's own.
func (c *Command) stopOrphans(s *state) error {
	if !errors.Is(syscall.Kill(s.PID, 0), syscall.ESRCH) || !groupAlive(s.PID) {
		return nil
	}
	return c.stop(s, cmp.Or(c.Grace, stopGrace))
}

// Done reports whether the command ended with code 0.
func (c *Command) Done() bool {
	code, ended, err := c.exitCode()
	return err == nil && ended && code == 0
}

// Runs reports whether this command line runs.
func (c *Command) Runs() bool {
	was, err := c.load()
	return err == nil && was != nil && was.Line == c.Line && alive(was)
}

// Start starts the command, or joins one with the same line that runs, and doesn't wait for its end. A command that has
// ended starts again.
func (c *Command) Start() error {
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		return err
	}
	was, err := c.load()
	if err != nil {
		return err
	}
	if was != nil && was.Line == c.Line && alive(was) {
		return nil
	}
	if err := c.replace(was); err != nil {
		return err
	}
	_, err = c.start()
	return err
}

// Stop ends the command's process group: first with SIGTERM, after grace with SIGKILL. It does
// nothing to a command that doesn't run.
func (c *Command) Stop(grace time.Duration) error {
	was, err := c.load()
	if err != nil || was == nil || !alive(was) {
		return err
	}
	return c.stop(was, grace)
}

func (c *Command) load() (*state, error) {
	b, err := os.ReadFile(c.path(stateSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w. Make sure that the command %s of this loop has ended, then remove the file", c.path(stateSuffix), err, c.Name)
	}
	if s.PID <= 1 { // 1, 0 and negative numbers mean other processes to kill(2)
		return nil, fmt.Errorf("%s contains the process ID %d, which no command of a loop can have: remove the file", c.path(stateSuffix), s.PID)
	}
	return &s, nil
}

// wrapper waits for a line on descriptor 3, runs its second argument and writes the exit code to its
// first one, under a temporary name until the file is complete. The loop writes the line after it has
// stored the state. If the loop is killed before, the wrapper reads the end of the pipe and exits.
// Otherwise a command without a state would run at the same time as the one that the next loop starts.
const wrapper = `read -r line <&3 || exit; exec 3<&-; sh -c "$2"; code=$?; echo "$code" >"$1.tmp" && mv "$1.tmp" "$1"`

func (c *Command) start() (*state, error) {
	if err := os.Remove(c.path(exitSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	exit, err := filepath.Abs(c.path(exitSuffix))
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.Log(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                           // the command has its own descriptor
	cmd := exec.Command("sh", "-c", wrapper, "sh", exit, c.Line) //nolint:noctx // it may outlive the loop
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir, cmd.Env = c.WorkDir, append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stored, signal, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = signal.Close() }() // an error of its write was returned
	cmd.ExtraFiles = []*os.File{stored}   // the first one is descriptor 3
	err = cmd.Start()
	_ = stored.Close() // the wrapper has its own descriptor
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	go func() { _ = cmd.Wait() }() // reaps it; the exit file has the code
	started, err := startOf(cmd.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	s := &state{PID: cmd.Process.Pid, Started: started, Line: c.Line}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	temporary := c.path(stateSuffix) + ".tmp"
	if err := os.WriteFile(temporary, b, 0o666); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, c.path(stateSuffix)); err != nil {
		return nil, err
	}
	_, err = signal.WriteString("\n")
	return s, err
}

// interval is the time between two polls of a running command.
const interval = 100 * time.Millisecond

func (c *Command) wait(ctx context.Context, s *state) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		running := alive(s)
		code, ended, err := c.exitCode() // after alive: a command writes its code before it ends
		switch {
		case err != nil:
			return err
		case ended && code == 0:
			return nil
		case ended:
			return &ExitError{Code: code, Log: c.Log(), Tail: tail(c.Log())}
		case !running:
			lost := fmt.Errorf("%s: %w; the end of %s:\n%s", c.Name, ErrLost, c.Log(), tail(c.Log()))
			return errors.Join(lost, c.stopOrphans(s))
		}
		select {
		case <-ctx.Done():
			if c.OnStop == Finish {
				return context.Cause(ctx)
			}
			return errors.Join(context.Cause(ctx), c.stop(s, cmp.Or(c.Grace, stopGrace)))
		case <-ticker.C:
		}
	}
}

// stopGrace is the default of Command.Grace.
const stopGrace = 10 * time.Second

func (c *Command) stop(s *state, grace time.Duration) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-s.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("%s: end process group %d: %w", c.Name, s.PID, err)
		}
		tick := time.Tick(interval / 10)
		for end := time.Now().Add(grace); time.Now().Before(end); <-tick {
			if !groupAlive(s.PID) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: process group %d survives SIGKILL", c.Name, s.PID)
}

// exitCode returns the code of a command that has ended. A file without a code, as a crash of the machine leaves
// it, is none.
func (c *Command) exitCode() (code int, ended bool, err error) {
	b, err := os.ReadFile(c.path(exitSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	code, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return code, err == nil, nil
}

// alive reports whether the process still runs that a state names.
func alive(s *state) bool {
	started, err := startOf(s.PID)
	if err != nil || s.Started == "" {
		return false
	}
	return started == s.Started || !isBootTicks(s.Started) && startedByPS(s)
}

// isBootTicks reports whether a start is a boot ID and clock ticks, as [readProc] returns it.
func isBootTicks(started string) bool {
	boot, ticks, ok := strings.Cut(started, " ")
	_, err := strconv.ParseUint(ticks, 10, 64)
	return ok && err == nil && len(boot) == len("00000000-0000-0000-0000-000000000000")
}

// startedByPS reports whether ps gives a state's start. Earlier versions stored the start in the time zone and the
// locale of their environment, on all systems.
func startedByPS(s *state) bool {
	for _, env := range [][]string{nil, psEnv} {
		if _, started, err := askPS(s.PID, env...); err == nil && started == s.Started {
			return true
		}
	}
	return false
}

// groupAlive reports whether a process group has members that run. On Linux, zombies don't count: the first process of a
// container may collect its orphans only after seconds.
func groupAlive(pid int) bool {
	if errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) {
		return false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return true // the system has no /proc
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// After the program's name: the state, the parent and the group.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(pid) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}

// startOf returns a text that distinguishes a process from others that had its ID. It returns an error if the
// process does not exist or is a zombie. On Linux the text is the boot and the clock ticks from there to the
// start, which neither a step of the clock nor a time zone changes. Other systems have the words of ps, in
// which two processes are alike that began within a second.
func startOf(pid int) (string, error) {
	status, started, err := readProc(pid)
	if errors.Is(err, errNoProc) {
		status, started, err = askPS(pid, psEnv...)
	}
	if err != nil {
		return "", fmt.Errorf("no process %d: %w", pid, err)
	}
	if strings.HasPrefix(status, "Z") {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return started, nil
}

// errNoProc is the error of a system without Linux's /proc.
var errNoProc = errors.New("the system has no /proc")

// readProc returns the state and the start of a process.
func readProc(pid int) (status, started string, err error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", errNoProc
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The second field is the program's name in brackets, which may have spaces and brackets itself. After it come
	// the state, the third field of proc(5), and the rest. The start is the 22nd.
	const start = 22 - 3
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= start {
		return "", "", fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	return fields[0], strings.TrimSpace(string(boot)) + " " + fields[start], nil
}

// psEnv makes the words of ps the same in every environment.
var psEnv = []string{"TZ=UTC0", "LC_ALL=C"}

// askPS returns the state and the start of a process in the words of ps. Env is added to the environment.
func askPS(pid int, env ...string) (status, started string, err error) {
	c := exec.Command("ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid)) //nolint:noctx // it ends at once
	c.Env = append(os.Environ(), env...)
	out, err := c.Output()
	status, started, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	return status, strings.TrimSpace(started), err
}

// maxTail bounds the end of a log that an error shows.
const maxTail = 2000

func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	b := make([]byte, min(info.Size(), maxTail))
	if _, err := f.ReadAt(b, info.Size()-int64(len(b))); err != nil {
		return err.Error()
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "")
}
