package config_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"coeval/runners/loop/config"
	"coeval/runners/loop/steps"
)

// A server without adapters serves one model, so that the other checkpoints need servers.
func TestPhasesNeedServers(t *testing.T) {
	c, err := config.Parse("loop.yaml", []byte("dir: d\nrun: {worker: {urls: ['http://a/v1'], model: m}}\nmodel: {path: m}\ntrain: {command: 'x {out}'}\nschedule: [{preset: temporal}, {preset: temporal-2}]\nswap: {kind: command, command: serve}\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Validate()
	for _, want := range []string{"run.past.urls is empty", "swap.future.urls is empty", "swap.future.command is empty", "schedule[1].preset is temporal-2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems lack %q: %v", want, err)
		}
	}
}

// No shell expands a folder in a file, so that a ~ would name a folder of that name.
func TestFolderMisleads(t *testing.T) {
	for dir, want := range map[string]string{"~/loop": "begins with ~", "'~'": "begins with ~", "s3://b/loop": "dir is s3://b/loop", "gs:b": "without two slashes"} {
		c, err := config.Parse("loop.yaml", []byte("dir: "+dir+"\n"))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("dir: %s: problems lack %q: %v", dir, want, err)
		}
	}
}

// All problems of a config are reported at once.
func TestConfigProblems(t *testing.T) {
	c, err := config.Parse("loop.yaml", []byte("slices: some\ntrain: {command: 'train {modell} {out} ${HOME}'}\nswap: {kind: magic}\ndecide: {iterations: 0}\nset: {held_out: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Validate()
	for _, want := range []string{"dir is empty", "run is empty", "slices is some", "model.path is empty", "{modell}", "swap.kind is magic", "swap.urls", "decide.iterations is 0", "set.held_out is 2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems lack %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "HOME") {
		t.Errorf("a variable of the shell is called a field: %v", err)
	}
}

// sh reads each value as one word, whatever characters it has and whatever quotation marks stand around it.
func TestExpand(t *testing.T) {
	values := []string{"/a/model", "/my models/it's $HOME", "a`b`\"c\\d\"", "line\nbreak", "$(exit 3);&|<>*?~#{out}", "sim:quality=+0.5,length=+0", "--x"}
	for _, value := range values {
		fields := map[string]string{"model": value, "out": "OUT"}
		for template, want := range map[string]string{
			"printf %s {model}":                      value,
			"printf %s '{model}'":                    value,
			`printf %s "{model}"`:                    value,
			`printf %s "a\"{model}\""`:               `a"` + value + `"`,
			`printf %s it\'s{model}`:                 "it's" + value,
			`printf %s 'a\'{model}`:                  `a\` + value,
			"printf %s {model}/{out}":                value + "/OUT",
			"model=v; printf %s ${model}{model}":     "v" + value,
			"printf %s {model} | { cat; }":           value,
			`printf %s "$(printf %s x)"{model}`:      "x" + value,
			"printf '%s' {unknown}{":                 "{unknown}{",
			`printf %s --model="{model}" # '{model}`: "--model=" + value,
			"# don't\nprintf %s {model}":             value,
			"true;# \"\nprintf %s {model}":           value,
			"true \\\n# don't\nprintf %s {model}":    value,
			"printf %s '# '{model}":                  "# " + value,
			"printf %s a#'b {model}'":                "a#b " + value,
			`printf %s \ #'b {model}'`:               " #b " + value,
			"printf %s {out}#'b {model}'":            "OUT#b " + value,
			`printf %s $#"{model}"`:                  "0" + value,
		} {
			got, err := exec.Command("sh", "-c", config.Expand(template, fields)).CombinedOutput()
			if err != nil || string(got) != want {
				t.Errorf("%s with %q gives %q, %v; want %q", template, value, got, err, want)
			}
		}
	}
}

// The settings of a turn can't move the output of a run, or change its model; a URL has no query, which may be a key.
func TestLoopSettingsInATurn(t *testing.T) {
	for text, want := range map[string]string{
		"schedule: [{set: {output.dir: x}}]":                             "schedule[0].set has output.dir, which the loop sets",
		"schedule: [{set: {}}, {set: {output: {dir: x}}}]":               "schedule[1].set has output.dir",
		"schedule: [{set: {worker: {model: x}}}]":                        "schedule[0].set has worker.model",
		"schedule: [{set: {roles: [actor]}}]":                            "schedule[0].set has roles",
		"schedule: [{set: {method.rho: 0.4, judge: {n: 3}}}]":            "",
		"swap: {kind: lora, urls: ['http://h/v1?api_key=sk-123456789']}": "swap.urls[0] is http://h/v1; allowed is",
	} {
		c, err := config.Parse("loop.yaml", []byte("dir: x\nrun: {worker: {urls: ['http://h/v1']}}\nmodel: {path: m}\ntrain: {command: 'x {out}'}\n"+text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if c.Swap.Kind == "" {
			c.Swap.Kind = "lora"
		}
		err = c.Validate()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sk-123456789")) {
			t.Errorf("%s: error is %v; want %q", text, err, want)
		}
	}
}

// A command line with a key is refused; one that takes it from the environment is not.
func TestKeysInCommands(t *testing.T) {
	const key = "hf_abcdefghijklmnopqrstuvwxyz01234567"
	for command, refused := range map[string]bool{
		"HF_TOKEN=" + key + " trl dpo --out {out}":                               true,
		"trl dpo --hub_token " + key + " --out {out}":                            true,
		"git clone https://me:" + key + "@host/x && trl dpo {out}":               true,
		"curl -H 'Authorization: Bearer abcdef0123456789' http://h; train {out}": true,
		"git clone https://me:$TOKEN@host/x && trl dpo {out}":                    false,
		"curl -H \"Authorization: Bearer $KEY\" http://h; train {out}":           false,
		"HF_TOKEN=$KEY trl dpo --max-tokens 4096 --out {out}":                    false,
		"git clone https://$USER:hunter2hunter2@host/x && trl dpo {out}":         true,
		"pip install hf_transfer && python convert_hf_checkpoint.py {out}":       false,
		"train.py --preset basic --model {model} {out}":                          false,
		"pip install git+ssh://git@github.com/org/repo && train {out}":           false,
		"train --log wandb://entity@project {out}":                               false,
	} {
		for _, set := range []func(*config.Config){
			func(c *config.Config) { c.Train.Command = command },
			func(c *config.Config) { c.Swap.Command = command },
			func(c *config.Config) { c.Swap.Future.Command = command },
		} {
			c := config.Default()
			set(&c)
			err := c.Validate()
			if got := strings.Contains(err.Error(), "contains a key or a password"); got != refused || strings.Contains(err.Error(), key) {
				t.Errorf("%s: refused is %t, want %t: %v", command, got, refused, err)
			}
		}
	}
}

// A loop that has used a command line with a key goes on: its files show the key already, and another line is refused.
func TestKeysInUsedCommands(t *testing.T) {
	const command = "git clone https://me:hunter2hunter2@host/x && train {out}"
	all := slices.Concat(steps.Future, steps.Every)
	for last, used := range map[steps.Step][]string{
		steps.FutureSet: nil, steps.TrainFuture: {"train.command"}, steps.SwapFuture: {"train.command", "swap.future.command"},
		steps.TrainModel: {"train.command", "swap.future.command"}, steps.SwapModel: {"train.command", "swap.future.command", "swap.command"},
	} {
		c := config.Default()
		c.Dir, c.Train.Command, c.Swap.Command, c.Swap.Future.Command = t.TempDir(), command, command, command
		state, err := steps.Open(c.Dir)
		for _, step := range all[:slices.Index(all, last)+1] {
			if err == nil {
				err = state.Append(steps.Record{Iteration: 1, Step: step, Output: []byte("{}")})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		err = c.Validate()
		names := c.KeysInCommands()
		if len(names) != 3 {
			t.Errorf("command lines with a key are %v", names)
		}
		for _, name := range names {
			if refused := strings.Contains(err.Error(), name+" contains a key"); refused == slices.Contains(used, name) {
				t.Errorf("after %s: %s is refused: %t", last, name, refused)
			}
		}
	}
}
