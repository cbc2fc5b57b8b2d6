package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// A Lock lets one run at a time work on a folder. The operating system gives it up when the
// program ends, however that is.
type Lock struct{ flock *flock.Flock }

// holder is who has the lock, for the sentence that refuses the next.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// Acquire locks a run's folder, which it makes when needed. If another run has it, it says which.
func Acquire(out string) (*Lock, error) {
	name := filepath.Join(out, "operations", ".lock")
	if err := makeDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	l := flock.New(name)
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("journal: lock %s: %w", name, err)
	}
	if !ok {
		return nil, fmt.Errorf("another run works on %s%s: wait until it ends, or give this one another --out", out, heldBy(name))
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	b, err := json.Marshal(holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = os.WriteFile(name, b, 0o644)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: lock %s: %w", name, err), l.Unlock())
	}
	return &Lock{flock: l}, nil
}

func heldBy(name string) string {
	var h holder
	b, err := os.ReadFile(name)
	if err != nil || json.Unmarshal(b, &h) != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d on %s, since %s)", h.PID, h.Host, h.Since.Format(time.RFC3339))
}

// Release gives the lock back.
func (l *Lock) Release() error {
	if err := l.flock.Unlock(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
