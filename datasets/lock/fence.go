package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"coeval/datasets/store"
)

// A Fence reports whether a run still owns its lock. It serves processes that work for the run without
// the lock, for example workers of a cluster. They continue after the program that started the run has
// died, and stop when another run owns the folder. A Fence may be used from many goroutines.
//
// A fence is no lock: another run may begin between a check and the step that follows it. A process
// that checks before each step does at most one step too many.
type Fence struct {
	out, attempt string

	mu          sync.Mutex
	confirmedAt time.Time // start of the last look at a lock of the attempt
	looking     *look     // nil when no look runs
}

// A look reads the lock once for all callers that wait for it.
type look struct {
	done chan struct{}
	err  error // valid when done is closed
}

// The times of fences.
var (
	// fenceFresh is how long the result of a look is used.
	fenceFresh = time.Second
	// fenceTries is how often a lock file is read again while another process writes it.
	fenceTries = 5
	// fenceAnswer bounds one look.
	fenceAnswer = Expires / 2
	// fenceBlind is how long a worker continues without being able to read the lock: as long as the
	// owner of a lease that it cannot renew.
	fenceBlind = Expires
)

// NewFence returns the fence of an attempt on a run's folder, the attempt that [Options] named.
func NewFence(out, attempt string) *Fence { return &Fence{out: out, attempt: attempt} }

// A Lost error means that an attempt has lost its run's folder.
type Lost struct{ message string }

func (l *Lost) Error() string { return l.message }

// Check returns nil when the attempt owns the lock and a [*Lost] when it does not. It returns another
// error when it cannot read the lock in time or before ctx ends. Check reads the lock at most once a
// second. Calls during a look wait for its result.
func (f *Fence) Check(ctx context.Context) error {
	late := time.NewTimer(fenceAnswer)
	defer late.Stop()
	for began := time.Now(); ; {
		l := f.lookSince(began)
		if l == nil {
			return nil
		}
		select {
		case <-l.done:
			if l.err != nil {
				return l.err
			}
		case <-late.C:
			return f.unknown(fmt.Errorf("no answer for %s", fenceAnswer))
		case <-ctx.Done():
			return f.unknown(ctx.Err())
		}
	}
}

// lookSince returns a look in progress or starts one. It returns nil when the last look is recent enough
// for a check that began at this time. A look has its own context, since many callers may wait for it.
func (f *Fence) lookSince(began time.Time) *look {
	f.mu.Lock()
	defer f.mu.Unlock()
	if began.Sub(f.confirmedAt) < max(fenceFresh, 1) {
		return nil
	}
	if f.looking != nil {
		return f.looking
	}
	now, l := time.Now(), &look{done: make(chan struct{})}
	f.looking = l
	go func() {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(context.Background(), fenceAnswer)
		defer cancel()
		l.err = f.look(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.looking = nil
		if l.err == nil {
			f.confirmedAt = now
		}
	}()
	return l
}

func (f *Fence) unknown(why error) error {
	return fmt.Errorf("lock: cannot find out whether attempt %s still has %s: %w", f.attempt, f.out, why)
}

func (f *Fence) look(ctx context.Context) error {
	is, err := f.read(ctx)
	lost := func(format string, args ...any) error {
		return &Lost{fmt.Sprintf(format, args...) + fmt.Sprintf(", and attempt %s stops. No paid answer is lost", f.attempt)}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lost("the lock of %s is gone", f.out)
	case err != nil:
		return f.unknown(err)
	case is.Attempt != f.attempt:
		return lost("another run (%s) has %s", is, f.out)
	case is.Released:
		return lost("the run on %s was ended (%s)", f.out, is)
	}
	return nil
}

func (f *Fence) read(ctx context.Context) (is leaseRecord, err error) {
	name := Name(f.out)
	for range fenceTries { // a shared disk may show an incomplete record
		var b []byte
		if b, err = store.ReadSmall(ctx, name); err != nil {
			return is, err
		}
		if err = json.Unmarshal(b, &is); err == nil {
			return is, nil
		}
		select {
		case <-time.After(fenceFresh / 10):
		case <-ctx.Done():
			return is, ctx.Err()
		}
	}
	return is, fmt.Errorf("%s contains no lock: %w", name, err)
}

// Watch checks every few seconds until ctx ends. It returns an error when the attempt has lost the
// lock. It also returns one when the lock was unreadable for long enough that another run may own it.
func (f *Fence) Watch(ctx context.Context) error {
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	for confirmed := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
		began := time.Now()
		err := f.Check(ctx)
		var lost *Lost
		switch {
		case err == nil:
			confirmed = began
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &lost), time.Since(confirmed) > fenceBlind:
			return err
		}
	}
}
