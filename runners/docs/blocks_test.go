package docs

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"coeval/datasets/store/storetest"
	"coeval/transforms/simulator"
)

// `make docs` gives this flag.
var program = flag.String("coeval", "", "the built program, with which the blocks of the pages run; empty runs none")

// server is the address of a server in a block: the simulated worker replaces it.
var server = regexp.MustCompile(`http://(localhost|127\.0\.0\.1|gpu-\d):(8000|8001|8008|8080|30000|11434)/v1`)

// probe is an option whose time would be all the time of its page.
var probe = regexp.MustCompile(`--probe \d+s`)

// The blocks of each page run, in their order, in one folder and one shell.
func TestBlocksRun(t *testing.T) {
	if *program == "" {
		t.Skip("no program was given: make docs gives it")
	}
	built, err := filepath.Abs(*program)
	if err != nil {
		t.Fatal(err)
	}
	env, bucket := storetest.GCSBucket(t, nil)
	maps.Copy(env, storetest.S3(t, nil))
	head := prompts(t, 30)
	bucket.Put(t, "prompts/arena.jsonl", head)
	for _, p := range pages(t) {
		script := script(p.blocks())
		if script == "" {
			continue
		}
		t.Run(strings.ReplaceAll(p.name, "/", "_"), func(t *testing.T) {
			worker := newWorker(t)
			dir := checkout(t, built, head)
			c := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", probe.ReplaceAllLiteralString(server.ReplaceAllLiteralString(script, worker), "--probe 2s"))
			c.Dir = dir
			c.Env = append(os.Environ(), env.List()...)
			c.Env = append(c.Env, "PATH="+filepath.Join(dir, ".bin")+string(os.PathListSeparator)+os.Getenv("PATH"), "WORKER_KEY=a key of the test", "NO_PROXY=*")
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", p.name, err, tail(out))
			}
		})
	}
}

// script joins the blocks that run. Each announces itself, so that a failure shows where it was.
func script(blocks []*block) string {
	var b strings.Builder
	runs := false
	for _, block := range blocks {
		file, isFile := strings.CutPrefix(block.info, "yaml file=")
		switch {
		case isFile:
			fmt.Fprintf(&b, "cat >'%s' <<'END OF THE BLOCK'\n%sEND OF THE BLOCK\n", file, block.text)
		case block.info == "sh", block.info == "run":
			runs = runs || block.info == "sh"
			fmt.Fprintf(&b, "echo '== %s'\n%s", block.place(), block.text)
		}
	}
	if !runs {
		return ""
	}
	return b.String()
}

// newWorker returns the address of a simulated worker that learns from adapters, as of an OpenAI server.
func newWorker(t *testing.T) string {
	t.Helper()
	s, err := simulator.Start(simulator.Options{Adapters: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return strings.TrimSuffix(s.URL(), "/v1") + "/v1"
}

// checkout returns a folder like a reader's: with the repository, the built program, and the reader's
// files.
func checkout(t *testing.T, built string, prompts []byte) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Name() == "out" {
			continue // files that git ignores, and git's own
		}
		target, err := filepath.Abs(filepath.Join(root, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	labels, err := os.ReadFile(filepath.Join(root, "datasets", "llmbar", "llmbar-natural.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"prompts.jsonl": prompts, "eval.jsonl": prompts, "labels.jsonl": labels} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	copyProgram(t, built, filepath.Join(dir, ".bin", "coeval"))
	return dir
}

// copyProgram copies instead of linking, because a block may rebuild the program.
func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// prompts returns the first n prompts that the repository ships, one a line.
func prompts(t *testing.T, n int) []byte {
	t.Helper()
	all, err := os.ReadFile(filepath.Join(root, "datasets", "arena-hard", "arena-hard-v0.1.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all = bytes.Join(bytes.SplitAfterN(all, []byte("\n"), n+1)[:n], nil)
	return all
}

// tail returns the last lines of a script's output.
func tail(out []byte) []byte {
	const most = 4000
	if len(out) > most {
		out = append([]byte("…"), out[len(out)-most:]...)
	}
	return out
}
