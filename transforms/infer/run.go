package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coeval/datasets/journal"
	"coeval/datasets/lock"
	"coeval/schemas"
	"coeval/transforms/fleet"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/infer/spending"
)

type (
	// A Snapshot has the counts of a process in a run so far.
	Snapshot = counters.Snapshot
	// A State describes the load of one server.
	State = schedule.State
)

// A Run is this process's part in an attempt: the state that its bundles share, and its figures. Its
// methods are safe for concurrent use.
type Run struct {
	attempt string

	mu sync.Mutex
	// state is nil until the first bundle joins, and after Close.
	state *runState
}

// runs contains the runs of this process. Beam creates DoFns from their encoding and never tears them
// down, so only a package variable can pass a run to them.
var runs = struct {
	sync.Mutex
	byAttempt map[string]*Run
}{byAttempt: map[string]*Run{}}

// Attach returns this process's part in an attempt. The first bundle starts its state. The caller must
// close it.
func Attach(attempt string) *Run {
	runs.Lock()
	defer runs.Unlock()
	r := runs.byAttempt[attempt]
	if r == nil {
		r = &Run{attempt: attempt}
		runs.byAttempt[attempt] = r
	}
	return r
}

// current returns the run's state, nil if no bundle has joined.
func (r *Run) current() *runState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// join returns the run's state, and starts it for the first bundle. join replaces a state that ended
// with an error, because only a restarted bundle joins after an error.
func (r *Run) join(ctx context.Context, o Options) (*runState, error) {
	if s := r.current(); s.alive() {
		err := s.checkOptions(o)
		return s, err
	}
	fence, err := o.checkAccess(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.state
	if err := was.checkOptions(o); err != nil || was.alive() { // another bundle was faster
		return was, err
	}
	s := &runState{options: o, counters: &counters.Counters{}, spending: spending.New(o.Bounds)}
	var own map[string]schemas.CallTally
	if was != nil {
		s.counters, s.journal, s.before, s.spending = was.counters, was.journal, was.fatalErr(), was.spending
		was.fleet.Close()
		own = was.fleet.TakeOwn()
	} else if o.Journal != "" {
		if s.journal, err = journal.Open(o.Journal, o.PrefixBits); err != nil {
			return nil, err
		}
	}
	options := o.fleetOptions()
	if o.Bounds.Enabled() {
		options.Reserve = s.spending.Reserve
	}
	if o.Journal != "" {
		m := &models{journal: o.Journal}
		options.RecordModel, options.RecordAnswer = m.recordModel, m.recordAnswer
		options.Admit = s.journal.Healthy
	}
	s.fleet = fleet.New(options, s.counters)
	s.fleet.AddOwn(own)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	r.state = s
	if fence != nil {
		s.fenced.Go(func() { s.watchFence(fence) })
	}
	return s, nil
}

// Watch returns the counts of this process so far, zero if no bundle has joined.
func (r *Run) Watch() Snapshot {
	s := r.current()
	if s == nil {
		return Snapshot{}
	}
	return s.counters.Snapshot()
}

// States returns the load of each server.
func (r *Run) States() []State {
	s := r.current()
	if s == nil {
		return nil
	}
	return s.fleet.States()
}

// Gatherer returns the metrics of this process's part.
func (r *Run) Gatherer() prometheus.Gatherer {
	s := r.current()
	if s == nil {
		return prometheus.NewRegistry()
	}
	return s.fleet.Gatherer()
}

// Err returns the error that stopped the run in this process, nil if none did. Runners return errors
// as text with their own around it.
func (r *Run) Err() error {
	s := r.current()
	if s == nil {
		return nil
	}
	return s.fatalErr()
}

// Settle stops new requests, and waits until every answer in flight is durable or ctx ends.
func (r *Run) Settle(ctx context.Context) {
	s := r.current()
	if s == nil {
		return
	}
	s.fleet.Settle(ctx)
	if s.journal != nil {
		_ = s.journal.Flush(ctx) // answers that can't be stored are asked for again
	}
}

// maxLastAnswers bounds how long Close waits for answers that were read before it.
const maxLastAnswers = 5 * time.Second

// Close ends this process's part: it cancels calls in flight, and closes the journal once it has the
// answers that were read before.
func (r *Run) Close() error {
	runs.Lock()
	if runs.byAttempt[r.attempt] == r {
		delete(runs.byAttempt, r.attempt)
	}
	runs.Unlock()
	r.mu.Lock()
	s := r.state
	r.state = nil
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	s.cancel()
	s.fenced.Wait()
	s.fleet.Close()
	if s.journal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxLastAnswers)
	defer cancel()
	s.fleet.Settle(ctx)
	return s.journal.Close()
}

// runState is the shared state of a run's bundles in one process.
type runState struct {
	options  Options
	ctx      context.Context
	cancel   context.CancelFunc
	fleet    *fleet.Fleet
	journal  *journal.Journal // nil without one
	counters *counters.Counters
	spending *spending.Ledger
	fenced   sync.WaitGroup // of the goroutine that watches the fence

	mu    sync.Mutex
	fatal error
	// before is the error that ended the state that this one replaced.
	before error
}

// alive reports whether the state exists and has not failed.
func (s *runState) alive() bool { return s != nil && s.ctx.Err() == nil }

// checkOptions returns an error if there is a state with other options.
func (s *runState) checkOptions(o Options) error {
	if s == nil || reflect.DeepEqual(s.options, o) {
		return nil
	}
	return fmt.Errorf("infer: attempt %s already runs in this process with other options: %+v instead of %+v", o.Attempt, s.options, o)
}

// checkAccess returns an error if this process must not start: a key is missing, or the run's folder
// belongs to another attempt.
func (o *Options) checkAccess(ctx context.Context) (*lock.Fence, error) {
	for _, e := range o.Keys {
		if _, err := e.Credentials(); err != nil {
			host, _ := os.Hostname() // without it the name is empty
			return nil, fmt.Errorf("the worker process on %q has no API key and sent no request: %w", host, err)
		}
	}
	if o.Fence == "" {
		return nil, nil
	}
	fence := lock.NewFence(o.Fence, o.Attempt)
	err := fence.Check(ctx)
	return fence, err
}

// watchFence ends the state when the run's folder is no longer the attempt's. Requests in flight
// continue to their end. Their answers are saved, because they are paid for.
func (s *runState) watchFence(fence *lock.Fence) {
	err := fence.Watch(s.ctx)
	if err == nil {
		return
	}
	s.setFatal(err)
	s.fleet.Settle(s.ctx)
	s.flush()
	s.cancel()
}

// maxFlush bounds how long a failed bundle waits until its answers are durable.
const maxFlush = 30 * time.Second

// flush makes answers durable. Its own failure is ignored: the bundle has failed already, and answers
// that can't be stored are asked for again.
func (s *runState) flush() {
	if s.journal == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxFlush)
	defer cancel()
	_ = s.journal.Flush(ctx)
}

// load returns a function that loads a bucket's records of some prompts once, for its first caller.
func (s *runState) load(ctx context.Context, bucket string, wanted map[string]bool) func() (*journal.View, error) {
	return sync.OnceValues(func() (*journal.View, error) {
		if s.journal == nil {
			return nil, nil
		}
		v, err := s.journal.Load(ctx, bucket, func(id string) bool { return wanted[id] })
		if err != nil {
			s.fleet.Settle(ctx)
			s.fail(err)
		}
		return v, err
	})
}

// minWindow is the smallest number of prompts that a bundle has in progress. A prompt waits for the disk
// or the store after each stage with calls, until its answers are durable. With w prompts in progress,
// three such stages and a commit of c seconds, a run therefore completes at most w/3c prompts a second.
// For example, a server without latency was idle most of the time at 32 prompts. A prompt that waits
// costs memory only, because calls of later stages go first.
const minWindow = 128

// window returns how many prompts a bundle may have in progress now.
func (s *runState) window() int {
	switch {
	case s.options.Window > 0:
		return s.options.Window
	case s.options.MaxInFlight > 0:
		return max(s.fleet.Permits()/4, minWindow)
	}
	return max(s.fleet.Permits()/2, minWindow)
}

// fail ends the state with the first error that a cancellation did not cause.
func (s *runState) fail(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	s.setFatal(err)
	s.cancel() // waiting calls must not be sent
}

// rootCause returns the cause of a bundle's failure: the error that ended the state, if err only reports that the rest
// of the bundle was cancelled.
func (s *runState) rootCause(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.fatal, err)
}

// setFatal keeps the first error that ends the state.
func (s *runState) setFatal(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fatal = cmp.Or(s.fatal, err)
}

// fatalErr returns the error that ended the state, or the one before it.
func (s *runState) fatalErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.fatal, s.before)
}
