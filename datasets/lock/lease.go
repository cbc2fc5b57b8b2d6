package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"coeval/datasets/store"
)

// The times of leases. Clocks of two machines are never compared: a lease has expired when a watcher sees
// the same content for long enough.
var (
	leaseBeat = 5 * time.Second
	// leaseExpires is how long a lease must stay unchanged before another attempt takes it without TakeOver.
	leaseExpires = Expires
)

// renewWithin is how long an owner may fail to renew its lease before it stops. It is shorter than
// leaseExpires, so that the owner has stopped before another attempt begins without TakeOver.
func renewWithin() time.Duration { return leaseExpires * 4 / 5 }

// A lease is a lease of this process.
type lease struct {
	out, name string
	record    leaseRecord
	version   store.Version

	ctx    context.Context // ends when the lease is lost or released
	cancel context.CancelCauseFunc
	beaten chan struct{} // closed after the last renewal
}

// errReleased ends the renewals of a lease that is released.
var errReleased = errors.New("lock: the lease was released")

// lookAgain is the pause before a lease is read again after another run changed it.
const lookAgain = 100 * time.Millisecond

func acquireLease(ctx context.Context, out string, record leaseRecord, o Options) (*lease, error) {
	l := &lease{out: out, name: Name(out), record: record, beaten: make(chan struct{})}
	var first *string          // the ID of the first lease, which TakeOver takes
	var refused *store.Version // the last version that the store refused to replace
	for {
		was, version, err := readLease(ctx, l.name)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = &was.ID
		}
		if version != "" && !was.Released && (!o.TakeOver || was.ID != *first) {
			if err := l.waitForExpiry(ctx, was, version, o.Waiting); err != nil {
				return nil, err
			}
		}
		err = l.write(ctx, version)
		switch {
		case errors.Is(err, store.ErrChanged) && refused != nil && version == *refused:
			return nil, fmt.Errorf("lock: %s: %w", l.name, errUnwritten)
		case errors.Is(err, store.ErrChanged): // renewed, or taken by another run
			refused = &version
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
				return nil, fmt.Errorf("lock: %s: %w", l.name, ctx.Err())
			}
		case err != nil && version == "":
			return nil, l.permissionError("create", err)
		case err != nil:
			return nil, l.permissionError("replace", err)
		default:
			if err := l.begin(ctx); err != nil {
				return nil, err
			}
			return l, nil
		}
	}
}

// begin renews the lease from now on, provided that the store passes checkStore.
func (l *lease) begin(ctx context.Context) error {
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	was, version := l.record, l.version
	l.record.Beat++
	began := time.Now()
	inTime, cancel := context.WithTimeout(ctx, renewWithin())
	err := l.write(inTime, version)
	cancel()
	switch {
	case err == nil:
		go l.renew(began)
		if err = l.checkStore(ctx, was, version); err == nil {
			return nil
		}
	case errors.Is(err, store.ErrChanged):
		close(l.beaten)
		return l.lossError()
	default:
		close(l.beaten)
		err = l.permissionError("replace", err)
	}
	_ = l.release() // err explains more
	return err
}

// permissionError reports a required operation that the store refused.
func (l *lease) permissionError(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("lock: %s: %w", l.name, err)
	}
	return fmt.Errorf("a run must be able to %s files in %s: %w", what, l.out, err)
}

// probeFile is a name below the run's folder that no file uses.
const probeFile = "operations/probe"

// checkStore returns an error when the store would fail a run later. The store must refuse to replace an
// older version of the lease: a store that ignores the condition (If-Match) would let two runs own one
// lease. The store must also allow the run to remove files; the check removes a missing file, for which
// a store reports a lack of rights too.
func (l *lease) checkStore(ctx context.Context, was leaseRecord, version store.Version) error {
	b, err := json.Marshal(&was)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	_, err = store.Swap(ctx, l.name, version, append(b, '\n'))
	switch {
	case err == nil:
		return fmt.Errorf("the store of %s ignores the conditions of writes, so that two runs could have one folder: choose a store with conditional writes (If-Match, If-None-Match)", l.out)
	case !errors.Is(err, store.ErrChanged):
		return fmt.Errorf("lock: %w", err)
	}
	if err := store.Remove(ctx, store.Join(l.out, probeFile)); err != nil {
		return l.permissionError("remove", err)
	}
	return nil
}

// readLease returns the lease and its version, which is empty when there is no lease.
func readLease(ctx context.Context, name string) (record leaseRecord, v store.Version, err error) {
	b, v, err := store.ReadVersion(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return record, "", nil
	}
	if err != nil {
		return record, "", fmt.Errorf("lock: %w", err)
	}
	if err := json.Unmarshal(b, &record); err != nil {
		return record, "", fmt.Errorf("lock: %s is not a lease: %w", name, err)
	}
	return record, v, nil
}

// errUnwritten means that the lease is unchanged although the store refused to write it.
var errUnwritten = errors.New("the store refused a conditional write although no other run had changed the file")

// write replaces one version of the lease with this lease's record. If the answer to an earlier write
// was lost, the lease may already contain this lease's own ID: write then replaces any version of it.
// It returns [store.ErrChanged] only if another run owns the lease.
func (l *lease) write(ctx context.Context, old store.Version) error {
	b, err := json.Marshal(&l.record)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	for again := false; ; again = true {
		v, err := store.Swap(ctx, l.name, old, append(b, '\n'))
		if err == nil {
			l.version = v
			return nil
		}
		is, now, readErr := readLease(ctx, l.name)
		switch {
		case readErr != nil:
			return readErr // the next beat shows whose write arrived
		case is.ID == l.record.ID && errors.Is(err, store.ErrChanged) && (now == old || again):
			return fmt.Errorf("lock: %s: %w", l.name, errUnwritten)
		case is.ID != l.record.ID, now == old, again:
			return fmt.Errorf("lock: %w", err)
		case is.Beat == l.record.Beat && is.Released == l.record.Released:
			l.version = now
			return nil
		}
		old = now
	}
}

// waitForExpiry returns nil when a lease stays unchanged until it has expired. It returns an error that
// names the owner when the owner renews it.
func (l *lease) waitForExpiry(ctx context.Context, was leaseRecord, version store.Version, waiting func(string, time.Duration)) error {
	if waiting != nil {
		waiting(was.String(), leaseExpires)
	}
	expired := time.After(leaseExpires)
	look := time.NewTicker(leaseBeat / 4)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-expired:
			return nil
		case <-look.C:
		}
		is, now, err := readLease(ctx, l.name)
		switch {
		case err != nil:
			return err
		case now == version:
		case now == "" || is.Released:
			return nil // free: the write that follows shows whether another run is faster
		default:
			return fmt.Errorf("another run works on %s (%s): wait until it ends, choose another --out, or stop that run with --takeover", l.out, is)
		}
	}
}

// renew writes the next beat again and again until the lease is lost or released. The last beat was
// written at some time since began.
func (l *lease) renew(began time.Time) {
	defer close(l.beaten)
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	for deadline := began.Add(renewWithin()); ; {
		select {
		case <-l.ctx.Done():
			return
		case <-beat.C:
		}
		began := time.Now()
		l.record.Beat++
		// A slower write is repeated with the next beat.
		ctx, cancel := context.WithDeadline(l.ctx, earlier(deadline, began.Add(leaseExpires/3)))
		err := l.write(ctx, l.version)
		cancel()
		switch {
		case err == nil:
			deadline = began.Add(renewWithin())
		case l.ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrChanged):
			l.cancel(l.lossError())
			return
		case !time.Now().Before(deadline):
			l.cancel(fmt.Errorf("the lease on %s could not be renewed for %s, and another run may have taken it: %w", l.out, renewWithin(), err))
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lossError names the run that took the lease.
func (l *lease) lossError() error {
	ctx, cancel := context.WithTimeout(l.ctx, leaseBeat)
	defer cancel()
	who := "another run"
	if is, v, err := readLease(ctx, l.name); err == nil && v != "" {
		who += " (" + is.String() + ")"
	}
	return fmt.Errorf("%s took %s over, and this run stops. No paid answer is lost", who, l.out)
}

// release removes the lease, unless it was lost.
func (l *lease) release() error {
	lost := l.ctx.Err() != nil
	l.cancel(errReleased)
	<-l.beaten
	if lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseExpires)
	defer cancel()
	// A renewal without an answer may have succeeded: then its version is the one to replace.
	was, version, err := readLease(ctx, l.name)
	if err != nil || was.ID != l.record.ID {
		return err
	}
	l.record.Released = true
	if err := l.write(ctx, version); err != nil && !errors.Is(err, store.ErrChanged) {
		return err
	}
	return nil
}
