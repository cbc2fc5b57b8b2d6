package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smallRun is the command line of the smallest run.
func smallRun(prompts, out string, more ...string) []string {
	return append([]string{
		"run", "--simulate", "--prompts", prompts, "--out", out,
		"--set", "simulate.latency=0s", "--set", "actor.n=3", "--set", "judge.n=3",
	}, more...)
}

// contentsOf returns the bytes of every file below a folder.
func contentsOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, folder+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A run in somebody's project is refused before anything is made there. With --adopt it works beside
// the project's files, and neither it nor a later run with fewer shards touches them.
func TestRunInAProject(t *testing.T) {
	t.Parallel()
	project := map[string]string{
		"actor/x.parquet": "mine", "raw/prompts/all.parquet": "mine", "main.py": "mine", "judge/train.parquet": "mine",
		"failures/2026.log": "mine", "operations/runbook.md": "mine", ".staging/deploy.sh": "mine", ".build.partial": "mine",
		"journal/2026-11-28.md": "mine", "report.html": "mine", "calibration.json": "{}",
	}
	out := t.TempDir()
	for name, text := range project {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(out, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	prompts := promptFile(t, 6)
	labels := filepath.Join(t.TempDir(), "labels.jsonl")
	if err := os.WriteFile(labels, []byte(`{"prompt":"p","response_1":"a","response_2":"b","label":1}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		smallRun(prompts, out),
		{"calibrate", "--simulate", "--people", labels, "--out", out, "--set", "judge.n=3"},
		{"calibrate", "--simulate", "--people", labels, "--out", out, "--set", "judge.n=3", "--adopt"}, // for its calibration.json
		{"journal", "compact", out},
		{"report", out},
	} {
		_, stderr, code := coeval(t, args...)
		if code != exitUsage && args[0] != "journal" && args[0] != "report" || code == exitDone {
			t.Errorf("%s: exit code %d\n%s", args, code, stderr)
		}
		if diff := cmp.Diff(project, contentsOf(t, out)); diff != "" {
			t.Fatalf("%s has changed the project:\n%s", args, diff)
		}
	}
	for _, perShard := range []string{"2", "1000"} {
		if _, stderr, code := coeval(t, smallRun(prompts, out, "--adopt", "--set", "output.prompts_per_shard="+perShard)...); code != exitDone {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		after := contentsOf(t, out)
		for name, text := range project {
			if after[name] != text {
				t.Errorf("%s is %q now", name, after[name])
			}
		}
		if after["run.json"] == "" || after["README.md"] == "" {
			t.Error("the run made no files")
		}
	}
	if n, err := filepath.Glob(filepath.Join(out, "actor", "train-*")); err != nil || len(n) != 1 {
		t.Errorf("shards of the earlier run are left: %q, %v", n, err)
	}
	if _, stderr, code := coeval(t, "report", out); code == exitDone || !strings.Contains(stderr, "report.html exists and was not written by Coeval") {
		t.Errorf("report: exit code %d\n%s", code, stderr)
	}
	// A run may continue in a folder that was adopted once.
	if _, stderr, code := coeval(t, smallRun(prompts, out)...); code != exitDone {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// Paths that would name another place than the user means are wrong flags, and nothing is made.
func TestPathsOfUsers(t *testing.T) {
	prompts := promptFile(t, 1)
	work := t.TempDir()
	t.Chdir(work)
	for _, test := range []struct{ out, want string }{
		{"~/out", "only a shell expands"},
		{"s3://bucket/../other", "does not resolve"},
		{"gs://bucket/a/../../other", "does not resolve"},
		{"hdfs://name/out", "no files can be reached by hdfs://"},
		{"S3://bucket/out", "no files can be reached by S3://"},
		{"s3:/bucket/out", "without two slashes"},
		{"file://out", "names no local file"},
		{"out\xff", "not valid UTF-8"},
	} {
		for _, args := range [][]string{
			smallRun(prompts, test.out),
			smallRun(test.out, "good"),
			{"verify", test.out},
			{"report", test.out},
			{"journal", "compact", test.out},
		} {
			_, stderr, code := refused(t, args...)
			if code != exitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("%q: exit code %d, want %q\n%s", args, code, test.want, stderr)
			}
		}
	}
	if files := contentsOf(t, work); len(files) != 0 {
		t.Errorf("files were made: %v", files)
	}
	// A file: URL is the local path that it names.
	if _, stderr, code := coeval(t, smallRun("file://"+prompts, "file://"+work+"/an%20out")...); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if _, stderr, code := coeval(t, "verify", "file://"+work+"/an%20out"); code != exitDone {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(work, "an out", "run.json")); err != nil {
		t.Error(err)
	}
}

// A journal that lost a segment stops every command that would ask again silently. Verify names the file
// and changes nothing, salvage lets the run go on, and the run makes the files of before.
func TestSalvageOfARun(t *testing.T) {
	t.Parallel()
	prompts, out := promptFile(t, 3), filepath.Join(t.TempDir(), "out")
	run := smallRun(prompts, out)
	if _, stderr, code := coeval(t, run...); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if stdout, stderr, code := coeval(t, "journal", "verify", out); code != exitDone || !strings.Contains(stdout, "0 files damaged or missing") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	before := contentsOf(t, out)
	found, err := filepath.Glob(filepath.Join(out, "journal", "b*", "s-*.zst"))
	if err != nil || len(found) == 0 {
		t.Fatalf("segments: %v, %v", found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := coeval(t, run...); code != exitFailed || !strings.Contains(stderr, found[0]+": lost") || !strings.Contains(stderr, "coeval journal salvage") {
		t.Errorf("run: exit code %d\n%s", code, stderr)
	}
	damaged := contentsOf(t, out)
	if stdout, _, code := coeval(t, "journal", "verify", out); code != exitProof || !strings.Contains(stdout, found[0]+": lost") {
		t.Errorf("journal verify: exit code %d\n%s", code, stdout)
	}
	if diff := cmp.Diff(damaged, contentsOf(t, out)); diff != "" {
		t.Errorf("journal verify has changed files:\n%s", diff)
	}
	if stdout, stderr, code := coeval(t, "journal", "salvage", out); code != exitDone || !strings.Contains(stdout, "a run will repeat their calls") {
		t.Errorf("journal salvage: exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, stderr, code := coeval(t, run...); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	after := contentsOf(t, out)
	for name, text := range before {
		if strings.HasSuffix(name, ".parquet") && after[name] != text {
			t.Errorf("%s differs", name)
		}
	}
	if stdout, _, code := coeval(t, "journal", "verify", out); code != exitDone {
		t.Errorf("journal verify: exit code %d\n%s", code, stdout)
	}
}

// A path that misleads is a wrong flag of every command, and nothing is read, written or asked.
func TestPathsOfFlags(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	write(t, filepath.Join(folder, "p.jsonl"), `{"prompt":"a"}`)
	const nobody = "http://127.0.0.1:1/v1"
	arena := []string{"arena", "--a", "m", "--b", "n", "--judge", "j", "--url", nobody, "--prompts", "p.jsonl", "--out", "out"}
	run := []string{"run", "--simulate", "--prompts", "p.jsonl", "--out", "out"}
	for _, test := range []struct {
		args []string
		want string
	}{
		{append(arena, "--a-answers", "~/a.jsonl"), "begins with ~"},
		{append(arena, "--b-answers", "azure://b/a.jsonl"), "no files can be reached by azure://"},
		{append(arena, "--known", "s3://b/../a"), `has a part ".."`},
		{append(arena, "--out", "s3:b/a"), "without two slashes"},
		{append(run, "--cpu-profile", "~/profile"), "begins with ~"},
		{append(run, "--cpu-profile", "s3://b/profile"), "name a local file"},
		{append(run, "--out", "p.jsonl"), "p.jsonl is a file"},
		{append(run, "--out", "p.jsonl/a"), "p.jsonl/a lies below a file"},
		{append(run, "--prompts", "gs://a bucket/p.jsonl"), "has the bucket"},
		{[]string{"plan", "--simulate", "--prompts", "p.jsonl", "--out", "p.jsonl"}, "p.jsonl is a file"},
		{[]string{"plan", "--simulate", "--prompts", "p.jsonl", "--out", " "}, "output.dir is missing"},
		{[]string{"calibrate", "--simulate", "--people", "~/labels.jsonl", "--out", "out"}, "begins with ~"},
		{[]string{"calibrate", "--simulate", "--people", "p.jsonl", "--map", "r\xff.json", "--out", "out"}, "not valid UTF-8"},
		{[]string{"report", "-o", "~/r.html", "out"}, "begins with ~"},
		{[]string{"report", "-o", "r\xff.html", "out"}, "not valid UTF-8"},
		{[]string{"compare", "--page", "azure://b/r.html", "out", "out"}, "no files can be reached by azure://"},
	} {
		call := refused
		if strings.HasPrefix(test.want, "p.jsonl ") || strings.HasPrefix(test.want, "p.jsonl/") {
			call = coeval
		}
		stdout, stderr, code := call(t, test.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit code %d, %q\n%s\nlacks %q", test.args, code, stdout, stderr, test.want)
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("something was made: %v, %v", entries, err)
	}
}

// A file that a flag names is replaced only if the command wrote it, and a run refuses the folder of an arena.
// Nothing is asked before.
func TestFilesOfFlagsAreOwn(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	prompts := promptFile(t, 2)
	write(t, filepath.Join(folder, "labels.jsonl"), `{"prompt":"p","response":"a","score":1}`)
	write(t, filepath.Join(folder, "mine"), "mine")
	if err := os.Symlink("mine", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "arena"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "arena", "arena.json"), "{}")
	const nobody = "http://127.0.0.1:1/v1"
	calibrate := []string{"calibrate", "--url", nobody, "--model", "m", "--people", "labels.jsonl", "--out", "out"}
	run := []string{"run", "--url", nobody, "--model", "m", "--prompts", prompts, "--out"}
	for _, test := range []struct {
		args []string
		want string
	}{
		{append(calibrate, "--map", "mine"), "mine exists and was not written by Coeval"},
		{append(calibrate, "--map", "link"), "link is a link"},
		{append(run, "out", "--cpu-profile", "mine"), "mine exists and was not written by Coeval"},
		{append(run, "out", "--cpu-profile", "link"), "link is a link"},
		{append(run, "arena", "--adopt"), "arena is the folder of an arena"},
	} {
		if _, stderr, code := coevalIn(t, folder, test.args...); code != exitUsage || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit code %d\n%s\nlacks %q", test.args, code, stderr, test.want)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "out")); err == nil || readFile(t, filepath.Join(folder, "mine")) != "mine" {
		t.Errorf("something was made or changed: %v", err)
	}
}

// A command whose result could not be written fails, and names the remedy.
func TestResultsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("this machine has no /dev/full: %v", err)
	}
	defer func() { _ = full.Close() }() // nothing was written
	out := filepath.Join(t.TempDir(), "out")
	want(t, nil, smallRun(promptFile(t, 3), out)...)
	for _, args := range [][]string{{"verify", out}, {"journal", "verify", out}, {"report", "--json", out}, {"inspect", out, "1"}} {
		var stderr strings.Builder
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "the disk is full") {
			t.Errorf("%q: %v\n%s", args, err, stderr.String())
		}
	}
}
