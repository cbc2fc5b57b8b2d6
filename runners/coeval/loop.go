package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"coeval/datasets/lock"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/runners/attempt"
	"coeval/runners/estimate"
	"coeval/runners/loop"
	loopconfig "coeval/runners/loop/config"
	"coeval/runners/loop/folder"
	"coeval/runners/loop/steps"
	"coeval/schemas/sanitize"
)

func newLoopCommand() *cobra.Command {
	var plan, asJSON bool
	var cost costFlags
	c := &cobra.Command{
		Use:   "loop LOOP.yaml",
		Short: "Run iterations: produce pairs, train, swap the model, evaluate, decide",
		Long: `Run iterations one after another: produce pairs, make a training set, train with your command, swap the model in
your servers and prove it, evaluate in an arena, decide whether to go on. Everything is in the loop's folder. Kill it at
any moment; the same command goes on. It repeats no finished step and requests no saved generation again. After Ctrl-C the
loop waits for answers in flight. --plan shows the calls, the time and the money of each iteration, and
starts nothing.`,
		Example: `  coeval loop loop.yaml
  coeval loop loop.yaml --plan --prompt-price 0.1 --completion-price 0.4
  coeval loop status loop.yaml`,
		Args: exactly(loopArgument),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := newLoop(c, args[0])
			if err := errors.Join(err, cost.check()); err != nil {
				return usage(err)
			}
			if plan {
				return failed(planLoop(c, l, &cost, asJSON))
			}
			return failed(runLoop(c, l))
		},
	}
	c.Flags().BoolVar(&plan, "plan", false, "show calls, time and money of each iteration, and start nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print the plan as one JSON object on standard output")
	cost.register(c.Flags())
	c.AddCommand(newLoopStatusCommand())
	return c
}

func newLoop(c *cobra.Command, file string) (*loop.Loop, error) {
	b, err := store.ReadSetting(c.Context(), file)
	if err != nil {
		return nil, fmt.Errorf("the config can't be read: %w", err)
	}
	config, err := loopconfig.Parse(file, b)
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &loop.Loop{Config: config, Binary: binary, Out: sanitize.Writer(c.OutOrStdout())}, config.Validate()
}

// runLoop runs a loop under its lock, until it ends or is interrupted.
func runLoop(c *cobra.Command, l *loop.Loop) (err error) {
	ctx, stop := signal.NotifyContext(c.Context(), attempt.EndSignals()...)
	defer stop()
	defer attempt.OutliveReader()()
	if err := folder.Check(ctx, l.Config.Dir); err != nil {
		return err
	}
	if err := checkParts(ctx, l); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Config.Dir, 0o777); err != nil {
		return err
	}
	held, err := lock.Acquire(ctx, l.Config.Dir, lock.Options{Attempt: uuid.NewString()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	if err := l.Run(ctx); err != nil {
		return err
	}
	return l.StopServers()
}

// checkParts returns an error if a later step of the loop would refuse its config. So a misspelt key of the arena is
// found before a training, and a key in the place of its variable before the loop writes the config of a run.
func checkParts(ctx context.Context, l *loop.Loop) error {
	intended, err := l.Intended()
	if err != nil {
		return err
	}
	for i := range intended {
		in := &intended[i]
		if in.Has(steps.Measure) {
			continue
		}
		at := func(part string, err error) error {
			return usage(fmt.Errorf("iteration %d, %s: %w", in.Iteration, part, err))
		}
		if _, err := loadSettings(in.Run, config.Config.Validate); err != nil {
			return at("run", err)
		}
		if in.Arena != nil {
			config, err := loadArena(in.Arena)
			if base := config.Base(); err == nil && in.Before == nil { // all iterations read the same prompts
				_, err = readPrompts(ctx, &base)
			}
			if err != nil {
				return at("evaluate.arena", err)
			}
		}
		if in.Judge != nil {
			if _, err := planPeople(ctx, in.Judge, l.Config.Evaluate.People); err != nil {
				return at("evaluate.people", err)
			}
		}
	}
	return nil
}

func newLoopStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status LOOP.yaml",
		Short:   "Show which steps of a loop are done, and what each iteration gave",
		Example: "  coeval loop status loop.yaml",
		Args:    exactly(loopArgument),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := newLoop(c, args[0])
			if err != nil {
				return usage(err)
			}
			status, err := l.Status()
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return printStatus(sanitize.Writer(c.OutOrStdout()), status)
		},
	}
}

func printStatus(w io.Writer, status *loop.Status) error {
	if len(status.Records) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "iteration\tstep\tended (UTC)\ttook")
		for _, r := range status.Records {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", r.Iteration, r.Step, r.Ended.UTC().Format("2006-01-02 15:04:05"), estimate.Span(r.Seconds))
		}
		fmt.Fprintln(t)
		fmt.Fprintln(t, "iteration\tfigure\tagreement\tlength\tsigns\tcost")
		for _, it := range status.Iterations {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\n", it.Iteration, it.Gain, it.Agreement, it.Chars, it.Signs, it.Cost)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintln(w, status.Next)
	return err
}
