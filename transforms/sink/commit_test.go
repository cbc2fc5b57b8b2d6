package sink

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/lock"
	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
	"coeval/schemas"
)

func TestCommit(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	r := newTestRun(t, out, 4, 2, nil)
	manifests := r.writeAll(t)
	if _, err := os.Stat(filepath.Join(out, "actor")); !os.IsNotExist(err) {
		t.Errorf("before the commit a file has its final name (%v)", err)
	}
	r.commit(t, manifests)
	complete(t, out)
	got := readRun(t, out)

	// Ten lines: eight prompts, one of them twice, and a bad one.
	ledger := got.Ledger
	roles := ledger.Roles
	ledger.Roles = nil
	if diff := cmp.Diff(schemas.Ledger{Lines: 10, Bad: 1, Merged: 1, Findings: 8}, ledger); diff != "" {
		t.Error(diff)
	}
	pairs := map[string]int{
		schemas.RoleActor: len(rows[schemas.Pair](t, out, shards.Actor)),
		schemas.RoleJudge: len(rows[schemas.Pair](t, out, shards.Judge)),
	}
	for role, o := range roles {
		if o.Total() != prompts || o.Paired != int64(pairs[role]) || o.Paired == 0 {
			t.Errorf("%s: %+v with %d pairs", role, o, pairs[role])
		}
	}
	// One judgment of each prompt failed, and the bad line has its row.
	failures := rows[schemas.FailureRow](t, out, shards.Failures)
	if got := got.Stats.FailedCalls[schemas.StageJudge]["timeout"]; got != prompts || len(failures) != prompts+badLines {
		t.Errorf("%d failed judgments and %d rows of failures", got, len(failures))
	}
	if n := len(got.Files); n != 4*len(shards.Tables) {
		t.Errorf("%d files, want four of each table", n)
	}
	if got.Format != schemas.RunFormat || got.PositionWeights == nil || string(got.Config) == "" || got.Simulated {
		t.Errorf("run.json is %+v", got)
	}
	b, err := os.ReadFile(filepath.Join(out, CallsFile("first")))
	if err != nil || !strings.Contains(string(b), `"requests": 2`) {
		t.Errorf("the calls are reported as %s (%v)", b, err)
	}
}

// If two successive counts differ, nothing is committed, the error names both, and the earlier files
// stay.
func TestCommitOfALoss(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		plant func(*run, []schemas.Manifest) []schemas.Manifest
		want  []string
	}{
		{"a line was not read", func(r *run, m []schemas.Manifest) []schemas.Manifest {
			r.tallies[0].Lines--
			return m
		}, []string{"lines when scanned against lines read: 10 against 9", "lines read against bad + not drawn + merged + findings: 9 against 10"}},
		{"a finding was not made", func(r *run, m []schemas.Manifest) []schemas.Manifest {
			r.tallies[3].Findings--
			return m
		}, []string{
			"lines read against bad + not drawn + merged + findings: 10 against 9",
			"findings made against findings written: 7 against 8",
			"findings against selections of the actor sent to the files: 7 against 8",
		}},
		{"a tally is missing", func(r *run, m []schemas.Manifest) []schemas.Manifest {
			r.tallies = r.tallies[:5]
			return m
		}, []string{"findings against selections of the actor sent to the files: 8 against 2"}},
		{"a selection was not sent", func(r *run, m []schemas.Manifest) []schemas.Manifest {
			r.tallies[4].Selections[schemas.RoleJudge]--
			return m
		}, []string{"findings against selections of the judge sent to the files: 8 against 7"}},
		{"a bad line was not sent", func(r *run, m []schemas.Manifest) []schemas.Manifest {
			r.tallies[4].BadLines--
			return m
		}, []string{"bad lines read against bad lines sent to the files: 1 against 0", "bad lines sent to the files against bad lines written: 0 against 1"}},
		{"a bad line too many", func(r *run, m []schemas.Manifest) []schemas.Manifest {
			r.tallies[1].Bad++
			return m
		}, []string{"bad lines read against bad lines sent to the files: 2 against 1"}},
		{"a finding was not written", func(_ *run, m []schemas.Manifest) []schemas.Manifest {
			at := slices.IndexFunc(m, func(m schemas.Manifest) bool { return m.Findings > 0 })
			m[at].Findings--
			return m
		}, []string{"findings made against findings written: 8 against 7"}},
		{"a selection was not written", func(_ *run, m []schemas.Manifest) []schemas.Manifest {
			at := slices.IndexFunc(m, func(m schemas.Manifest) bool { return m.Stats.Outcomes[schemas.RoleActor].Paired > 0 })
			o := m[at].Stats.Outcomes[schemas.RoleActor]
			o.Paired--
			m[at].Stats.Outcomes[schemas.RoleActor] = o
			return m
		}, []string{"findings against selections of the actor written: 8 against 7"}},
		{"a manifest is missing", func(_ *run, m []schemas.Manifest) []schemas.Manifest {
			return m[1:]
		}, []string{"shards against manifests: 4 against 3", "shard against its manifest: 0 against 1"}},
		{"a manifest came twice", func(_ *run, m []schemas.Manifest) []schemas.Manifest {
			return append(m[1:], m[1])
		}, []string{"shard against its manifest: 0 against 1"}},
		{"nothing came", func(r *run, _ []schemas.Manifest) []schemas.Manifest {
			r.tallies = nil
			return nil
		}, []string{"lines when scanned against lines read: 10 against 0", "shards against manifests: 4 against 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			r := newTestRun(t, out, 4, 2, nil)
			for _, whole := range []bool{false, true} { // the folder was empty, or held a run
				if whole {
					r = newTestRun(t, out, 4, 2, nil)
					r.commit(t, r.writeAll(t))
					r.options.Attempt = "second"
				}
				manifests := r.writeAll(t)
				before := files(t, out)
				err := commit(t.Context(), &r.options, r.tallies, tt.plant(r, manifests))
				if err == nil {
					t.Fatal("it was committed")
				}
				for _, wanted := range append(tt.want, "nothing was committed") {
					if !strings.Contains(err.Error(), wanted) {
						t.Errorf("the error lacks %q: %v", wanted, err)
					}
				}
				if diff := cmp.Diff(before, files(t, out)); diff != "" {
					t.Errorf("folder that contained a run: %t: files changed: %s", whole, diff)
				}
			}
		})
	}
}

// A loss between two stages of the graph reaches Commit as two counts that differ.
func TestLossInThePipeline(t *testing.T) {
	out := t.TempDir()
	r := newTestRun(t, out, 4, 2, nil)
	err := r.pipeline(t, direct, r.records, r.records[1:])
	if err == nil || !strings.Contains(err.Error(), "findings made against findings written: 8 against 7") {
		t.Errorf("with a record lost on its way the pipeline ends with %v", err)
	}
	if _, err := os.Stat(filepath.Join(out, rundir.RunFile)); !os.IsNotExist(err) {
		t.Errorf("there is a run.json (%v)", err)
	}
}

// A commit can be repeated, and finishes a half-done one.
func TestCommitCanBeRepeated(t *testing.T) {
	t.Parallel()
	// Each attempt records its files before it gives them their final names, and is killed after that.
	beginCommit := func(t *testing.T, out string, manifests []schemas.Manifest) {
		t.Helper()
		var names []string
		for _, m := range manifests {
			for _, f := range m.Files {
				names = append(names, f.Path)
			}
		}
		if _, err := rundir.BeginCommit(t.Context(), out, names); err != nil {
			t.Fatal(err)
		}
	}

	reference := t.TempDir()
	r := newTestRun(t, reference, 4, 2, nil)
	r.commit(t, r.writeAll(t))
	want := files(t, reference)
	total := len(readRun(t, reference).Files)

	t.Run("twice", func(t *testing.T) {
		out := t.TempDir()
		r := newTestRun(t, out, 4, 2, nil)
		manifests := r.writeAll(t)
		r.commit(t, manifests)
		r.commit(t, manifests)
		if diff := cmp.Diff(want, files(t, out)); diff != "" {
			t.Error(diff)
		}
		complete(t, out)
	})
	for _, moved := range []int{1, total / 2, total} {
		t.Run("moved", func(t *testing.T) {
			out := t.TempDir()
			r := newTestRun(t, out, 4, 2, nil)
			manifests := r.writeAll(t)
			beginCommit(t, out, manifests)
			for _, m := range manifests {
				for _, f := range m.Files {
					if moved--; moved < 0 {
						break
					}
					move(t, filepath.Join(out, rundir.StagingFolder, r.options.Attempt, f.Path), filepath.Join(out, f.Path))
				}
			}
			r.commit(t, manifests)
			if diff := cmp.Diff(want, files(t, out)); diff != "" {
				t.Error(diff)
			}
			complete(t, out)
		})
	}
	t.Run("over an earlier run", func(t *testing.T) {
		out := t.TempDir()
		r := newTestRun(t, out, 4, 2, nil)
		r.commit(t, r.writeAll(t))
		// Another attempt was killed after some of its files had their final names: run.json is
		// missing.
		manifests := r.writeAll(t)
		beginCommit(t, out, manifests)
		f := manifests[0].Files[0]
		move(t, filepath.Join(out, rundir.StagingFolder, r.options.Attempt, f.Path), filepath.Join(out, f.Path))
		if err := os.Remove(filepath.Join(out, rundir.RunFile)); err != nil {
			t.Fatal(err)
		}
		r.commit(t, manifests)
		if diff := cmp.Diff(want, files(t, out)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a file is another one", func(t *testing.T) {
		out := t.TempDir()
		r := newTestRun(t, out, 4, 2, nil)
		manifests := r.writeAll(t)
		f := manifests[2].Files[1]
		staged, final := filepath.Join(out, rundir.StagingFolder, r.options.Attempt, f.Path), filepath.Join(out, f.Path)
		beginCommit(t, out, manifests)
		move(t, staged, final)
		if err := os.WriteFile(final, []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := commit(t.Context(), &r.options, r.tallies, manifests)
		if err == nil || !strings.Contains(err.Error(), f.Path) || !strings.Contains(err.Error(), f.SHA256) {
			t.Errorf("got %v, want an error that names %s and %s", err, f.Path, f.SHA256)
		}
		if _, err := os.Stat(filepath.Join(out, rundir.RunFile)); !os.IsNotExist(err) {
			t.Errorf("there is a run.json (%v)", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		out := t.TempDir()
		r := newTestRun(t, out, 4, 2, nil)
		manifests := r.writeAll(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := commit(ctx, &r.options, r.tallies, manifests); err == nil {
			t.Error("a cancelled commit ends without an error")
		}
		r.commit(t, manifests)
		if diff := cmp.Diff(want, files(t, out)); diff != "" {
			t.Error(diff)
		}
	})
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// Only files of an earlier run that this run does not have are removed.
func TestCommitRemovesWhatIsNotOfThisRun(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	r := newTestRun(t, out, 4, 2, nil)
	r.commit(t, r.writeAll(t))
	var own []string
	for _, name := range []string{"actor/notes.txt", "actor/x.parquet", "raw/prompts/all.parquet", "notes.md", ".staging/killed/notes.txt", ".mine.partial"} {
		own = append(own, filepath.Join(out, name))
		if err := os.MkdirAll(filepath.Dir(filepath.Join(out, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An attempt that was killed left its files too.
	left := filepath.Join(out, rundir.StagingFolder, "killed", "actor", "train-00000-of-00001.parquet")
	if err := os.MkdirAll(filepath.Dir(left), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.options.Shards, r.options.Roles = 1, []string{schemas.RoleActor}
	for i := range r.records {
		r.records[i].Judge = nil
	}
	r.commit(t, r.writeAll(t))
	for _, name := range own {
		if b, err := os.ReadFile(name); err != nil || string(b) != "mine" {
			t.Errorf("%s, which no run has made, is %q (%v)", name, b, err)
		} else if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
	if err := store.RemoveEmpty(t.Context(), filepath.Join(out, rundir.StagingFolder)); err != nil {
		t.Error(err)
	}
	complete(t, out)
	var paths []string
	for _, f := range readRun(t, out).Files {
		paths = append(paths, f.Path)
	}
	// Each table except the judge's, whose role is off now.
	if len(paths) != len(shards.Tables)-1 || slices.Contains(paths, shards.Path(shards.Judge, 0, 1)) {
		t.Errorf("files are %v", paths)
	}
}

// A commit treats files that were added since the run began as the start of a run does: it replaces
// only files that a run has listed, and removes nothing through a link.
func TestCommitAmongForeignFiles(t *testing.T) {
	t.Parallel()
	elsewhere := t.TempDir()
	precious := filepath.Join(elsewhere, "part-00000-of-00004.parquet")
	for _, test := range []struct {
		name, want string
		plant      func(out string) error
	}{
		{"a shard of somebody", "has the name of one", func(out string) error {
			if err := os.MkdirAll(filepath.Join(out, "raw", "prompts"), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(out, "raw", "prompts", "part-00000-of-00004.parquet"), []byte("mine"), 0o600)
		}},
		{"a README of somebody", "not the dataset card", func(out string) error {
			return os.WriteFile(filepath.Join(out, "README.md"), []byte("# Mine\n"), 0o600)
		}},
		{"a table that is a link", "is a link", func(out string) error { return os.Symlink(elsewhere, filepath.Join(out, "failures")) }},
		{"staging that is a link", "is a link", func(out string) error {
			if err := os.Rename(filepath.Join(out, ".staging"), filepath.Join(elsewhere, "staging")); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(elsewhere, "staging"), filepath.Join(out, ".staging"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			r := newTestRun(t, out, 4, 2, nil)
			manifests := r.writeAll(t)
			if err := test.plant(out); err != nil {
				t.Fatal(err)
			}
			err := commit(t.Context(), &r.options, r.tallies, manifests)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
				t.Errorf("the file elsewhere is %q, %v", b, err)
			}
			if _, err := os.Stat(filepath.Join(out, rundir.RunFile)); err == nil {
				t.Error("there is a run.json")
			}
		})
	}
}

// Runs of no record at all, and of more shards than records, have every file.
func TestEmptyShards(t *testing.T) {
	out := t.TempDir()
	r := newTestRun(t, out, 32, 0, nil)
	r.records, r.tallies, r.options.Lines = nil, nil, 0
	if err := r.pipeline(t, prism, nil, nil); err != nil {
		t.Fatal(err)
	}
	complete(t, out)
	got := readRun(t, out)
	if len(got.Files) != 32*len(shards.Tables) {
		t.Errorf("%d files, want 32 of each table", len(got.Files))
	}
	for _, f := range got.Files {
		if f.Rows != 0 {
			t.Errorf("%s has %d rows", f.Path, f.Rows)
		}
	}
}

// A job that goes on after its run lost the folder writes no shard and commits nothing: the files
// stay those of the later run, byte for byte, while that run is at work and after it has ended.
func TestCommitOfAnAttemptThatLostTheFolder(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	acquire := func(attempt string) *lock.Lock {
		t.Helper()
		held, err := lock.Acquire(t.Context(), out, lock.Options{Attempt: attempt})
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	first := acquire("first")
	late := newTestRun(t, out, 1, 0, nil)
	fence := func() { late.options.fence = lock.NewFence(out, "first") } // one that has seen nothing yet
	fence()
	manifests := late.writeAll(t)
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}

	second := acquire("second")
	later := newTestRun(t, out, 2, 1, nil)
	later.options.Attempt = "second"
	later.options.fence = lock.NewFence(out, "second")
	later.options.Config = json.RawMessage(`{"seed":1}`)
	staged := later.writeAll(t)
	refused := func(when string) {
		t.Helper()
		before := files(t, out)
		fence()
		err := commit(t.Context(), &late.options, late.tallies, manifests)
		var lost *lock.Lost
		if !errors.As(err, &lost) || !strings.Contains(err.Error(), "another run (process") {
			t.Errorf("%s, commit: %v", when, err)
		}
		fence()
		if err := publish(t.Context(), &late.options, manifests[0].Files); !errors.As(err, &lost) {
			t.Errorf("%s, publish: %v", when, err)
		}
		fence()
		if _, err := writeShard(t.Context(), &late.options, late.stage, 0, late.records); !errors.As(err, &lost) {
			t.Errorf("%s, write: %v", when, err)
		}
		if diff := cmp.Diff(before, files(t, out)); diff != "" {
			t.Errorf("%s, files changed: %s", when, diff)
		}
	}
	refused("before the other commits")
	later.commit(t, staged)
	refused("after the other has committed")
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
	refused("after the other has ended")
	complete(t, out)
	if got := string(readRun(t, out).Config); !strings.Contains(got, "1") {
		t.Errorf("run.json is of the first attempt: %s", got)
	}
}

// On an object store run.json is made where none is, or it is another run's.
func TestRunFileOfAnotherRun(t *testing.T) {
	storetest.GCS(t, nil).Set(t)
	name := "gs://bucket/out/" + rundir.RunFile
	for range 2 { // an answer that was lost makes the runner commit again
		if err := writeRun(t.Context(), name, []byte(`{"seed":0}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeRun(t.Context(), name, []byte(`{"seed":1}`)); !errors.Is(err, store.ErrChanged) {
		t.Errorf("over the file of another run: %v", err)
	}
}

// A store with versions may take a removed run.json for one that exists, as versitygw does. A run.json
// that does exist is another run's and stays.
func TestRunFileAfterARemovedOne(t *testing.T) {
	env, b := storetest.S3Bucket(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Header.Get("If-None-Match") == "" {
			server.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusPreconditionFailed)
		_, _ = io.WriteString(w, "<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>")
	})
	env.Set(t)
	if err := writeRun(t.Context(), "s3://bucket/out/"+rundir.RunFile, []byte("{}")); err != nil {
		t.Error(err)
	}
	if got := b.Objects(t, "out/"); string(got[rundir.RunFile]) != "{}" {
		t.Errorf("the bucket has %q", got)
	}
	if err := writeRun(t.Context(), "s3://bucket/out/"+rundir.RunFile, []byte(`{"seed":1}`)); !errors.Is(err, store.ErrChanged) {
		t.Errorf("over the file of another run: %v", err)
	}
}
