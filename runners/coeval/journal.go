package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"coeval/datasets/journal"
	"coeval/pipelines/metareward"
)

func newJournalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "journal",
		Short: "Look after a run's journal",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("journal: wants a command, as coeval journal compact OUT")
		},
	}
	c.AddCommand(newCompactCommand())
	return c
}

func newCompactCommand() *cobra.Command {
	var takeover bool
	c := &cobra.Command{
		Use:   "compact OUT",
		Short: "Put the segments of each bucket into one; no call is lost",
		Args:  folders(1, cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := compact(c, args[0], takeover); err != nil {
				return &coded{code: exitFailed, err: err}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&takeover, "takeover", false, "take OUT from a run that has it, on gs:// or s3://; that run stops")
	return c
}

func compact(c *cobra.Command, out string, takeover bool) (err error) {
	dir := metareward.JournalDir(out)
	// A folder without a journal is a slip of the pen, and must not be made.
	switch found, err := journal.Exists(c.Context(), dir); {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("%s: there is no journal in it", out)
	}
	lock, err := acquire(c.Context(), out, "", takeover, c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx, cancel := lock.Context(c.Context())
	defer cancel()
	done, err := journal.Compact(ctx, dir, 1)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(c.OutOrStdout(), "%d of %d segments removed, in %d buckets\n", done.Removed, done.Segments, done.Buckets); err != nil || done.Recent == 0 {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%d buckets are left as they are: something was written there a moment ago\n", done.Recent)
	return err
}
