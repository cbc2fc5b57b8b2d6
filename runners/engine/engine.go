// Package engine runs a pipeline on the runner that Beam's flags name, prism when they name none.
//
// It sets what each runner needs and this project's pipelines have been measured to need, and
// keeps Beam's own logs quiet unless they are asked for.
package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx" // prism, and the runners of clusters
)

// prismExperiment turns prism's splitting of elements off, which the graph has no use for.
const prismExperiment = "prism_disable_sdf_split"

// IsWorker says whether the program was started by a cluster, as a worker of a run.
func IsWorker(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == "--worker" || a == "-worker" || a == "--worker=true" })
}

// Worker is the whole life of a worker. It does not return.
func Worker() {
	flag.Parse()
	beam.Init()
}

// Split takes Beam's flags out of the arguments: those after "--", and those before it whose
// names only Beam knows.
func Split(args []string, ours func(name string) bool) (rest, beams []string) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return rest, append(beams, args[i+1:]...)
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		f := flag.CommandLine.Lookup(name)
		if !strings.HasPrefix(a, "--") || ours(name) || f == nil {
			rest = append(rest, a)
			continue
		}
		beams = append(beams, a)
		if !hasValue && !isBool(f) && i+1 < len(args) {
			i++
			beams = append(beams, args[i])
		}
	}
	return rest, beams
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// Init gives Beam its flags. It must be called once before a pipeline is made. A test parses its
// own flags first.
func Init(beams []string, verbose bool) error {
	flag.CommandLine.Init(os.Args[0], flag.ContinueOnError)
	flag.CommandLine.SetOutput(io.Discard)
	if err := flag.CommandLine.Parse(beams); err != nil {
		return fmt.Errorf("beam flag: %w", err)
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("after -- only Beam flags may follow; %q is none", flag.Arg(0))
	}
	if *jobopts.Async {
		return errors.New("--async is refused: the run is complete when the program ends")
	}
	beam.Init()
	if !verbose { // after Init, which sets loggers of its own
		slog.SetDefault(slog.New(slog.DiscardHandler))
		beamlog.SetLogger(silent{})
	}
	if Runner() == "prism" && !strings.Contains(*jobopts.Experiments, prismExperiment) {
		*jobopts.Experiments = strings.TrimPrefix(*jobopts.Experiments+","+prismExperiment, ",")
	}
	return nil
}

// silent drops Beam's logs. What matters comes as an error.
type silent struct{}

// Log implements Beam's Logger.
func (silent) Log(context.Context, beamlog.Severity, int, string) {}

// Runner returns the runner's name.
func Runner() string {
	if f := flag.Lookup("runner"); f != nil && f.Value.String() != "" {
		return f.Value.String()
	}
	return "prism"
}

// Run runs the pipeline to its end.
func Run(ctx context.Context, p *beam.Pipeline) error {
	_, err := beamx.RunWithMetrics(ctx, p)
	return err
}

// Cause finds in a runner's error what the user has to know: the last of the causes, which the
// runners set around with their own words.
func Cause(err error) error {
	text := err.Error()
	for _, mark := range []string{"\n\tcaused by:\n", "caused by:", "failed: "} {
		if i := strings.LastIndex(text, mark); i >= 0 {
			text = text[i+len(mark):]
			break
		}
	}
	return errors.New(strings.TrimSpace(text))
}
