package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"coeval/datasets/journal"
	"coeval/datasets/lock"
	"coeval/schemas"
)

// Options say how the stages' calls are made. They decide nothing of what is said.
type Options struct {
	// Attempt names the run: what it starts in one process is shared by all its bundles there.
	Attempt string `json:"attempt"`
	// Journal is the folder of the journal. Empty keeps none: then nothing is replayed either.
	Journal string `json:"journal,omitempty"`
	// PrefixBits are those of the journal's buckets; see [journal.FindPrefixBits].
	PrefixBits journal.PrefixBits `json:"prefix_bits"`
	// Fence is the run's folder, whose lock must name the attempt: else the process stops asking.
	// Empty looks at none.
	Fence string `json:"fence,omitempty"`
	// Keys are the endpoints whose API keys must be there before anything is asked.
	Keys []Endpoint `json:"keys,omitempty"`
	// Window is how many prompts a bundle has in flight. More fill the permits better and take
	// more memory, about 0.25 MB each. Zero means half of the permits of all endpoints, a quarter
	// when MaxInFlight is given, and at least 128.
	Window int `json:"window,omitempty"`
	// MaxInFlight is how many generations each endpoint is asked for at a time. Zero means what
	// keeps it busy, which the process finds out. Where it is given, it should be larger than
	// the server's slots: a request of n choices then holds n permits until its slowest choice
	// is done, while the slots of the others are long free.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// RequestsPerMinute and TokensPerMinute are what each endpoint may be asked for, as hosted
	// APIs allow. Zero means what its headers say.
	RequestsPerMinute int `json:"requests_per_minute,omitempty"`
	TokensPerMinute   int `json:"tokens_per_minute,omitempty"`
	// RequestTimeout bounds one request. It must be longer than the longest generation. Zero
	// means what the tokens asked for take at the endpoint's rate, with much room.
	RequestTimeout time.Duration `json:"request_timeout,omitempty"`
	// Tries is how often a call is asked for that workers fail at, while they answer others.
	// Zero means 5.
	Tries int `json:"tries,omitempty"`
	// Patience is how long the run waits while no endpoint of a role answers. Zero means 10 minutes.
	Patience time.Duration `json:"patience,omitempty"`
	// RetryFailed are the codes of recorded failures that are asked again; "all" is all. Zero
	// means none.
	RetryFailed []string `json:"retry_failed,omitempty"`
	// Prove are roles whose servers must have been seen to enforce their verdicts before anything
	// is asked. Zero means that each is when it is asked first.
	Prove []Role `json:"prove,omitempty"`
}

// AllCodes in RetryFailed stands for every code.
const AllCodes = "all"

func (o Options) withDefaults() Options {
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Minute
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Attempt == "" {
		errs = append(errs, errors.New("infer: Attempt is empty; it must name the run"))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Window", int64(o.Window)},
		{"MaxInFlight", int64(o.MaxInFlight)},
		{"RequestsPerMinute", int64(o.RequestsPerMinute)},
		{"TokensPerMinute", int64(o.TokensPerMinute)},
		{"RequestTimeout", int64(o.RequestTimeout)},
		{"Tries", int64(o.Tries)},
		{"Patience", int64(o.Patience)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("infer: %s is %d; it must be at least 0", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}

// Retries says whether a recorded failure with this code is asked again, when these codes are to be.
func Retries(codes []string, code string) bool {
	return code != "" && (slices.Contains(codes, code) || slices.Contains(codes, AllCodes))
}

// process is what the bundles of a run share in one process. Beam never calls Teardown, so it
// lives in a global until [Close].
type process struct {
	options Options
	ctx     context.Context
	cancel  context.CancelFunc
	fleet   *fleet
	journal *journal.Journal
	watch   *watch

	fenced  sync.WaitGroup // who looks at the fence
	proving chan struct{}  // holds a token while somebody does
	proved  bool           // under proving

	mu    sync.Mutex
	fatal error
	// before is what ended the process that this one took the place of.
	before error
}

var (
	processesMu sync.Mutex
	processes   = map[string]*process{}
)

// processOf returns the process's share of a run and makes it when it is the first to ask. One
// that was ended by an error is replaced: only a bundle that a runner starts again asks for it.
func processOf(ctx context.Context, o Options) (*process, error) {
	if p := lookup(o.Attempt); p.goesOn() {
		err := p.agrees(o)
		return p, err
	}
	fence, err := o.admit(ctx)
	if err != nil {
		return nil, err
	}
	processesMu.Lock()
	defer processesMu.Unlock()
	was := processes[o.Attempt]
	if err := was.agrees(o); err != nil || was.goesOn() { // another bundle was faster
		return was, err
	}
	p := &process{options: o, proving: make(chan struct{}, 1)}
	var own map[string]schemas.CallTally
	if was != nil {
		p.watch, p.journal, p.before = was.watch, was.journal, was.ended()
		was.fleet.close()
		own = was.fleet.own.take()
	} else {
		p.watch = &watch{}
		if o.Journal != "" {
			if p.journal, err = journal.Open(o.Journal, o.PrefixBits); err != nil {
				return nil, err
			}
		}
	}
	p.fleet = newFleet(o, p.watch)
	p.fleet.own.calls = own
	p.ctx, p.cancel = context.WithCancel(context.Background())
	processes[o.Attempt] = p
	if fence != nil {
		p.fenced.Go(func() { p.watchFence(fence) })
	}
	return p, nil
}

// goesOn says that there is a process, and that nothing has ended it.
func (p *process) goesOn() bool { return p != nil && p.ctx.Err() == nil }

// agrees returns an error when a process of a run is there that has other options.
func (p *process) agrees(o Options) error {
	if p == nil || reflect.DeepEqual(p.options, o) {
		return nil
	}
	return fmt.Errorf("infer: attempt %s runs here already with other options: %+v, these are %+v", o.Attempt, p.options, o)
}

// admit returns an error when a process must not begin: a key is missing here, or the run's folder
// is another run's.
func (o *Options) admit(ctx context.Context) (*lock.Fence, error) {
	for _, e := range o.Keys {
		if _, err := e.APIKey(); err != nil {
			host, _ := os.Hostname() // a name that is better than none
			return nil, fmt.Errorf("the worker process on %q has no API key: %w there; nothing was asked by it", host, err)
		}
	}
	if o.Fence == "" {
		return nil, nil
	}
	fence := lock.NewFence(o.Fence, o.Attempt)
	err := fence.Check(ctx)
	return fence, err
}

// watchFence ends the process when the run's folder is another run's, or nobody's. What is in
// flight may come, and is kept: it is paid for.
func (p *process) watchFence(fence *lock.Fence) {
	err := fence.Watch(p.ctx)
	if err == nil {
		return
	}
	p.blame(err)
	p.fleet.settle(p.ctx)
	p.flush()
	p.cancel()
}

// flushMost is how long a bundle that failed waits until what was answered is durable.
const flushMost = 30 * time.Second

// flush makes what was answered durable. Its failure is no news: the bundle has failed, and what
// can't be kept is asked for again.
func (p *process) flush() {
	if p.journal == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushMost)
	defer cancel()
	_ = p.journal.Flush(ctx)
}

// load returns a function that loads what a bucket holds of some prompts once, for whoever needs
// it first.
func (p *process) load(ctx context.Context, bucket string, wanted map[string]bool) func() (*journal.View, error) {
	return sync.OnceValues(func() (*journal.View, error) {
		if p.journal == nil {
			return nil, nil
		}
		v, err := p.journal.Load(ctx, bucket, func(id string) bool { return wanted[id] })
		if err != nil {
			p.fleet.settle(ctx)
			p.died(err)
		}
		return v, err
	})
}

// window is how many prompts a bundle may have in flight now.
func (p *process) window() int {
	switch {
	case p.options.Window > 0:
		return p.options.Window
	case p.options.MaxInFlight > 0:
		return max(p.fleet.limiter.Permits()/4, minWindow)
	}
	return max(p.fleet.limiter.Permits()/2, minWindow)
}

// minWindow is the least number of prompts that a bundle has under way. A prompt waits for the disk
// or the store after each of its three stages while its answers become durable. With w prompts under
// way and a commit of c seconds a run therefore makes at most w/3c prompts a second, however fast the
// servers are: at 32 prompts a server without latency stood idle most of the time. A prompt that
// waits costs memory only, because calls of later stages go first.
const minWindow = 128

func lookup(attempt string) *process {
	processesMu.Lock()
	defer processesMu.Unlock()
	return processes[attempt]
}

// Watch returns what this process has done for a run, nothing when it has no part in it.
func Watch(attempt string) Snapshot {
	p := lookup(attempt)
	if p == nil {
		return Snapshot{}
	}
	return p.watch.snapshot()
}

// Fatal returns the error that ended a run in this process, nil when none did. A runner hands
// errors on as text with its own around it.
func Fatal(attempt string) error {
	p := lookup(attempt)
	if p == nil {
		return nil
	}
	return p.ended()
}

// ended returns the error that ended the process, or the one before it.
func (p *process) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.fatal, p.before)
}

// Settle stops asking and returns when what is in flight has come and is durable, or ctx ends.
func Settle(ctx context.Context, attempt string) {
	p := lookup(attempt)
	if p == nil {
		return
	}
	p.fleet.settle(ctx)
	if p.journal != nil {
		_ = p.journal.Flush(ctx) // what can't be kept is asked for again
	}
}

// lastAnswers bounds how long Close waits for answers that came before it gave the calls up.
const lastAnswers = 5 * time.Second

// Close ends this process's part in a run: calls in flight are given up, and the journal is closed
// when it has the answers that had come before.
func Close(attempt string) error {
	processesMu.Lock()
	p := processes[attempt]
	delete(processes, attempt)
	processesMu.Unlock()
	if p == nil {
		return nil
	}
	p.cancel()
	p.fenced.Wait()
	p.fleet.close()
	if p.journal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	p.fleet.settle(ctx)
	return p.journal.Close()
}

// died keeps the first error of a run that isn't the echo of a cancellation.
func (p *process) died(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	p.blame(err)
	p.cancel() // what waits must not ask any more
}

// cause is why a bundle failed: what ended the run, where err is no more than that the rest of it was
// given up.
func (p *process) cause(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.fatal, err)
}

// blame takes note of what ends the run, if nothing did before.
func (p *process) blame(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fatal = cmp.Or(p.fatal, err)
}
