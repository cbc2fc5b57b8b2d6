package machine_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coeval/schemas/machine"
)

// A fault is shown with its remedy after a runner has left only its text.
func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"sink: shard 0: store: open out/.staging/x: too many open files": "ulimit -n",
		"journal: write out/journal/b/s.jsonl.zst: file too large":       "ulimit -f",
		"a server says: no space left on device, or not":                 "",
		"no space left on device":                                        "",
	} {
		if got := machine.Shown(errors.New(text)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if got := machine.Fault(errors.New(text)); got != "" {
			t.Errorf("%s is a fault: %q", text, got)
		}
	}
	if got := machine.Shown(fmt.Errorf("store: %w", syscall.EROFS)); !strings.Contains(got, "read-only") {
		t.Errorf("a typed error: %q", got)
	}
}

// A fault of the machine is recognized through the errors of all packages in between.
func TestFault(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, notFound := os.Open(filepath.Join(folder, "none"))
	full := func() error { // /dev/full refuses every write as a full disk does
		f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			return &fs.PathError{Op: "write", Path: file, Err: syscall.ENOSPC}
		}
		_, err = f.WriteString("x")
		return errors.Join(err, f.Close())
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("journal: %w", full()), "the disk is full"},
		{fmt.Errorf("a: %w", &fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}), "too many open files"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, "ulimit -n"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.ENFILE)}, "too many open files"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}, "ports"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.ENOBUFS)}, "memory"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "dial udp: socket: too many open files", Name: "gpu-1"}}, "ulimit -n"},
		{&net.DNSError{Err: "no such host", Name: "gpu-1"}, ""},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS}, "read-only"},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, "no permission"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}, ""},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, ""},
		{notFound, ""},
		{errors.New("reset: too many open files, says a server"), ""},
		{io.ErrUnexpectedEOF, ""},
		{nil, ""},
	} {
		if got := machine.Fault(test.err); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}
