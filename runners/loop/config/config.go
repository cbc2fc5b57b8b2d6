// Package config defines the settings of a loop and their limits. From them it derives the steps, preset
// and prompts of each iteration.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/runners/loop/decide"
	"coeval/runners/loop/process"
	"coeval/runners/loop/steps"
	"coeval/runners/loop/swap"
	"coeval/runners/loop/trainset"
	"coeval/runners/settings"
	"coeval/schemas"
	"coeval/schemas/redact"
)

// Config is every setting of a loop.
type Config struct {
	// Dir is the loop's folder, on a local disk.
	Dir string `yaml:"dir" json:"dir"`
	// Run is the config of the runs, as a file of coeval run has it. Its prompts, output, preset, roles
	// and revision are set for each iteration; the model is the one that is trained.
	Run map[string]any `yaml:"run" json:"run"`
	// Beam are Beam's flags of each run.
	Beam []string `yaml:"beam" json:"beam"`
	// Schedule is the step of each iteration; its last entry applies to all later iterations. Empty
	// means the paper's four presets.
	Schedule []Turn `yaml:"schedule" json:"schedule"`
	// PromptsPerIteration is the number of prompts of each iteration. A disjoint slice that is smaller by
	// chance is used whole. Zero takes all of the slice.
	PromptsPerIteration int64 `yaml:"prompts_per_iteration" json:"prompts_per_iteration"`
	// Slices is disjoint, to draw no prompt twice, or same. Empty means disjoint.
	Slices string `yaml:"slices" json:"slices"`
	// SliceCount is the number of disjoint slices. It can't change while a loop goes on. Zero means
	// decide.iterations.
	SliceCount int `yaml:"slice_count" json:"slice_count"`

	Model    Model            `yaml:"model"    json:"model"`
	Set      trainset.Options `yaml:"set"      json:"set"`
	Train    Train            `yaml:"train"    json:"train"`
	Swap     Swap             `yaml:"swap"     json:"swap"`
	Evaluate Evaluate         `yaml:"evaluate" json:"evaluate"`
	Decide   decide.Rules     `yaml:"decide"   json:"decide"`
}

// A Turn is the work of one iteration.
type Turn struct {
	// Preset is the preset of the run. The preset temporal has two runs, with a training between them.
	Preset string   `yaml:"preset" json:"preset"`
	Roles  []string `yaml:"roles"  json:"roles"`
	// Set are settings of the turn's runs, by key, for example method.rho: 0.4.
	Set map[string]any `yaml:"set" json:"set"`
}

// Model is the model to train.
type Model struct {
	// Path is the first model as the trainer names it: a folder or a name on a hub. Required.
	Path string `yaml:"path" json:"path"`
	// Reference is the model that {reference} names: iteration, the one that the iteration starts
	// with, or first. Empty means iteration.
	Reference string `yaml:"reference" json:"reference"`
}

// Train is the command that trains.
type Train struct {
	// Command is a line for sh with {actor}, {judge}, {train}, {model}, {reference}, {out} and
	// {iteration} in it. Required.
	Command string `yaml:"command" json:"command"`
	// OnStop is kill or finish: what a stopping loop does with a training. Empty means kill.
	OnStop process.OnStop `yaml:"on_stop" json:"on_stop"`
}

// Swap is how the servers get the trained model.
type Swap struct {
	Kind swap.Kind `yaml:"kind" json:"kind"`
	// Dialect is vllm or sglang, for lora and reload. Empty means vllm.
	Dialect swap.Dialect `yaml:"dialect" json:"dialect"`
	// URLs are the servers; empty takes run.worker.urls.
	URLs []string `yaml:"urls" json:"urls"`
	// APIKeyEnv names the variable with the servers' key.
	APIKeyEnv string `yaml:"api_key_env" json:"api_key_env"`
	// Command starts a server in the foreground with {model}, {name} and {iteration}, for command.
	Command string `yaml:"command" json:"command"`
	// Ready is how long a server may take to serve the new model. Zero means 15 minutes.
	Ready time.Duration `yaml:"ready" json:"ready"`
	// Future are the servers of the future model of iterations with the preset temporal.
	Future FutureSwap `yaml:"future" json:"future"`
}

// FutureSwap is how the future model is served beside the current one.
type FutureSwap struct {
	// URLs are servers of its own, swapped like the others. Empty, for lora only, takes the same
	// servers.
	URLs []string `yaml:"urls" json:"urls"`
	// Command starts such a server, like swap.command.
	Command string `yaml:"command" json:"command"`
}

// Evaluate lists the measurements after each iteration.
type Evaluate struct {
	// Arena is the config of the arena, without its models and its folder. Sampling and bounds in its b
	// apply to the answers of all models. Empty plays none.
	Arena map[string]any `yaml:"arena" json:"arena"`
	// People is a file of people's labels, for coeval calibrate. Empty calibrates nothing.
	People string `yaml:"people" json:"people"`
	// Figure is length_controlled or win_rate: the figure whose growth is a gain for decide. Empty means
	// length_controlled.
	Figure string `yaml:"figure" json:"figure"`
	// GPUHourUSD and GPUs price the time of an iteration.
	GPUHourUSD float64 `yaml:"gpu_hour_usd" json:"gpu_hour_usd"`
	GPUs       float64 `yaml:"gpus"         json:"gpus"`
}

// The values of Config.Slices, Model.Reference and Evaluate.Figure.
const (
	DisjointSlices     = "disjoint"
	SameSlice          = "same"
	IterationReference = "iteration"
	FirstReference     = "first"
	ControlledFigure   = "length_controlled"
	WinRateFigure      = "win_rate"
)

// Temporal is the preset of an iteration with both phases of temporal anchoring (Wang et al., arXiv
// 2508.06026). Only a schedule has it: between the phases a model is trained.
const Temporal = "temporal"

// The presets of the runs of such an iteration, and the one with the same numbers for one checkpoint.
const (
	PhaseOne      = "temporal-1"
	PhaseTwo      = "temporal-2"
	SelfRewarding = "self-rewarding"
)

// Default returns the config of a loop with nothing given.
func Default() Config {
	return Config{
		Slices: DisjointSlices,
		Model:  Model{Reference: IterationReference},
		Set:    trainset.Options{Roles: []string{schemas.RoleActor, schemas.RoleJudge}, Layout: trainset.Pairs},
		Train:  Train{OnStop: process.Kill},
		Swap:   Swap{Dialect: swap.VLLM, Ready: 15 * time.Minute},
		Evaluate: Evaluate{
			Figure: ControlledFigure,
		},
		Decide: decide.DefaultRules(),
	}
}

// PaperSchedule is the presets of the paper's four iterations in turn.
func PaperSchedule() []Turn {
	var turns []Turn
	for _, name := range config.Presets() {
		if strings.HasPrefix(name, "paper-") {
			turns = append(turns, Turn{Preset: name})
		}
	}
	return turns
}

// Parse returns the config of a YAML file, over the defaults. Its error shows the line but
// not its text, which may contain a key.
func Parse(name string, data []byte) (Config, error) {
	c := Default()
	if err := settings.Decode(name, data, &c); err != nil {
		return c, err
	}
	if len(c.Schedule) == 0 {
		c.Schedule = PaperSchedule()
	}
	return c, nil
}

// Validate returns all problems joined. Each names its key, its value and the allowed values.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, allowed string) {
		if ok {
			return
		}
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is empty; allowed is %s", key, allowed))
			return
		}
		errs = append(errs, fmt.Errorf("%s is %v; allowed is %s", key, value, allowed))
	}
	check(c.Dir != "" && !strings.Contains(c.Dir, "://"), "dir", c.Dir, "a folder on a local disk")
	for _, p := range []struct{ key, path string }{{"dir", c.Dir}, {"evaluate.people", c.Evaluate.People}} {
		if _, err := store.ParsePath(p.path); p.path != "" && err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.key, err))
		}
	}
	check(len(c.Run) > 0, "run", "", "the config of a run")
	check(c.Slices == DisjointSlices || c.Slices == SameSlice, "slices", c.Slices, "disjoint or same")
	check(c.SliceCount == 0 || c.SliceCount >= c.Decide.Iterations, "slice_count", c.SliceCount, "0, or at least decide.iterations")
	check(c.PromptsPerIteration >= 0, "prompts_per_iteration", c.PromptsPerIteration, "0 (all) or more")
	check(c.Model.Path != "", "model.path", c.Model.Path, "the folder or the name of the first model")
	check(c.Model.Reference == IterationReference || c.Model.Reference == FirstReference, "model.reference", c.Model.Reference, "iteration or first")
	check(c.Train.Command != "", "train.command", c.Train.Command, "a command line with {train}, {model} and {out}")
	if c.Train.Command != "" {
		check(strings.Contains(c.Train.Command, "{out}"), "train.command", fmt.Sprintf("%q", c.Train.Command), "a command line with {out}, where it writes the model")
		errs = append(errs, unknownFields("train.command", c.Train.Command, trainFields)...)
	}
	check(c.Train.OnStop == process.Kill || c.Train.OnStop == process.Finish, "train.on_stop", c.Train.OnStop, "kill or finish")
	c.validateSwap(check)
	errs = append(errs, c.refusedKeys()...)
	errs = append(errs, unknownFields("swap.command", c.Swap.Command, serveFields)...)
	check(c.Evaluate.Figure == ControlledFigure || c.Evaluate.Figure == WinRateFigure, "evaluate.figure", c.Evaluate.Figure, "length_controlled or win_rate")
	check(c.Evaluate.GPUHourUSD >= 0, "evaluate.gpu_hour_usd", c.Evaluate.GPUHourUSD, "0 (not known) or more")
	check(c.Evaluate.GPUs >= 0, "evaluate.gpus", c.Evaluate.GPUs, "0 (not known) or more")
	errs = append(errs, unknownFields("swap.future.command", c.Swap.Future.Command, serveFields)...)
	for i, turn := range c.Schedule {
		check(turn.Preset == "" || slices.Contains(TurnPresets(), turn.Preset), fmt.Sprintf("schedule[%d].preset", i), turn.Preset, fmt.Sprint(TurnPresets()))
	}
	for i, turn := range c.Schedule {
		errs = append(errs, turn.checkSet(fmt.Sprintf("schedule[%d].set", i))...)
	}
	c.validatePools(check)
	return errors.Join(append(errs, c.Set.Validate(), c.Decide.Validate())...)
}

// KeysInCommands returns the names of the command lines that contain a key. The files of the loop contain its command
// lines.
func (c *Config) KeysInCommands() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(commandSteps)) {
		if redact.Exact(c.command(name)) {
			names = append(names, name)
		}
	}
	return names
}

// commandSteps has the steps that record a command line: a loop can't go on with another one after them.
var commandSteps = map[string][]steps.Step{
	"train.command": {steps.TrainModel, steps.TrainFuture}, "swap.command": {steps.SwapModel}, "swap.future.command": {steps.SwapFuture},
}

func (c *Config) command(name string) string {
	return map[string]string{
		"train.command": c.Train.Command, "swap.command": c.Swap.Command, "swap.future.command": c.Swap.Future.Command,
	}[name]
}

// refusedKeys returns an error for each command line with a key that the loop has not used yet.
func (c *Config) refusedKeys() []error {
	names := c.KeysInCommands()
	if len(names) == 0 {
		return nil
	}
	var done []steps.Record
	if state, err := steps.Read(c.Dir); err == nil && c.Dir != "" {
		done = state.Records()
	}
	var errs []error
	for _, name := range names {
		if !slices.ContainsFunc(done, func(r steps.Record) bool { return slices.Contains(commandSteps[name], r.Step) }) {
			errs = append(errs, fmt.Errorf("%s contains a key or a password, which files of the loop would show: "+
				"put it into an environment variable, which the command inherits, and write $ and its name", name))
		}
	}
	return errs
}

// loopKeys are the settings of a run that the loop sets in each iteration.
var loopKeys = []string{"preset", "roles", "output.dir", "worker.model", "worker.revision", "prompts.slice", "prompts.sample"}

// checkSet returns an error for each setting of the turn that is the loop's.
func (t *Turn) checkSet(at string) []error {
	var errs []error
	var walk func(key string, value any)
	walk = func(key string, value any) {
		if section, ok := value.(map[string]any); ok {
			for _, name := range slices.Sorted(maps.Keys(section)) {
				walk(key+"."+name, section[name])
			}
			return
		}
		if slices.Contains(loopKeys, key) {
			errs = append(errs, fmt.Errorf("%s has %s, which the loop sets in each iteration: remove it; allowed are all other keys of a run", at, key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(t.Set)) {
		walk(key, t.Set[key])
	}
	return errs
}

func (c *Config) validateSwap(check func(ok bool, key string, value any, allowed string)) {
	kinds := []swap.Kind{swap.LoRA, swap.Reload, swap.Command, swap.Wait}
	check(slices.Contains(kinds, c.Swap.Kind), "swap.kind", string(c.Swap.Kind), "lora, reload, command or wait")
	check(c.Swap.Dialect == swap.VLLM || c.Swap.Dialect == swap.SGLang, "swap.dialect", string(c.Swap.Dialect), "vllm or sglang")
	check(c.Swap.Kind != swap.Command || c.Swap.Command != "", "swap.command", c.Swap.Command, "the command line of a server with {model} (swap.kind is command)")
	check(c.Swap.Ready > 0, "swap.ready", c.Swap.Ready, "a duration, for example 15m")
	check(len(c.Servers()) > 0, "swap.urls", "", "at least one URL, or run.worker.urls")
	for key, addresses := range map[string][]string{"swap.urls": c.Servers(), "swap.future.urls": c.Swap.Future.URLs} {
		for i, address := range addresses {
			u, err := url.Parse(address)
			ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
			check(ok, fmt.Sprintf("%s[%d]", key, i), sanitizeURL(address), "http:// or https://, a host and a path such as /v1, without a query; quote it where braces stand around it")
		}
	}
}

// validatePools checks that the checkpoints beside the current one have servers. A server without
// adapters serves one model.
func (c *Config) validatePools(check func(ok bool, key string, value any, allowed string)) {
	isPhase := func(t Turn) bool { return t.Preset == Temporal }
	isTemporal := func(t Turn) bool { return t.IsTemporal() }
	if c.Swap.Kind == swap.LoRA || !slices.ContainsFunc(c.Schedule, isTemporal) {
		return
	}
	past, _ := c.Run["past"].(map[string]any)
	check(past["urls"] != nil, "run.past.urls", "", fmt.Sprintf("the servers of the first model (swap.kind is %s, and a preset of the schedule is temporal)", c.Swap.Kind))
	if slices.ContainsFunc(c.Schedule, isPhase) {
		check(len(c.Swap.Future.URLs) > 0, "swap.future.urls", "", fmt.Sprintf("servers for the model that phase 1 trains (swap.kind is %s)", c.Swap.Kind))
		check(c.Swap.Kind != swap.Command || c.Swap.Future.Command != "", "swap.future.command", "", "the command line of a server with {model} (swap.kind is command)")
	}
}

// Servers returns the URLs of the servers whose model is swapped.
func (c *Config) Servers() []string {
	if len(c.Swap.URLs) > 0 {
		return c.Swap.URLs
	}
	worker, ok := c.Run["worker"].(map[string]any)
	if !ok {
		return nil
	}
	var urls []string
	switch list := worker["urls"].(type) {
	case string:
		urls = append(urls, list)
	case []any:
		for _, u := range list {
			urls = append(urls, fmt.Sprint(u))
		}
	}
	return urls
}

// sanitizeURL returns an address without a password.
func sanitizeURL(address string) string {
	if u, err := url.Parse(address); err == nil {
		u.RawQuery, u.Fragment = "", ""
		return u.Redacted()
	}
	return "no URL"
}

// The fields of the command templates.
var (
	trainFields = []string{"actor", "judge", "train", "model", "reference", "out", "iteration"}
	serveFields = []string{"model", "name", "iteration"}
)

// Expand puts values in the place of {name} in a line for sh. A value with characters that sh interprets, such as a
// space, is quoted in the way that its place in the line needs. Comments remain as they are. Quotation marks in a
// nested $(…) or in a here-document are taken for those of the line: Expand does not parse these.
func Expand(template string, values map[string]string) string {
	var line strings.Builder
	var quote byte // the quotation mark that is open, 0 where none is
	begins := true // the next character begins a word
	for i := 0; i < len(template); i++ {
		c := template[i]
		name, _, closed := strings.Cut(template[i+1:], "}")
		value, known := values[name]
		shell := i > 0 && template[i-1] == '$' // ${model} is a variable of sh
		switch {
		case c == '{' && closed && known && !shell:
			line.WriteString(quoted(value, quote))
			i += len(name) + 1
			begins = begins && value == ""
			continue
		case c == '#' && quote == 0 && begins:
			comment, _, _ := strings.Cut(template[i:], "\n")
			line.WriteString(comment)
			i += len(comment) - 1 // the line break is no part of the comment
			continue
		case c == '\\' && quote != '\'' && i+1 < len(template):
			line.WriteByte(c)
			i++
			c = template[i]
			if c != '\n' { // a line that goes on is one with the next
				begins = false
			}
			line.WriteByte(c)
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == quote:
			quote = 0
		}
		begins = quote == 0 && strings.IndexByte(" \t\n;&|()<>", c) >= 0
		line.WriteByte(c)
	}
	return line.String()
}

// quoted returns a value as sh reads it within open quotation marks, 0 for none.
func quoted(value string, quote byte) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%"
	switch {
	case quote == '"':
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(value)
	case quote == '\'':
		return strings.ReplaceAll(value, `'`, `'\''`)
	case value == "" || strings.Trim(value, plain) == "":
		return value
	}
	return "'" + strings.ReplaceAll(value, `'`, `'\''`) + "'"
}

// unknownFields returns an error for each {name} of a template that is none of its fields. Braces
// with anything but lower-case letters in them belong to the shell.
func unknownFields(key, template string, fields []string) []error {
	var errs []error
	for rest := template; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return errs
		}
		name, _, closed := strings.Cut(after, "}")
		isName := closed && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == ""
		shell := strings.HasSuffix(rest[:len(rest)-len(after)-1], "$")
		if isName && !shell && !slices.Contains(fields, name) {
			errs = append(errs, fmt.Errorf("%s has {%s}; allowed are {%s}", key, name, strings.Join(fields, "}, {")))
		}
		rest = after
	}
}

// Slice returns the part of the prompts that iteration t reads, for example 1/4.
func (c *Config) Slice(t int) string { return fmt.Sprintf("%d/%d", t, c.Parts()) }

// Parts returns the number of disjoint slices of the prompts.
func (c *Config) Parts() int { return cmp.Or(c.SliceCount, c.Decide.Iterations) }

// Turn returns the work of iteration t, from 1.
func (c *Config) Turn(t int) Turn { return c.Schedule[min(t, len(c.Schedule))-1] }

// Folder returns the folder of iteration t.
func (c *Config) Folder(t int) string { return filepath.Join(c.Dir, fmt.Sprintf("it-%d", t)) }

// TurnPresets are the presets that a schedule may name.
func TurnPresets() []string {
	names := slices.DeleteFunc(config.Presets(), func(name string) bool { return name == PhaseTwo })
	return slices.Sorted(slices.Values(append(names, Temporal)))
}

// IsTemporal reports whether the turn's runs use other checkpoints.
func (t *Turn) IsTemporal() bool { return t.Preset == Temporal || t.Preset == PhaseOne }

// Steps returns the steps of iteration t in their order.
func (c *Config) Steps(t int) []steps.Step {
	if c.Turn(t).Preset == Temporal {
		return slices.Concat(steps.Future, steps.Every)
	}
	return steps.Every
}
