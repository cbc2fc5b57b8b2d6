package main

import (
	"bytes"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"coeval/datasets/rundir"
	"coeval/datasets/store"
)

// newManCommand writes the man pages of all commands. It is for packages, and hidden from users.
func newManCommand() *cobra.Command {
	var date string
	c := &cobra.Command{
		Use:     "man DIR",
		Short:   "Write a man page for each command",
		Example: "  coeval man /usr/local/share/man/man1",
		Hidden:  true,
		Args:    exactly(argument{name: "DIR", means: "the folder for the pages", example: "man1"}),
		RunE: func(c *cobra.Command, args []string) error {
			header := &doc.GenManHeader{Title: "COEVAL", Section: "1", Source: "Coeval " + version(), Manual: "Coeval"}
			if date != "" {
				day, err := time.Parse(time.DateOnly, date)
				if err != nil {
					return usage(err)
				}
				header.Date = &day
			}
			c.Root().DisableAutoGenTag = true
			pages := map[string][]byte{}
			if err := manPages(pages, c.Root(), header); err != nil {
				return failed(err)
			}
			return failed(writeManPages(c.Context(), args[0], pages))
		},
	}
	c.Flags().StringVar(&date, "date", "", "date of the pages, for example 2026-11-28 (today)")
	return c
}

// manPages adds the page of a command and of all below it, by file name.
func manPages(pages map[string][]byte, c *cobra.Command, header *doc.GenManHeader) error {
	for _, below := range c.Commands() {
		if !below.IsAvailableCommand() || below.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := manPages(pages, below, header); err != nil {
			return err
		}
	}
	var page bytes.Buffer
	own := *header // GenMan fills it in
	err := doc.GenMan(c, &own, &page)
	pages[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = page.Bytes()
	return err
}

// writeManPages writes no page if one of them would replace a file that is not a page of Coeval.
func writeManPages(ctx context.Context, folder string, pages map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if err := rundir.CheckOwn(ctx, filepath.Join(folder, name), isManPage); err != nil {
			return err
		}
	}
	for name, page := range pages {
		if err := store.WriteFile(ctx, filepath.Join(folder, name), page); err != nil {
			return err
		}
	}
	return nil
}

// isManPage recognizes the pages that Coeval writes.
func isManPage(start []byte) bool {
	_, heading, found := bytes.Cut(start[:min(len(start), 200)], []byte(`.TH "COEVAL" "1"`))
	return found && bytes.Contains(heading, []byte(`"Coeval`))
}
