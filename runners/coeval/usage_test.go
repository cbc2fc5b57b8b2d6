package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	_ "coeval/runners/engine" // registers Beam's flags
	"coeval/transforms/simulator"
)

// Beam's flags follow "--", and those that only Beam knows may stand before it: no flag of ours
// may share a name with one of them.
func TestFlagsAreNotBeams(t *testing.T) {
	root := newRoot()
	seen := 0
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		for _, name := range flagNames(c) {
			seen++
			if f := flag.CommandLine.Lookup(name); f != nil {
				t.Errorf("--%s of %s is a flag of Beam's too: %s", name, c.CommandPath(), f.Usage)
			}
		}
	}
	if flag.CommandLine.Lookup("runner") == nil || flag.CommandLine.Lookup("endpoint") == nil || seen < 20 {
		t.Errorf("the flags to compare are not there: %d of ours", seen)
	}
}

// Wrong flags and a wrong config end with exit code 2: all faults are reported at once, with their places,
// and nothing is begun.
func TestWrongUsage(t *testing.T) {
	dir := t.TempDir()
	prompts := promptFile(t, 3)
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		write(t, name, text)
		return name
	}
	bad := file("bad.yaml", `method:
  rho: 0.7
  min_margin: -1
judge:
  n: 0
  colour: red
client:
  tries: many
  patience: soon
roles: [actor, critic]
`)
	tests := []struct {
		name  string
		args  []string
		wants []string
	}{
		{"unknown flag", []string{"run", "--frobnicate"}, []string{"--frobnicate", "coeval run --help"}},
		{"unknown command", []string{"fly"}, []string{`unknown command "fly"; known are arena, calibrate, compare`}},
		{"command with a slip", []string{"rnu"}, []string{`unknown command "rnu"; did you mean coeval run?`}},
		{"list of another length", []string{"run", "--set", "judge.scale=[1, 5, 7]"}, []string{"--set: judge.scale is a list; allowed is a list of 2 numbers"}},
		{"fraction", []string{"run", "--simulate", "--prompts", prompts, "--set", "actor.n=7.5"}, []string{"actor.n is 7.5; allowed is a whole number"}},
		{"huge number", []string{"run", "--limit=99999999999999999999"}, []string{`--limit is "99999999999999999999"; allowed is a whole number of fewer digits`}},
		{"arena of nothing", []string{"arena"}, []string{"(--a)", "b.model is missing; give the name of a model (--b)", "judge.model is missing; give the name of a model (--judge)"}},
		{"flag with a slip", []string{"run", "--promts", "p"}, []string{"--promts", "did you mean --prompts?"}},
		{"longer flag", []string{"run", "--output", "o"}, []string{"--output", "did you mean --out?"}},
		{"one dash", []string{"run", "-prompts", "p"}, []string{"unknown flag: -prompts; did you mean --prompts?"}},
		{"code as an argument", []string{"run", "--retry-failed", "timeout"}, []string{"a failure code is given as --retry-failed=timeout"}},
		{"setting as an argument", []string{"run", "method.rho=0.3"}, []string{"a setting is given as --set NAME=VALUE"}},
		{"prompts as a config", []string{"run", prompts}, []string{"is no config but has the name of a file of prompts; give it as --prompts=" + prompts}},
		{"folder as a config", []string{"calibrate", dir}, []string{"the folder of a run is given as --out"}},
		{"pattern without quotes", []string{"run", "--simulate", "--prompts", prompts, "--set", "judge.pattern=[[x]"}, []string{`judge.pattern is "[[x]"; allowed is a regular expression with one group`}},
		{"key as a flag", []string{"run", "--rho", "0.3"}, []string{"--rho", "did you mean --set method.rho=…?"}},
		{"unknown code", []string{"run", "--simulate", "--prompts", prompts, "--retry-failed=time_out"}, []string{"--retry-failed", `"time_out"`, "did you mean timeout?"}},
		{"no code at all", []string{"plan", "--simulate", "--prompts", prompts, "--retry-failed=typo"}, []string{`"typo"`, "bad_request, connection"}},
		{"metrics nowhere", []string{"run", "--simulate", "--prompts", prompts, "--metrics-addr", ""}, []string{`--metrics-addr is ""`}},
		{"metrics without a port", []string{"run", "--simulate", "--prompts", prompts, "--metrics-addr", "localhost"}, []string{`--metrics-addr is "localhost"`, "127.0.0.1:9464"}},
		{"metrics at a word", []string{"run", "--simulate", "--prompts", prompts, "--metrics-addr", "localhost:high"}, []string{`--metrics-addr is "localhost:high"`}},
		{"metrics at a port out of range", []string{"run", "--simulate", "--prompts", prompts, "--metrics-addr", ":65536"}, []string{`--metrics-addr is ":65536"`}},
		{"profiles nowhere", []string{"run", "--simulate", "--prompts", prompts, "--pprof"}, []string{"--metrics-addr"}},
		{"sample too large", []string{"run", "--simulate", "--prompts", prompts, "--sample", "4"}, []string{"sample is 4", "3 distinct prompts"}},
		{"sample too large for a plan", []string{"plan", "--simulate", "--prompts", prompts, "--sample", "4"}, []string{"sample is 4", "3 distinct prompts"}},
		{"one response", []string{"run", "--simulate", "--prompts", prompts, "--set", "actor.n=1"}, []string{"actor.n is 1; allowed is at least 2"}},
		{"one judgment", []string{"run", "--simulate", "--prompts", prompts, "--set", "judge.n=1"}, []string{"judge.n is 1; allowed is at least method.min_judgments, 2"}},
		{"simulated with URL", []string{"run", "--simulate", "--url", "http://h/v1", "--prompts", prompts}, []string{"simulate.enabled is true", "--simulate"}},
		{"two configs", []string{"run", bad, bad}, []string{"at most 1 arg"}},
		{"flag of another type", []string{"run", "--limit=some"}, []string{`--limit is "some"; allowed is a whole number`}},
		{"no value", []string{"run", "--set", "method.rho"}, []string{"--set needs a key and its value, for example --set method.rho=0.32; method.rho has no ="}},
		{"unknown key", []string{"run", "--set", "judge.rho=0.3"}, []string{"--set: unknown key judge.rho; did you mean method.rho?"}},
		{"unknown preset", []string{"run", "--preset", "paper-5"}, []string{"--preset: preset", "paper-4"}},
		{"unknown Beam flag", []string{"run", "--simulate", "--prompts", prompts, "--", "--frobnicate"}, []string{"frobnicate"}},
		{"unknown runner", []string{"run", "--simulate", "--prompts", prompts, "--", "--runner=fling"}, []string{`coeval: --runner is "fling"; allowed is direct, prism, flink`}},
		{"word after --", []string{"run", "--simulate", "--prompts", prompts, "--", "out"}, []string{`only Beam flags may follow; "out" is not a flag`}},
		{"async", []string{"run", "--simulate", "--prompts", prompts, "--", "--async"}, []string{"--async is refused"}},
		{"no file", []string{"run", filepath.Join(dir, "none.yaml")}, []string{"none.yaml", "no such file"}},
		{"no YAML", []string{"run", file("no.yaml", "method: [")}, []string{"no.yaml:1:", "not YAML"}},
		{"no mapping", []string{"run", file("list.yaml", "- 1\n")}, []string{"list.yaml:1: the file is", "allowed is a mapping of keys"}},
		{"nothing given", []string{"run"}, []string{"prompts.paths is missing", "(--prompts)", "worker.model is missing", "(--model)", "worker.urls is missing", "(--url)"}},
		{"too fine", []string{"run", "--simulate", "--prompts", prompts, "--set", "method.rho=0.4999999", "--set", "method.min_margin=0.0001"}, []string{
			"--set: method.rho is 0.4999999; allowed is", "--set: method.min_margin is 0.0001; allowed is",
		}},
		{"template", []string{"run", "--simulate", "--prompts", prompts, "--set", "judge.template=" + file("judge.tmpl", "{{.Nothing}}")}, []string{"judge.template", "judge.tmpl"}},
		{"many", []string{"run", bad, "--prompts", prompts, "--url", "ftp://x", "--model", "m", "--max-in-flight=-1", "--set", "actor.extra_body={seed: 1}"}, []string{
			bad + ":2: method.rho is 0.7; allowed is 0 to below 0.5",
			bad + ":3: method.min_margin is -1; allowed is 0 to 5",
			bad + ":5: judge.n is 0; allowed is 1 to",
			bad + ":6: unknown key judge.colour",
			bad + ":8: client.tries is many; allowed is a whole number",
			bad + ":9: client.patience is soon; allowed is a duration, for example 90s or 10m",
			bad + `:10: roles[1] is "critic"; allowed is actor and judge`,
			`--url: worker.urls[0] is "ftp://x"; allowed is http://`,
			"--max-in-flight: client.max_in_flight is -1; allowed is 0 to",
			"--set: actor.extra_body.seed is \"set\"; allowed is nothing",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			// --out stands before the flags that follow "--".
			args := slices.Insert(slices.Clone(tt.args), 1, "--out", out)
			call := refused
			if slices.Contains(args, "--") || tt.name == "sample too large" {
				call = coeval
			}
			stdout, stderr, code := call(t, args...)
			if code != exitUsage || stdout != "" {
				t.Errorf("exit code %d, stdout %q; want %d and nothing", code, stdout, exitUsage)
			}
			for _, wanted := range tt.wants {
				if !strings.Contains(stderr, wanted) {
					t.Errorf("stderr lacks %q:\n%s", wanted, stderr)
				}
			}
			if lines := strings.Count(stderr, "\n"); len(tt.wants) > 3 && lines != len(tt.wants) && tt.name != "nothing given" {
				t.Errorf("%d lines for %d problems:\n%s", lines, len(tt.wants), stderr)
			}
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("the run's folder was made (%v)", err)
			}
		})
	}
}

// A command without commands below it lists none.
func TestWordAfterVersion(t *testing.T) {
	t.Parallel()
	if _, stderr, code := refused(t, "version", "x"); code != exitUsage || !strings.Contains(stderr, `"x" is one argument too many: coeval version takes none`) {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

// A fault that stops a run ends with exit code 1 and a sentence that names the next step.
func TestWorkersWithoutAnAddress(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"", "8008", "localhost", "localhost:high", "127.0.0.1:65536"} {
		if _, stderr, code := refused(t, "simulate", "--addr", addr); code != exitUsage || !strings.Contains(stderr, fmt.Sprintf("--addr is %q; give an address with a port", addr)) {
			t.Errorf("--addr %q: exit code %d:\n%s", addr, code, stderr)
		}
	}
}

func TestRunsThatFail(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{Models: []string{"simulated"}, Strict: true, APIKey: "right"})
	prompts := promptFile(t, 30)
	run := func(prompts string, more ...string) []string {
		return append([]string{"run", "--url", w.URL, "--model", "simulated", "--prompts", prompts, "--json"}, more...)
	}
	key := []string{"--set", "worker.api_key_env=COEVAL_TEST_KEY"}
	tests := []struct {
		name  string
		key   string
		args  []string
		wants []string
		// asked says that the worker hears of it.
		asked bool
	}{
		// 1 of 31 lines is 3.2 %.
		{"bad lines", "right", run(promptFile(t, 30, "{"), key...), []string{"prompts.jsonl:31: the line is not a JSON object", "1 bad_json", "3.2 %", "max_bad_prompts", "no request was sent"}, false},
		{"all lines bad", "right", run(promptFile(t, 0, "nothing", "{"), key...), []string{"all 2 lines are bad"}, false},
		{"JSON over lines", "right", run(promptFile(t, 0, "{", "["), key...), []string{"the file is JSON over several lines"}, false},
		{"no line", "right", run(promptFile(t, 0), key...), []string{"no prompts in", "no line"}, false},
		{"no prompts", "right", run(filepath.Join(t.TempDir(), "none.jsonl"), key...), []string{"none.jsonl: there is no such file"}, false},
		{"key not set", "", run(prompts, key...), []string{"worker.api_key_env names the environment variable COEVAL_TEST_KEY, which is not set"}, false},
		{"wrong key", "wrong", run(prompts, key...), []string{w.URL + " refuses the actor", "it rejects the API key", "api_key_env"}, true},
		{"no key", "", run(prompts), []string{w.URL + " refuses the actor: it requires an API key; set api_key_env to the name of the environment variable with the key, or api_key_file to its file"}, true},
		{"no such model", "right", run(prompts, append(key, "--set", "actor.model=other")...), []string{w.URL + " refuses the actor", `it has no model "other"`}, true},
		{"no such path", "right", []string{
			"run", "--url", w.URL + "/nowhere", "--model", "simulated", "--prompts", prompts, "--json", key[0], key[1],
		}, []string{"refuses the actor", "did you mean "}, true},
		{"nobody there", "", []string{
			"run", "--url", "http://127.0.0.1:1/v1", "--model", "m", "--prompts", prompts, "--set", "client.patience=100ms", "--json",
		}, []string{"no server of the actor could be reached within 0s: http://127.0.0.1:1/v1", "connection refused", "Check the URL"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			was := w.Stats()
			p := begin(t, []string{"COEVAL_TEST_KEY=" + tt.key}, append(tt.args, "--out", out)...)
			if code := p.wait(t); code != exitFailed || p.stdout.String() != "" {
				t.Errorf("exit code %d, stdout %q; want %d and nothing", code, p.stdout.String(), exitFailed)
			}
			for _, wanted := range tt.wants {
				if !strings.Contains(p.stderr.String(), wanted) {
					t.Errorf("stderr lacks %q:\n%s", wanted, p.stderr.String())
				}
			}
			// Asked again with a key that is refused, each of the 30 prompts would ask 5 times; one
			// that has waited for the first's answer may ask before it is told to stop.
			now := w.Stats()
			if got := refusals(now) - refusals(was); got > 10 {
				t.Errorf("the worker refused %d requests", got)
			}
			if got := refusals(now) + now.Requests - refusals(was) - was.Requests; (got > 0) != tt.asked {
				t.Errorf("the worker was asked %d times", got)
			}
			if _, err := os.Stat(filepath.Join(out, "run.json")); !os.IsNotExist(err) {
				t.Errorf("there is a run.json (%v)", err)
			}
			if n := len(segments(t, out)); n > 1 {
				t.Errorf("%d segments", n)
			}
		})
	}
}

// A wrong URL beside a good one is named while the run goes on: its GPUs would stand idle unnoticed.
func TestOneWrongURLOfTwo(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{Models: []string{"simulated"}})
	out := filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, promptFile(t, 5), out, "--url", w.URL+"/nowhere")
	_, stderr, code := coeval(t, args...)
	if wanted := "warning: " + w.URL + "/nowhere refuses the actor: did you mean " + w.URL + "?"; code != exitDone || !strings.Contains(stderr, wanted) {
		t.Errorf("exit code %d, stderr lacks %q:\n%s", code, wanted, stderr)
	}
	proved(t, out)
}

// refusals counts the requests that a worker answered with a status that ends a run.
func refusals(s simulator.Stats) int64 {
	return s.Rejected[http.StatusUnauthorized] + s.Rejected[http.StatusNotFound]
}

// Verify ends with exit code 3 and names the fault.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	good := filepath.Join(t.TempDir(), "out")
	complete(t, runOf(w.URL, promptFile(t, 8), good)...)
	if stdout, stderr, code := coeval(t, "verify", good); code != exitDone || !strings.Contains(stdout, "proved") {
		t.Errorf("exit code %d of a good run: %s%s", code, stdout, stderr)
	}
	edit := func(name string, change func([]byte) []byte) func(string) error {
		return func(out string) error {
			name := filepath.Join(out, name)
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return os.WriteFile(name, change(b), 0o600)
		}
	}
	responses := "raw/responses/part-00000-of-00001.parquet"
	tests := []struct {
		name  string
		spoil func(out string) error
		want  string
	}{
		{"no run.json", func(out string) error { return os.Remove(filepath.Join(out, "run.json")) }, "run.json is missing"},
		{"no file", func(out string) error { return os.Remove(filepath.Join(out, responses)) }, responses},
		{"a flipped byte", edit(responses, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), responses},
		{"a file too many", func(out string) error {
			return os.WriteFile(filepath.Join(out, "actor", "train-00007-of-00008.parquet"), nil, 0o600)
		}, "train-00007-of-00008.parquet"},
		{"a wrong ledger", edit("run.json", func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"lines": 8`, `"lines": 9`, 1))
		}), "lines"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			if err := os.CopyFS(out, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(out); err != nil {
				t.Fatal(err)
			}
			stdout, stderr, code := coeval(t, "verify", out)
			if code != exitProof || !strings.Contains(stdout, tt.want) || !strings.Contains(stderr, "problem") {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, exitProof, tt.want, stdout, stderr)
			}
		})
	}
}

// The config that is printed is the config that was given: printed again from its own output
// it is the same, and it contains every key.
func TestConfigIsPrintedInFull(t *testing.T) {
	t.Parallel()
	args := []string{"--prompts", "p.jsonl", "--out", "o", "--url", "http://h:1/v1", "--model", "m", "--preset", "paper-2", "--set", "method.rho=0.2"}
	first := want(t, nil, append([]string{"config"}, args...)...)
	name := filepath.Join(t.TempDir(), "c.yaml")
	write(t, name, first)
	if diff := cmp.Diff(first, want(t, nil, "config", name)); diff != "" {
		t.Error(diff)
	}
	// The preset's number gives way to --set, and its other numbers stay.
	for _, wanted := range []string{"rho: 0.2\n", "max_judgment_chars: 1000\n", "preset: paper-2\n", "tries: 5\n"} {
		if !strings.Contains(first, wanted) {
			t.Errorf("%q is not in\n%s", wanted, first)
		}
	}
	stdout, stderr, code := refused(t, "config")
	if code != exitUsage || !strings.Contains(stdout, "min_meta_judgments: 3") || !strings.Contains(stderr, "prompts.paths is missing") {
		t.Errorf("exit code %d of an incomplete config:\n%s", code, stderr)
	}
}

// A key in a wrong place of the command line or the config is never printed and kept nowhere.
func TestMisplacedKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	const secret = "sk-abcdefgh-0123456789"
	dir := t.TempDir()
	prompts := promptFile(t, 1)
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		write(t, name, text)
		return name
	}
	base := []string{"--prompts", prompts, "--model", "m"}
	for name, args := range map[string][]string{
		"unknown key":       {"run", "--set", "worker.api_key=" + secret},
		"key of a variable": {"run", "--set", "worker.api_key_env=" + secret},
		"key of a file":     {"run", "--set", "worker.api_key_file=" + secret},
		"no equals sign":    {"run", "--set", secret},
		"user of a URL":     {"run", "--url", "https://me:" + secret + "@host/v1"},
		"plain user":        {"run", "--url", "https://swordfish-4711@host/v1"},
		"query of a URL":    {"run", "--url", "https://host/v1?api_key=swordfish-4711"},
		"flag":              {"run", "--api-key", secret},
		"flag of a number":  {"run", "--limit", secret},
		"argument":          {"run", secret},
		"command":           {secret},
		"out":               {"verify", secret},
		"file":              {"run", file("a.yaml", "worker:\n  api_key: swordfish-4711\n")},
		"no YAML":           {"run", file("b.yaml", "worker:\n  api_key: swordfish-4711\n :\n")},
		"wrong type":        {"run", file("c.yaml", "client: {tries: "+secret+"}\n")},
		"extra body":        {"run", file("d.yaml", "actor: {extra_body: {auth: {token: swordfish-4711}}}\n")},
		"printed paths":     {"config", "--set", "prompts.paths=https://host/p.jsonl?sig=swordfish-4711", "--set", "judge.template=token=swordfish-4711"},
		"path after a name": {"run", "--prompts", "api_key=swordfish-4711"},
		"printed config":    {"config", "--set", "worker.api_key_env=" + secret, "--url", "https://swordfish-4711@host/v1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if args[0] == "run" || args[0] == "config" {
				args = append(slices.Clone(args), base...)
			}
			stdout, stderr, code := refused(t, args...)
			if code == exitDone || stderr == "" {
				t.Errorf("exit code %d", code)
			}
			for _, s := range []string{"abcdefgh", "swordfish"} {
				if strings.Contains(stdout+stderr, s) {
					t.Errorf("the key is printed:\n%s%s", stdout, stderr)
				}
			}
		})
	}
}
