package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// script returns worker.sh beside a boot program that prints its arguments.
func script(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join("..", "flink", "worker.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"worker.sh": string(b), "boot": "#!/bin/sh\necho $$ $COEVAL_BOOT \"$PWD\" \"$@\"\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "worker.sh")
}

// Each worker boots in a separate folder named after its process ID. The next one of this user on this
// host removes it after the process has ended.
func TestWorkerScript(t *testing.T) {
	sh, tmp := script(t), t.TempDir()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf("coeval-worker-%s-%d-", host, os.Getuid())
	stays := map[string]bool{
		fmt.Sprint(mine, dead.Process.Pid):                                           false,
		fmt.Sprint(mine, os.Getpid()):                                                true,
		fmt.Sprintf("coeval-worker-%s-%d-%d", host, os.Getuid()+1, dead.Process.Pid): true,
		fmt.Sprintf("%s9-%d", mine, dead.Process.Pid):                                true, // of a host that is called so
	}
	for name := range stays {
		if err := os.Mkdir(filepath.Join(tmp, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), sh, "--id=1")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	pid := cmd.Process.Pid
	folder := fmt.Sprint(filepath.Join(tmp, mine), pid)
	if want := fmt.Sprintf("%d %d %s --semi_persist_dir=%s --id=1", pid, pid, folder, folder); strings.TrimSpace(string(said)) != want {
		t.Errorf("boot was started with\n%s\nwant\n%s", said, want)
	}
	for name, want := range stays {
		if _, err := os.Stat(filepath.Join(tmp, name)); (err == nil) != want {
			t.Errorf("%s stays: %t, want %t", name, err == nil, want)
		}
	}
}
