package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"

	"coeval/datasets/store"
)

// How leases are kept. Nobody's clock is compared with another's: a lease is dead when its
// content stays the same for as long as a watcher looks.
var (
	leaseBeat = 5 * time.Second
	// leaseExpires is how long a lease is watched before it is taken. Its holder stops itself
	// when it could not renew it for four fifths of that.
	leaseExpires = 30 * time.Second
)

// leaseFile is the lease below a run's folder.
const leaseFile = "operations/lease.json"

// term is the content of a lease. Each renewal makes another, with the next beat.
type term struct {
	holder

	ID       string `json:"id"`
	Beat     int64  `json:"beat,omitempty"`
	Released bool   `json:"released"`
}

// lease is a lease that this process holds.
type lease struct {
	out, name string
	term      term
	version   store.Version

	held   context.Context // until it is lost or given back
	drop   context.CancelCauseFunc
	beaten chan struct{} // closed when no renewal is under way any more
}

// errReleased ends the renewing of a lease that is given back.
var errReleased = errors.New("journal: the lease was given back")

func acquireLease(ctx context.Context, out string, how Acquiring) (*lease, error) {
	l := &lease{out: out, name: lockName(out), term: term{holder: thisProcess(how.Attempt), ID: uuid.NewString()}, beaten: make(chan struct{})}
	var from *string           // whose lease was there at first, and may be taken over
	var refused *store.Version // the last that could not be written over
	for {
		was, version, err := readTerm(ctx, l.name)
		if err != nil {
			return nil, err
		}
		if from == nil {
			from = &was.ID
		}
		if version != "" && !was.Released && (!how.TakeOver || was.ID != *from) {
			if err := l.awaitDeath(ctx, was, version, how.Waiting); err != nil {
				return nil, err
			}
		}
		err = l.write(ctx, version)
		switch {
		case errors.Is(err, store.ErrChanged) && refused != nil && version == *refused:
			return nil, fmt.Errorf("journal: %s: %w", l.name, errUnwritten)
		case errors.Is(err, store.ErrChanged): // the holder has renewed it, or somebody else was faster: look again
			refused = &version
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
				return nil, fmt.Errorf("journal: %s: %w", l.name, ctx.Err())
			}
		case err != nil && version == "":
			return nil, l.unable("create", err)
		case err != nil:
			return nil, l.unable("write over", err)
		default:
			if err := l.begin(ctx); err != nil {
				return nil, err
			}
			return l, nil
		}
	}
}

// begin keeps the lease from now on, if the store is found to be one that runs can work on.
func (l *lease) begin(ctx context.Context) error {
	l.held, l.drop = context.WithCancelCause(context.Background())
	was, version := l.term, l.version
	l.term.Beat++
	began := time.Now()
	inTime, cancel := context.WithTimeout(ctx, leaseExpires*4/5)
	err := l.write(inTime, version)
	cancel()
	switch {
	case err == nil:
		go l.renew(began)
		if err = l.prove(ctx, was, version); err == nil {
			return nil
		}
	case errors.Is(err, store.ErrChanged):
		close(l.beaten)
		return l.lostTo()
	default:
		close(l.beaten)
		err = l.unable("write over", err)
	}
	_ = l.release() // what went wrong is told already
	return err
}

// lookAgain is how long to wait before a lease is read that somebody else changed meanwhile.
const lookAgain = 100 * time.Millisecond

// unable says what a run must be able to do and is not.
func (l *lease) unable(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("journal: %s: %w", l.name, err)
	}
	return fmt.Errorf("a run must be able to %s files in %s: %w", what, l.out, err)
}

// probeFile is a name that no file has.
const probeFile = "operations/probe"

// prove ends a run before it asks for anything where the store would let it down later. What names
// an older version of the lease must not be written over it: a store that ignores the condition
// (If-Match) would let two runs have one lease. And a run must be allowed to remove files, which
// a store tells also of one that is not there.
func (l *lease) prove(ctx context.Context, was term, version store.Version) error {
	b, err := json.Marshal(&was)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = store.Swap(ctx, l.name, version, append(b, '\n'))
	switch {
	case err == nil:
		return fmt.Errorf("the store of %s ignores the conditions of writes, and two runs could have one folder: a run needs a store with conditional writes (If-Match, If-None-Match)", l.out)
	case !errors.Is(err, store.ErrChanged):
		return fmt.Errorf("journal: %w", err)
	}
	if err := store.Remove(ctx, store.Join(l.out, probeFile)); err != nil {
		return l.unable("remove", err)
	}
	return nil
}

// readTerm returns the lease that is there and its version, which is empty when there is none.
func readTerm(ctx context.Context, name string) (t term, v store.Version, err error) {
	b, v, err := store.ReadVersion(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return t, "", nil
	}
	if err != nil {
		return t, "", fmt.Errorf("journal: %w", err)
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, "", fmt.Errorf("journal: %s is no lease: %w", name, err)
	}
	return t, v, nil
}

// errUnwritten says that the lease is still whose it was: it was not written, and nobody else did.
var errUnwritten = errors.New("the store refused to change what nobody else has changed")

// write puts the lease's term in the place of a version. What is there may be the lease's own,
// where a write came to its end and its answer did not: then it is written over, whatever its
// version. It returns [store.ErrChanged] only if what is there is somebody else's.
func (l *lease) write(ctx context.Context, over store.Version) error {
	b, err := json.Marshal(&l.term)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for again := false; ; again = true {
		v, err := store.Swap(ctx, l.name, over, append(b, '\n'))
		if err == nil {
			l.version = v
			return nil
		}
		is, now, readErr := readTerm(ctx, l.name)
		switch {
		case readErr != nil:
			return readErr // whose write is there is told with the next beat
		case is.ID == l.term.ID && errors.Is(err, store.ErrChanged) && (now == over || again):
			return fmt.Errorf("journal: %s: %w", l.name, errUnwritten)
		case is.ID != l.term.ID, now == over, again:
			return fmt.Errorf("journal: %w", err)
		case is.Beat == l.term.Beat && is.Released == l.term.Released:
			l.version = now
			return nil
		}
		over = now
	}
}

// awaitDeath returns nil when a lease stays as it is, and an error that names the holder when
// it is renewed.
func (l *lease) awaitDeath(ctx context.Context, was term, version store.Version, waiting func(string, time.Duration)) error {
	if waiting != nil {
		waiting(was.String(), leaseExpires)
	}
	dead := time.After(leaseExpires)
	look := time.NewTicker(leaseBeat / 4)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-dead:
			return nil
		case <-look.C:
		}
		is, now, err := readTerm(ctx, l.name)
		switch {
		case err != nil:
			return err
		case now == version:
		case now == "" || is.Released:
			return nil // taken next, or by another: then the write tells
		default:
			return fmt.Errorf("another run works on %s (%s): wait until it ends, give this one another --out, or stop that one with --takeover", l.out, is)
		}
	}
}

// renew writes the next term again and again until the lease is lost or given back. The last one was
// written at some time since began.
func (l *lease) renew(began time.Time) {
	defer close(l.beaten)
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	for deadline := began.Add(leaseExpires * 4 / 5); ; {
		select {
		case <-l.held.Done():
			return
		case <-beat.C:
		}
		began := time.Now()
		l.term.Beat++
		// One that takes longer is made again with the next beat.
		ctx, cancel := context.WithDeadline(l.held, earlier(deadline, began.Add(leaseExpires/3)))
		err := l.write(ctx, l.version)
		cancel()
		switch {
		case err == nil:
			deadline = began.Add(leaseExpires * 4 / 5)
		case l.held.Err() != nil:
			return
		case errors.Is(err, store.ErrChanged):
			l.drop(l.lostTo())
			return
		case !time.Now().Before(deadline):
			l.drop(fmt.Errorf("the lease on %s could not be renewed for %s, and another run may have taken it: %w", l.out, leaseExpires*4/5, err))
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

func (l *lease) lostTo() error {
	ctx, cancel := context.WithTimeout(l.held, leaseBeat)
	defer cancel()
	who := "another run"
	if t, v, err := readTerm(ctx, l.name); err == nil && v != "" {
		who += " (" + t.String() + ")"
	}
	return fmt.Errorf("%s took %s over, and this one stops; nothing that was paid for is lost", who, l.out)
}

// release gives the lease back. One that was lost is somebody else's.
func (l *lease) release() error {
	lost := l.held.Err() != nil
	l.drop(errReleased)
	<-l.beaten
	if lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseExpires)
	defer cancel()
	// A renewal that was cut off may have happened: then its version is the one to replace.
	was, version, err := readTerm(ctx, l.name)
	if err != nil || was.ID != l.term.ID {
		return err
	}
	l.term.Released = true
	if err := l.write(ctx, version); err != nil && !errors.Is(err, store.ErrChanged) {
		return err
	}
	return nil
}
