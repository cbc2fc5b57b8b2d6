package verify

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"coeval/datasets/prompts"
	"coeval/datasets/shards"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/engine"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/sink"
)

func TestMain(m *testing.M) {
	flag.Parse() // before Init, which parses none of the test's flags
	if err := engine.Init(nil, false); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := inScratch(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// inScratch runs the tests in a folder with a constant name. The files of a run contain the path of its
// prompts, and a bad line's shard depends on it: a random path would change the files.
func inScratch(tests func() int) (code int, err error) {
	scratch, err := os.MkdirTemp("", "coeval-verify-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := os.Chdir(scratch); err != nil {
		return 1, err
	}
	return tests(), nil
}

// goodRun is a run in several shards, with bad and merged lines and calls that failed for good.
var goodRun = sync.OnceValues(func() (string, error) {
	const out = "good"
	return out, makeRun(context.Background(), out, promptLines(), func(*config.Config) {})
})

// promptLines are 16 prompts, one of them twice and one too long for the worker, and two lines
// that are none.
func promptLines() string {
	var b strings.Builder
	for i := range 14 {
		fmt.Fprintf(&b, `{"id": "own-%d", "topic": "t%d", "prompt": "Question %d: %s?"}`+"\n", i, i%3, i, strings.Repeat("why ", i*i))
	}
	b.WriteString(`{"id": "again", "prompt": "Question 0: ?"}` + "\n")
	b.WriteString(`{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}, ` +
		`{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}]}` + "\n")
	fmt.Fprintf(&b, `{"prompt": %q}`+"\n", strings.Repeat("long ", 20_000))
	b.WriteString("no JSON\n" + `{"prompt": ""}` + "\n")
	return b.String()
}

// makeRun runs the pipeline on these lines against the simulated worker.
func makeRun(ctx context.Context, out, lines string, change func(*config.Config)) (err error) {
	truth, err := world.Named("bad")
	if err != nil {
		return err
	}
	return makeRunIn(ctx, truth, out, lines, change)
}

// makeRunIn is makeRun in a world.
func makeRunIn(ctx context.Context, truth world.World, out, lines string, change func(*config.Config)) (err error) {
	input := out + ".jsonl"
	if err := os.WriteFile(input, []byte(lines), 0o600); err != nil {
		return err
	}
	worker, err := simulator.Start(simulator.Options{
		World: &truth, ContextTokens: 10_000, Faults: simulator.Faults{simulator.FaultPermanent: 0.06},
	})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := worker.Close(); err == nil {
			err = closeErr
		}
	}()
	c := config.Default()
	c.Prompts.Paths, c.Output.Dir, c.Output.PromptsPerShard = []string{input}, out, 5
	c.Worker.URLs, c.Worker.Model, c.Worker.Revision = []string{worker.URL()}, "m", "r1"
	c.Actor.N, c.Judge.N, c.Client.Tries = 3, 4, 1
	change(&c)
	scan, err := prompts.ScanFiles(ctx, c.Prompts.Paths, c.Reading(), c.Selection())
	if err != nil {
		return err
	}
	p, s := beam.NewPipelineWithRoot()
	attempt := uuid.NewString()
	if err := metareward.Build(s, c, metareward.Input{Attempt: attempt, Scan: scan}); err != nil {
		return err
	}
	return errors.Join(engine.Run(ctx, p), infer.Attach(attempt).Close())
}

// copyRun returns a copy of the good run, without its journal.
func copyRun(t *testing.T) string {
	t.Helper()
	good, err := goodRun()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	copyTables(t, good, dir)
	return dir
}

// copyTables copies a run without its journal.
func copyTables(t *testing.T, from, to string) {
	t.Helper()
	copyTablesBy(t, from, to, func(from, to string) error { return os.CopyFS(to, os.DirFS(from)) })
}

// linkTables is copyTables with hard links. Only tableFile.write may change the tables, which replaces a file.
func linkTables(t *testing.T, from, to string) {
	t.Helper()
	copyTablesBy(t, from, to, func(from, to string) error {
		return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
			target := filepath.Join(to, strings.TrimPrefix(name, from))
			if err == nil && e.IsDir() {
				return os.MkdirAll(target, 0o700)
			}
			return errors.Join(err, os.Link(name, target))
		})
	})
}

func copyTablesBy(t *testing.T, from, to string, copyFolder func(from, to string) error) {
	t.Helper()
	for _, name := range []string{"actor", "judge", "raw", "failures"} {
		if err := copyFolder(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{runFile, cardFile} {
		write(t, to, name, read(t, from, name))
	}
}

// A tableFile is a file of a table, read whole.
type tableFile[T shards.Row] struct {
	dir   string
	path  string
	table shards.Table
	rows  []T
}

func readLargest[T shards.Row](t *testing.T, dir string, table shards.Table) *tableFile[T] {
	t.Helper()
	largest := schemas.File{Rows: -1}
	for _, f := range readManifest(t, dir).Files {
		if strings.HasPrefix(f.Path, string(table)+"/") && f.Rows > largest.Rows {
			largest = f
		}
	}
	return readTable[T](t, dir, table, largest.Path)
}

func readTable[T shards.Row](t *testing.T, dir string, table shards.Table, path string) *tableFile[T] {
	t.Helper()
	f := &tableFile[T]{dir: dir, path: path, table: table}
	err := shards.ReadTable(t.Context(), filepath.Join(dir, f.path), func(row *T) error {
		f.rows = append(f.rows, *row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write writes the rows back, sorted, without updating run.json.
func (f *tableFile[T]) write(t *testing.T) {
	t.Helper()
	slices.SortStableFunc(f.rows, func(a, b T) int { return shards.Compare(&a, &b) })
	name := filepath.Join(f.dir, f.path)
	if err := os.Remove(name); err != nil { // it may be a link to another copy's
		t.Fatal(err)
	}
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := shards.NewWriter[T](out, f.table)
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.rows {
		if err := w.Write(&f.rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// forge writes the rows back and makes run.json and the card agree with the file.
func (f *tableFile[T]) forge(t *testing.T) {
	t.Helper()
	f.write(t)
	forgeDigest(t, f.dir, f.path, int64(len(f.rows)))
}

func forgeDigest(t *testing.T, dir, path string, rows int64) {
	t.Helper()
	digest, size, err := digestFile(t.Context(), filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	table := shards.Table(filepath.Dir(path))
	run := readManifest(t, dir)
	before := cardDigest(run, table)
	for i := range run.Files {
		if run.Files[i].Path == path {
			run.Files[i] = schemas.File{Path: path, Rows: rows, Bytes: size, SHA256: digest}
		}
	}
	writeManifest(t, dir, run)
	card := filepath.Join(dir, cardFile)
	b, err := os.ReadFile(card)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.ReplaceAll(string(b), before, cardDigest(run, table)))
	if err := os.WriteFile(card, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func cardDigest(run *schemas.Run, table shards.Table) string {
	var parts []string
	for _, f := range run.Files {
		if shards.Table(filepath.Dir(f.Path)) == table {
			parts = append(parts, f.Path, f.SHA256)
		}
	}
	return schemas.Digest(parts...)
}

func readManifest(t *testing.T, dir string) *schemas.Run {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, runFile))
	if err != nil {
		t.Fatal(err)
	}
	var run schemas.Run
	if err := json.Unmarshal(b, &run); err != nil {
		t.Fatal(err)
	}
	return &run
}

// writeManifest writes run.json and makes the card agree with it.
func writeManifest(t *testing.T, dir string, run *schemas.Run) {
	t.Helper()
	b, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := sink.RunDigest(read(t, dir, runFile))
	after, _ := sink.RunDigest(b)
	if card, err := os.ReadFile(filepath.Join(dir, cardFile)); err == nil {
		write(t, dir, cardFile, []byte(strings.ReplaceAll(string(card), before, after)))
	}
	if err := os.WriteFile(filepath.Join(dir, runFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
