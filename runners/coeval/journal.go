package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"coeval/datasets/journal"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/lock"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/runners/attempt"
	"coeval/schemas/sanitize"
)

func newJournalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "journal",
		Short:   "Check, repair or compact the journal of a run",
		Example: "  coeval journal verify out\n  coeval journal salvage out\n  coeval journal compact out",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("journal: a command is missing: name verify, salvage or compact, as in coeval journal verify out")
		},
	}
	c.AddCommand(newCheckCommand(), newSalvageCommand(), newCompactCommand())
	return c
}

func newCheckCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify OUT",
		Short: "Read every file of a journal and list damaged and missing files; change none",
		Long: `Read every file of a journal and list damaged and missing files; change none. Exit code 3 means that
something is. A run may work on OUT meanwhile.`,
		Example: "  coeval journal verify out",
		Args:    folders(1, exactly(outArgument("OUT", "out"))),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := journalOf(c.Context(), args[0])
			if err != nil {
				return failed(err)
			}
			h, err := upkeep.Check(c.Context(), dir)
			if err != nil {
				return failed(err)
			}
			if err := showHealth(c, h, asJSON); err != nil {
				return failed(err)
			}
			if n := len(h.Damages); n > 0 {
				return &exitError{code: exitProof, err: fmt.Errorf("%d files are damaged or missing: restore them, or run `coeval journal salvage %s`; then a run repeats the calls that they contained", n, args[0])}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as one JSON object")
	return c
}

func newSalvageCommand() *cobra.Command {
	var takeover, asJSON bool
	c := &cobra.Command{
		Use:   "salvage OUT",
		Short: "Make a damaged journal usable: keep every whole record, and list the calls that a run will repeat",
		Long: `Make a damaged journal usable: keep every whole record, move the damaged files to OUT/journal/damaged, and
list the calls that a run will repeat. The command deletes no file and doesn't change a whole journal.
Then repeat the run's command: it requests the lost calls.`,
		Example: "  coeval journal salvage out",
		Args:    folders(1, exactly(outArgument("OUT", "out"))),
		RunE: func(c *cobra.Command, args []string) error {
			return withJournal(c, args[0], takeover, func(ctx context.Context, dir string) error {
				h, err := upkeep.Salvage(ctx, dir)
				if err != nil {
					return err
				}
				if err := showHealth(c, h, asJSON); err != nil || asJSON || len(h.Damages) == 0 {
					return err
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "The damaged files are in %s. Run the same command again: it requests only missing calls.\n",
					sanitize.Line(store.Join(dir, upkeep.DamagedFolder)))
				return err
			})
		},
	}
	registerTakeover(c, &takeover)
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as one JSON object")
	return c
}

func newCompactCommand() *cobra.Command {
	var takeover bool
	c := &cobra.Command{
		Use:     "compact OUT",
		Short:   "Merge the segments of each bucket into one; no call is lost",
		Example: "  coeval journal compact out",
		Args:    folders(1, exactly(outArgument("OUT", "out"))),
		RunE: func(c *cobra.Command, args []string) error {
			return withJournal(c, args[0], takeover, func(ctx context.Context, dir string) error {
				return compact(ctx, sanitize.Writer(c.OutOrStdout()), dir)
			})
		},
	}
	registerTakeover(c, &takeover)
	return c
}

func registerTakeover(c *cobra.Command, takeover *bool) {
	c.Flags().BoolVar(takeover, "takeover", false, "seize OUT from another run, on gs:// or s3://; that run stops")
}

// journalOf returns the journal of a run's folder. A folder without one is a mistake; the command
// creates no files there.
func journalOf(ctx context.Context, out string) (string, error) {
	if err := rundir.CheckLinks(out); err != nil {
		return "", err
	}
	dir := store.Join(out, rundir.JournalFolder)
	switch found, err := journal.Exists(ctx, dir); {
	case err != nil:
		return "", err
	case !found:
		return "", fmt.Errorf("%s contains no journal: check the path", out)
	}
	return dir, nil
}

// withJournal does something with the journal of a run's folder, under the lock.
func withJournal(c *cobra.Command, out string, takeover bool, do func(ctx context.Context, dir string) error) (err error) {
	defer func() { err = failed(err) }()
	dir, err := journalOf(c.Context(), out)
	if err != nil {
		return err
	}
	held, err := attempt.Acquire(c.Context(), out, "", takeover, c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	ctx, cancel := held.Context(c.Context())
	defer cancel()
	return do(ctx, dir)
}

func compact(ctx context.Context, w io.Writer, dir string) error {
	done, err := upkeep.Compact(ctx, dir, 1, lock.Expires)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d of %d segments removed, in %d buckets\n", done.Removed, done.Segments, done.Buckets)
	if done.Recent > 0 {
		fmt.Fprintf(w, "%d buckets are left as they are, since something was written there less than a minute ago: run the command again later\n", done.Recent)
	}
	return nil
}

// maxShownPrompts is the number of prompts that are listed for a damaged file.
const maxShownPrompts = 10

// showHealth prints the state of a journal.
func showHealth(c *cobra.Command, h *upkeep.Health, asJSON bool) error {
	if asJSON {
		return printJSON(c, h)
	}
	var w strings.Builder
	for i := range h.Damages {
		showDamage(&w, &h.Damages[i])
	}
	fmt.Fprintf(&w, "%s segments in %s buckets: %s generations, %s failures, %s prompts; %d files damaged or missing\n",
		humanize.Comma(int64(h.Segments)), humanize.Comma(int64(h.Buckets)), humanize.Comma(h.Generations), humanize.Comma(h.Failures),
		humanize.Comma(h.Prompts), len(h.Damages))
	if h.IncompleteBytes > 0 {
		fmt.Fprintf(&w, "%s bytes at the ends of segments are incomplete, as after a kill: the next run repeats these calls\n", humanize.Comma(h.IncompleteBytes))
	}
	_, err := io.WriteString(sanitize.Writer(c.OutOrStdout()), w.String())
	return err
}

func showDamage(w io.Writer, d *upkeep.Damage) {
	fmt.Fprintf(w, "%s: %s\n", sanitize.Line(d.File), sanitize.Line(d.Problem))
	for _, r := range d.Lost {
		fmt.Fprintf(w, "    bytes %d to %d cannot be read: a run will repeat their calls\n", r.From, r.To)
	}
	if d.Kept > 0 {
		fmt.Fprintf(w, "    %s records of the file are whole\n", humanize.Comma(d.Kept))
	}
	if n := len(d.Prompts); n > 0 && len(d.Lost) > 0 {
		fmt.Fprintf(w, "    bucket %s has records of %d prompts:", d.Bucket, n)
		for _, id := range d.Prompts[:min(n, maxShownPrompts)] {
			fmt.Fprintf(w, " %s", sanitize.Line(id))
		}
		if n > maxShownPrompts {
			fmt.Fprint(w, " …")
		}
		fmt.Fprintln(w)
	}
}
