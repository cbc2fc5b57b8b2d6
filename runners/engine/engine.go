// Package engine runs a pipeline on the runner that Beam's flags name, or on the direct runner.
//
// The direct runner is the default, not Beam's prism. Prism serves its job API on all interfaces without
// authentication, so any client can start programs as the user. Both runners write identical files.
//
// The package checks and completes each runner's flags, follows jobs on clusters to their end, and
// discards Beam's logs unless they are wanted.
package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/gcpopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
)

// DefaultRunner is the runner of a command line without --runner: the only local one of Beam that opens no port.
const DefaultRunner = "direct"

// prismExperiment turns off prism's splitting of elements: no DoFn of the graph can be split.
const prismExperiment = "prism_disable_sdf_split"

// Split separates Beam's flags from the arguments: all flags after "--", and flags before it that only
// Beam defines.
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

// Init parses Beam's flags and initializes Beam. The caller must call it once, before it makes a
// pipeline; a test must parse its own flags first.
func Init(beams []string, verbose bool) error {
	flag.CommandLine.Init(os.Args[0], flag.ContinueOnError)
	flag.CommandLine.SetOutput(io.Discard)
	if err := flag.CommandLine.Parse(beams); err != nil {
		return fmt.Errorf("beam flag: %w", err)
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("after -- only Beam flags may follow; %q is not a flag", flag.Arg(0))
	}
	if *jobopts.Async {
		return errors.New("--async is refused: the run is complete when the program ends")
	}
	if err := checkRunner(); err != nil {
		return err
	}
	if err := flag.Set("runner", Runner()); err != nil { // Beam's own default is prism
		return fmt.Errorf("beam flag: %w", err)
	}
	beam.Init()
	if !verbose { // after Init, which replaces the loggers
		slog.SetDefault(slog.New(slog.DiscardHandler))
		beamlog.SetLogger(silent{})
	}
	if Runner() == "prism" && !strings.Contains(*jobopts.Experiments, prismExperiment) {
		*jobopts.Experiments = strings.TrimPrefix(*jobopts.Experiments+","+prismExperiment, ",")
	}
	return nil
}

// silent discards Beam's logs. Failures are returned as errors.
type silent struct{}

// Log implements Beam's Logger.
func (silent) Log(context.Context, beamlog.Severity, int, string) {}

// Runner returns the runner's name.
func Runner() string {
	if f := flag.Lookup("runner"); f != nil && f.Value.String() != "" {
		return f.Value.String()
	}
	return DefaultRunner
}

// Warning returns a warning about the runner, to be shown before it starts. It is empty for most runners.
func Warning() string {
	if Runner() != "prism" || remote() {
		return ""
	}
	return "--runner=prism: prism listens on all interfaces without authentication until the run ends. Anyone who can connect to the port can " +
		"read and cancel the run, and start programs as this user. Omit --runner to use the direct runner, which opens no port."
}

// OnCluster reports whether the workers are other processes, maybe on other machines.
func OnCluster() bool {
	switch Runner() {
	case "prism", "direct", "dot":
		return false
	case "dataflow":
		return true
	}
	return !strings.EqualFold(*jobopts.EnvironmentType, "LOOPBACK")
}

// Workers returns the number of workers that Beam's flags ask for, by default 1.
func Workers() int {
	if Runner() != "dataflow" {
		return max(*jobopts.Parallelism, 1)
	}
	n := 1
	for _, name := range []string{"num_workers", "max_num_workers"} {
		if asked, err := strconv.Atoi(flagOf(name)); err == nil {
			n = max(n, asked)
		}
	}
	return n
}

// DryRun reports whether the job is only translated.
func DryRun() bool { return Runner() == "dataflow" && flagOf("dry_run") == "true" }

func flagOf(name string) string {
	if f := flag.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// regionName matches names of Google's regions. Only Google knows which regions exist.
var regionName = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)

// runners are the runners that come with Beam.
var runners = []string{"direct", "prism", "flink", "dataflow", "spark", "universal", "dot"}

// checkRunner returns errors that the runner would report late, and sets missing flags that have one
// right value.
func checkRunner() error {
	if !slices.Contains(runners, Runner()) {
		return fmt.Errorf("--runner is %q; allowed is %s", Runner(), strings.Join(runners, ", "))
	}
	var errs []error
	// Beam also finds project and region in gcloud's environment.
	elsewhere := map[string]func(context.Context) string{"project": gcpopts.GetProjectFromFlagOrEnvironment, "region": gcpopts.GetRegion}
	need := func(runner, name, what string) {
		if Runner() != runner {
			return
		}
		if find := elsewhere[name]; flagOf(name) == "" && (find == nil || find(context.Background()) == "") {
			errs = append(errs, fmt.Errorf("--runner=%s needs --%s, %s", runner, name, what))
		}
	}
	need("dataflow", "project", "the Google Cloud project that pays")
	need("dataflow", "region", "as us-central1")
	need("dataflow", "staging_location", "a folder for the program, as gs://BUCKET/staging")
	need("flink", "endpoint", "the address of Flink's job server, as localhost:8099")
	if location := flagOf("staging_location"); Runner() == "dataflow" && location != "" && !strings.HasPrefix(location, "gs://") {
		errs = append(errs, fmt.Errorf("--staging_location is %q; allowed is gs://BUCKET/FOLDER", location))
	}
	if region := flagOf("region"); Runner() == "dataflow" && region != "" && !regionName.MatchString(region) {
		errs = append(errs, fmt.Errorf("--region is %q; allowed is a region as us-central1, without a zone", region))
	}
	if err := errors.Join(errs...); err != nil || !OnCluster() || *jobopts.WorkerBinary != "" {
		return err
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the workers of a cluster run Linux and this program is for %s: build it with GOOS=linux, and give that as --worker_binary", runtime.GOOS)
	}
	// Without this flag Beam would compile the program again, from source.
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("give --worker_binary: %w", err)
	}
	*jobopts.WorkerBinary = self
	return nil
}

// knock returns an error if no process listens at a job server's address.
func knock(ctx context.Context, endpoint string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return fmt.Errorf("no job server answers at --endpoint=%s: %w", endpoint, err)
	}
	return c.Close()
}

// Steps lists the transforms of a pipeline as runners receive them, in the order of the data, each with
// the transforms of its inputs: "NAME [shuffle] <- INPUT, INPUT". A runner may fuse all steps between two
// shuffles into one process.
func Steps(p *beam.Pipeline) ([]string, error) {
	edges, _, err := p.Build()
	if err != nil {
		return nil, err
	}
	model, err := graphx.Marshal(edges, &graphx.Options{Environment: &pipepb.Environment{}})
	if err != nil {
		return nil, err
	}
	all := model.GetComponents().GetTransforms()
	madeBy := map[string]string{}
	for _, t := range all {
		if len(t.GetSubtransforms()) == 0 {
			for _, out := range t.GetOutputs() {
				madeBy[out] = t.GetUniqueName()
			}
		}
	}
	var steps []string
	for _, id := range inOrder(model) {
		t := all[id]
		from := map[string]bool{}
		for _, in := range t.GetInputs() {
			from[madeBy[in]] = true
		}
		line := t.GetUniqueName()
		if urn := t.GetSpec().GetUrn(); urn == graphx.URNGBK || urn == graphx.URNReshuffle {
			line += " [shuffle]"
		}
		if len(from) > 0 {
			line += " <- " + strings.Join(slices.Sorted(maps.Keys(from)), ", ")
		}
		steps = append(steps, line)
	}
	return steps, nil
}

// inOrder returns the IDs of the leaf transforms in topological order.
func inOrder(model *pipepb.Pipeline) []string {
	all := model.GetComponents().GetTransforms()
	leaves := slices.Sorted(maps.Keys(all))
	leaves = slices.DeleteFunc(leaves, func(id string) bool { return len(all[id].GetSubtransforms()) > 0 })
	slices.SortFunc(leaves, func(a, b string) int { return strings.Compare(all[a].GetUniqueName(), all[b].GetUniqueName()) })
	made := map[string]bool{}
	var order []string
	for len(leaves) > 0 {
		i := slices.IndexFunc(leaves, func(id string) bool {
			for _, in := range all[id].GetInputs() {
				if !made[in] {
					return false
				}
			}
			return true
		})
		if i < 0 { // a cycle, which Beam does not make
			return append(order, leaves...)
		}
		for _, out := range all[leaves[i]].GetOutputs() {
			made[out] = true
		}
		order = append(order, leaves[i])
		leaves = slices.Delete(leaves, i, i+1)
	}
	return order
}

// Cause returns the innermost cause of a runner's error, without the text that runners add around it.
func Cause(err error) error {
	if t := (*explainedError)(nil); errors.As(err, &t) {
		return t
	}
	text := err.Error()
	for _, mark := range []string{"\n\tcaused by:\n", "caused by:", "failed: "} {
		if i := strings.LastIndex(text, mark); i >= 0 {
			text = text[i+len(mark):]
			break
		}
	}
	// A worker prefixes the name of the DoFn.
	if name, rest, ok := strings.Cut(text, "] failed:\n"); ok && strings.HasPrefix(strings.TrimSpace(name), "DoFn[") {
		text = rest
	}
	text = strings.TrimSpace(text)
	for _, lost := range []string{"SDK worker disconnected", "error reading from server"} {
		if strings.Contains(text, lost) {
			return fmt.Errorf("the runner lost its connection to a worker, for example because a machine stood still (%s). Run the same command to continue: only requests in flight are repeated", oneLine(errors.New(text)))
		}
	}
	return errors.New(text)
}
