package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
	"coeval/schemas/machine"
)

// The times and sizes of commits.
var (
	// commitDelay is how long a commit on a local disk waits for more records. Larger frames compress
	// better and need fewer calls of fsync. With the fsync a record waits about twice as long.
	commitDelay = 40 * time.Millisecond
	// putEvery is the pause between two parts of a segment on an object store. More than putSize bytes
	// end the pause.
	putEvery = 2 * time.Second
	putSize  = 8 << 20
	// maxPending is the number of bytes above which Ready waits on an object store.
	maxPending = 64 << 20
	// maxUnsaved is how long a record may wait to become durable before new requests wait too. A part
	// waits putEvery, and its upload takes well under a second. A store that needs retries takes longer.
	maxUnsaved = 5 * time.Second
)

// errClosed is the error of Append after Close.
var errClosed = errors.New("journal: closed")

// A Journal appends to the buckets of one folder. Every process that writes has its own. Its committing
// goroutine alone opens, writes and closes files.
type Journal struct {
	dir     string
	bits    PrefixBits
	encoder *zstd.Encoder
	// parts is true on an object store, where no file can be appended to: a segment is a sequence of
	// parts.
	parts  bool
	frames [][]byte      // buffers of the committing goroutine, one for each batch of a commit
	wake   chan struct{} // something is pending
	full   chan struct{} // enough is pending, or a caller waits for it
	done   chan struct{} // closed when the committing goroutine has ended

	mu      sync.Mutex
	closed  bool
	pending map[*appender]*batch
	// unsaved are the batches that are pending or being written, the oldest first.
	unsaved []*batch
	// pendingBytes is the size of the lines that are pending or being written.
	pendingBytes int
	spare        [][]byte // buffers of batches that are committed
	// unreported are the broken segments whose error no caller has received yet.
	unreported map[*appender]struct{}
	// closeErr is the first error of closing a file.
	closeErr error
}

// Open returns a journal that appends below dir. It creates dir if necessary. The bits are the prefix
// lengths of the existing buckets. The caller must close the journal.
func Open(dir string, bits PrefixBits) (*Journal, error) {
	parts := !store.HasLocks(dir)
	if !parts {
		if err := store.MakeFolder(dir); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{
		dir: dir, bits: bits, encoder: encoder, parts: parts,
		pending: map[*appender]*batch{}, unreported: map[*appender]struct{}{},
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if parts {
		go j.putAll()
	} else {
		go j.commitAll()
	}
	return j, nil
}

// Close commits all pending records and waits for it. It returns the errors that no caller has received
// yet.
func (j *Journal) Close() error {
	j.mu.Lock()
	first := !j.closed
	j.closed = true
	j.mu.Unlock()
	if first {
		signal(j.wake)
		signal(j.full)
	}
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.closeErr
	for a := range j.unreported {
		err = errors.Join(err, a.broken)
	}
	return err
}

// Flush commits the pending records of all views at once. It returns when they are durable, when a
// commit failed, or when ctx ends.
func (j *Journal) Flush(ctx context.Context) error {
	j.mu.Lock()
	waiting := slices.Clone(j.unsaved)
	j.mu.Unlock()
	signal(j.full)
	var err error
	for _, b := range waiting {
		err = cmp.Or(err, b.wait(ctx))
	}
	return err
}

// Healthy waits while a record of any view has waited for more than five seconds to become durable. The
// caller must call it before each request, because a lost answer must be paid for again. It returns an
// error when ctx ends first.
func (j *Journal) Healthy(ctx context.Context) error {
	for {
		b := j.lateBatch()
		if b == nil {
			return nil
		}
		select {
		case <-b.done: // its own callers get its error
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lateBatch returns the oldest unsaved batch if it has been unsaved for longer than maxUnsaved, and nil
// otherwise.
func (j *Journal) lateBatch() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.unsaved) > 0 && time.Since(j.unsaved[0].began) > maxUnsaved {
		return j.unsaved[0]
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// A batch becomes frames of one segment.
type batch struct {
	of    *appender
	began time.Time
	lines []byte
	size  int
	done  chan struct{}
	err   error // valid when done is closed
}

// wait returns the error of the batch's commit.
func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		if b.err != nil {
			b.of.journal.markReported(b.of)
		}
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// An appender is a bundle attempt's segment in one bucket.
type appender struct {
	journal *Journal
	// name is the path of the segment below the journal, with slashes; in parts it has no ending.
	name    string
	started atomic.Bool
	file    *os.File // of the committing goroutine
	part    int      // of the committing goroutine

	// Guarded by the journal's mutex:
	last   *batch
	broken error // why appending has ended
}

func (a *appender) append(records []Record) error {
	buffer, ok := encodings.Get().(*bytes.Buffer)
	if !ok {
		buffer = new(bytes.Buffer)
	}
	buffer.Reset()
	if err := segment.EncodeLines(buffer, records); err != nil {
		return err
	}
	err := a.journal.enqueue(a, buffer.Bytes())
	if buffer.Cap() <= maxEncoding {
		encodings.Put(buffer)
	}
	return err
}

// encodings are buffers for the lines of a call of append. A buffer larger than maxEncoding is not
// kept.
var encodings sync.Pool

const maxEncoding = 64 << 10

// ready waits for a commit on a local disk, and on an object store under back-pressure.
func (a *appender) ready(ctx context.Context) error {
	j := a.journal
	j.mu.Lock()
	waits := !j.parts || j.pendingBytes > maxPending
	j.mu.Unlock()
	if !waits {
		return nil
	}
	return a.sync(ctx)
}

func (a *appender) sync(ctx context.Context) error {
	a.journal.mu.Lock()
	last := a.last // earlier batches are committed before it
	a.journal.mu.Unlock()
	if last == nil {
		return nil
	}
	return last.wait(ctx)
}

// enqueue adds lines to the segment's next batch.
func (j *Journal) enqueue(a *appender, lines []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a.broken != nil {
		delete(j.unreported, a)
		return a.broken
	}
	if j.closed {
		return errClosed
	}
	b := j.pending[a]
	if b == nil {
		b = &batch{of: a, began: time.Now(), done: make(chan struct{})}
		j.unsaved = append(j.unsaved, b)
		if k := len(j.spare) - 1; k >= 0 {
			b.lines, j.spare = j.spare[k], j.spare[:k]
		}
		j.pending[a] = b
	}
	b.lines = append(b.lines, lines...)
	b.size += len(lines)
	a.last = b
	a.started.Store(true)
	signal(j.wake)
	if j.pendingBytes += len(lines); j.pendingBytes > putSize {
		signal(j.full)
	}
	return nil
}

// takePending returns the batches to commit now, and whether the journal is closed.
func (j *Journal) takePending() (batches map[*appender]*batch, closing bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	batches = maps.Clone(j.pending)
	clear(j.pending)
	return batches, j.closed
}

func (j *Journal) brokenBy(a *appender) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return a.broken
}

// complete hands the result of a batch's commit to the waiting callers. The first failed batch breaks
// its segment.
func (j *Journal) complete(b *batch, err error) {
	if fault := machine.Fault(err); fault != "" {
		err = fmt.Errorf("%w: %s", err, fault)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if at := slices.Index(j.unsaved, b); at >= 0 {
		j.unsaved = slices.Delete(j.unsaved, at, at+1)
	}
	j.pendingBytes -= b.size
	if err != nil && b.of.broken == nil {
		b.of.broken = err
		j.unreported[b.of] = struct{}{}
	}
	b.err, b.lines = err, nil
	close(b.done)
}

func (j *Journal) markReported(a *appender) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.unreported, a)
}
