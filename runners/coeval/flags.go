package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coeval/datasets/store"
	"coeval/pipelines/metareward"
	"coeval/runners/settings"
	"coeval/schemas/sanitize"
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
	flags.StringVar(&f.slice, "slice", "", "one of several equal parts of the prompts that don't overlap, as 1/4")
	flags.Int64Var(&f.sampleSeed, "sample-seed", 0, "decides which prompts are drawn")
}

// registerAsking adds the flags that don't concern prompts.
func (f *configFlags) registerAsking(flags *pflag.FlagSet) {
	flags.StringVar(&f.out, "out", "", "folder of the run and of its journal")
	flags.StringArrayVar(&f.urls, "url", nil, "base URL of an OpenAI-compatible server (repeatable)")
	flags.StringVar(&f.model, "model", "", "model of every role")
	flags.StringVar(&f.preset, "preset", "", "settings of the paper's iterations: paper-1, paper-2, paper-3, paper-4")
	flags.BoolVar(&f.simulate, "simulate", false, "ask the simulated worker, in this process; no GPU")
	flags.IntVar(&f.maxInFlight, "max-in-flight", 0, "most generations in flight at each server; 0 lets the run find the number")
	flags.StringArrayVar(&f.sets, "set", nil, "any key of the config, as --set method.rho=0.32 (repeatable)")
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
			return nil, fmt.Errorf("--set wants a key and its value, as --set method.rho=0.32; %s has no =", shownWord(s))
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
func (f *configFlags) load(c *cobra.Command, args []string) (metareward.Config, error) {
	return f.loadFor(c, args, metareward.Config.Validate)
}

// loadFor is load for what wants another part of the config.
func (f *configFlags) loadFor(c *cobra.Command, args []string, validate func(metareward.Config) error) (metareward.Config, error) {
	src := settings.Source{Validate: validate, Note: func(text string) { fmt.Fprintln(sanitize.Writer(c.ErrOrStderr()), "NOTE:", text) }}
	if len(args) > 0 {
		b, err := store.ReadSetting(c.Context(), args[0])
		if err != nil {
			return metareward.Config{}, usage(fmt.Errorf("the config can't be read: %w", err))
		}
		src.File, src.Name = b, args[0]
	}
	var err error
	if src.Settings, err = f.settings(c.Flags()); err != nil {
		return metareward.Config{}, usage(err)
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

// flagNames lists the flags of a command.
func flagNames(c *cobra.Command) []string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}
