package main

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/runners/engine"
)

// folders checks the number of arguments with count and resolves the first n of them, or all when n
// is negative, as paths of folders. It resolves them in place, so that the command sees the result.
func folders(n int, count cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := count(c, args); err != nil {
			return err
		}
		var errs []error
		for i := range args {
			if n >= 0 && i >= n {
				break
			}
			parsed, err := store.ParsePath(args[i])
			if err != nil {
				errs = append(errs, err)
				continue
			}
			args[i] = parsed
		}
		return errors.Join(errs...)
	}
}

// A pathFlag is a flag with a path, which it resolves. Empty is allowed.
type pathFlag struct {
	to *string
	// local refuses buckets.
	local bool
}

// Set implements pflag.Value.
func (f pathFlag) Set(value string) error {
	parsed, err := parseFlag(value, f.local)
	*f.to = parsed
	return err
}

func (f pathFlag) String() string {
	if f.to == nil {
		return ""
	}
	return *f.to
}

// Type implements pflag.Value.
func (f pathFlag) Type() string { return "string" }

// pathsFlag is a pathFlag that may be repeated.
type pathsFlag struct{ to *[]string }

// Set implements pflag.Value.
func (f pathsFlag) Set(value string) error {
	parsed, err := parseFlag(value, false)
	*f.to = append(*f.to, parsed)
	return err
}

func (f pathsFlag) String() string { return "" }

// Type implements pflag.Value.
func (f pathsFlag) Type() string { return "stringArray" }

func parseFlag(value string, local bool) (string, error) {
	if value == "" {
		return "", nil
	}
	parsed, err := store.ParsePath(value)
	if err == nil && local && !store.HasLocks(parsed) {
		err = fmt.Errorf("the path %q is in a bucket: name a local file", value)
	}
	return parsed, err
}

// checkText returns an error for each flag whose value the config cannot contain: a config is UTF-8.
func (f *configFlags) checkText() error {
	var errs []error
	check := func(flag string, values ...string) {
		for _, value := range values {
			if !utf8.ValidString(value) {
				errs = append(errs, fmt.Errorf("--%s is %q, which is not valid UTF-8: rename it", flag, value))
			}
		}
	}
	check("out", f.out)
	check("prompts", f.prompts...)
	check("url", f.urls...)
	check("model", f.model)
	check("preset", f.preset)
	check("set", f.sets...)
	return errors.Join(errs...)
}

// resolvePaths resolves the paths of a valid config.
func resolvePaths(c *config.Config) error {
	out, err := store.ParsePath(c.Output.Dir)
	if err != nil {
		return fmt.Errorf("output.dir: %w", err)
	}
	c.Output.Dir = out
	if err := rundir.CheckPlace(out); err != nil {
		return err
	}
	paths := make([]string, len(c.Prompts.Paths))
	for i, name := range c.Prompts.Paths {
		if paths[i], err = store.ParsePath(name); err != nil {
			return fmt.Errorf("prompts.paths[%d]: %w", i, err)
		}
	}
	c.Prompts.Paths = paths
	return nil
}

// checkFiles returns an error unless the run may work in its folder, and write its profile.
func (r *run) checkFiles(ctx context.Context) error {
	if !engine.DryRun() {
		if isArena(ctx, r.Config.Output.Dir) {
			return rundir.Refuse(r.Config.Output.Dir + " is the folder of an arena, which could not be repeated after a run: choose another --out")
		}
		if err := r.CheckOut(ctx); err != nil {
			return err
		}
	}
	if r.flags.cpuProfile == "" {
		return nil
	}
	if err := rundir.CheckOwn(ctx, r.flags.cpuProfile, isProfile); err != nil {
		return fmt.Errorf("--cpu-profile: %w", err)
	}
	return nil
}

// failed gives the error of a command its exit code, if it has none: a folder that must not be used is
// a wrong flag.
func failed(err error) error {
	if c := (*exitError)(nil); err == nil || errors.As(err, &c) {
		return err
	}
	if refused := (*rundir.Refused)(nil); errors.As(err, &refused) {
		return usage(refused)
	}
	return &exitError{code: exitFailed, err: err}
}
