package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"coeval/runners/loop/config"
)

// trainerFlags returns the flags or keys of a trainer; testdata/trainers/flags.py lists them from its package.
func trainerFlags(t *testing.T, trainer string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "trainers", trainer+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[1:] // the versions come first
}

// trainers are the commands that begin one, and their lists.
var trainers = map[string]string{"trl dpo": "trl", "openrlhf.cli.train_dpo": "openrlhf"}

var flagPattern = regexp.MustCompile(`(?:^|[\s,\[])--([A-Za-z][\w.]*)`)

// checkFlags checks the flags after the command of a trainer, if the text has one.
func checkFlags(t *testing.T, file, text string) (found bool) {
	t.Helper()
	for command, trainer := range trainers {
		_, flags, ok := strings.Cut(text, command)
		if !ok {
			continue
		}
		found = true
		known := trainerFlags(t, trainer)
		matches := flagPattern.FindAllStringSubmatch(flags, -1)
		if len(matches) < 5 {
			t.Errorf("%s: only %d flags of %s", file, len(matches), trainer)
		}
		for _, m := range matches {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s: %s has no flag --%s", file, trainer, m[1])
			}
		}
	}
	return found
}

// The training commands of the examples are commands of a shell, with flags that the trainers have, and name files
// that exist.
func TestTrainingCommands(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "examples", "loop-*.yaml"))
	if err != nil || len(files) < 6 {
		t.Fatalf("got %v, %v; want at least 6 loops", files, err)
	}
	flagged := 0
	values := strings.NewReplacer("{model}", "/m", "{reference}", "/r", "{train}", "/t", "{actor}", "/a", "{judge}", "/j", "{out}", "/o", "{iteration}", "1", "{name}", "n")
	ownFile := regexp.MustCompile(`docs/examples/[\w./-]+`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{c.Train.Command, c.Swap.Command} {
			if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", values.Replace(command)).CombinedOutput(); err != nil {
				t.Errorf("%s: sh -n: %v: %s", file, err, out)
			}
		}
		if checkFlags(t, file, c.Train.Command) {
			flagged++
		}
		for _, name := range ownFile.FindAllString(c.Train.Command, -1) {
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	if flagged < 2 {
		t.Errorf("the flags of %d commands were checked, want at least 2", flagged)
	}
}

// The files that training commands name parse, and their flags and keys exist.
func TestTrainingFiles(t *testing.T) {
	folder := filepath.Join(root, "docs", "examples", "training")
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join(folder, "dpo.sbatch")).CombinedOutput(); err != nil {
		t.Errorf("dpo.sbatch: %v: %s", err, out)
	}
	if !checkFlags(t, "dpo.sbatch", read("dpo.sbatch")) {
		t.Error("dpo.sbatch has no command of a trainer")
	}
	var job struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Spec       struct {
			Template struct {
				Spec struct {
					RestartPolicy string `yaml:"restartPolicy"`
					Containers    []struct{ Command []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read("job.yaml")), &job); err != nil {
		t.Fatal(err)
	}
	if job.Kind != "Job" || job.APIVersion != "batch/v1" || len(job.Spec.Template.Spec.Containers) != 1 || job.Spec.Template.Spec.RestartPolicy != "Never" {
		t.Errorf("job.yaml is %+v", job)
	}
	if !checkFlags(t, "job.yaml", strings.Join(job.Spec.Template.Spec.Containers[0].Command, " ")) {
		t.Error("job.yaml has no command of a trainer")
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(read("axolotl.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	keys := trainerFlags(t, "axolotl")
	check := func(section map[string]any) {
		for key := range section {
			if !slices.Contains(keys, key) {
				t.Errorf("axolotl has no key %s", key)
			}
		}
	}
	check(config)
	for _, d := range config["datasets"].([]any) {
		check(d.(map[string]any))
	}
}

// The script for adapters sets options that TRL has, and takes the arguments that the example gives.
func TestTrainingScript(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs", "examples", "train_lora.py"))
	if err != nil {
		t.Fatal(err)
	}
	_, options, ok := strings.Cut(string(b), "DPOConfig(\n")
	options, _, closed := strings.Cut(options, "\n        ),")
	if !ok || !closed {
		t.Fatal("the script has no DPOConfig")
	}
	known := trainerFlags(t, "trl")
	matches := regexp.MustCompile(`(?m)^\s+(\w+)=`).FindAllStringSubmatch(options, -1)
	if len(matches) < 5 {
		t.Errorf("%d options of DPOConfig", len(matches))
	}
	for _, m := range matches {
		if !slices.Contains(known, m[1]) {
			t.Errorf("TRL has no option %s", m[1])
		}
	}
	if python, err := exec.LookPath("python3"); err == nil {
		check := exec.CommandContext(t.Context(), python, "-c", "import ast, sys; ast.parse(sys.stdin.read())")
		check.Stdin = strings.NewReader(string(b))
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}
