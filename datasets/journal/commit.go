package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// maxPuts is the number of parts that are put in parallel.
const maxPuts = 16

// putAll puts part after part on an object store until the journal is closed.
func (j *Journal) putAll() {
	defer close(j.done)
	for range j.wake {
		select {
		case <-j.full: // also after Close
		case <-time.After(putEvery):
		}
		batches, closing := j.takePending()
		j.put(batches)
		if closing {
			return
		}
	}
}

// put writes each batch as the next part of its segment, and returns when all have been stored.
func (j *Journal) put(batches map[*appender]*batch) {
	var group errgroup.Group
	group.SetLimit(maxPuts)
	for a, b := range batches {
		group.Go(func() error {
			if err := j.brokenBy(a); err != nil { // no part may follow a missing one
				j.complete(b, err)
				return nil
			}
			frame := segment.AppendFrames(j.encoder, nil, b.lines)
			name := fmt.Sprintf("%s.%06d-%s%s", a.name, a.part, segment.Digest(frame), segment.Suffix)
			a.part++
			// Answers have been paid for: save them even after the end of their run.
			err := store.WriteFile(context.Background(), store.Join(j.dir, name), frame)
			if err != nil {
				err = fmt.Errorf("journal: %w", err)
			}
			j.complete(b, err)
			return nil
		})
	}
	_ = group.Wait() // each batch has its own error
}

// commitAll writes batch after batch to a local disk until the journal is closed.
func (j *Journal) commitAll() {
	defer close(j.done)
	open := map[*appender]struct{}{}
	for range j.wake {
		j.mu.Lock()
		closing := j.closed
		j.mu.Unlock()
		if !closing {
			<-time.After(commitDelay)
		}
		batches, closing := j.takePending()
		j.commit(batches, open)
		if closing {
			break
		}
	}
	for a := range open {
		j.closeFile(a)
	}
}

// closeFile closes a segment. Its content is synced, so that an error loses nothing; Close returns it.
func (j *Journal) closeFile(a *appender) {
	err := a.file.Close()
	a.file = nil
	if err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.closeErr = cmp.Or(j.closeErr, fmt.Errorf("journal: %w", err))
	}
}

// commit appends the frames of each batch, and returns when all are durable. It syncs the segments in
// parallel.
func (j *Journal) commit(batches map[*appender]*batch, open map[*appender]struct{}) {
	var synced sync.WaitGroup
	n := 0
	for a, b := range batches {
		if err := j.brokenBy(a); err != nil { // no frame may follow an incomplete one
			j.complete(b, err)
			continue
		}
		if n == len(j.frames) {
			j.frames = append(j.frames, nil)
		}
		frame := segment.AppendFrames(j.encoder, j.frames[n][:0], b.lines)
		j.frames[n] = frame
		n++
		j.reuse(b)
		synced.Go(func() { j.complete(b, a.commit(frame)) })
	}
	synced.Wait()
	for a := range batches {
		if a.file != nil {
			open[a] = struct{}{}
		}
	}
	j.closeIdle(batches, open)
}

// reuse keeps the buffer of a batch for another one, unless it is large or many are kept.
func (j *Journal) reuse(b *batch) {
	const maxSpare, maxSize = 8, 1 << 20
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.spare) < maxSpare && cap(b.lines) <= maxSize {
		j.spare = append(j.spare, b.lines[:0])
	}
	b.lines = nil
}

// maxOpen is the number of files that stay open between commits.
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

// maxReopens is how often a frame is written again after another process removed its segment.
const maxReopens = 3

// commit appends a frame to the segment and returns when it is durable. After a write that failed
// half-way the incomplete frame stays the last one, since nothing may follow it.
//
// A run that has lost its folder may not know it yet, while the next run compacts the segment. A frame
// that misses the compaction is written again, into a new file of the same name.
func (a *appender) commit(frame []byte) error {
	for range maxReopens {
		if a.file == nil {
			if err := a.open(); err != nil {
				return fmt.Errorf("journal: %w", err)
			}
		}
		_, err := a.file.Write(frame)
		if err == nil {
			err = a.file.Sync()
		}
		removed := errors.Is(err, syscall.ESTALE) // as NFS reports it
		if err == nil {
			removed, err = a.removed()
		}
		if !removed {
			if err != nil {
				return fmt.Errorf("journal: %w", err)
			}
			return nil
		}
		_ = a.file.Close() // the content has been compacted
		a.file = nil
	}
	return fmt.Errorf("journal: the segment %s was removed %d times while it was written", a.name, maxReopens)
}

// removed reports whether the open file no longer has the name of the segment.
func (a *appender) removed() (bool, error) {
	is, err := a.file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(a.path())
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
	if err := buckets.CheckNoLink(a.journal.dir, filepath.Dir(filepath.FromSlash(a.name))); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o666)
	if err != nil {
		return err
	}
	a.file = f
	return store.SyncFolder(filepath.Dir(name))
}
