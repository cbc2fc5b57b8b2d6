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
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"coeval/datasets/journal"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/lock"
	"coeval/datasets/prompts"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/engine"
	"coeval/runners/progress"
	"coeval/runners/runs"
	"coeval/runners/settings"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/schemas/redact"
	"coeval/schemas/sanitize"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/infer"
	"coeval/transforms/simulator"
	"coeval/transforms/sink"
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
			r := &run{config: config, flags: &flags, command: c}
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

// run is one attempt.
type run struct {
	config  config.Config
	flags   *runFlags
	command *cobra.Command

	attempt   string
	started   time.Time
	scan      *prompts.Scan
	simulator *simulator.Running
	series    []summary.Point
	seen      infer.Snapshot
	// keeps is true if the attempt's statistics are saved while it runs.
	keeps bool
}

// do runs the attempt from the lock to the summary.
func (r *run) do(ctx context.Context) (err error) {
	r.started = time.Now()
	r.attempt = fmt.Sprintf("%s-%s", r.started.UTC().Format("20060102T150405Z"), uuid.NewString()[:8])
	if err := checkKeys(&r.config, slices.Sorted(maps.Keys(r.config.Asked()))...); err != nil {
		return err
	}
	warnOfKeys(r.command.ErrOrStderr(), &r.config)
	if err := r.checkFiles(ctx); err != nil {
		return err
	}
	if r.scan, err = scan(ctx, &r.config); err != nil {
		return err
	}
	if err := engine.Reach(ctx); err != nil {
		return err
	}
	if engine.DryRun() {
		return r.dryRun(ctx)
	}
	if warning := engine.Warning(); warning != "" {
		fmt.Fprintln(sanitize.Writer(r.command.ErrOrStderr()), warning)
	}
	ctx, unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := metareward.CheckKept(ctx, r.config.Output.Dir); err != nil {
		return err
	}
	if err := metareward.ClaimRespondent(ctx, &r.config); err != nil {
		return err
	}
	if _, err := upkeep.Compact(ctx, metareward.JournalDir(r.config.Output.Dir), upkeep.CompactAbove, lock.Expires); err != nil {
		return err
	}
	if err := store.Sweep(ctx, store.Join(r.config.Output.Dir, rundir.OperationsFolder)); err != nil {
		return err
	}
	if r.config.Simulate.Enabled {
		if r.simulator, err = startSimulator(&r.config); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.simulator.Close()) }()
	}
	p, err := r.build(ctx)
	if err != nil {
		return err
	}
	describePrompts(r.command.ErrOrStderr(), &r.config, r.scan)
	stopProfile, err := profile(r.flags.cpuProfile)
	if err != nil {
		return err
	}
	stopMetrics, err := r.serveMetrics(ctx)
	if err != nil {
		return errors.Join(err, stopProfile())
	}
	tuneCollector(underWay(&r.config))
	ask := func(ctx context.Context) error { return engine.Run(ctx, p) }
	r.keeps = true
	err = errors.Join(r.execute(ctx, ask), stopProfile(), stopMetrics())
	if err != nil {
		return errors.Join(err, r.keepLast(ctx))
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

// lock makes the folder this run's. The context that it returns ends when the folder is lost.
func (r *run) lock(ctx context.Context) (context.Context, func() error, error) {
	lock, err := acquire(ctx, r.config.Output.Dir, r.attempt, r.flags.takeover, r.command.ErrOrStderr())
	if err != nil {
		return ctx, nil, err
	}
	ctx, cancel := lock.Context(ctx)
	return ctx, func() error {
		cancel()
		return lock.Release()
	}, nil
}

// acquire locks a run's folder, and reports a long wait.
func acquire(ctx context.Context, out, attempt string, takeover bool, stderr io.Writer) (*lock.Lock, error) {
	return lock.Acquire(ctx, out, lock.Options{Attempt: attempt, TakeOver: takeover, Waiting: func(who string, most time.Duration) {
		fmt.Fprintf(sanitize.Writer(stderr), "%s is leased by another run (%s). Waiting up to %s for the lease to expire; use --takeover to seize it now.\n", out, who, most)
	}})
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
	lengths, err := journal.FindPrefixBits(ctx, metareward.JournalDir(r.config.Output.Dir))
	if err != nil {
		return nil, err
	}
	bounds, err := r.bounds(ctx)
	if err != nil {
		return nil, err
	}
	p, s := beam.NewPipelineWithRoot()
	err = metareward.Build(s, r.config, metareward.Input{
		Attempt: r.attempt, Scan: r.scan, Journal: lengths, Workers: engine.Workers(), RetryFailed: r.flags.retryFailed,
		Locked: !engine.DryRun(), Bounds: bounds,
	})
	return p, err
}

// execute runs ask, shows its progress, and stops it when the user interrupts it.
func (r *run) execute(locked context.Context, ask func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancel(locked)
	defer cancel()
	screen := progress.NewScreen(r.command.ErrOrStderr())
	stopped := interruptible(ctx, cancel, screen, func(ctx context.Context) { infer.Attach(r.attempt).Settle(ctx) })
	monitor := r.startMonitor(ctx, screen)
	ran := ask(ctx)
	r.series = monitor.end()
	r.seen = infer.Attach(r.attempt).Watch()
	died := infer.Attach(r.attempt).Err()
	err = infer.Attach(r.attempt).Close()
	if u := (*engine.Uncancelled)(nil); errors.As(ran, &u) {
		err = errors.Join(err, u)
	}
	switch {
	case ran == nil && err == nil:
		return nil // complete, even if somebody wanted to stop it
	case locked.Err() != nil:
		return errors.Join(context.Cause(locked), err)
	case stopped():
		return errors.Join(fmt.Errorf("stopped; all answers so far are in the journal. To continue, run the same command: %s", commandLine(os.Args)), err)
	case died != nil:
		return errors.Join(died, err)
	case ran != nil:
		return errors.Join(engine.Cause(ran), err)
	}
	return err
}

// commandLine is these arguments as a shell reads them.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		a = redact.Hide(a)
		quoted[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$*?[](){}<>|&;#~`!") {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// report writes the attempt's file in operations/ and prints the summary.
func (r *run) report(ctx context.Context) error {
	out := r.config.Output.Dir
	var written schemas.Run
	if err := readJSON(ctx, store.Join(out, rundir.RunFile), &written); err != nil {
		return err
	}
	op, err := r.operation(ctx)
	if err != nil {
		return err
	}
	s := summary.New(&written, op)
	finished, err := runs.Open(ctx, out)
	if err != nil {
		return err
	}
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
	} else if err := s.Print(r.command.ErrOrStderr()); err != nil {
		return err
	}
	if role := s.FailedRole(); role != "" {
		return fmt.Errorf("the %s has no pair %s", role, retryAdvice)
	}
	return nil
}

// operation writes and returns the complete attempt's statistics, which are not part of the data.
func (r *run) operation(ctx context.Context) (*summary.Operation, error) {
	callsFile := store.Join(r.config.Output.Dir, sink.CallsFile(r.attempt))
	var tally schemas.Tally
	if err := readJSON(ctx, callsFile, &tally); err != nil {
		return nil, err
	}
	calibration, err := r.config.CalibrationWarnings()
	if err != nil {
		return nil, err
	}
	op := r.known(r.seen, r.series)
	op.Calls, op.Warnings = tally.Calls, append(calibration, op.Warnings...)
	if err := r.write(ctx, op); err != nil {
		return nil, err
	}
	return op, store.Remove(ctx, callsFile)
}

// known returns this process's statistics of the attempt.
func (r *run) known(seen infer.Snapshot, series []summary.Point) *summary.Operation {
	op := &summary.Operation{
		Attempt: r.attempt, Started: r.started.UTC(), Seconds: time.Since(r.started).Seconds(),
		AskingSeconds: seen.Asking.Seconds(), Runner: engine.Runner(), Version: version(),
		Machine: summary.Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU()},
		Config:  r.config, Calls: seen.Calls, Series: series, Warnings: slices.Concat(r.config.KeyWarnings(), r.config.PoolWarnings(), seen.Warnings), UnknownFinishes: seen.UnknownFinishes, BadLines: r.scan.BadByCode,
	}
	switch {
	case seen.Requests == 0:
	case r.simulator != nil && r.config.Simulate.Latency > 0: // without latency it has no slots
		use := r.simulator.Server().Stats().SlotUse
		op.SlotUse, op.SlotUseOf = &use, fmt.Sprintf("the simulated worker's %d slots", r.config.Simulate.Slots)
	default:
		use := seen.PermitUse
		op.SlotUse, op.SlotUseOf = &use, fmt.Sprintf("%d generations that may be in flight", seen.Permits)
	}
	return op
}

// keep writes the statistics of an attempt that still runs or was interrupted: its requests cost money
// too. One that asked nothing leaves nothing.
func (r *run) keep(ctx context.Context, seen infer.Snapshot, series []summary.Point) error {
	if !r.keeps || seen.Requests == 0 {
		return nil
	}
	op := r.known(seen, series)
	op.Unfinished = true
	return r.write(ctx, op)
}

// keepTime bounds the last poll of an attempt that came to no end.
const keepTime = 10 * time.Second

// keepLast saves the statistics of an ended attempt, even if ctx has ended.
func (r *run) keepLast(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	return r.keep(ctx, r.seen, r.series)
}

func (r *run) write(ctx context.Context, op *summary.Operation) error {
	b, err := json.MarshalIndent(op, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFile(ctx, store.Join(r.config.Output.Dir, rundir.OperationsFolder, r.attempt+".json"), append(b, '\n'))
}

func readJSON[T any](ctx context.Context, name string, v *T) error {
	b, err := store.ReadSmall(ctx, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
