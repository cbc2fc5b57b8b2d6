package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes the man pages of all commands. It is for packages, and hidden from users.
func newManCommand() *cobra.Command {
	var date string
	c := &cobra.Command{
		Use:     "man DIR",
		Short:   "Write a man page for each command",
		Example: "  coeval man /usr/local/share/man/man1",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			header := &doc.GenManHeader{Title: "COEVAL", Section: "1", Source: "Coeval " + version(), Manual: "Coeval"}
			if date != "" {
				day, err := time.Parse(time.DateOnly, date)
				if err != nil {
					return usage(err)
				}
				header.Date = &day
			}
			if err := os.MkdirAll(args[0], 0o777); err != nil {
				return failed(err)
			}
			c.Root().DisableAutoGenTag = true
			return failed(doc.GenManTree(c.Root(), header, args[0]))
		},
	}
	c.Flags().StringVar(&date, "date", "", "date of the pages, as 2026-11-28 (today)")
	return c
}
