package lock

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"
)

func TestSecondRunIsRefused(t *testing.T) {
	dir := t.TempDir()
	first, err := Acquire(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(t.Context(), dir, Options{})
	if err == nil {
		t.Fatal("two runs have one folder")
	}
	if want := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v: must name %q and the folder", err, want)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Acquire(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

// victim is a file outside of the run's folder, which no lock may change.
func victim(t *testing.T, content string) (name string, check func()) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name, func() {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil || string(b) != content {
			t.Errorf("the victim contains %q, %v", b, err)
		}
		if is, err := os.Stat(name); err != nil || is.Mode().Perm() != 0o600 {
			t.Errorf("the victim's mode is %v, %v", is.Mode(), err)
		}
	}
}

// A file in the place of the lock is refused, unless it is a lock of this user. The refusal changes
// nothing.
func TestPlantedLocks(t *testing.T) {
	const record = `{"pid":1,"host":"h","since":"2026-01-01T00:00:00Z","id":"x","released":true}`
	for _, test := range []struct {
		name, content string
		plant         func(victim, lock string) error
		want          string
	}{
		{"a link", record, os.Symlink, "is a link"},
		{"a link to an empty file", "", os.Symlink, "is a link"},
		{"a link that leads nowhere", "", func(victim, lock string) error { return os.Symlink(victim+".missing", lock) }, "is a link"},
		{"a hard link", record, os.Link, "hard link"},
		{"a named pipe", "", func(_, lock string) error { return syscall.Mkfifo(lock, 0o600) }, "is a named pipe"},
		{"a folder", "", func(_, lock string) error { return os.Mkdir(lock, 0o700) }, "is a folder"},
		{"a folder that is a link", record, func(victim, lock string) error {
			if err := os.Remove(filepath.Dir(lock)); err != nil {
				return err
			}
			if err := os.Rename(victim, filepath.Join(filepath.Dir(victim), ".lock")); err != nil {
				return err
			}
			if err := os.Symlink(filepath.Dir(victim), filepath.Dir(lock)); err != nil {
				return err
			}
			return os.Symlink(".lock", victim)
		}, "is not a folder but a link"},
		{"somebody's file", "", func(_, lock string) error { return os.WriteFile(lock, []byte("notes\n"), 0o600) }, "is not a lock of a run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := t.TempDir()
			name, check := victim(t, test.content)
			if err := os.Mkdir(filepath.Join(out, "operations"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := test.plant(name, Name(out)); err != nil {
				t.Fatal(err)
			}
			_, err := Acquire(t.Context(), out, Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			check()
			if _, err := os.Stat(name + ".missing"); err == nil {
				t.Error("a file was made through the link")
			}
		})
	}
}

func TestLockOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	out := t.TempDir()
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(Name(out), 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), out, Options{}); err == nil || !strings.Contains(err.Error(), "belongs to another user (uid 12345)") {
		t.Errorf("%v", err)
	}
}

// The mode of a lock that is there stays as it is.
func TestModeOfALock(t *testing.T) {
	out := t.TempDir()
	if err := os.Mkdir(filepath.Join(out, "operations"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Name(out), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.Stat(Name(out)); err != nil || is.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", is.Mode(), err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

// A record that is longer than the next one leaves nothing of itself behind.
func TestLockAfterALongerOne(t *testing.T) {
	out := t.TempDir()
	if err := os.Mkdir(filepath.Join(out, "operations"), 0o755); err != nil {
		t.Fatal(err)
	}
	long := `{"pid":1,"host":"` + strings.Repeat("h", 2*recordSize) + `"}`
	if err := os.WriteFile(Name(out), []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), out, Options{Attempt: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := NewFence(out, "a").Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

// Anybody may have written a lock: nothing that steers a terminal passes from it into a message.
func TestForgedHolder(t *testing.T) {
	for _, host := range []string{"\x1b]0;owned\x07\x1b[2Jhost", "a\u009b31mb", "a\u202eb", "a\nb", strings.Repeat("long", 5000)} {
		out := t.TempDir()
		l, err := Acquire(t.Context(), out, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(&leaseRecord{holder: holder{PID: 7, Host: host, Attempt: host}, ID: host})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(Name(out), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Acquire(t.Context(), out, Options{})
		if err == nil || !strings.Contains(err.Error(), "process 7 on ") {
			t.Fatalf("%v: must name the holder", err)
		}
		_, lost := err, NewFence(out, "mine").Check(t.Context())
		for _, message := range []string{err.Error(), lost.Error()} {
			if len(message) > 1000 || strings.ContainsFunc(message, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("a message for a terminal: %q", message)
			}
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
}
