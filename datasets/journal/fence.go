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

	mu   sync.Mutex
	held time.Time // when it was seen last that the lock is the attempt's
}

// How often fences look. A worker that can't tell goes on for as long as the holder of a lease
// that it can't renew.
var (
	fenceFresh = time.Second
	fenceTries = 5
)

// NewFence returns the fence of an attempt on a run's folder, the one that [Acquire] was told of.
func NewFence(out, attempt string) *Fence { return &Fence{out: out, attempt: attempt} }

// A Lost error says that an attempt has lost its run's folder.
type Lost struct{ why string }

func (l *Lost) Error() string { return l.why }

// Check returns nil when the lock is the attempt's, a [*Lost] when it isn't, and another error
// when that can't be told. What was seen within the last second is not looked up again.
func (f *Fence) Check(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	began := time.Now()
	if began.Sub(f.held) < fenceFresh {
		return nil
	}
	if err := f.look(ctx); err != nil {
		return err
	}
	f.held = began
	return nil
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
		return fmt.Errorf("journal: whether attempt %s still has %s can't be told: %w", f.attempt, f.out, err)
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
		limited, cancel := context.WithTimeout(ctx, leaseExpires/2)
		err := f.Check(limited)
		cancel()
		var lost *Lost
		switch {
		case err == nil:
			sure = began
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &lost), time.Since(sure) > leaseExpires:
			return err
		}
	}
}
