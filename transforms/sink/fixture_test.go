package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/direct" //nolint:staticcheck // it fails without a harness
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"coeval/datasets/journal"
	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/judge"
	"coeval/transforms/meta"
	"coeval/transforms/pairs"
	"coeval/transforms/score"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

// A run is the input of the sink: options, the journal that they name, records and tallies.
type run struct {
	options Options
	stage   stage.Stage
	records []schemas.Record
	tallies []schemas.Tally
}

// The run of the tests: eight prompts and one line that is none, three responses, four judgments
// of each.
const (
	prompts  = 8
	badLines = 1
)

// newTestRun makes a run in a folder whose journal it writes, but for the records that lose
// wants lost. Bits are those of the journal's buckets.
func newTestRun(t *testing.T, out string, shards, bits int, lose func(*journal.Record) bool) *run {
	t.Helper()
	r := &run{options: options(t, out, shards)}
	var err error
	if r.stage, err = stage.Chain(r.options.Chain); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(r.options.Journal, nil)
	if err != nil {
		t.Fatal(err)
	}
	views := map[string]*journal.View{}
	var counts schemas.PositionCounts
	for i := range prompts {
		p := prompt(i)
		bucket := journal.Bucket(p.ID, bits)
		if views[bucket] == nil {
			if views[bucket], err = j.Load(t.Context(), bucket, nil); err != nil {
				t.Fatal(err)
			}
		}
		f := r.find(t, p, views[bucket], lose)
		c := pairs.CountPositions(f)
		counts.First, counts.Second = counts.First+c.First, counts.Second+c.Second
		r.records = append(r.records, schemas.Record{Finding: f})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range r.records {
		record := &r.records[i]
		actor := pairs.Actor(record.Finding, pairs.ActorOptions{Rho: 0.32})
		judge := pairs.Judge(record.Finding, pairs.Weights(counts), r.options.Pairing)
		record.Actor, record.Judge = &actor, &judge
	}
	r.records = append(r.records, schemas.Record{BadLine: &schemas.Failure{
		Stage: schemas.StagePrompts, Code: "bad_json", Message: "no JSON", File: "p.jsonl", Line: prompts + 2,
	}})
	r.tallies = []schemas.Tally{
		{Lines: 4, Merged: 0},
		{Lines: prompts + 2 - 4, Bad: badLines}, // one line is merged into another
		{Merged: 1, Findings: 3, Calls: map[string]schemas.CallTally{schemas.StageJudge: {Requests: 2, Generations: 8}}},
		{Findings: prompts - 3},
		{BadLines: badLines, Selections: map[string]int64{schemas.RoleActor: 2, schemas.RoleJudge: prompts}},
		{Selections: map[string]int64{schemas.RoleActor: prompts - 2}},
	}
	return r
}

func options(t *testing.T, out string, shards int) Options {
	t.Helper()
	role := func(name string) stage.Role {
		return stage.Role{Name: name, Model: "m", Revision: "r1", Temperature: 0.8, TopP: 0.95, MaxTokens: 1024}
	}
	judging := judge.Options{Role: role(schemas.RoleJudge), N: 4}
	chain := make([]stage.Spec, 4)
	errs := make([]error, 4)
	chain[0], errs[0] = generate.Spec(generate.Options{Role: role(schemas.RoleActor), N: 3})
	chain[1], errs[1] = judge.Spec(judging)
	chain[2], errs[2] = score.Spec(score.Options{})
	chain[3], errs[3] = meta.Spec(meta.Options{Role: role(schemas.RoleMetaJudge)})
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Out: out, Attempt: "first", Journal: filepath.Join(out, "journal"), Shards: shards, Chain: chain,
		Roles: []string{schemas.RoleActor, schemas.RoleJudge}, Actor: role(schemas.RoleActor), MetaJudge: role(schemas.RoleMetaJudge),
		Judging: judging, Lines: prompts + badLines + 1, Config: json.RawMessage(`{"seed":0}`),
	}
}

func prompt(i int) schemas.Prompt {
	messages := []schemas.Message{{Role: "user", Content: fmt.Sprintf("Question %d?", i)}}
	return schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages, File: "p.jsonl", Line: int64(i + 1), Metadata: "{}"}
}

// find runs the stages on a prompt and keeps all answers in the journal.
func (r *run) find(t *testing.T, p schemas.Prompt, view *journal.View, lose func(*journal.Record) bool) *schemas.Finding {
	t.Helper()
	d, key := schemas.Dossier{Prompt: p}, journal.PromptKey(&p)
	said := answers{records: []journal.Record{{Key: key, PromptID: p.ID, Prompt: &p}}}
	if err := r.stage(t.Context(), &said, &d); err != nil {
		t.Fatal(err)
	}
	kept := slices.DeleteFunc(said.records, func(r journal.Record) bool { return lose != nil && lose(&r) })
	if err := errors.Join(view.Append(kept...), view.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	f := schemas.NewFinding(&d)
	f.Origin = view.Origin(key)
	return &f
}

// answers is a Caller that returns the simulated world's answers. The first judgment of the first
// response is a call that failed for good.
type answers struct{ records []journal.Record }

func (a *answers) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	w := world.Default()
	out := make([][]schemas.Generation, len(calls))
	for i := range calls {
		c := &calls[i]
		for k := range c.N {
			said := w.Answer(c.Messages(), c.Role.Model, int64(k), c.Role.MaxTokens)
			g := schemas.Generation{Text: said.Text, FinishReason: said.FinishReason, PromptTokens: 7}
			if c.Stage == schemas.StageJudge && i == 0 && k == 0 {
				g = schemas.Generation{Code: "timeout", Message: "no whole answer"}
			}
			out[i] = append(out[i], g)
			a.records = append(a.records, journal.Record{
				Key: c.Key(), Replicate: k, PromptID: c.PromptID, Role: c.Role.Name,
				Text: g.Text, FinishReason: g.FinishReason, PromptTokens: g.PromptTokens, Code: g.Code, Message: g.Message,
			})
		}
	}
	return out, nil
}

// writeAll writes all shards below the staging folder, as Write does.
func (r *run) writeAll(t *testing.T) []schemas.Manifest {
	t.Helper()
	by := make([][]schemas.Record, r.options.Shards)
	for _, record := range r.records {
		at, _ := (&shardFn{Shards: r.options.Shards}).ProcessElement(record)
		by[at] = append(by[at], record)
	}
	manifests := make([]schemas.Manifest, len(by))
	for shard, records := range by {
		var err error
		if manifests[shard], err = writeShard(t.Context(), &r.options, r.stage, shard, records); err != nil {
			t.Fatal(err)
		}
	}
	return manifests
}

func (r *run) commit(t *testing.T, manifests []schemas.Manifest) {
	t.Helper()
	if err := commit(t.Context(), &r.options, r.tallies, manifests); err != nil {
		t.Fatal(err)
	}
}

// Where a pipeline runs. One that is to fail runs on the direct runner: when a bundle fails,
// Beam 2.77's harness, which prism needs, at times closes a channel that it still sends on.
const (
	prism  = "prism"
	direct = "direct"
)

// pipeline writes the records and commits. Counted are the counts before the sink.
func (r *run) pipeline(t *testing.T, runner string, counted, records []schemas.Record) error {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	manifests, err := Write(s, beam.CreateList(s, records), r.options)
	if err != nil {
		t.Fatal(err)
	}
	// Selections and bad lines are counted by Tally.
	before := slices.Clone(r.tallies)
	for i := range before {
		before[i].BadLines, before[i].Selections = 0, nil
	}
	tallies := beam.Flatten(s, beam.CreateList(s, before), Tally(s, beam.CreateList(s, counted)))
	if err := Commit(s, tallies, manifests, r.options); err != nil {
		t.Fatal(err)
	}
	_, err = beam.Run(t.Context(), runner, p)
	return err
}

// files returns the digest of every file below a run's folder but the journal.
func files(t *testing.T, out string) map[string]string {
	t.Helper()
	digests := map[string]string{}
	err := fs.WalkDir(os.DirFS(out), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if name == "journal" {
				return fs.SkipDir
			}
			return err
		}
		b, err := os.ReadFile(filepath.Join(out, name))
		sum := sha256.Sum256(b)
		digests[name] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return digests
}

func readRun(t *testing.T, out string) *schemas.Run {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, rundir.RunFile))
	if err != nil {
		t.Fatal(err)
	}
	var r schemas.Run
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// complete fails the test if the folder is not a whole run: every file of run.json with its
// digest, and no others in the tables' folders or in the staging folder.
func complete(t *testing.T, out string) {
	t.Helper()
	found := files(t, out)
	for _, f := range readRun(t, out).Files {
		if found[f.Path] != f.SHA256 {
			t.Errorf("%s has the digest %s, but run.json lists %s", f.Path, found[f.Path], f.SHA256)
		}
		delete(found, f.Path)
	}
	for name := range found {
		if strings.HasSuffix(name, ".parquet") || strings.HasPrefix(name, ".") {
			t.Errorf("%s is not in run.json", name)
		}
	}
	if _, err := os.Stat(filepath.Join(out, rundir.StagingFolder)); !os.IsNotExist(err) {
		t.Errorf("the staging folder is still there (%v)", err)
	}
}

func rows[T shards.Row](t *testing.T, out string, table shards.Table) []T {
	t.Helper()
	var all []T
	for _, f := range readRun(t, out).Files {
		if filepath.Dir(f.Path) != string(table) {
			continue
		}
		err := shards.ReadTable(t.Context(), filepath.Join(out, f.Path), func(row *T) error {
			all = append(all, *row)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
