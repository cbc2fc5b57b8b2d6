package loop_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/runners/loop/steps"
)

// reopen cuts the state of a finished loop after its first lines, as if it had been killed there.
func reopen(t *testing.T, dir string, lines int) {
	t.Helper()
	name := filepath.Join(dir, "loop", steps.StateFile)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Join(bytes.SplitAfter(b, []byte("\n"))[:lines], nil)
	if err := os.WriteFile(name, kept, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Files of a finished step that changed before the next step are an error that names them; outputs of a step
// that is not recorded yet are made again where they are gone.
func TestFilesOfStepsChange(t *testing.T) {
	t.Parallel()
	const produce, set, train = 1, 2, 3 // lines of the state after these steps
	for name, tt := range map[string]struct {
		lines int
		harm  func(it string) error
		want  string // empty: the loop goes on
	}{
		"nothing":  {set, func(string) error { return nil }, ""},
		"run.json": {produce, func(it string) error { return os.WriteFile(filepath.Join(it, "data", "run.json"), []byte("x"), 0o600) }, "iteration 1, set: run.json in "},
		"no run":   {produce, func(it string) error { return os.RemoveAll(filepath.Join(it, "data")) }, "Restore them"},
		"other pairs": {produce, func(it string) error {
			return os.Rename(filepath.Join(it, "data", "judge", "train-0.parquet"), filepath.Join(it, "data", "actor", "train-0.parquet"))
		}, "the pairs in "},
		"more pairs": {produce, func(it string) error {
			return os.WriteFile(filepath.Join(it, "data", "actor", "x.parquet"), []byte("x"), 0o600)
		}, "the pairs in "},
		"another set": {set, func(it string) error {
			return os.WriteFile(filepath.Join(it, "set", "train", "train.parquet"), []byte("x"), 0o600)
		}, "iteration 1, train: "},
		"no set":      {set, func(it string) error { return os.RemoveAll(filepath.Join(it, "set", "judge")) }, "a file of the training set can't be read"},
		"other model": {train, func(it string) error { return os.WriteFile(filepath.Join(it, "model", "weights"), []byte("x"), 0o600) }, "iteration 1, swap: the model "},
		"more weights": {train, func(it string) error {
			return os.WriteFile(filepath.Join(it, "model", "weights-2"), []byte("x"), 0o600)
		}, "changed after its training"},
		"no model":   {train, func(it string) error { return os.RemoveAll(filepath.Join(it, "model")) }, "can't be read"},
		"untrained":  {set, func(it string) error { return os.RemoveAll(filepath.Join(it, "model")) }, ""},
		"unproduced": {0, func(it string) error { return os.RemoveAll(filepath.Join(it, "data")) }, ""},
		"no judging": {4, func(it string) error { return os.RemoveAll(filepath.Join(it, "judge")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newLoop(t, modelServer(t))
			if err := os.WriteFile(filepath.Join(dir, "loop.yaml"), bytes.Replace(must1(os.ReadFile(filepath.Join(dir, "loop.yaml"))), []byte("iterations: 3"), []byte("iterations: 1"), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := runLoop(t.Context(), dir, io.Discard); err != nil {
				t.Fatal(err)
			}
			reopen(t, dir, tt.lines)
			err := errors.Join(tt.harm(filepath.Join(dir, "loop", "it-1")), runLoop(t.Context(), dir, io.Discard))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v; want %q", err, tt.want)
			}
		})
	}
}

func must1(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A trainer may leave links to its model. The digest is that of the files behind them, and a link to nothing and
// files without content are no model.
func TestTrainerLeavesLinks(t *testing.T) {
	t.Parallel()
	digests := map[string]bool{}
	for name, tt := range map[string]struct{ command, want string }{
		"folder":         {"mkdir {out}; echo w >{out}/weights", ""},
		"link":           {"mkdir {out}.real; echo w >{out}.real/weights; ln -s {out}.real {out}", ""},
		"linked files":   {"mkdir {out} {out}.real; echo w >{out}.real/weights; ln -s {out}.real/weights {out}/weights", ""},
		"link to itself": {"mkdir {out}; echo w >{out}/weights; ln -s . {out}/latest", ""},
		"dangling link":  {"mkdir {out}; echo w >{out}/weights; ln -s nowhere {out}/tokenizer", "tokenizer is a link to nothing"},
		"empty files":    {"mkdir {out}; : >{out}/weights", "it has no files with content"},
		"empty folder":   {"mkdir {out}", "it has no files with content"},
		"nothing":        {"true {out}", "left no model at"},
	} {
		dir := newLoop(t, modelServer(t))
		file := filepath.Join(dir, "loop.yaml")
		config := strings.Replace(string(must1(os.ReadFile(file))), "iterations: 3", "iterations: 1", 1)
		lines := strings.Split(config, "\n")
		for i := range lines {
			if strings.HasPrefix(lines[i], "  command: ") {
				lines[i] = "  command: '" + tt.command + "'"
			}
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		err := runLoop(t.Context(), dir, io.Discard)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v; want %q", name, err, tt.want)
		}
		if err != nil {
			continue
		}
		state, err := steps.Read(filepath.Join(dir, "loop"))
		if err != nil {
			t.Fatal(err)
		}
		trained, err := steps.Output[struct{ Digest string }](state, 1, steps.TrainModel)
		if err != nil {
			t.Fatal(err)
		}
		digests[trained.Digest] = true
	}
	if len(digests) != 1 {
		t.Errorf("the same file has %d digests", len(digests))
	}
}
