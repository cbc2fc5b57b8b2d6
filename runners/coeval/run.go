package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/attempt"
	"coeval/runners/engine"
	"coeval/runners/runs"
	"coeval/runners/settings"
	"coeval/runners/summary"
	"coeval/schemas/sanitize"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/infer"
)

// runFlags are the flags of run that are not the config's.
type runFlags struct {
	configFlags

	retryFailed []string
	json        bool
	verbose     bool
	cpuProfile  string
	metricsAddr string
	pprof       bool
	takeover    bool
	adopt       bool
	bounds      boundFlags
}

func newRunCommand() *cobra.Command {
	var flags runFlags
	c := &cobra.Command{
		Use:   "run [CONFIG.yaml] [flags] [-- Beam flags]",
		Short: "Make the pairs: request the calls that the journal lacks, and write the files",
		Example: `  coeval run --simulate --prompts prompts.jsonl --out out
  coeval run --url http://gpu-1:8000/v1 --url http://gpu-2:8000/v1 --model my-model --prompts prompts.jsonl --out out
  coeval run config.yaml --set method.rho=0.4
  coeval run config.yaml -- --runner=flink --endpoint=localhost:8099`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			config, loadErr := flags.load(c, args)
			if err := usage(errors.Join(withoutCode(loadErr), flags.check(c), flags.bounds.check())); err != nil {
				return err
			}
			if err := engine.Init(beamFlagsOf(c.Context()), flags.verbose); err != nil {
				return usage(err)
			}
			if err := errors.Join(checkCluster(&config), flags.bounds.checkRunner()); err != nil {
				return usage(err)
			}
			r := &run{Attempt: flags.newAttempt(c, config), flags: &flags, command: c}
			return failed(r.do(c.Context()))
		},
	}
	flags.register(c.Flags())
	flags.registerRun(c)
	flags.bounds.register(c.Flags())
	c.Flags().Var(pathFlag{to: &flags.cpuProfile, local: true}, "cpu-profile", "write a CPU profile of the run to this file")
	c.Flags().StringVar(&flags.metricsAddr, "metrics-addr", "", "serve Prometheus metrics at /metrics of this address, and /healthz, for example 127.0.0.1:9464")
	c.Flags().BoolVar(&flags.pprof, "pprof", false, "serve Go's profiles at /debug/pprof/ of --metrics-addr")
	c.Flags().BoolVar(&flags.takeover, "takeover", false, "seize --out from another run, on gs:// or s3://; that run stops")
	c.Flags().BoolVar(&flags.verbose, "verbose", false, "show Beam's own logs")
	return c
}

func (f *runFlags) registerRun(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.retryFailed, "retry-failed", nil, "repeat calls that failed for good, of all codes or of the given codes")
	c.Flags().Lookup("retry-failed").NoOptDefVal = infer.AllCodes
	c.Flags().BoolVar(&f.json, "json", false, "print the result as one JSON object on standard output")
	c.Flags().BoolVar(&f.adopt, "adopt", false, "use --out although it contains files that are not a run's; they stay as they are")
}

// check returns all problems of the flags that no key of the config has.
func (f *runFlags) check(c *cobra.Command) error {
	var errs []error
	for _, code := range f.retryFailed {
		if code == infer.AllCodes || slices.Contains(fault.Codes(), code) {
			continue
		}
		hint := "allowed are " + strings.Join(fault.Codes(), ", ") + ", or no value for all"
		if similar := settings.Similar(code, fault.Codes()); len(similar) > 0 {
			hint = "did you mean " + strings.Join(similar, " or ") + "?"
		}
		errs = append(errs, fmt.Errorf("--retry-failed: %q is not a failure code; %s", code, hint))
	}
	if f.pprof && f.metricsAddr == "" {
		errs = append(errs, errors.New("--pprof serves profiles at the address of --metrics-addr, which is missing; add --metrics-addr=127.0.0.1:9464"))
	}
	if c.Flags().Changed("metrics-addr") && !isListenAddress(f.metricsAddr) {
		errs = append(errs, fmt.Errorf("--metrics-addr is %q; give an address with a port, for example 127.0.0.1:9464", f.metricsAddr))
	}
	return errors.Join(errs...)
}

// isListenAddress reports whether an address has the form host:port. The host may be empty.
func isListenAddress(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// withoutCode returns an error without the exit code that it has.
func withoutCode(err error) error {
	if c := (*exitError)(nil); errors.As(err, &c) {
		return c.err
	}
	return err
}

// run is an attempt of the command run.
type run struct {
	*attempt.Attempt

	flags   *runFlags
	command *cobra.Command
}

// newAttempt creates an attempt with the flags that all commands with attempts have.
func (f *runFlags) newAttempt(c *cobra.Command, config config.Config) *attempt.Attempt {
	a := attempt.New(config, c.ErrOrStderr())
	a.TakeOver, a.Adopt, a.Version = f.takeover, f.adopt, version()
	a.Abort = func() { os.Exit(exitFailed) }
	return a
}

// do runs the attempt from the lock to the summary.
func (r *run) do(ctx context.Context) (err error) {
	if err := checkKeys(&r.Config, slices.Sorted(maps.Keys(r.Config.Asked()))...); err != nil {
		return err
	}
	warnOfKeys(r.Stderr, &r.Config)
	if err := r.checkFiles(ctx); err != nil {
		return err
	}
	if r.Scan, err = scan(ctx, &r.Config); err != nil {
		return err
	}
	if err := engine.Reach(ctx); err != nil {
		return err
	}
	if engine.DryRun() {
		return r.dryRun(ctx)
	}
	if warning := engine.Warning(); warning != "" {
		fmt.Fprintln(sanitize.Writer(r.Stderr), warning)
	}
	ctx, unlock, err := r.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := metareward.CheckKept(ctx, r.Config.Output.Dir); err != nil {
		return err
	}
	end, err := r.Prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := store.Sweep(ctx, store.Join(r.Config.Output.Dir, rundir.OperationsFolder)); err != nil {
		return err
	}
	p, err := r.build(ctx)
	if err != nil {
		return err
	}
	describePrompts(r.Stderr, &r.Config, r.Scan)
	stopProfile, err := profile(r.flags.cpuProfile)
	if err != nil {
		return err
	}
	stopMetrics, err := r.ServeMetrics(ctx, r.flags.metricsAddr, r.flags.pprof)
	if err != nil {
		return errors.Join(err, stopProfile())
	}
	attempt.TuneCollector(&r.Config)
	ask := func(ctx context.Context) error { return engine.Run(ctx, p) }
	r.Saves = true
	err = errors.Join(r.Execute(ctx, ask), stopProfile(), stopMetrics())
	if err != nil {
		return errors.Join(err, r.KeepLast(ctx))
	}
	return r.report(ctx)
}

// checkCluster rejects files that a cluster's workers could not read.
func checkCluster(c *config.Config) error {
	if !engine.OnCluster() {
		return nil
	}
	err := c.ValidateCluster()
	if engine.Runner() == "dataflow" && !strings.HasPrefix(c.Output.Dir, "gs://") {
		err = errors.Join(err, fmt.Errorf("output.dir is %q; allowed with --runner=dataflow is gs://BUCKET/FOLDER", c.Output.Dir))
	}
	return err
}

// dryRun has the job translated, and prints the steps that would be run.
func (r *run) dryRun(ctx context.Context) error {
	p, err := r.build(ctx)
	if err != nil {
		return err
	}
	steps, err := engine.Steps(p)
	if err != nil {
		return err
	}
	if err := engine.Run(ctx, p); err != nil {
		return engine.Cause(err)
	}
	for _, step := range steps {
		fmt.Fprintln(r.command.OutOrStdout(), step)
	}
	return nil
}

// isProfile recognizes the profiles of Go, which are compressed by gzip.
func isProfile(start []byte) bool {
	return len(start) == 0 || bytes.HasPrefix(start, []byte{0x1f, 0x8b})
}

// profile writes a CPU profile until the function that it returns is called.
func profile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// checkKeys looks every API key and other secret of these roles up before anything is done. Workers of
// a cluster read their own environment, which this program can't read.
func checkKeys(c *config.Config, roles ...string) error {
	if c.Simulate.Enabled || engine.OnCluster() {
		return nil
	}
	return c.CheckSecrets(roles...)
}

// warnOfKeys prints which keys are sent unencrypted, before they are.
func warnOfKeys(w io.Writer, c *config.Config) {
	for _, warning := range c.KeyWarnings() {
		fmt.Fprintln(w, "WARNING:", warning)
	}
}

// scan reads the prompts once, before anything is asked.
func scan(ctx context.Context, c *config.Config) (*prompts.Scan, error) {
	s, err := prompts.ScanFiles(ctx, c.Prompts.Paths, c.Reading(), c.Selection())
	if few := (*prompts.SelectionError)(nil); errors.As(err, &few) {
		return nil, usage(err)
	}
	if err != nil {
		return nil, err
	}
	if err := s.CheckBad(c.Prompts.MaxBad); err != nil {
		return nil, fmt.Errorf("%w; no request was sent", err)
	}
	return s, nil
}

// describePrompts prints how the prompts were read, before anything is asked.
func describePrompts(w io.Writer, c *config.Config, s *prompts.Scan) {
	fmt.Fprintln(w, "Prompts:", s.Describe(c.Reading()))
}

// build makes the pipeline.
func (r *run) build(ctx context.Context) (*beam.Pipeline, error) {
	lengths, err := journal.FindPrefixBits(ctx, metareward.JournalDir(r.Config.Output.Dir))
	if err != nil {
		return nil, err
	}
	bounds, err := r.bounds(ctx)
	if err != nil {
		return nil, err
	}
	p, s := beam.NewPipelineWithRoot()
	err = metareward.Build(s, r.Config, metareward.Input{
		Attempt: r.ID, Scan: r.Scan, Journal: lengths, Workers: engine.Workers(), RetryFailed: r.flags.retryFailed,
		Locked: !engine.DryRun(), Bounds: bounds,
	})
	return p, err
}

// report writes the attempt's file in operations/ and prints the summary.
func (r *run) report(ctx context.Context) error {
	out := r.Config.Output.Dir
	finished, err := runs.Open(ctx, out)
	if err != nil {
		return err
	}
	op, err := r.Operation(ctx)
	if err != nil {
		return err
	}
	s := summary.New(finished.Manifest, op)
	if err := s.AddFailures(ctx, finished); err != nil {
		return err
	}
	if r.flags.json {
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if _, err = fmt.Fprintf(r.command.OutOrStdout(), "%s\n", sanitize.JSON(b)); err != nil {
			return err
		}
	} else if err := s.Print(r.Stderr); err != nil {
		return err
	}
	if role := s.FailedRole(); role != "" {
		return fmt.Errorf("the %s has no pair %s", role, attempt.RetryAdvice)
	}
	return nil
}
