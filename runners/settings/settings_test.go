package settings

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/pipelines/metareward"
)

var update = flag.Bool("update", false, "write the table of keys into docs/reference/config.md")

// required are settings without which no config is whole.
var required = []Setting{
	{Key: "prompts.paths", Value: "[p.jsonl]", From: "--prompts"},
	{Key: "output.dir", Value: "out", From: "--out"},
	{Key: "worker.urls", Value: "[http://h/v1]", From: "--url"},
	{Key: "worker.model", Value: "m", From: "--model"},
}

func TestPrecedence(t *testing.T) {
	const file = `
preset: paper-1 # rho 0, max_chosen_chars 2500
method:
  max_chosen_chars: 99
client: {max_in_flight: 7}
actor:
  temperature: 0
`
	c, err := Load(Source{File: []byte(file), Name: "c.yaml", Settings: append(required,
		Setting{Key: "client.max_in_flight", Value: "9", From: "--max-in-flight"},
		Setting{Key: "client.request_timeout", Value: "90s", From: "--set"},
	)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := metareward.Preset("paper-1")
	if err != nil {
		t.Fatal(err)
	}
	want.Method.MaxChosenChars = 99
	want.Client.MaxInFlight, want.Client.RequestTimeout = 9, 90*time.Second
	want.Actor.Temperature = 0
	want.Prompts.Paths, want.Output.Dir = []string{"p.jsonl"}, "out"
	want.Worker.URLs, want.Worker.Model = []string{"http://h/v1"}, "m"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if c.Method.Rho != 0 {
		t.Errorf("rho is %v, the preset's is 0", c.Method.Rho)
	}
}

// A preset that a flag names stands in the place of the file's.
func TestPresetByFlag(t *testing.T) {
	c, err := Load(Source{File: []byte("preset: paper-1\n"), Name: "c.yaml", Settings: append(slices.Clone(required), Setting{Key: "preset", Value: "paper-4", From: "--preset"})})
	if err != nil {
		t.Fatal(err)
	}
	if c.Method.Rho != 0.4 || c.Method.MaxChosenChars != 0 {
		t.Errorf("rho %v and max_chosen_chars %d, want those of paper-4: 0.4 and 0", c.Method.Rho, c.Method.MaxChosenChars)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	const file = `roles: [actor, judgge]
method:
  rho: 0.7
  min_margn: 3
  position_weights: never
actor:
  n: many
  extra_body: {n: 3}
client: 5
rho: 1
preset: paper-9
judge:
  temperature:
`
	_, err := Load(Source{File: []byte(file), Name: "c.yaml", Settings: []Setting{{Key: "judge.n", Value: "0", From: "--set judge.n=0"}}})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is not a list of problems", err)
	}
	for _, want := range []string{
		`c.yaml:1: roles[1] is "judgge"`, "c.yaml:3: method.rho is 0.7", "c.yaml:4: unknown key method.min_margn",
		`c.yaml:5: method.position_weights is "never"`, "c.yaml:7: actor.n is many; allowed is a whole number",
		"c.yaml:8: actor.extra_body.n is", "c.yaml:9: client is 5; allowed is a mapping", "c.yaml:10: unknown key rho; did you mean method.rho?",
		"c.yaml:11: preset is ", "c.yaml:13: judge.temperature has no value", "--set judge.n=0: judge.n is 0", "output.dir is empty", "prompts.paths is empty", "actor.model is empty",
	} {
		if !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return strings.HasPrefix(e.Error(), want) }) {
			t.Errorf("no problem begins with %q in:\n%v", want, err)
		}
	}
}

// What is wrong is told once: a value that can't be read is not missing, too.
func TestEachProblemOnce(t *testing.T) {
	const file = "preset: paper-9\nprompts:\n  paths: p.jsonl\noutput:\n  dir: o\nsimulate:\n  enabled: true\n"
	_, err := Load(Source{File: []byte(file), Name: "c.yaml"})
	const want = `c.yaml:3: prompts.paths is p.jsonl; allowed is a list of texts
c.yaml:1: preset is "paper-9"; allowed is one of [paper-1 paper-2 paper-3 paper-4]`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
	// A flag takes the place of what can't be read, with what is wrong with it.
	_, err = Load(Source{File: []byte(file), Name: "c.yaml", Settings: []Setting{
		{Key: "prompts.paths", Value: "[]", From: "--prompts"}, {Key: "preset", Value: "paper-1", From: "--preset"},
	}})
	const other = `c.yaml:3: prompts.paths is p.jsonl; allowed is a list of texts
--prompts: prompts.paths is empty; allowed is at least one file, glob or folder (--prompts)`
	if diff := cmp.Diff(other, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

func TestNotYAML(t *testing.T) {
	_, err := Load(Source{File: []byte("a: [1\n"), Name: "c.yaml"})
	if err == nil || !strings.Contains(err.Error(), "c.yaml") || !strings.Contains(err.Error(), "1:4") {
		t.Errorf("%v: names no file, line and column", err)
	}
}

// What is printed is a file that gives the same config.
func TestPrintedConfigLoads(t *testing.T) {
	want, err := Load(Source{Settings: required})
	if err != nil {
		t.Fatal(err)
	}
	want.Actor.ExtraBody = map[string]any{"top_k": uint64(20)}
	want.Actor.Stop = metareward.Texts{"\n\n", "# no comment"}
	printed, err := Print(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(Source{File: printed, Name: "printed"})
	if err != nil {
		t.Fatalf("%v in\n%s", err, printed)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	for key, doc := range Keys() {
		if doc == "" {
			t.Errorf("%s has no documentation", key)
		}
	}
}

// The reference has every key with its default.
func TestReference(t *testing.T) {
	const name, begin, end = "../../docs/reference/config.md", "-run Reference -update` -->\n", "<!-- end of config keys -->"
	reference, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(reference, []byte("<!-- config keys: made by `go test ./runners/settings "+begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatal("docs/reference/config.md has no place for the keys")
	}
	want := slices.Concat(before, []byte("<!-- config keys: made by `go test ./runners/settings "+begin), []byte(table(t)), []byte(end), after)
	if bytes.Equal(reference, want) {
		return
	}
	if !*update {
		t.Fatal("docs/reference/config.md has other keys: run go test ./runners/settings -run Reference -update")
	}
	if err := os.WriteFile(name, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func table(t *testing.T) string {
	t.Helper()
	c := metareward.Default()
	var b strings.Builder
	b.WriteString("| key | default | what |\n| --- | --- | --- |\n")
	fields := fieldsOf(reflect.ValueOf(&c).Elem())
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value, err := yaml.MarshalWithOptions(fields[key].value.Interface(), yaml.Flow(true))
		if err != nil {
			t.Fatal(err)
		}
		shown := strings.TrimSpace(string(value))
		switch shown {
		case `""`, "[]", "{}":
			shown = ""
		default:
			shown = "`" + strings.Trim(shown, `"`) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, shown, fields[key].doc)
	}
	return b.String()
}

// Whatever is in the file, Load says what is wrong and does not panic.
func FuzzLoad(f *testing.F) {
	f.Add("method: {rho: 0.3}\n")
	f.Add("a: [1\n")
	f.Add("preset: paper-1\npreset: paper-2\n")
	f.Add("actor: {extra_body: {a: {b: [1, null]}}}\n? x\n")
	f.Fuzz(func(t *testing.T, file string) {
		_, err := Load(Source{File: []byte(file), Name: "c.yaml"})
		if err == nil {
			t.Errorf("%q is a whole config, without an output.dir", file) // which needs --out
		}
		var p *metareward.Problem
		if errors.As(err, &p) && p.Key == "" {
			t.Errorf("%v names no key", err)
		}
	})
}
