package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"coeval/datasets/store"
)

// A Lock lets one run at a time work on a folder. On a disk the operating system gives it up
// when the program ends, however that is. Elsewhere it is a lease: the run renews it every
// few seconds, and who finds that nobody does takes it.
type Lock struct {
	flock *flock.Flock
	term  term // of the flock
	lease *lease
}

// Acquiring says how a lock is had.
type Acquiring struct {
	// Attempt names who has the lock to its workers; see [Fence].
	Attempt string
	// TakeOver takes the lease of another run at once. That run stops when it notices. It has
	// no say on a disk.
	TakeOver bool
	// Waiting is called, if it is there, before it is awaited whether another run's lease is
	// renewed, with who that is and how long it may take.
	Waiting func(who string, most time.Duration)
}

// holder is who has the lock, for the sentence that refuses the next.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	// Attempt is empty where the journal alone is worked on.
	Attempt string `json:"attempt,omitempty"`
}

func thisProcess(attempt string) holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second), Attempt: attempt}
}

func (h holder) String() string {
	return fmt.Sprintf("process %d on %s, since %s", h.PID, h.Host, h.Since.Format(time.RFC3339))
}

// Acquire locks a run's folder, which it makes when needed. If another run has it, it says which.
// On an object store it also proves that the lock will hold and that files there can be written
// over and removed; it is an error that says what is missing if they can't.
func Acquire(ctx context.Context, out string, how Acquiring) (*Lock, error) {
	if !store.HasLocks(out) {
		l, err := acquireLease(ctx, out, how)
		if err != nil {
			return nil, err
		}
		return &Lock{lease: l}, nil
	}
	name := lockName(out)
	if err := makeDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	l := flock.New(name, flock.SetPermissions(lockMode))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("journal: lock %s: %w", name, err)
	}
	if !ok {
		return nil, fmt.Errorf("another run works on %s%s: wait until it ends, or give this one another --out", out, heldBy(name))
	}
	t := term{holder: thisProcess(how.Attempt), ID: uuid.NewString()}
	if err := t.writeLocal(name); err != nil {
		return nil, errors.Join(err, l.Unlock())
	}
	return &Lock{flock: l, term: t}, nil
}

// lockName returns the file that says who has a run's folder.
func lockName(out string) string {
	if store.HasLocks(out) {
		return filepath.Join(out, "operations", ".lock")
	}
	return store.Join(out, leaseFile)
}

// lockMode lets workers read the lock, maybe as somebody else.
const lockMode = 0o644

// lockSize is more than a term takes. All terms have it, so that writing one over another is one
// step, and no reader meets a file that is cut.
const lockSize = 1024

func (t *term) writeLocal(name string) error {
	b, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("journal: lock %s: %w", name, err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("journal: lock: %w", err)
	}
	_, err = f.WriteAt(append(b, bytes.Repeat([]byte("\n"), max(lockSize-len(b), 0))...), 0)
	if info, statErr := f.Stat(); statErr == nil && info.Mode().Perm()&lockMode != lockMode {
		_ = f.Chmod(info.Mode().Perm() | lockMode) // whose the file is not can't, and could write it all the same
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("journal: lock: %w", err)
	}
	return nil
}

func heldBy(name string) string {
	var h holder
	b, err := os.ReadFile(name)
	if err != nil || json.Unmarshal(b, &h) != nil {
		return ""
	}
	return " (" + h.String() + ")"
}

// Context returns a context that ends when the lock is lost, with the cause that says how.
func (l *Lock) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if l.lease == nil {
		return ctx, func() { cancel(nil) }
	}
	stop := context.AfterFunc(l.lease.held, func() { cancel(context.Cause(l.lease.held)) })
	return ctx, func() { stop(); cancel(nil) }
}

// Release gives the lock back.
func (l *Lock) Release() error {
	if l.lease != nil {
		return l.lease.release()
	}
	l.term.Released = true
	err := l.term.writeLocal(l.flock.Path())
	if err = errors.Join(err, l.flock.Unlock()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
