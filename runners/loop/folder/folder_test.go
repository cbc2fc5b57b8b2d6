package folder

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"coeval/datasets/lock"
	"coeval/datasets/rundir"
)

// A loop works in an empty folder and in one of a loop, and in no other.
func TestCheck(t *testing.T) {
	write := func(parts ...string) {
		t.Helper()
		name := filepath.Join(parts...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	use := func(dir string) {
		t.Helper()
		held, err := lock.Acquire(t.Context(), dir, lock.Options{})
		if err == nil {
			err = held.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	unwritten := func(dir string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(lock.Name(dir)), 0o777), os.WriteFile(lock.Name(dir), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		fill    func(dir string)
		refused bool
	}{
		"missing":           {func(string) {}, false},
		"empty":             {func(dir string) { write(dir, ".gitkeep") }, false},
		"a loop's":          {func(dir string) { use(dir); write(dir, "state.jsonl"); write(dir, "it-1", "run.yaml") }, false},
		"killed at once":    {func(dir string) { unwritten(dir) }, false},
		"an empty lock":     {func(dir string) { unwritten(dir); write(dir, "main.go") }, true},
		"before the lock":   {func(dir string) { write(dir, "state.jsonl") }, true},
		"a project":         {func(dir string) { write(dir, "it-1", "run.yaml"); write(dir, "loop.html") }, true},
		"a hidden file":     {func(dir string) { write(dir, ".env") }, true},
		"a run's":           {func(dir string) { use(dir); write(dir, "run.json") }, true},
		"a run's journal":   {func(dir string) { use(dir); write(dir, "journal", "0", "a.journal") }, true},
		"a file":            {func(dir string) { write(dir) }, true},
		"a link inside":     {func(dir string) { use(dir); link(t, t.TempDir(), filepath.Join(dir, "it-1")) }, true},
		"a link to a state": {func(dir string) { use(dir); link(t, filepath.Join(dir, "x"), filepath.Join(dir, "state.jsonl")) }, true},
		"itself a link":     {func(dir string) { link(t, t.TempDir(), dir) }, false},
	} {
		dir := filepath.Join(t.TempDir(), "loop")
		tt.fill(dir)
		err := Check(t.Context(), dir)
		if refused := (*rundir.Refused)(nil); errors.As(err, &refused) != tt.refused || !tt.refused && err != nil {
			t.Errorf("%s: %v, want refused %v", name, err, tt.refused)
		}
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// A loop writes through no link and into no pipe below the folder of an iteration. A trainer may link its
// model and the logs of its tracker.
func TestLinksOfAnIteration(t *testing.T) {
	for name, refused := range map[string]bool{
		"run.yaml": true, "arena.yaml": true, "produce.log": true, "train.exit": true, "train.exit.tmp": true,
		"produce.process.json.tmp": true, "canary-0.json": true, "canary-0.json.tmp": true,
		"data": true, "judge": true, "set": true, "set/train": true, "set/train/train.parquet": true, "set/set.json": true,
		"future": true, "future/train.log": true, "future/set/judge": true,
		"model": false, "model/latest": false, "model.real": false, "future/model": false, "data/notes": false,
		"wandb/debug.log": false, "wandb/run/config.yaml": false, "future/wandb/debug.log": false, "wandb": false, "wandb/set/train": false,
	} {
		for kind, plant := range map[string]func(at string) error{
			"link": func(at string) error { return os.Symlink(t.TempDir(), at) },
			"pipe": func(at string) error { return syscall.Mkfifo(at, 0o600) },
		} {
			dir := filepath.Join(t.TempDir(), "loop")
			held, err := lock.Acquire(t.Context(), dir, lock.Options{})
			if err == nil {
				err = held.Release()
			}
			at := filepath.Join(dir, "it-1", filepath.FromSlash(name))
			if err := errors.Join(err, os.MkdirAll(filepath.Dir(at), 0o777), plant(at)); err != nil {
				t.Fatal(err)
			}
			err = Check(t.Context(), dir)
			if refusal := (*rundir.Refused)(nil); errors.As(err, &refusal) != refused || !refused && err != nil {
				t.Errorf("a %s as %s: %v", kind, name, err)
			}
		}
	}
}
