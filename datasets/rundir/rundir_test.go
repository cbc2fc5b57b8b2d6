package rundir

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coeval/datasets/journal"
	"coeval/datasets/lock"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
	"coeval/schemas"
)

// put writes files below a folder, which may be one of a store.
func put(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := store.WriteFile(t.Context(), store.Join(folder, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// runJSON is the run.json of a run with these files.
func runJSON(t *testing.T, files ...string) string {
	t.Helper()
	run := schemas.Run{Format: schemas.RunFormat, Config: json.RawMessage(`{}`), Ledger: schemas.Ledger{Roles: map[string]schemas.Outcomes{}}}
	for _, name := range files {
		run.Files = append(run.Files, schemas.File{Path: name})
	}
	b, err := json.Marshal(&run)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	segment = "s-01900000-0000-7000-8000-000000000000.jsonl.zst"
	record  = `{"pid":1,"host":"h","since":"2026-01-01T00:00:00Z","id":"x","released":true}`
	shard   = "actor/train-00000-of-00001.parquet"
)

// A run begins in a missing or empty folder, in an earlier run's folder, and with --adopt. A foreign
// file in the place of one of its own files is always refused.
func TestCheck(t *testing.T) {
	card := string(shards.Card{}.Markdown())
	tests := map[string]struct {
		files          map[string]string
		refused, adopt string // the error, without and with --adopt; "" is none
	}{
		"nothing":                {},
		"litter":                 {files: map[string]string{".DS_Store": "x", ".gitkeep": "", "lost+found/x": "x"}},
		"a project":              {map[string]string{"main.go": "x", "actor/x.parquet": "x", "raw/prompts/all.parquet": "x"}, `"actor/", "main.go", "raw/"`, ""},
		"a table's folder":       {map[string]string{"actor/x.parquet": "x"}, "--adopt", ""},
		"raw data":               {map[string]string{"raw/prompts/all.parquet": "x"}, "--adopt", ""},
		"a README":               {map[string]string{"README.md": "# Mine\n"}, "--adopt", "not the dataset card"},
		"a card of another tool": {map[string]string{"README.md": "---\ntags: [x]\n---\n# Mine\n"}, "--adopt", "not the dataset card"},
		"hidden files":           {map[string]string{".git/config": "x"}, "--adopt", ""},
		"a failures folder":      {map[string]string{"failures/2026.log": "x"}, "--adopt", ""},
		"operations":             {map[string]string{"operations/runbook.md": "x"}, "--adopt", ""},
		"operations with a lock": {map[string]string{"operations/.lock": "deploy\n", "operations/lease.json": `{"tenant":1}`}, "--adopt", ""},
		"a journal":              {map[string]string{"journal/2026-01-01.md": "x"}, "--adopt", ""},
		"a journal in parts":     {map[string]string{"journal/b/notes.md": "x", "journal/b0/data.jsonl.zst": "x"}, "--adopt", ""},
		"staging":                {map[string]string{".staging/x": "x"}, "--adopt", ""},
		"run.json of another":    {map[string]string{"run.json": `{"format":1,"name":"x"}`}, "--adopt", "run.json is not a run's"},
		"run.json with nothing":  {map[string]string{"run.json": ""}, "--adopt", "run.json is not a run's"},
		"calibration":            {map[string]string{"calibration.json": "{}", "report.html": "x"}, "--adopt", ""},
		"a shard of another":     {map[string]string{shard: "x"}, "--adopt", "has the name of one"},

		"a run":                     {files: map[string]string{"run.json": runJSON(t, shard), "README.md": card, shard: "x", "journal/b/" + segment: "x"}},
		"a run with notes":          {files: map[string]string{"run.json": runJSON(t, shard), "README.md": card, shard: "x", "notes.md": "x", "actor/x.parquet": "x"}},
		"a run and a README":        {map[string]string{"run.json": runJSON(t), "README.md": "# Mine\n"}, "not the dataset card", "not the dataset card"},
		"a run and a shard":         {map[string]string{"run.json": runJSON(t), shard: "x"}, "has the name of one", "has the name of one"},
		"an interrupted run":        {files: map[string]string{"journal/b/" + segment: "x", ".staging/a/actor/x": "x"}},
		"an interrupted commit":     {files: map[string]string{"journal/b/" + segment: "x", CommitFile: `{"files":["` + shard + `"]}`, shard: "x", "README.md": card}},
		"another run's shard":       {map[string]string{"journal/b/" + segment: "x", shard: "PAR1…coeval version 1 (build x)…PAR1"}, "has the name of one", "has the name of one"},
		"an old commit and a shard": {map[string]string{"journal/b/" + segment: "x", shard: "PAR1…another writer…PAR1"}, "has the name of one", "has the name of one"},
		"a journal alone":           {files: map[string]string{"journal/b01/" + segment: "x"}},
		"a newer run":               {map[string]string{"run.json": strings.Replace(runJSON(t), `"format":1`, `"format":99`, 1)}, "newer version", "newer version"},
	}
	check := func(t *testing.T, out string, adopt bool, want string) {
		t.Helper()
		err := Check(t.Context(), out, adopt)
		var refused *Refused
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !errors.As(err, &refused)) {
			t.Errorf("adopt %t: %v, want %q", adopt, err, want)
		}
	}
	environment := storetest.GCS(t, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			environment.Set(t)
			for _, out := range []string{t.TempDir(), "gs://bucket/" + strings.ReplaceAll(name, " ", "-")} {
				put(t, out, test.files)
				before, err := store.Names(t.Context(), out)
				if err != nil {
					t.Fatal(err)
				}
				check(t, out, false, test.refused)
				check(t, out, true, test.adopt)
				if after, err := store.Names(t.Context(), out); err != nil || len(after) != len(before) {
					t.Errorf("Check has changed %q to %q, %v", before, after, err)
				}
			}
		})
	}
}

// A folder that only a lock is in belongs to the run that was killed there. Empty folders are
// nobody's.
func TestCheckOfALockedFolder(t *testing.T) {
	out := t.TempDir()
	if err := os.MkdirAll(filepath.Join(out, "actor", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), out, false); err != nil {
		t.Error(err)
	}
	l, err := lock.Acquire(t.Context(), out, lock.Options{Attempt: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	put(t, out, map[string]string{"notes.md": "x"})
	if err := Check(t.Context(), out, false); err != nil {
		t.Error(err)
	}
	if is, err := IsRun(t.Context(), out); err != nil || !is {
		t.Errorf("IsRun: %t, %v", is, err)
	}
}

// An empty lock that is alone in a folder is from a process that was killed before it wrote the lock's
// record. An empty lock among other files proves nothing.
func TestCheckOfAnUnwrittenLock(t *testing.T) {
	const name = OperationsFolder + "/.lock"
	tests := map[string]struct {
		files   map[string]string
		refused bool
	}{
		"empty":               {map[string]string{name: ""}, false},
		"zeros":               {map[string]string{name: strings.Repeat("\x00", 1024)}, false},
		"with litter":         {map[string]string{name: "", ".DS_Store": "x"}, false},
		"foreign content":     {map[string]string{name: "\x00deploy"}, true},
		"large":               {map[string]string{name: strings.Repeat("\x00", 1<<20)}, true},
		"beside a file":       {map[string]string{name: "", "main.go": "x"}, true},
		"beside a folder":     {map[string]string{name: "", "src/main.go": "x"}, true},
		"beside a runbook":    {map[string]string{name: "", OperationsFolder + "/runbook.md": "x"}, true},
		"beside another lock": {map[string]string{name: "", OperationsFolder + "/lease.json": "{}"}, true},
	}
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			out := t.TempDir()
			put(t, out, test.files)
			err := Check(t.Context(), out, false)
			if refused := (*Refused)(nil); errors.As(err, &refused) != test.refused || err != nil && !test.refused {
				t.Fatalf("%v", err)
			}
			if test.refused {
				return
			}
			l, err := lock.Acquire(t.Context(), out, lock.Options{Attempt: "a"})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Release(); err != nil {
				t.Fatal(err)
			}
		})
	}
	out := t.TempDir()
	if err := os.Mkdir(filepath.Join(out, OperationsFolder), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(out, name)); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), out, false); err == nil {
		t.Error("a link in the place of the lock is accepted")
	}
}

// OUT itself may be a link; nothing in it may.
func TestLinks(t *testing.T) {
	elsewhere := t.TempDir()
	put(t, elsewhere, map[string]string{"train-00000-of-00001.parquet": "x"})
	for _, name := range []string{"actor", "judge", "raw", "raw/prompts", "raw/comparisons", "failures", "operations", "journal", ".staging", "run.json", "README.md"} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			put(t, out, map[string]string{"journal-of-notes": "x"})
			if err := os.MkdirAll(filepath.Dir(filepath.Join(out, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(elsewhere, filepath.Join(out, name)); err != nil {
				t.Fatal(err)
			}
			err := Check(t.Context(), out, true)
			var refused *Refused
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), name+" is a link") {
				t.Errorf("%v", err)
			}
		})
	}
	out := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), out); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), out, false); err != nil {
		t.Errorf("OUT is a link: %v", err)
	}
	out = t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(out, "README.md"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), out, true); err == nil || !strings.Contains(err.Error(), "special file") {
		t.Errorf("a named pipe: %v", err)
	}
}

// A link, a folder or a special file is never replaced by a shard, not even one that a run has listed.
func TestShardsThatAreNoFiles(t *testing.T) {
	for kind, create := range map[string]func(name string) error{
		"a link":         func(name string) error { return os.Symlink("../../mine", name) },
		"a folder":       func(name string) error { return os.Mkdir(name, 0o777) },
		"a special file": func(name string) error { return syscall.Mkfifo(name, 0o600) },
	} {
		out := t.TempDir()
		put(t, out, map[string]string{"run.json": runJSON(t, shard), "actor/mine": "x"})
		if err := create(filepath.Join(out, shard)); err != nil {
			t.Fatal(err)
		}
		refused := (*Refused)(nil)
		if err := Check(t.Context(), out, true); !errors.As(err, &refused) || !strings.Contains(err.Error(), shard+" is "+kind) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Symlink("missing", out); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), out, false); err == nil || !strings.Contains(err.Error(), "is a link to a missing folder") {
		t.Errorf("a link to nothing: %v", err)
	}
}

// A list of files that somebody planted leads no removal to other files.
func TestOwnedNamesOnlyShards(t *testing.T) {
	out := t.TempDir()
	planted := []string{"../victim", "/etc/passwd", "actor/../../victim", "actor/x.parquet", "run.json", "actor", "", "actor/train-00000-of-00001.parquet/../../x", "journal/b/" + segment, "raw/train-00000-of-00001.parquet"}
	list, err := json.Marshal(commitList{Files: append(planted, "judge/train-00001-of-00002.parquet")})
	if err != nil {
		t.Fatal(err)
	}
	put(t, out, map[string]string{"run.json": runJSON(t, append(planted, shard)...), CommitFile: string(list)})
	owned, err := Owned(t.Context(), out)
	if err != nil || len(owned) != 2 || !owned[shard] || !owned["judge/train-00001-of-00002.parquet"] {
		t.Errorf("owned are %v, %v", owned, err)
	}
}

// Every name that a run gives its shards is known as one.
func TestIsShard(t *testing.T) {
	for _, table := range shards.Tables {
		for _, n := range []int{1, 7, 100_000, 1_234_567} {
			if name := shards.Path(table, n-1, n); !IsShard(name) {
				t.Errorf("%s is not known", name)
			}
		}
	}
}

// The files that a killed commit has listed belong to the run until the next complete commit.
func TestCommitList(t *testing.T) {
	out := t.TempDir()
	older := "actor/train-00001-of-00002.parquet"
	put(t, out, map[string]string{"run.json": runJSON(t, older), older: "x", "actor/x.parquet": "mine"})
	for range 2 { // killed, and again
		obsolete, err := BeginCommit(t.Context(), out, []string{shard})
		if err != nil || len(obsolete) != 1 || obsolete[0] != older {
			t.Fatalf("obsolete are %v, %v", obsolete, err)
		}
		if err := store.Remove(t.Context(), filepath.Join(out, RunFile)); err != nil {
			t.Fatal(err)
		}
		put(t, out, map[string]string{shard: "x"})
	}
	put(t, out, map[string]string{"run.json": runJSON(t, shard)})
	if err := store.Remove(t.Context(), filepath.Join(out, older)); err != nil {
		t.Fatal(err)
	}
	if err := EndCommit(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	owned, err := Owned(t.Context(), out)
	if err != nil || len(owned) != 1 || !owned[shard] {
		t.Errorf("owned are %v, %v", owned, err)
	}
}

// A page replaces one of its own kind only.
func TestWriteOwn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report.html")
	own := func(start []byte) bool { return strings.HasPrefix(string(start), "<!-- coeval") }
	for _, text := range []string{"<!-- coeval 1 -->", "<!-- coeval 2 -->"} {
		if err := WriteOwn(t.Context(), name, []byte(text), own); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"mine", ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := WriteOwn(t.Context(), name, []byte("<!-- coeval 3 -->"), own)
		if b, readErr := os.ReadFile(name); err == nil || readErr != nil || string(b) != text {
			t.Errorf("%v: the file is %q, %v", err, b, readErr)
		}
	}
}

// A journal that a run writes is known as one.
func TestJournalIsKnown(t *testing.T) {
	out := t.TempDir()
	j, err := journal.Open(store.Join(out, JournalFolder), nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Append(journal.Record{Key: "k", PromptID: "p"}), j.Close()); err != nil {
		t.Fatal(err)
	}
	if is, err := IsRun(t.Context(), out); err != nil || !is {
		t.Errorf("IsRun: %t, %v", is, err)
	}
}
