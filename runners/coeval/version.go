package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	beamcore "github.com/apache/beam/sdks/v2/go/pkg/beam/core"
	"github.com/spf13/cobra"
)

// The build sets these (-ldflags -X). Empty means that the build information of Go's toolchain counts.
var (
	stampedVersion string
	stampedCommit  string
)

// version returns the program's version and the commit that it was built from.
func version() string {
	version, commit := stampedVersion, stampedCommit
	if info, ok := debug.ReadBuildInfo(); ok {
		version = cmp.Or(version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = cmp.Or(commit, s.Value)
			}
		}
	}
	return strings.TrimSpace(cmp.Or(version, "unknown") + " " + commit)
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, the commit and the platform of this program",
		Example: "  coeval version",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "coeval %s\n%s %s/%s, Beam %s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, beamcore.SdkVersion)
			return failed(err)
		},
	}
}
