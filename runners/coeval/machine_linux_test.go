package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coeval/transforms/simulator"
)

// A fault of the machine stops the run with a sentence about the machine. Servers and prompts are not to
// blame, so no call fails for good, and the same command goes on once the fault is mended.
func TestMachineFaults(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 30)
	for _, test := range []struct{ name, mount, want string }{
		// The program needs about 20 files for itself, and a connection for each request.
		{"too many open files", "", "aise the limit (ulimit -n)"},
		// The journal takes about 500 kB.
		{"disk full", `mount -t tmpfs -o size=100k tmpfs "$OUT"`, "the disk is full: free some space and run the same command again"},
		{"read-only", `mount -t tmpfs -o ro tmpfs "$OUT"`, "the file system is read-only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, simulator.Options{Slots: 256})
			out := t.TempDir()
			args := runOf(w.URL, prompts, filepath.Join(out, "out"), "--set", "client.max_in_flight=200")
			var p *process
			if test.mount == "" {
				p = launch(t, exec.CommandContext(t.Context(), "sh", append([]string{"-c", `ulimit -n 40; exec "$@"`, "sh", program}, args...)...))
			} else {
				p = mounted(t, test.mount, out, args...)
			}
			code := p.wait(t)
			if said := p.stderr.String(); code != exitFailed || strings.Count(said, test.want) != 1 {
				t.Fatalf("exit code %d, want one %q:\n%s", code, test.want, said)
			}
			s := complete(t, args...) // the mount has ended with its namespace
			if s.Calls.Failed != 0 {
				t.Errorf("%d calls failed for good", s.Calls.Failed)
			}
			proved(t, filepath.Join(out, "out"))
		})
	}
}

// mounted runs the program to its end in a mount namespace of its own, where a command has mounted
// something at $OUT. It skips the test where users may not do that.
func mounted(t *testing.T, mount, out string, args ...string) *process {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "unshare", "-rm", "true").Run(); err != nil {
		t.Skip("this machine allows no mount namespaces:", err)
	}
	const refused = 77
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"-rm", "sh", "-c", mount + ` || exit 77; exec "$@"`, "sh", program}, args...)...)
	cmd.Env = append(os.Environ(), "OUT="+out)
	p := launch(t, cmd)
	if p.wait(t) == refused {
		t.Skip("this machine does not let users mount:", p.stderr.String())
	}
	return p
}

// A report of a folder that can't be written goes to another file, and without one the sentence names the
// flag. Verify and inspect write nothing.
func TestReportOfAReadOnlyFolder(t *testing.T) {
	t.Parallel()
	out, page := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "page.html")
	want(t, nil, smallRun(promptFile(t, 3), out)...)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"verify", out}, exitDone, ""},
		{[]string{"inspect", out, "1"}, exitDone, ""},
		{[]string{"report", out}, exitFailed, "--output"},
		{[]string{"report", out, "-o", page}, exitDone, page},
	} {
		p := mounted(t, `mount --bind "$OUT" "$OUT" && mount -o remount,bind,ro "$OUT"`, out, test.args...)
		code, said := p.wait(t), p.stdout.String()+p.stderr.String()
		if code != test.code || !strings.Contains(said, test.want) {
			t.Errorf("coeval %q: exit code %d, want %d and %q:\n%s", test.args, code, test.code, test.want, said)
		}
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "<html") {
		t.Errorf("the page: %v, %d bytes", err, len(html))
	}
}
