package main

import (
	"github.com/spf13/cobra"

	"coeval/runners/settings"
)

func newConfigCommand() *cobra.Command {
	var flags configFlags
	c := &cobra.Command{
		Use:   "config [CONFIG.yaml] [flags]",
		Short: "Print the effective config in full, with every default",
		Example: `  coeval config --preset paper-1
  coeval config config.yaml --set judge.n=5 > full.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			config, loadErr := flags.load(c, args)
			if len(config.Roles) == 0 {
				return loadErr // nothing could be read
			}
			b, err := settings.Print(config.WithoutSecrets())
			if err != nil {
				return err
			}
			if _, err := c.OutOrStdout().Write(b); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return loadErr // problems are printed after the config
		},
	}
	flags.register(c.Flags())
	return c
}
