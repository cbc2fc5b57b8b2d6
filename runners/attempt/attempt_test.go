package attempt

import (
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A shell splits the printed command line into the arguments that the program was given.
func TestCommandLine(t *testing.T) {
	args := []string{"printf", "%s|", "", "a b", "roles=[actor, judge]", "it's", `\"$HOME"`, "*", "~", "method.rho=0.3", "!x", "a;b&c", "two\nlines"}
	said, err := exec.CommandContext(t.Context(), "sh", "-c", commandLine(args)).Output()
	if want := strings.Join(args[2:], "|") + "|"; err != nil || string(said) != want {
		t.Errorf("%s: %v\nprints %q\nwant   %q", commandLine(args), err, said, want)
	}
}

// A program that was started to ignore SIGHUP, as by nohup, goes on ignoring it.
func TestEndSignals(t *testing.T) {
	if !slices.Contains(EndSignals(), os.Signal(syscall.SIGHUP)) {
		t.Skip("the test itself runs under nohup")
	}
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	if got := EndSignals(); slices.Contains(got, os.Signal(syscall.SIGHUP)) || len(got) != 2 {
		t.Errorf("signals %v, want only an interrupt and SIGTERM", got)
	}
}
