package settings

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/pipelines/config"
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
	want, err := config.Preset("paper-1")
	if err != nil {
		t.Fatal(err)
	}
	want.Method.MaxChosenChars = 99
	want.Client.MaxInFlight, want.Client.RequestTimeout = 9, 90*time.Second
	want.Actor.Temperature = new(0.0)
	want.Prompts.Paths, want.Output.Dir = []string{"p.jsonl"}, "out"
	want.Worker.URLs, want.Worker.Model = []string{"http://h/v1"}, "m"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if c.Method.Rho != 0 {
		t.Errorf("rho is %v, the preset's is 0", c.Method.Rho)
	}
}

// A flag replaces the preset of the file.
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
  max_tokens:
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
		"c.yaml:11: preset is ", "c.yaml:13: judge.max_tokens has no value", "--set judge.n=0: judge.n is 0", "output.dir is missing", "prompts.paths is missing", "worker.model is missing",
	} {
		if !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return strings.HasPrefix(e.Error(), want) }) {
			t.Errorf("no problem begins with %q in:\n%v", want, err)
		}
	}
}

// Each problem is reported once: an unreadable value is not reported as missing too.
func TestEachProblemOnce(t *testing.T) {
	const file = "preset: paper-9\nprompts:\n  paths: {p: 1}\noutput:\n  dir: o\nsimulate:\n  enabled: true\n"
	_, err := Load(Source{File: []byte(file), Name: "c.yaml"})
	const want = `c.yaml:3: prompts.paths is a mapping; allowed is a list of texts
c.yaml:1: preset is "paper-9"; allowed is one of [paper-1 paper-2 paper-3 paper-4 self-rewarding temporal-1 temporal-2]`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
	// A flag replaces an unreadable value of the file together with its problem.
	_, err = Load(Source{File: []byte(file), Name: "c.yaml", Settings: []Setting{
		{Key: "prompts.paths", Value: "[]", From: "--prompts"}, {Key: "preset", Value: "paper-1", From: "--preset"},
	}})
	const other = `c.yaml:3: prompts.paths is a mapping; allowed is a list of texts
--prompts: prompts.paths is missing; give at least one file, glob or folder (--prompts)`
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

// A printed config loads as the same config.
func TestPrintedConfigLoads(t *testing.T) {
	want, err := Load(Source{Settings: required})
	if err != nil {
		t.Fatal(err)
	}
	want.Actor.ExtraBody = map[string]any{"top_k": uint64(20)}
	want.Actor.Stop = config.Texts{"\n\n", "\n", "\r\n", "\tx", "# no comment"}
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
	for _, k := range Keys() {
		if k.Doc == "" || k.Kind == "" {
			t.Errorf("%s has no documentation", k.Name)
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
	var b strings.Builder
	b.WriteString("| key | default | what |\n| --- | --- | --- |\n")
	for _, k := range Keys() {
		shown := k.Default
		switch shown {
		case `""`, "[]", "{}":
			shown = ""
		default:
			shown = "`" + strings.Trim(shown, `"`) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Name, shown, k.Doc)
	}
	return b.String()
}

// Load returns an error for every file without an output folder, and never panics.
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
		var p *config.Problem
		if errors.As(err, &p) && p.Key == "" {
			t.Errorf("%v names no key", err)
		}
	})
}

// Null omits a sampling parameter from requests. No other key may be null.
func TestNull(t *testing.T) {
	c, err := Load(Source{File: []byte("seed: null\nactor: {temperature: null}\njudge:\n  top_p:\n"), Name: "c.yaml", Settings: append(slices.Clone(required),
		Setting{Key: "meta_judge.temperature", Value: "null", From: "--set"}, Setting{Key: "meta_judge.top_p", Value: "", From: "--set"})})
	if err != nil {
		t.Fatal(err)
	}
	if c.Seed != nil || c.Actor.Temperature != nil || c.Judge.TopP != nil || c.MetaJudge.Temperature != nil || c.MetaJudge.TopP != nil || *c.Judge.Temperature != 0.8 {
		t.Errorf("%v %+v %+v %+v", c.Seed, c.Actor, c.Judge, c.MetaJudge)
	}
	printed, err := Print(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(Source{File: printed, Name: "printed"})
	if diff := cmp.Diff(c, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	_, err = Load(Source{File: []byte("method: {rho: null}\n"), Name: "c.yaml"})
	if err == nil || !strings.Contains(err.Error(), "c.yaml:1: method.rho has no value; allowed is a number") {
		t.Errorf("rho: null gives %v", err)
	}
}

// One text is a list of one.
func TestOneForAList(t *testing.T) {
	c, err := Load(Source{File: []byte("prompts: {paths: p.jsonl}\nworker:\n  urls: http://h/v1\nroles: actor\nactor: {stop: 5}\n"), Name: "c.yaml", Settings: []Setting{
		{Key: "output.dir", Value: "out", From: "--out"}, {Key: "worker.model", Value: "m", From: "--model"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := [][]string{c.Prompts.Paths, c.Worker.URLs, c.Roles, c.Actor.Stop}
	if diff := cmp.Diff([][]string{{"p.jsonl"}, {"http://h/v1"}, {"actor"}, {"5"}}, got); diff != "" {
		t.Error(diff)
	}
}

// A value is never cut to fit its key.
func TestWholeValues(t *testing.T) {
	for value, want := range map[Setting]string{
		{Key: "actor.n", Value: "7.5"}:           "actor.n is 7.5; allowed is a whole number",
		{Key: "actor.n", Value: "1e1"}:           "",
		{Key: "actor.n", Value: "7.0"}:           "",
		{Key: "seed", Value: "0.5"}:              "seed is 0.5; allowed is a whole number, or null to send none",
		{Key: "judge.scale", Value: "[3]"}:       "judge.scale is a list; allowed is a list of 2 numbers",
		{Key: "judge.scale", Value: "[1, 5, 7]"}: "judge.scale is a list; allowed is a list of 2 numbers",
		{Key: "method.rho", Value: "0.4"}:        "",
	} {
		value.From = "--set"
		_, err := Load(Source{Settings: append(slices.Clone(required), value)})
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != "--set: "+want) {
			t.Errorf("%s=%s gives %v, want %q", value.Key, value.Value, err, want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	for key, want := range map[string]string{
		"method.rhoo": "did you mean method.rho?", "metod.rho": "did you mean method.rho?", "rho": "did you mean method.rho?", "workers.url": "did you mean worker.urls?",
		"judge.tempreature": "did you mean judge.temperature?", "client.max-in-flight": "did you mean client.max_in_flight?", "MaxInFlight": "did you mean client.max_in_flight?",
		"worker.api_key": "did you mean worker.api_key_env, the name", "apiKey": "did you mean worker.api_key_env, the name", "judge.api_key": "did you mean judge.api_key_env, the name",
		"judge.colour": "known are judge.", "zzzzzzzz": "coeval config prints all keys", "actor": "it has keys of its own: actor.api_key_env, ",
	} {
		_, err := Load(Source{Settings: append(slices.Clone(required), Setting{Key: key, Value: "1", From: "--set"})})
		if err == nil || !strings.HasPrefix(err.Error(), "--set: unknown key "+key+"; "+want) {
			t.Errorf("%s gives %v, want %q", key, err, want)
		}
	}
}

// No message shows an API key in a wrong place: as the value of an unknown key, as a value of a wrong
// type, or in the text that a YAML error quotes.
func TestKeysAreNotShown(t *testing.T) {
	const secret = "sk-abcdefgh12345678"
	for _, file := range []string{
		"worker:\n  api_key: " + secret, "worker:\n  api_key: " + secret + "\n :", "worker: " + secret, "api_key: swordfish\nworker: [", "client: {tries: " + secret + "}",
		"worker: {api_key_env: " + secret + "}", "worker:\n  revision: " + secret, "actor: {extra_body: {api_key: swordfish}}", "actor: {extra_body: {a: [" + secret + "]}}",
		"\tapi_key: " + secret, "a: 'unfinished " + secret, "worker: {password: swordfish", secret, "- " + secret, secret + ": 1", "swordfish", "- swordfish", "export A=1\nB=swordfish", "worker: swordfish",
		"worker: {api_key_env: [swordfish]}", "worker: {api_key_file: {a: swordfish}}", "worker: {headers: swordfish}", "worker: {query: [swordfish]}", "worker: {urls: 'https://swordfish@h/v1'}",
		"worker: {api_key: swordfish}\nworker: {api_key: swordfish}", "%TAG " + secret, "!" + secret + " x", "a: *" + secret, "&" + secret + " a: b: c", "Zq7swordfishVb9tRw2k: 1", "worker: {Zq7swordfishVb9tRw2k: 1}",
	} {
		for _, src := range []Source{
			{File: []byte(file), Name: "c.yaml"},
			{Settings: []Setting{{Key: "worker.model", Value: file, From: "--set"}, {Key: "worker.api_key", Value: "swordfish", From: "--set"}}},
		} {
			_, err := Load(src)
			if err == nil {
				t.Errorf("%q is accepted", file)
				continue
			}
			if strings.Contains(err.Error(), "abcdefgh") || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("%q shows the key:\n%v", file, err)
			}
		}
	}
}

// Deep nesting, expanding aliases and large files are rejected quickly, with one sentence.
func TestYAMLIsBounded(t *testing.T) {
	laughs := "a: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 12 {
		laughs += fmt.Sprintf("b%d: &a%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	var indented strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&indented, "%sa:\n", strings.Repeat(" ", i))
	}
	for name, tt := range map[string]struct{ file, want string }{
		"brackets":     {strings.Repeat("[", 200_000), "nested"},
		"braces":       {strings.Repeat("{a: ", 200_000), "nested"},
		"lists":        {strings.Repeat("- ", 200_000), "nested"},
		"indentation":  {indented.String()[:900_000], "nested"},
		"aliases":      {"actor:\n  extra_body:\n" + "    " + strings.ReplaceAll(laughs, "\n", "\n    "), "aliases"},
		"size":         {"# " + strings.Repeat("x", 2<<20), "bytes"},
		"many values":  {"actor: {stop: [" + strings.Repeat("x,", 150_000) + "x]}", "values"},
		"self":         {"actor: {extra_body: &a {b: *a}}", ""},
		"deep on line": {"a: " + strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(Source{File: []byte(tt.file), Name: "c.yaml"})
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2000 {
				t.Errorf("got %.200v, want %q", err, tt.want)
			}
		})
	}
	// A few aliases are no harm.
	c, err := Load(Source{File: []byte("actor: {extra_body: {a: &x [1, 2], b: *x}}\n"), Name: "c.yaml", Settings: required})
	if err != nil || len(c.Actor.ExtraBody) != 2 {
		t.Errorf("%v: %v", c.Actor.ExtraBody, err)
	}
}

// YAML has one text where a colon is followed by no space. The parser makes a key of the part before the
// colon in lists inside braces; then Load asks for quotes instead of sending something else.
func TestColonsInTexts(t *testing.T) {
	for file, place := range map[string]string{
		"roles: [actor]\njudge: {urls: [http://a:8000/v1, http://b:8000/v1], model: m}\n": "c.yaml:2:24: ",
		"actor: {extra_body: {stop: [x:y, z]}}\n":                                         "c.yaml:1:30: ",
		"actor: {extra_body: {a: [12:30]}}\n":                                             "c.yaml:1:28: ",
		"actor: {temperature:0.5}\n":                                                      "c.yaml:1:20: ",
	} {
		_, err := Load(Source{File: []byte(file), Name: "c.yaml", Settings: required})
		if err == nil || !strings.HasPrefix(err.Error(), place) || !strings.Contains(err.Error(), "quote it") {
			t.Errorf("%s: %v, want a problem at %s", file, err, place)
		}
	}
	for _, file := range []string{
		"judge: {urls: ['http://a:8000/v1', \"http://b:8000/v1\"], model: m}\n", "judge: {urls: http://a:8000/v1, model: m}\n",
		"judge:\n  urls: [http://a:8000/v1, http://b:8000/v1]\n", "judge:\n  urls:\n    - http://a:8000/v1\n", "actor: {extra_body: {\"a\":1, b: [c: d]}}\n",
		"actor:\n  extra_body: {a: }\n",
	} {
		if _, err := Load(Source{File: []byte(file), Name: "c.yaml", Settings: required}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A config that was printed in full contains every number besides the preset's name. Load notes that
// another preset changes none of them.
func TestPresetThatIsOverridden(t *testing.T) {
	load := func(file, flag string) []string {
		var notes []string
		src := Source{File: []byte(file), Name: "c.yaml", Settings: slices.Clone(required), Note: func(s string) { notes = append(notes, s) }}
		if flag != "" {
			src.Settings = append(src.Settings, Setting{Key: "preset", Value: flag, From: "--preset"})
		}
		if _, err := Load(src); err != nil {
			t.Fatal(err)
		}
		return notes
	}
	c, err := config.Preset("paper-1")
	if err != nil {
		t.Fatal(err)
	}
	c.Prompts.Paths = []string{"p"}
	printed, err := Print(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := load(string(printed), ""); got != nil {
		t.Errorf("the preset's own numbers give %q", got)
	}
	got := load(string(printed), "paper-4")
	if len(got) != 2 || !strings.Contains(got[0], "method.rho is 0 by c.yaml:") || !strings.Contains(got[0], "preset paper-4 has 0.4") || !strings.Contains(got[1], "roles is ") {
		t.Errorf("another preset by a flag gives %q", got)
	}
	if got := load(strings.Replace(string(printed), "preset: paper-1", "preset: paper-4", 1), ""); len(got) != 2 {
		t.Errorf("another preset in the file gives %q", got)
	}
	if got := load("preset: paper-2\njudge: {n: 5}\n", ""); got != nil {
		t.Errorf("a key that the preset leaves alone gives %q", got)
	}
}

// Headers and query parameters are texts, even if they look like numbers, in a file and on the command
// line.
func TestHeadersAndQuery(t *testing.T) {
	c, err := Load(Source{
		File: []byte("worker:\n  headers: {X-Org: lab, X-Token: env:GATEWAY_TOKEN}\n  query: {api-version: 2024-10-21, v: 1, beta: true}\n"), Name: "f.yaml",
		Settings: []Setting{{"judge.headers", "{X-Org: other}", "--set"}},
		Validate: func(config.Config) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.Worker.Headers, c.Worker.Query, c.Judge.Headers)
	if want := "map[X-Org:lab X-Token:env:GATEWAY_TOKEN] map[api-version:2024-10-21 beta:true v:1] map[X-Org:other]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err = Load(Source{Settings: []Setting{{"worker.headers.X-Org", "lab", "--set"}}, Validate: func(config.Config) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "worker.headers={X-Org: VALUE}") {
		t.Errorf("%v: does not show how to set one header", err)
	}
}
