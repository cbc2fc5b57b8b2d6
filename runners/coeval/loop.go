package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"coeval/datasets/lock"
	"coeval/datasets/store"
	"coeval/runners/loop"
)

func newLoopCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "loop LOOP.yaml",
		Short: "Run iterations: produce pairs, train, swap the model, evaluate, decide",
		Long: `Run iterations one after another: produce pairs, make a training set, train with your command, swap the model in
your servers and prove it, evaluate in an arena, decide whether to go on. Everything is in the loop's folder. Kill it at
any moment; the same command goes on, and pays and trains for nothing twice. Ctrl-C keeps what is in flight.`,
		Example: `  coeval loop loop.yaml
  coeval loop status loop.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := newLoop(c, args[0])
			if err != nil {
				return usage(err)
			}
			if err := runLoop(c.Context(), l); err != nil {
				return &coded{code: exitFailed, err: err}
			}
			return nil
		},
	}
	c.AddCommand(newLoopStatusCommand())
	return c
}

func newLoop(c *cobra.Command, file string) (*loop.Loop, error) {
	b, err := store.ReadSetting(c.Context(), file)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	config, err := loop.ParseConfig(file, b)
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &loop.Loop{Config: config, Binary: binary, Out: c.OutOrStdout()}, config.Validate()
}

// runLoop runs a loop under its lock, until it ends or is interrupted.
func runLoop(ctx context.Context, l *loop.Loop) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
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

func newLoopStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status LOOP.yaml",
		Short:   "Show which steps of a loop are done",
		Example: "  coeval loop status loop.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := newLoop(c, args[0])
			if err != nil {
				return usage(err)
			}
			state, err := loop.OpenState(l.Config.Dir)
			if err != nil {
				return &coded{code: exitFailed, err: err}
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "iteration\tstep\tended\tseconds")
			for _, r := range state.Records() {
				fmt.Fprintf(w, "%d\t%s\t%s\t%.0f\n", r.Iteration, r.Step, r.Ended.Format("2006-01-02 15:04:05"), r.Seconds)
			}
			return w.Flush()
		},
	}
}
