package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"coeval/datasets/store"
)

// linger is how long a commit waits for more records: it makes frames that compress well
// and few calls of fsync. With the fsync itself a record waits about twice that.
const linger = 40 * time.Millisecond

// How a journal on an object store is put down. A segment's part goes every few seconds, and
// earlier where much waits. Who has appended waits when the store does not keep up.
var (
	putEvery   = 2 * time.Second
	putSize    = 8 << 20
	mostUnkept = 64 << 20
)

// putters is how many parts are put at a time.
const putters = 16

// errClosed is what Append returns after Close.
var errClosed = errors.New("journal: closed")

// A Journal appends to the buckets of one folder. Every process that writes has its own.
type Journal struct {
	dir     string
	bits    PrefixBits
	encoder *zstd.Encoder
	frames  [][]byte // of the committing goroutine alone, one for each batch of a commit
	// parts says that nothing can be appended to a file here: a segment is a row of parts.
	parts bool

	mu      sync.Mutex
	pending map[*appender]*batch
	// unsettled are the batches that are pending or being written.
	unsettled map[*batch]struct{}
	wake      chan struct{}
	unkept    int // bytes of pending and of what is being put
	full      chan struct{}
	spare     [][]byte // buffers of batches that are committed
	closed    bool
	done      chan struct{}
	// untold are the segments that broke, until somebody is told.
	untold map[*appender]struct{}
	// failed is what closing files came to.
	failed error
}

// Open returns a journal that appends below dir, which it makes when needed. Its buckets have
// prefixes of these bits, beside those that it adds itself. Close it.
func Open(dir string, bits PrefixBits) (*Journal, error) {
	parts := !store.HasLocks(dir)
	if !parts {
		if err := store.MakeFolder(dir); err != nil {
			return nil, err
		}
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{
		dir: dir, bits: bits, encoder: encoder, parts: parts,
		pending: map[*appender]*batch{}, unsettled: map[*batch]struct{}{}, untold: map[*appender]struct{}{},
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if parts {
		go j.putAll()
	} else {
		go j.commitAll()
	}
	return j, nil
}

// Close commits what is pending and waits for it. Its error is of what nobody else was told of.
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
	err := j.failed
	for a := range j.untold {
		err = errors.Join(err, a.broken)
	}
	return err
}

// Flush puts down at once what is pending in all views, and returns when it is durable, could
// not be made so, or ctx ends.
func (j *Journal) Flush(ctx context.Context) error {
	j.mu.Lock()
	waiting := slices.Collect(maps.Keys(j.unsettled))
	j.mu.Unlock()
	signal(j.full)
	var err error
	for _, b := range waiting {
		err = cmp.Or(err, b.wait(ctx))
	}
	return err
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// batch is what becomes one frame of one segment.
type batch struct {
	of    *appender
	lines []byte
	size  int
	done  chan struct{}
	err   error
}

// appender is an attempt's own segment in one bucket.
type appender struct {
	journal *Journal
	// name is the segment's below the journal, with slashes; that of a segment in parts has no ending.
	name    string
	started atomic.Bool
	file    *os.File // of the committing goroutine alone
	part    int      // the same

	// Under the journal's lock:
	last *batch
	// broken is why nothing can be appended any more.
	broken error
}

func (a *appender) append(records []Record) error {
	buffer, _ := encodings.Get().(*[]byte)
	lines, err := encodeLines((*buffer)[:0], records)
	if err != nil {
		return err
	}
	err = a.journal.enqueue(a, lines)
	if *buffer = lines; cap(lines) <= mostEncoding {
		encodings.Put(buffer)
	}
	return err
}

// encodings are buffers for the lines of a call of append, mostEncoding the size of one that is
// kept.
var encodings = sync.Pool{New: func() any { return new([]byte) }}

const mostEncoding = 64 << 10

// ready waits on a disk, and where more waits than can be put.
func (a *appender) ready(ctx context.Context) error {
	j := a.journal
	j.mu.Lock()
	waits := !j.parts || j.unkept > mostUnkept
	j.mu.Unlock()
	if !waits {
		return nil
	}
	return a.sync(ctx)
}

func (a *appender) sync(ctx context.Context) error {
	a.journal.mu.Lock()
	last := a.last // those before it are put before it
	a.journal.mu.Unlock()
	if last == nil {
		return nil
	}
	return last.wait(ctx)
}

func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		if b.err != nil {
			b.of.journal.told(b.of)
		}
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enqueue adds lines to the next batch.
func (j *Journal) enqueue(a *appender, lines []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a.broken != nil {
		delete(j.untold, a)
		return a.broken
	}
	if j.closed {
		return errClosed
	}
	b := j.pending[a]
	if b == nil {
		b = &batch{of: a, done: make(chan struct{})}
		j.unsettled[b] = struct{}{}
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
	if j.unkept += len(lines); j.unkept > putSize {
		signal(j.full)
	}
	return nil
}

// putAll puts part after part until the journal is closed.
func (j *Journal) putAll() {
	defer close(j.done)
	for range j.wake {
		select {
		case <-j.full: // also when it is closed
		case <-time.After(putEvery):
		}
		j.mu.Lock()
		batches, closing := j.pending, j.closed
		j.pending = map[*appender]*batch{}
		j.mu.Unlock()
		j.put(batches)
		if closing {
			return
		}
	}
}

// put puts each batch as the next part of its segment and returns when all are there.
func (j *Journal) put(batches map[*appender]*batch) {
	var group errgroup.Group
	group.SetLimit(putters)
	for a, b := range batches {
		group.Go(func() error {
			if err := j.whyBroken(a); err != nil { // nothing may follow a part that is missing
				j.settle(b, err)
				return nil
			}
			frame := j.encoder.EncodeAll(b.lines, nil)
			name := fmt.Sprintf("%s.%06d-%s%s", a.name, a.part, digestOf(frame), segmentSuffix)
			a.part++
			// What was paid for is kept also when its run is given up.
			err := store.WriteFile(context.Background(), store.Join(j.dir, name), frame)
			if err != nil {
				err = fmt.Errorf("journal: %w", err)
			}
			j.settle(b, err)
			return nil
		})
	}
	_ = group.Wait() // each batch has its own error
}

// commitAll writes batch after batch until the journal is closed. One goroutine for a
// process: segments have one writer.
func (j *Journal) commitAll() {
	defer close(j.done)
	open := map[*appender]struct{}{}
	for range j.wake {
		j.mu.Lock()
		closing := j.closed
		j.mu.Unlock()
		if !closing {
			<-time.After(linger)
		}
		j.mu.Lock()
		batches := j.pending
		j.pending = map[*appender]*batch{}
		closing = j.closed
		j.mu.Unlock()
		j.commit(batches, open)
		if closing {
			break
		}
	}
	for a := range open {
		j.closeFile(a)
	}
}

// closeFile closes a segment. What is in it is synced: an error is no loss, and is kept for Close.
func (j *Journal) closeFile(a *appender) {
	err := a.file.Close()
	a.file = nil
	if err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.failed = cmp.Or(j.failed, fmt.Errorf("journal: %w", err))
	}
}

// commit writes each batch as one frame and returns when all are on the disk. Segments are
// synced side by side.
func (j *Journal) commit(batches map[*appender]*batch, open map[*appender]struct{}) {
	var synced sync.WaitGroup
	n := 0
	for a, b := range batches {
		if err := j.whyBroken(a); err != nil { // nothing may follow a frame that is torn
			j.settle(b, err)
			continue
		}
		if n == len(j.frames) {
			j.frames = append(j.frames, nil)
		}
		frame := j.encoder.EncodeAll(b.lines, j.frames[n][:0])
		j.frames[n] = frame
		n++
		j.reuse(b)
		synced.Go(func() { j.settle(b, a.commit(frame)) })
	}
	synced.Wait()
	for a := range batches {
		if a.file != nil {
			open[a] = struct{}{}
		}
	}
	j.closeIdle(batches, open)
}

// reuse keeps the buffer of a batch for another, unless many are kept or it is large.
func (j *Journal) reuse(b *batch) {
	const most, size = 8, 1 << 20
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.spare) < most && cap(b.lines) <= size {
		j.spare = append(j.spare, b.lines[:0])
	}
	b.lines = nil
}

// maxOpen bounds the files that stay open between commits.
const maxOpen = 64

func (j *Journal) closeIdle(used map[*appender]*batch, open map[*appender]struct{}) {
	for a := range open {
		if len(open) <= maxOpen {
			return
		}
		if _, ok := used[a]; ok {
			continue
		}
		j.closeFile(a)
		delete(open, a)
	}
}

func (j *Journal) whyBroken(a *appender) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return a.broken
}

// settle tells those who wait for a batch what became of it. A segment is broken by the first
// that failed.
func (j *Journal) settle(b *batch, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.unsettled, b)
	j.unkept -= b.size
	if err != nil && b.of.broken == nil {
		b.of.broken = err
		j.untold[b.of] = struct{}{}
	}
	b.err, b.lines = err, nil
	close(b.done)
}

func (j *Journal) told(a *appender) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.untold, a)
}

// anew is how often a frame is written whose segment is removed meanwhile.
const anew = 3

// commit appends a frame to the segment and returns when it is on the disk. After a write that
// failed half-way nothing may follow it: the segment is broken then, and the torn frame stays its
// last.
//
// A run that lost its folder may not know it yet, and the next one compacts what it finds. A frame
// that came too late for that is written anew, into a segment of the same name.
func (a *appender) commit(frame []byte) error {
	for range anew {
		if a.file == nil {
			if err := a.open(); err != nil {
				return err
			}
		}
		_, err := a.file.Write(frame)
		if err == nil {
			err = a.file.Sync()
		}
		removed := errors.Is(err, syscall.ESTALE) // so says NFS
		if err == nil {
			removed, err = a.removed()
		}
		if !removed {
			if err != nil {
				return fmt.Errorf("journal: %w", err)
			}
			return nil
		}
		_ = a.file.Close() // what is in it doesn't count
		a.file = nil
	}
	return fmt.Errorf("journal: the segment %s was removed %d times while it was written", a.name, anew)
}

// removed says whether the open file is no longer the segment.
func (a *appender) removed() (bool, error) {
	is, err := a.file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(a.path())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && !os.SameFile(is, named), err
}

func (a *appender) path() string { return filepath.Join(a.journal.dir, filepath.FromSlash(a.name)) }

func (a *appender) open() error {
	name := a.path()
	if err := store.MakeFolder(filepath.Dir(name)); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	a.file = f
	return store.SyncFolder(filepath.Dir(name))
}
