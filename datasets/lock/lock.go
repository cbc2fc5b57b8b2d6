// Package lock lets one attempt of a run at a time work on a folder. The owner of the lock notices its loss. So
// does each cluster worker, which checks a [Fence].
//
// On a local disk the lock is an flock on OUT/operations/.lock: the operating system releases it when
// the process ends in any way. An object store has no flock. There the lock is a lease, the object
// OUT/operations/lease.json. Its owner renews it every few seconds. Another attempt may take it after half a
// minute without a renewal, or at once with Options.TakeOver.
//
//	attempt A                 OUT/operations/lease.json          attempt B
//	Acquire ── create ──────► {id: A, beat: 0}
//	        ── renew ───────► {id: A, beat: 1}  ◄── read ─────── Acquire: A has it
//	        ── renew ───────► {id: A, beat: 2}  ◄── read ─────── it is renewed: refuse
//	(dies)                    {id: A, beat: 2}  ◄── read ─────── unchanged for 30 s
//	                          {id: B, beat: 0}  ◄── replace ──── B has it
//
// The lock file is opened without following a link. It must be a regular file that belongs to the
// user and has no second hard link; otherwise Acquire refuses it and changes nothing.
//
// A process that works for an attempt but does not own the lock, such as a cluster worker, checks a [Fence].
// Without TakeOver, and if all clocks run at the same rate, a folder never has two owners at a time. A
// process notices a loss within seconds, not at once. So after a TakeOver two attempts may work for some seconds.
package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"coeval/datasets/store"
)

// Expires is how long a lease must stay unchanged before another attempt may take it without TakeOver. A
// process of an attempt that has lost its folder notices within this time.
const Expires = 30 * time.Second

// A Lock has one owner at a time.
type Lock struct {
	file  *lockFile // on a local disk
	lease *lease    // on an object store
}

// Options are the options of Acquire.
type Options struct {
	// Attempt names the owner to the processes that work for it; see [Fence].
	Attempt string
	// TakeOver takes the lease of another run at once. That run stops when it notices. On a local
	// disk it has no effect.
	TakeOver bool
	// Waiting, if not nil, is called before Acquire waits for another run's lease to expire. It
	// gets a description of that run and the longest wait.
	Waiting func(holder string, longest time.Duration)
}

// Acquire locks a run's folder and creates it if necessary. When another run owns the lock, the error
// names that run.
//
// On an object store Acquire also checks that the store honors conditional writes, and that files can
// be replaced and removed; the error names the missing ability.
func Acquire(ctx context.Context, out string, o Options) (*Lock, error) {
	record := leaseRecord{holder: thisProcess(o.Attempt), ID: uuid.NewString()}
	if store.HasLocks(out) {
		f, err := acquireFile(out, record)
		if err != nil {
			return nil, err
		}
		return &Lock{file: f}, nil
	}
	l, err := acquireLease(ctx, out, record, o)
	if err != nil {
		return nil, err
	}
	return &Lock{lease: l}, nil
}

// Context returns a context that ends when the lock is lost; its cause is the reason.
func (l *Lock) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if l.lease == nil {
		return ctx, func() { cancel(nil) }
	}
	stop := context.AfterFunc(l.lease.ctx, func() { cancel(context.Cause(l.lease.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// Release releases the lock.
func (l *Lock) Release() error {
	if l.lease != nil {
		return l.lease.release()
	}
	return l.file.release()
}

// Name returns the path of the file that names the owner of a run's folder.
func Name(out string) string {
	if store.HasLocks(out) {
		return filepath.Join(out, "operations", ".lock")
	}
	return store.Join(out, "operations", "lease.json")
}

// Exists reports whether a run's folder has a lock, current or released: then a run has worked there.
func Exists(ctx context.Context, out string) (bool, error) {
	name := Name(out)
	if is, err := store.Stat(ctx, name); err != nil || is.Size > maxRecord {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	b, err := store.ReadSmall(ctx, name)
	if err != nil {
		return false, err
	}
	var is leaseRecord
	return json.Unmarshal(b, &is) == nil && is.ID != "", nil
}

// Unwritten reports whether a run's folder on a local disk has the lock of a process that ended before it
// wrote its record: a file that is empty or has only zeros.
func Unwritten(ctx context.Context, out string) (bool, error) {
	if !store.HasLocks(out) {
		return false, nil
	}
	is, err := os.Lstat(Name(out))
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!is.Mode().IsRegular() || is.Size() > maxRecord) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	b, err := store.ReadSmall(ctx, Name(out))
	return err == nil && len(bytes.Trim(b, "\x00")) == 0, err
}

// A leaseRecord is the content of the lock file or of the lease. Each renewal of a lease writes
// another, with the next beat.
type leaseRecord struct {
	holder

	ID       string `json:"id"`
	Beat     int64  `json:"beat,omitempty"`
	Released bool   `json:"released"`
}

// A holder identifies a process that owns a lock.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	// Attempt is empty when the holder works on the journal alone.
	Attempt string `json:"attempt,omitempty"`
}

func thisProcess(attempt string) holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second), Attempt: attempt}
}

// String describes the owner for a message. The record may come from anyone, so that only the characters
// of host names pass.
func (h holder) String() string {
	return fmt.Sprintf("process %d on %s, since %s", h.PID, printableHost(h.Host), h.Since.UTC().Format(time.RFC3339))
}

// maxHost is the length of the longest host name that DNS allows.
const maxHost = 253

func printableHost(host string) string {
	printable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._ ", r):
			return r
		}
		return '?'
	}, host)
	return printable[:min(len(printable), maxHost)]
}
