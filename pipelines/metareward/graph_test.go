package metareward

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/coder"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/datasets/shards"
	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/meta"
	"coeval/transforms/score"
	"coeval/transforms/simulator"
)

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

// valid is the default config with values for the settings that have no default.
func valid() config.Config {
	c := config.Default()
	c.Prompts.Paths, c.Output.Dir = []string{"p.jsonl"}, "out"
	c.Worker.URLs, c.Worker.Model = []string{"http://host:8000/v1"}, "m"
	return c
}

// wholeGraph is the graph of a run.
func wholeGraph(roles ...string) func(*testing.T, beam.Scope) {
	return func(t *testing.T, s beam.Scope) {
		c := valid()
		c.Roles = roles
		in := Input{Attempt: "a", Scan: &prompts.Scan{Files: []prompts.File{{Path: "p.jsonl"}}, Lines: 1, Distinct: 1, Prompts: 1}}
		if err := Build(s, c, in); err != nil {
			t.Fatal(err)
		}
	}
}

// stagesAlone is each stage's transform by itself.
func stagesAlone(t *testing.T, s beam.Scope) {
	c := valid()
	o, err := c.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	io := infer.Options{Attempt: "a"}
	d := beam.CreateList(s, []schemas.Prompt{{}})
	for _, add := range []func() error{
		func() (err error) { d, err = generate.Generate(s, d, o.Generate, io); return err },
		func() (err error) { d, err = judge.Judge(s, d, o.Judge, io); return err },
		func() (err error) { d, err = score.Score(s, d, o.Score); return err },
		func() (err error) { d, err = meta.Meta(s, d, o.Meta, io); return err },
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
}

// Every struct that can cross a shuffle has a coder of its own. With the one that Beam infers,
// a nil slice or map in it loses rows on Flink, silently.
func TestEveryTypeHasACoder(t *testing.T) {
	// These are the types, wherever they stand: alone, as keys, as values, or in groups.
	run := []string{"schemas.Manifest", "schemas.Prompt", "schemas.Record", "schemas.Tally"}
	withJudge := slices.Sorted(slices.Values(append([]string{"schemas.PositionCounts"}, run...)))
	tests := []struct {
		name  string
		graph func(*testing.T, beam.Scope)
		want  []string
	}{
		{"both roles", wholeGraph(schemas.RoleActor, schemas.RoleJudge), withJudge},
		{"actor", wholeGraph(schemas.RoleActor), run},
		{"judge", wholeGraph(schemas.RoleJudge), withJudge},
		{"stages alone", stagesAlone, []string{"schemas.Dossier", "schemas.Prompt"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, s := beam.NewPipelineWithRoot()
			tt.graph(t, s)
			edges, nodes, err := p.Build()
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]bool{}
			for _, n := range nodes {
				checkCoder(t, n.Coder, found)
			}
			for _, e := range edges {
				checkCoder(t, e.AccumCoder, found)
			}
			if diff := cmp.Diff(tt.want, slices.Sorted(maps.Keys(found))); diff != "" {
				t.Errorf("types that travel: %s", diff)
			}
		})
	}
}

// checkCoder looks for types that Beam found a coder for by itself, and notes the others.
func checkCoder(t *testing.T, c *coder.Coder, found map[string]bool) {
	t.Helper()
	if c == nil {
		return
	}
	for _, part := range c.Components {
		checkCoder(t, part, found)
	}
	switch c.Kind {
	case coder.Row:
		t.Errorf("%v travels as a row of Beam's: give it a coder in transforms/coders", c.T)
	case coder.CoGBK:
		// Keys are what every runner orders and hashes alike; int is the fixed key of a Combine.
		switch key := c.Components[0].T.Type().Kind(); key {
		case reflect.String, reflect.Int64, reflect.Int:
		default:
			t.Errorf("%v has keys of the kind %s", c.T, key)
		}
	case coder.Custom:
		own := coder.LookupCustomCoder(c.Custom.Type)
		switch c.Custom.Type.Kind() {
		case reflect.Struct, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			if own == nil || !own.Equals(c.Custom) {
				t.Errorf("%v travels by %v and not by a coder of its own", c.T, c.Custom)
				return
			}
			found[c.Custom.Type.String()] = true
		}
	}
}

// promptsOf writes n prompts to a file.
func promptsOf(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"prompt": "Question %d?"}`+"\n", i)
	}
	name := filepath.Join(t.TempDir(), "p.jsonl")
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// run runs the pipeline on the local runner against a simulated worker.
func run(t *testing.T, c config.Config) (out string, stats simulator.Stats) {
	t.Helper()
	w, err := simulator.Start(simulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	c.Worker.URLs, c.Worker.Model, c.Output.Dir = []string{w.URL()}, "m", filepath.Join(t.TempDir(), "out")
	scan, err := prompts.ScanFiles(t.Context(), c.Prompts.Paths, c.Reading(), c.Selection())
	if err != nil {
		t.Fatal(err)
	}
	attempt := uuid.NewString()
	p, s := beam.NewPipelineWithRoot()
	if err := Build(s, c, Input{Attempt: attempt, Scan: scan}); err != nil {
		t.Fatal(err)
	}
	ptest.RunAndValidate(t, p)
	if err := infer.Attach(attempt).Close(); err != nil {
		t.Fatal(err)
	}
	return c.Output.Dir, w.Server().Stats()
}

// A role that is not asked for has no folder, and what only it needs is not asked.
func TestRoles(t *testing.T) {
	tests := []struct {
		roles []string
		// tables are those that are there.
		tables []shards.Table
		meta   bool
	}{
		{[]string{schemas.RoleActor}, without(shards.Judge), false},
		{[]string{schemas.RoleJudge}, without(shards.Actor), true},
		{[]string{schemas.RoleJudge, schemas.RoleActor}, shards.Tables, true},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.roles, "+"), func(t *testing.T) {
			c := config.Default()
			c.Roles, c.Prompts.Paths, c.Actor.N, c.Judge.N, c.Output.PromptsPerShard = tt.roles, []string{promptsOf(t, 5)}, 3, 4, 1
			out, stats := run(t, c)
			if asked := stats.Roles[schemas.RoleMetaJudge].Requests > 0; asked != tt.meta {
				t.Errorf("the meta-judge was asked: %t, want %t", asked, tt.meta)
			}
			for _, table := range shards.Tables {
				found, err := filepath.Glob(filepath.Join(out, string(table), "*.parquet"))
				if err != nil {
					t.Fatal(err)
				}
				// 5 prompts, one a shard, are 8 shards: some have no prompt, and their files
				// are there all the same.
				want := 0
				if slices.Contains(tt.tables, table) {
					want = 8
				}
				if len(found) != want {
					t.Errorf("%s has %d files, want %d", table, len(found), want)
				}
			}
			if _, err := os.Stat(filepath.Join(out, "run.json")); err != nil {
				t.Error(err)
			}
		})
	}
}

func without(table shards.Table) []shards.Table {
	return slices.DeleteFunc(slices.Clone(shards.Tables), func(t shards.Table) bool { return t == table })
}

func TestShardsAndBits(t *testing.T) {
	tests := []struct {
		prompts, perShard int64
		journalBits       int
		shards, bits      int
	}{
		// Shards are the least power of two that leaves each at most perShard prompts, buckets
		// at most 128; a shard is whole buckets; and buckets never get fewer.
		{0, 1250, 0, 1, 0},
		{1, 1, 0, 1, 0},
		{2, 1, 0, 2, 1},
		{3, 1, 0, 4, 2},
		{128, 1250, 0, 1, 0},
		{129, 1250, 0, 1, 1},
		{256, 1250, 0, 1, 1},
		{257, 1250, 0, 1, 2},
		{1250, 1250, 0, 1, 4}, // 9.8 buckets of 128
		{1251, 1250, 0, 2, 4},
		{5000, 1250, 0, 4, 6},              // 39.1 buckets
		{5000, 1250, 9, 4, 9},              // an earlier run had more prompts
		{5000, 10, 0, 512, 9},              // 500 shards
		{10_000_000, 1250, 0, 1 << 13, 17}, // 8000 shards; 78125 buckets
		{1 << 40, 1 << 40, 0, 1, 24},       // no more than the journal has
	}
	for _, tt := range tests {
		c := config.Default()
		c.Output.PromptsPerShard = tt.perShard
		in := &Input{Scan: &prompts.Scan{Prompts: tt.prompts}, Journal: journal.PrefixBits{tt.journalBits}}
		if got := Shards(&c, in.Scan); got != tt.shards {
			t.Errorf("%d prompts by %d: %d shards, want %d", tt.prompts, tt.perShard, got, tt.shards)
		}
		if got := Bits(&c, in); got != tt.bits {
			t.Errorf("%d prompts by %d after %d bits: %d bits, want %d", tt.prompts, tt.perShard, tt.journalBits, got, tt.bits)
		}
	}
}
