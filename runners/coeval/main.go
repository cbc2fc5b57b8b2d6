// Coeval makes preference data for a language model and its judge. The model answers prompts, judges
// its answers and compares its judgments. Coeval writes the pairs that DPO trains on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	_ "coeval/datasets/store/clouds" // gs:// and s3://
	"coeval/runners/engine"
	"coeval/runners/settings"
	"coeval/schemas/machine"
	"coeval/schemas/redact"
	"coeval/schemas/sanitize"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitProof  = 3
)

func main() {
	if engine.IsWorker(os.Args[1:]) {
		engine.Worker()
	}
	log.SetFlags(0)
	log.SetOutput(&libraryLog{os.Stderr})
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// exitError is an error with the program's exit code.
type exitError struct {
	code int
	err  error
}

func (c *exitError) Error() string { return c.err.Error() }
func (c *exitError) Unwrap() error { return c.err }

// usage marks an error as a usage error: wrong flags or a wrong config.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}

// execute runs the program and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	args, beams := engine.Split(args, ownFlag(root))
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.WithValue(ctx, beamFlags{}, beams))
	if err == nil {
		return exitDone
	}
	var c *exitError
	if !errors.As(err, &c) {
		c = &exitError{code: exitUsage, err: commandError(root, err)} // cobra's own errors are of usage
	}
	all := problems(c.err)
	for i, problem := range all {
		sentence := problem.Error()
		// Several files may have the same fault; the last sentence names the next step.
		if advice := machine.Shown(problem); advice != "" && i == len(all)-1 && !strings.Contains(c.err.Error(), advice) {
			sentence += ": " + advice
		}
		fmt.Fprintln(stderr, "coeval:", sanitize.Text(redact.Hide(sentence)))
	}
	return c.code
}

// libraryLog shows the logs of libraries, for example of net/http, which contain bytes of servers.
type libraryLog struct{ w io.Writer }

func (l *libraryLog) Write(p []byte) (int, error) {
	_, err := fmt.Fprintln(l.w, "coeval:", sanitize.Line(redact.Hide(strings.TrimRight(string(p), "\n"))))
	return len(p), err
}

// problems splits joined errors.
func problems(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, problems(e)...)
	}
	return all
}

// beamFlags is the context key of Beam's flags.
type beamFlags struct{}

func beamFlagsOf(ctx context.Context) []string {
	flags, ok := ctx.Value(beamFlags{}).([]string)
	if !ok {
		return nil
	}
	return flags
}

// ownFlag returns a function that reports whether one of the program's commands has a flag.
func ownFlag(root *cobra.Command) func(string) bool {
	names := map[string]bool{"help": true, "version": true}
	for _, c := range root.Commands() {
		for _, name := range flagNames(c) {
			names[name] = true
		}
	}
	return func(name string) bool { return names[name] }
}

// commandError adds the next step to an error about an unknown command: a similar one, or the list of all.
func commandError(root *cobra.Command, err error) error {
	word, parent, unknown := strings.Cut(strings.TrimPrefix(err.Error(), "unknown command "), " for ")
	if !unknown || word == err.Error() {
		return err
	}
	parent = strings.Trim(parent, `"`)
	c, _, findErr := root.Find(strings.Fields(parent)[1:])
	if findErr != nil {
		return err
	}
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("%s is one argument too many: %s takes none", word, parent)
	}
	if similar := settings.Similar(strings.Trim(word, `"`), names); len(similar) > 0 {
		return fmt.Errorf("unknown command %s; did you mean %s %s?", word, parent, strings.Join(similar, " or "))
	}
	return fmt.Errorf("unknown command %s; known are %s", word, strings.Join(names, ", "))
}

// flagKinds describe the values of flags by their types.
var flagKinds = map[string]string{
	"int": "a whole number", "int64": "a whole number", "uint64": "a whole number from 0 on", "float64": "a number", "bool": "true or false", "duration": "a duration, for example 90s or 10m",
}

// flagError adds the next step to an error about a flag: the allowed values, a similar flag, or the command's help.
func flagError(c *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		flag := invalid.GetFlag()
		kind := flagKinds[flag.Value.Type()]
		if errors.Is(err, strconv.ErrRange) {
			kind += " of fewer digits"
		}
		if kind != "" {
			return fmt.Errorf("--%s is %q; allowed is %s", flag.Name, invalid.GetValue(), kind)
		}
	}
	if _, word, ok := strings.Cut(err.Error(), "unknown shorthand flag: "); ok {
		if _, word, ok = strings.Cut(word, " in -"); ok {
			name, _, _ := strings.Cut(word, "=")
			if similar := settings.Similar(name, flagNames(c)); len(similar) > 0 {
				return fmt.Errorf("unknown flag: -%s; did you mean --%s?", name, strings.Join(similar, " or --"))
			}
		}
	}
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
	}
	if similar := settings.Similar(name, flagNames(c)); len(similar) > 0 {
		return fmt.Errorf("%w; did you mean --%s?", err, strings.Join(similar, " or --"))
	}
	for _, k := range settings.Keys() {
		if c.Flags().Lookup("set") != nil && settings.Similar(name, []string{k.Name}) != nil {
			return fmt.Errorf("%w; did you mean --set %s=…?", err, k.Name)
		}
	}
	return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "coeval",
		Short: "Preference data for a language model and its judge, by Meta-Rewarding",
		Long: `Coeval makes the DPO data of one Meta-Rewarding iteration: the model answers prompts,
judges its answers, and judges its judgments, on any OpenAI-compatible endpoint. It writes
pairs for both roles as Parquet, and requests no saved generation again.`,
		Example: `  coeval run --simulate --prompts prompts.jsonl --out out
  coeval run --url http://gpu-1:8000/v1 --model my-model --prompts prompts.jsonl --out out
  source <(coeval completion bash)`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // commandError makes them
		Version:            version(),
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(flagError(c, err))
	})
	root.AddCommand(newRunCommand(), newPlanCommand(), newVerifyCommand(), newReportCommand(), newInspectCommand(), newCompareCommand(),
		newCalibrateCommand(), newArenaCommand(), newLoopCommand(), newSimulateCommand(), newConfigCommand(), newJournalCommand(), newVersionCommand(), newManCommand())
	refuseUnknownHelp(root)
	return root
}

// refuseUnknownHelp makes `help` with an unknown command an error. Cobra prints its general help and exits with 0.
func refuseUnknownHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			continue
		}
		c.Example = "  coeval help run"
		c.Args = func(_ *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
			}
			return err
		}
	}
}
