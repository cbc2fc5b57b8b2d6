package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"

	"coeval/transforms/simulator"
)

// onTerminal starts the program as the leader of a session on a terminal of so many columns. Closing
// the terminal hangs the program up.
func onTerminal(t *testing.T, columns int, cmd *exec.Cmd) (p *process, terminal *os.File, written *said) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Skipf("this machine has no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() }) // again, where the test closed it
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p = launch(t, cmd)
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	written = &said{}
	go func() { _, _ = io.Copy(written, master) }() // ends with the terminal
	return p, master, written
}

// On a terminal a run shows its progress on one row, at any width.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{60, 80, 100, 140} {
		t.Run(fmt.Sprint(columns, " columns"), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, slowly(simulator.Options{}))
			open := w.closeAfter(t, 60)
			args := runOf(w.URL, promptFile(t, 20), filepath.Join(t.TempDir(), "out"))
			p, _, written := onTerminal(t, columns, exec.Command(program, args...))
			eventually(t, "five looks", func() bool { return strings.Count(written.String(), "\x1b[K") > 5 })
			open()
			if code := p.wait(t); code != exitDone {
				t.Errorf("exit code %d: %s", code, written.String())
			}
			// Each look begins with a carriage return and replaces the one before; the last messages follow on rows of their own.
			// Messages before the first look stand above it.
			var progress string
			eventually(t, "the row is erased", func() bool {
				all := strings.ReplaceAll(written.String(), "\r\n", "\n")
				first, last := strings.Index(all, "\r"), strings.LastIndex(all, "\r\x1b[K")
				if first >= 0 && last > first {
					progress = all[first:last]
				}
				return progress != ""
			})
			if strings.Contains(progress, "\n") || !strings.Contains(progress, "/20 prompts") {
				t.Errorf("at %d columns progress scrolls: %q", columns, progress)
			}
			for shown := range strings.SplitSeq(progress, "\r") {
				if width := runewidth.StringWidth(strings.TrimSuffix(shown, "\x1b[K")); width >= columns {
					t.Errorf("at %d columns progress has %d: %q", columns, width, shown)
				}
			}
		})
	}
}

// Closing the terminal of a run ends it as Ctrl-C does: requests in flight are answered, and their answers kept.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	w := newWorker(t, slowly(simulator.Options{}))
	open := w.closeAfter(t, 100)
	out := filepath.Join(t.TempDir(), "out")
	p, terminal, _ := onTerminal(t, 80, exec.Command(program, killedRun(w.URL, mixed(t, killedPrompts), out)...))
	eventually(t, "something is in flight", w.holds)
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	// A shell on it hangs up its jobs too: that is no second Ctrl-C.
	p.signal(t, syscall.SIGHUP)
	p.signal(t, syscall.SIGHUP)
	open()
	if code := p.wait(t); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if stats := w.settled(t); stats.Abandoned != 0 || stats.Requests == 0 {
		t.Errorf("%d of %d requests were given up", stats.Abandoned, stats.Requests)
	}
}

// A run that was started to outlive its terminal does. So does one whose messages nobody reads.
func TestRunsThatOutliveTheirTerminal(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"nohup":         `trap "" HUP; exec "$@" 2>"$LOG"`,
		"closed reader": `exec "$@" 2>&1 >/dev/null | head -c 1 >"$LOG"`,
	} {
		w := newWorker(t, slowly(simulator.Options{}))
		open := w.closeAfter(t, 100)
		out := filepath.Join(t.TempDir(), "out")
		args := append([]string{"-c", script, "sh", program}, killedRun(w.URL, mixed(t, killedPrompts), out)...)
		cmd := exec.CommandContext(t.Context(), "sh", args...)
		cmd.Env = append(os.Environ(), "LOG="+filepath.Join(t.TempDir(), "log"))
		p := launch(t, cmd)
		eventually(t, "something is in flight", w.holds)
		if name == "nohup" {
			p.signal(t, syscall.SIGHUP)
		}
		open()
		p.wait(t)
		eventually(t, name+": the run is complete", func() bool {
			_, err := os.Stat(filepath.Join(out, "run.json"))
			return err == nil
		})
	}
}

// The name of a folder cannot control the terminal, no matter which command prints it.
func TestNamesOnATerminal(t *testing.T) {
	t.Parallel()
	name := "o\x1b[31m\u202e\u009b\x7f\u2066ut"
	out := filepath.Join(t.TempDir(), name)
	prompts := promptFile(t, 6)
	for _, args := range [][]string{
		{"run", "--simulate", "--prompts", prompts, "--out", out},
		{"plan", "--simulate", "--prompts", prompts, "--out", out},
		{"run", "--simulate", "--prompts", prompts, "--out", out, "--json"},
		{"plan", "--simulate", "--prompts", prompts, "--out", out, "--json"},
		{"report", out, "--json"},
		{"compare", out, out, "--json"},
		{"journal", "verify", out, "--json"},
		{"report", out},
		{"report", out, "-o", out + ".html"},
		{"compare", out, out},
		{"inspect", out},
		{"verify", out},
		{"verify", filepath.Dir(out)},
		{"journal", "verify", out},
		{"journal", "compact", out},
		{"calibrate", "--simulate", "--people", "../../datasets/llmbar/llmbar-natural.json", "--set", "judge.n=2", "--out", out},
		{"arena", "--simulate", "--a", "base", "--b", "other", "--judge", "judge", "--prompts", prompts, "--out", out + "-arena"},
		{"loop", out + ".yaml"},
		{"config", out + ".yaml"},
		{"run", out + ".yaml"},
		{"run", "--simulate", "--prompts", out, "--out", out},
		{"simulate", "--addr", "\x1b[31m"},
		{"report\x1b[31m"},
		{"run", "--x\x1b[31m"},
		{"run", "--set", "a\x1b[31m=\u202e"},
	} {
		stdout, stderr, _ := coeval(t, args...)
		if text := stdout + stderr; strings.ContainsAny(text, "\x1b\u202e\u009b\x7f\u2066") {
			t.Errorf("%q prints control characters:\n%q", args, text)
		}
	}
}
