package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// An argument is a positional argument of a command.
type argument struct {
	name string
	// means explains it in the sentence about a missing one, and example is a value.
	means, example string
}

// loopArgument is the config of a loop.
var loopArgument = argument{name: "LOOP.yaml", means: "the config of a loop", example: "loop.yaml"}

// outArgument is the folder of a finished run.
func outArgument(name, example string) argument {
	return argument{name: name, means: "the folder of a finished run", example: example}
}

// exactly requires these arguments and names the first that is missing.
func exactly(wanted ...argument) cobra.PositionalArgs { return positional(false, wanted) }

// atLeast is exactly for a command that takes more arguments of the last kind.
func atLeast(wanted ...argument) cobra.PositionalArgs { return positional(true, wanted) }

func positional(takesMore bool, wanted []argument) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		examples := make([]string, len(wanted))
		for i, w := range wanted {
			examples[i] = w.example
		}
		example := c.CommandPath() + " " + strings.Join(examples, " ")
		switch {
		case len(args) < len(wanted):
			missing := wanted[len(args)]
			return usage(fmt.Errorf("%s is missing: name %s, as in %s", missing.name, missing.means, example))
		case len(args) > len(wanted) && !takesMore:
			return usage(fmt.Errorf("%q is one argument too many: write it as in %s", args[len(wanted)], example))
		}
		return nil
	}
}
