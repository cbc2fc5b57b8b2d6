package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coeval/datasets/prompts"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/runners/settings"
	"coeval/schemas/sanitize"
	"coeval/transforms/fleet/openai/fault"
)

// configFlags are the flags that override the file.
type configFlags struct {
	prompts     []string
	urls        []string
	sets        []string
	out         string
	model       string
	preset      string
	simulate    bool
	limit       int64
	sample      int64
	sampleSeed  int64
	slice       string
	maxInFlight int
}

func (f *configFlags) register(flags *pflag.FlagSet) {
	f.registerAsking(flags)
	flags.StringArrayVar(&f.prompts, "prompts", nil, "file, glob or folder of prompts (repeatable)")
	flags.Int64Var(&f.limit, "limit", 0, "number of prompts to read, from the first; 0 reads all")
	flags.Int64Var(&f.sample, "sample", 0, "number of prompts to draw; 0 takes all")
	flags.StringVar(&f.slice, "slice", "", "one of several equal parts of the prompts that don't overlap, for example 1/4")
	flags.Int64Var(&f.sampleSeed, "sample-seed", 0, "decides which prompts are drawn")
}

// registerAsking adds the flags that don't concern prompts.
func (f *configFlags) registerAsking(flags *pflag.FlagSet) {
	flags.StringVar(&f.out, "out", "", "folder of the run and of its journal")
	flags.StringArrayVar(&f.urls, "url", nil, "base URL of an OpenAI-compatible server (repeatable)")
	flags.StringVar(&f.model, "model", "", "model of every role")
	flags.StringVar(&f.preset, "preset", "", "settings of a published method: paper-1 to paper-4, self-rewarding, temporal-1 or temporal-2")
	flags.BoolVar(&f.simulate, "simulate", false, "use the simulated worker, in this process; no GPU")
	flags.IntVar(&f.maxInFlight, "max-in-flight", 0, "most generations in flight at each server; 0 lets the run find the number")
	flags.StringArrayVar(&f.sets, "set", nil, "any key of the config, for example --set method.rho=0.32 (repeatable)")
}

// settings returns the given values, --set before the other flags.
func (f *configFlags) settings(flags *pflag.FlagSet) ([]settings.Setting, error) {
	if err := f.checkText(); err != nil {
		return nil, err
	}
	var out []settings.Setting
	add := func(flag, key, value string) {
		if flags.Changed(flag) {
			out = append(out, settings.Setting{Key: key, Value: value, From: "--" + flag})
		}
	}
	add("preset", "preset", strconv.Quote(f.preset))
	add("prompts", "prompts.paths", list(f.prompts))
	add("out", "output.dir", strconv.Quote(f.out))
	add("url", "worker.urls", list(f.urls))
	add("model", "worker.model", strconv.Quote(f.model))
	add("simulate", "simulate.enabled", strconv.FormatBool(f.simulate))
	add("limit", "prompts.limit", strconv.FormatInt(f.limit, 10))
	add("sample", "prompts.sample", strconv.FormatInt(f.sample, 10))
	add("sample-seed", "prompts.sample_seed", strconv.FormatInt(f.sampleSeed, 10))
	add("slice", "prompts.slice", strconv.Quote(f.slice))
	add("max-in-flight", "client.max_in_flight", strconv.Itoa(f.maxInFlight))
	for _, s := range f.sets {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--set needs a key and its value, for example --set method.rho=0.32; %s has no =", shownWord(s))
		}
		out = append(out, settings.Setting{Key: key, Value: value, From: "--set"})
	}
	return out, nil
}

// shownWord returns a word of the command line for a message. A word that is no config key may be a
// secret.
func shownWord(s string) string {
	if slices.ContainsFunc(settings.Keys(), func(k settings.Key) bool { return k.Name == s }) {
		return s
	}
	return "a value that is not shown"
}

// list is a YAML list of texts.
func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = strconv.Quote(t)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// load returns the config of the file, if there is one, and the flags.
func (f *configFlags) load(c *cobra.Command, args []string) (config.Config, error) {
	return f.loadFor(c, args, config.Config.Validate)
}

// loadFor is load for commands that need another part of the config.
func (f *configFlags) loadFor(c *cobra.Command, args []string, validate func(config.Config) error) (config.Config, error) {
	src := settings.Source{Validate: validate, Note: func(text string) { fmt.Fprintln(sanitize.Writer(c.ErrOrStderr()), "NOTE:", text) }}
	if len(args) > 0 {
		b, err := store.ReadSetting(c.Context(), args[0])
		if err != nil {
			return config.Config{}, usage(configError(args[0], err))
		}
		if prompts.IsTable(args[0]) {
			return config.Config{}, usage(fmt.Errorf("%q is no config but has the name of a file of prompts; give it as --prompts=%s", args[0], args[0]))
		}
		src.File, src.Name = b, args[0]
	}
	var err error
	if src.Settings, err = f.settings(c.Flags()); err != nil {
		return config.Config{}, usage(err)
	}
	config, err := settings.Load(src)
	if err != nil {
		return config, usage(err)
	}
	if err := resolvePaths(&config); err != nil {
		return config, usage(err)
	}
	if config.Simulate.Enabled && config.Worker.Model == "" {
		config.Worker.Model = "simulated"
	}
	return config, nil
}

// configError returns the error about a config that can't be read, with the likely reason.
func configError(name string, err error) error {
	hint := ""
	switch {
	case slices.Contains(fault.Codes(), name):
		hint = "; a failure code is given as --retry-failed=" + name
	case strings.Contains(name, "="):
		hint = "; a setting is given as --set NAME=VALUE, a flag as --FLAG=VALUE"
	case filepath.Ext(name) == "":
		hint = "; the argument is a YAML file, and the folder of a run is given as --out"
	}
	return fmt.Errorf("the config can't be read: %w%s", err, hint)
}

// flagNames lists the flags of a command.
func flagNames(c *cobra.Command) []string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}
