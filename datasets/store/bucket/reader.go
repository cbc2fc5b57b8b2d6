package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The blocks in which an open object is read at offsets. A reader of Parquet alternates between several
// positions.
const (
	blockSize = 1 << 20
	maxBlocks = 32
)

// block is a part of an object. Concurrent readers share one request for it.
type block struct {
	get  func() ([]byte, error)
	used int64
}

// A Reader is an open object of one version.
type Reader struct {
	ctx        context.Context
	cancel     context.CancelFunc
	client     Client
	object     Object
	patience   *Patience
	name       string
	attributes Attributes

	mu     sync.Mutex
	blocks map[int64]*block
	clock  int64
}

// Size returns the size of the object.
func (s *Reader) Size() int64 { return s.attributes.Size }

// Open opens an object with these attributes. Name is its path, for messages.
func Open(ctx context.Context, c Client, p *Patience, o Object, name string, a Attributes) *Reader {
	ctx, cancel := context.WithCancel(ctx)
	return &Reader{ctx: ctx, cancel: cancel, client: c, patience: p, object: o, name: name, attributes: a, blocks: map[int64]*block{}}
}

// ReadAll returns the bytes of an object, and their version. Of a larger object than maxBytes it
// returns maxBytes + 1 bytes.
func ReadAll(ctx context.Context, c Client, p *Patience, o Object, maxBytes int64) ([]byte, Version, error) {
	r := &resuming{ctx: ctx, client: c, patience: p, object: o, end: -1}
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	return data, r.version, errors.Join(err, r.Close())
}

// Close ends all reads of the object.
func (s *Reader) Close() error {
	s.cancel()
	return nil
}

func (s *Reader) resume(ctx context.Context, from, to int64) *resuming {
	return &resuming{ctx: ctx, client: s.client, patience: s.patience, object: s.object, version: s.attributes.Version, at: from, end: to}
}

// Stream returns the bytes from an offset to the end.
func (s *Reader) Stream(offset int64) io.Reader {
	return &explained{resuming: s.resume(s.ctx, min(offset, s.Size()), s.Size()), name: s.name}
}

// ReadAt reads from the blocks.
func (s *Reader) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("a negative offset")
	}
	n := 0
	for n < len(p) {
		at := offset + int64(n)
		if at >= s.Size() {
			return n, io.EOF
		}
		b, err := s.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[at%blockSize:])
	}
	return n, nil
}

func (s *Reader) block(number int64) ([]byte, error) {
	s.mu.Lock()
	s.clock++
	b := s.blocks[number]
	if b == nil {
		s.makeRoom()
		b = &block{get: sync.OnceValues(func() ([]byte, error) { return s.fetch(number) })}
		s.blocks[number] = b
	}
	b.used = s.clock
	s.mu.Unlock()
	data, err := b.get()
	if err != nil {
		s.mu.Lock()
		delete(s.blocks, number)
		s.mu.Unlock()
	}
	return data, err
}

// makeRoom drops the block whose last use is longest ago.
func (s *Reader) makeRoom() {
	if len(s.blocks) < maxBlocks {
		return
	}
	oldest := int64(-1)
	for number, b := range s.blocks {
		if oldest < 0 || b.used < s.blocks[oldest].used {
			oldest = number
		}
	}
	delete(s.blocks, oldest)
}

func (s *Reader) fetch(number int64) ([]byte, error) {
	from := number * blockSize
	data := make([]byte, min(blockSize, s.Size()-from))
	r := s.resume(s.ctx, from, from+int64(len(data)))
	_, err := io.ReadFull(r, data)
	return data, Explain(s.client, errors.Join(err, r.Close()), s.name, s.object)
}

// explained is a stream with explained errors.
type explained struct {
	*resuming

	name string
}

// Read reads more of the stream.
func (e *explained) Read(p []byte) (int, error) {
	n, err := e.resuming.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = Explain(e.client, err, e.name, e.object)
	}
	return n, err
}

// resumes is the number of restarts in a row without a byte in between.
const resumes = 6

// resuming reads a range of an object, and continues where it stopped when the connection breaks or
// falls silent.
type resuming struct {
	ctx      context.Context
	client   Client
	object   Object
	patience *Patience
	version  Version // empty until the first answer
	at       int64
	end      int64 // negative until the first answer

	body   io.ReadCloser
	cancel context.CancelFunc
	watch  *time.Timer
	failed int
}

// Read reads more of the object. It begins no request after the time limit of one.
func (r *resuming) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for began := time.Now(); ; {
		if r.end >= 0 && r.at >= r.end && r.body == nil {
			return 0, io.EOF
		}
		if err := r.begin(); err != nil { // after its own repetitions
			return 0, err
		}
		if left := r.end - r.at; r.end >= 0 && int64(len(p)) > left {
			p = p[:left]
		}
		if len(p) == 0 {
			if err := r.Close(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		r.watch.Reset(r.patience.Stalled)
		n, err := r.body.Read(p)
		r.at += int64(n)
		if n > 0 {
			r.failed = 0
			return n, nil // the next read meets the error again, or resolves it
		}
		if err == nil {
			continue
		}
		// An early end is a broken body too.
		if closeErr := r.Close(); closeErr != nil && errors.Is(err, io.EOF) {
			err = closeErr
		}
		if err := r.again(err, began); err != nil {
			return 0, err
		}
	}
}

// begin requests the remaining range.
func (r *resuming) begin() error {
	if r.body != nil {
		return nil
	}
	length := int64(-1)
	if r.end >= 0 {
		length = r.end - r.at
	}
	ctx, cancel := context.WithCancel(r.ctx)
	watch := time.AfterFunc(r.patience.Answered, cancel)
	body, a, err := r.client.Get(ctx, r.object, r.version, r.at, length)
	if err != nil {
		watch.Stop()
		if ctx.Err() != nil && r.ctx.Err() == nil {
			err = ErrSilent
		}
		cancel()
		return err
	}
	r.body, r.cancel, r.version, r.watch = body, cancel, a.Version, watch
	if r.end < 0 {
		r.end = a.Size
	}
	return nil
}

// again pauses, or returns the error if this read has failed too often or for too long.
func (r *resuming) again(err error, began time.Time) error {
	if ctxErr := r.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if r.failed++; r.failed > resumes || time.Since(began) > r.patience.Answered {
		if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading broke off at byte %d, %d times: %w", r.at, r.failed, err)
	}
	select {
	case <-time.After(r.patience.FirstPause << (r.failed - 1)):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// Close ends the request.
func (r *resuming) Close() error {
	if r.body == nil {
		return nil
	}
	r.watch.Stop()
	r.cancel()
	body := r.body
	r.body = nil
	if err := body.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
