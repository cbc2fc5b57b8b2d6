package journal

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

// A Fence tells those who work for a run without holding its lock, as the workers of a cluster,
// whether the lock is still their run's: they go on when the program that began the run is
// gone, and must end when another run has the folder. It may be used from many goroutines.
//
// A fence is no lock: between a check and what it allows another run may begin. What is checked
// for again and again, at most fenceFresh apart, is done by no run but one that lost its folder
// within the time of one step.
type Fence struct {
	out, attempt string

	mu      sync.Mutex
	held    time.Time // when the look began that saw last that the lock is the attempt's
	looking *look     // nil when none is under way
}

// look is one look at the lock, for all who wait for it.
type look struct {
	done chan struct{}
	err  error // when done
}

// How fences look.
var (
	fenceFresh = time.Second
	fenceTries = 5
	// fenceAnswer bounds one look.
	fenceAnswer = leaseExpires / 2
	// fenceBlind is how long a worker that can't tell goes on: as long as the holder of a lease
	// that it can't renew.
	fenceBlind = leaseExpires
)

// NewFence returns the fence of an attempt on a run's folder, the one that [Acquire] was told of.
func NewFence(out, attempt string) *Fence { return &Fence{out: out, attempt: attempt} }

// A Lost error says that an attempt has lost its run's folder.
type Lost struct{ why string }

func (l *Lost) Error() string { return l.why }

// Check returns nil when the lock is the attempt's, a [*Lost] when it isn't, and another error
// when that can't be told, in time or before ctx ends. What was seen within the last second is not
// looked up again, and who asks while somebody looks waits for the same answer.
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

// lookSince returns a look that is under way, or nil where one has told enough for a check that
// began then. A look has its own time: it is not only for the one who asked first.
func (f *Fence) lookSince(began time.Time) *look {
	f.mu.Lock()
	defer f.mu.Unlock()
	if began.Sub(f.held) < max(fenceFresh, 1) {
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
			f.held = now
		}
	}()
	return l
}

func (f *Fence) unknown(why error) error {
	return fmt.Errorf("journal: whether attempt %s still has %s can't be told: %w", f.attempt, f.out, why)
}

func (f *Fence) look(ctx context.Context) error {
	t, err := f.read(ctx)
	lost := func(format string, args ...any) error {
		return &Lost{fmt.Sprintf(format, args...) + fmt.Sprintf(", and attempt %s stops; nothing that was paid for is lost", f.attempt)}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lost("the lock of %s is gone", f.out)
	case err != nil:
		return f.unknown(err)
	case t.Attempt != f.attempt:
		return lost("another run (%s) has %s", t, f.out)
	case t.Released:
		return lost("the run on %s was ended (%s)", f.out, t)
	}
	return nil
}

func (f *Fence) read(ctx context.Context) (t term, err error) {
	name := lockName(f.out)
	for range fenceTries { // on a shared disk what is just being written may be seen in part
		var b []byte
		if b, err = store.ReadFile(ctx, name); err != nil {
			return t, err
		}
		if err = json.Unmarshal(b, &t); err == nil {
			return t, nil
		}
		select {
		case <-time.After(fenceFresh / 10):
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
	return t, fmt.Errorf("%s holds no lock: %w", name, err)
}

// Watch looks every few seconds until ctx ends, and returns the error when the lock is no longer
// the attempt's, or that could not be told for so long that another run may have it.
func (f *Fence) Watch(ctx context.Context) error {
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	for sure := time.Now(); ; {
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
			sure = began
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &lost), time.Since(sure) > fenceBlind:
			return err
		}
	}
}
