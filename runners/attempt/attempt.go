// Package attempt executes an attempt: one execution of the program for the folder of a run, an arena or a
// calibration.
//
//	New ──► CheckOut ──► Lock ──► Prepare ──► Execute (──► Operation, or KeepLast after an error)
//
// Lock takes the folder for this attempt. Prepare returns an error if the config uses real servers and the
// journal has answers of the simulated worker, or the reverse. It compacts the journal, and starts the
// simulated worker if the config has one. Execute calls a function that makes the requests. Meanwhile it shows
// progress and warnings, and saves the statistics of the attempt. If the user interrupts it, it sends no new
// requests and waits for the answers in flight.
//
// Statistics are never part of the data. Operation and KeepLast save those of a run. A failure to save them is
// a warning while Execute works, and an error at the end.
package attempt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"coeval/datasets/journal/upkeep"
	"coeval/datasets/lock"
	"coeval/datasets/prompts"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/engine"
	"coeval/runners/progress"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/schemas/redact"
	"coeval/schemas/sanitize"
	"coeval/transforms/infer"
	"coeval/transforms/simulator"
	"coeval/transforms/sink"
)

// An Attempt is one execution of the program for an output folder.
type Attempt struct {
	// ID begins with the time of the start. Journal, lock and statistics name the attempt by it.
	ID      string
	Started time.Time
	// Config has the folder as output.dir. Prepare adds the address of the simulated worker.
	Config config.Config
	// Scan counts the prompts. It must be set before Execute.
	Scan *prompts.Scan
	// Stderr receives progress and warnings.
	Stderr io.Writer
	// TakeOver seizes the folder from another attempt, on object stores.
	TakeOver bool
	// Adopt allows a folder with other files.
	Adopt bool
	// Version is the program's version.
	Version string
	// Abort ends the program at the user's second interrupt. It must be set before Execute.
	Abort func()
	// Saves makes Execute save the statistics in the folder while it works.
	Saves bool
	// Seen are the counts of this process. They are valid after Execute.
	Seen infer.Snapshot

	simulator *simulator.Running
	series    []summary.Point
}

// New creates an attempt that begins now.
func New(c config.Config, stderr io.Writer) *Attempt {
	now := time.Now()
	return &Attempt{
		ID: fmt.Sprintf("%s-%s", now.UTC().Format("20060102T150405Z"), uuid.NewString()[:8]), Started: now, Config: c, Stderr: stderr,
	}
}

// CheckOut returns an error unless the attempt may work in its folder.
func (a *Attempt) CheckOut(ctx context.Context) error {
	return rundir.Check(ctx, a.Config.Output.Dir, a.Adopt)
}

// Lock takes the folder for this attempt. The context that it returns ends when the folder is lost.
func (a *Attempt) Lock(ctx context.Context) (locked context.Context, unlock func() error, err error) {
	held, err := Acquire(ctx, a.Config.Output.Dir, a.ID, a.TakeOver, a.Stderr)
	if err != nil {
		return ctx, nil, err
	}
	ctx, cancel := held.Context(ctx)
	return ctx, func() error {
		cancel()
		return held.Release()
	}, nil
}

// Acquire locks a run's folder, and reports a long wait.
func Acquire(ctx context.Context, out, attempt string, takeover bool, stderr io.Writer) (*lock.Lock, error) {
	return lock.Acquire(ctx, out, lock.Options{Attempt: attempt, TakeOver: takeover, Waiting: func(who string, most time.Duration) {
		fmt.Fprintf(sanitize.Writer(stderr), "%s is leased by another run (%s). Waiting up to %s for the lease to expire; use --takeover to seize it now.\n", out, who, most)
	}})
}

// Prepare makes the journal and the simulated worker ready. The caller must have the lock, and must call end after
// the last request.
func (a *Attempt) Prepare(ctx context.Context) (end func() error, err error) {
	if err := metareward.ClaimRespondent(ctx, &a.Config); err != nil {
		return nil, err
	}
	if _, err := upkeep.Compact(ctx, metareward.JournalDir(a.Config.Output.Dir), upkeep.CompactAbove, lock.Expires); err != nil {
		return nil, err
	}
	if !a.Config.Simulate.Enabled {
		return func() error { return nil }, nil
	}
	if a.simulator, err = StartSimulator(&a.Config); err != nil {
		return nil, err
	}
	return a.simulator.Close, nil
}

// StartSimulator starts the simulated worker of a config inside this process and points every role at it. No other
// process can reach it.
func StartSimulator(c *config.Config) (*simulator.Running, error) {
	options, err := c.Simulate.Worker()
	if err != nil {
		return nil, err
	}
	options.Models = []string{c.Worker.Model}
	server, err := simulator.StartInProcess(*options)
	if err != nil {
		return nil, err
	}
	c.Simulate.URL = server.URL()
	return server, nil
}

// Execute calls ask, shows its progress, and stops it when the user interrupts it.
func (a *Attempt) Execute(locked context.Context, ask func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancel(locked)
	defer cancel()
	screen := progress.NewScreen(a.Stderr)
	stopped := interruptible(ctx, cancel, screen, func(ctx context.Context) { infer.Attach(a.ID).Settle(ctx) }, a.Abort)
	monitor := a.startMonitor(ctx, screen)
	ran := ask(ctx)
	a.series = monitor.end()
	a.Seen = infer.Attach(a.ID).Watch()
	died := infer.Attach(a.ID).Err()
	err = infer.Attach(a.ID).Close()
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

// commandLine returns arguments as a shell reads them, without the secrets in them.
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

// Operation saves and returns the statistics of a complete attempt, whose calls the sink has counted.
func (a *Attempt) Operation(ctx context.Context) (*summary.Operation, error) {
	callsFile := store.Join(a.Config.Output.Dir, sink.CallsFile(a.ID))
	var tally schemas.Tally
	if err := readJSON(ctx, callsFile, &tally); err != nil {
		return nil, err
	}
	calibration, err := a.Config.CalibrationWarnings()
	if err != nil {
		return nil, err
	}
	op := a.known(a.Seen, a.series)
	op.Calls, op.Warnings = tally.Calls, append(calibration, op.Warnings...)
	if err := a.write(ctx, op); err != nil {
		return nil, err
	}
	return op, store.Remove(ctx, callsFile)
}

// known returns this process's statistics of the attempt.
func (a *Attempt) known(seen infer.Snapshot, series []summary.Point) *summary.Operation {
	op := &summary.Operation{
		Attempt: a.ID, Started: a.Started.UTC(), Seconds: time.Since(a.Started).Seconds(),
		AskingSeconds: seen.Asking.Seconds(), Runner: engine.Runner(), Version: a.Version,
		Machine: summary.Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU()},
		Config:  a.Config, Calls: seen.Calls, Series: series, Warnings: slices.Concat(a.Config.KeyWarnings(), a.Config.PoolWarnings(), seen.Warnings), UnknownFinishes: seen.UnknownFinishes, BadLines: a.Scan.BadByCode,
	}
	switch {
	case seen.Requests == 0:
	case a.simulator != nil && a.Config.Simulate.Latency > 0: // without latency it has no slots
		use := a.simulator.Server().Stats().SlotUse
		op.SlotUse, op.SlotUseOf = &use, fmt.Sprintf("the simulated worker's %d slots", a.Config.Simulate.Slots)
	default:
		use := seen.PermitUse
		op.SlotUse, op.SlotUseOf = &use, fmt.Sprintf("%d generations that may be in flight", seen.Permits)
	}
	return op
}

// keep saves the statistics of an attempt that still works or was interrupted: its requests cost money, too. An
// attempt without requests leaves no file.
func (a *Attempt) keep(ctx context.Context, seen infer.Snapshot, series []summary.Point) error {
	if !a.Saves || seen.Requests == 0 {
		return nil
	}
	op := a.known(seen, series)
	op.Unfinished = true
	return a.write(ctx, op)
}

// keepTime bounds the last save of an attempt that failed.
const keepTime = 10 * time.Second

// KeepLast saves the statistics of a failed attempt, even if ctx has ended.
func (a *Attempt) KeepLast(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	return a.keep(ctx, a.Seen, a.series)
}

func (a *Attempt) write(ctx context.Context, op *summary.Operation) error {
	b, err := json.MarshalIndent(op, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFile(ctx, store.Join(a.Config.Output.Dir, rundir.OperationsFolder, a.ID+".json"), append(b, '\n'))
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
