package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"github.com/klauspost/compress/zstd"

	"coeval/datasets/store"
)

// maxFrame bounds what one frame may unpack to. A group commit is far smaller.
const maxFrame = 1 << 30

// errTorn is a frame that goes on after the end of the file.
var errTorn = errors.New("the frame goes on after the end of the file")

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
	if err != nil { // the options are constants: cannot happen
		panic(err)
	}
	return d
}}

// readers is how many segments are read at a time where a read is a request.
const readers = 16

// readSegments gives each the bytes of every segment, in their order.
func readSegments(ctx context.Context, dir string, segments []segment, each func(i int, b []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ahead := 1
	if !store.HasLocks(dir) {
		ahead = readers
	}
	type result struct {
		b   []byte
		err error
	}
	results := make([]chan result, len(segments))
	start := func(i int) {
		results[i] = make(chan result, 1)
		go func() {
			b, err := readSegment(ctx, dir, segments[i])
			results[i] <- result{b, err}
		}()
	}
	for i := range segments {
		for next := i; next < min(i+ahead, len(segments)); next++ {
			if results[next] == nil {
				start(next)
			}
		}
		r := <-results[i]
		results[i] = nil
		if r.err != nil {
			return r.err
		}
		if err := each(i, r.b); err != nil {
			return fmt.Errorf("journal: %s: %w", store.Join(dir, segments[i].Name), err)
		}
	}
	return nil
}

// readSegment returns the bytes of a segment that count.
func readSegment(ctx context.Context, dir string, s segment) ([]byte, error) {
	name := store.Join(dir, s.Name)
	b, err := store.ReadFile(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if int64(len(b)) < s.Length {
		return nil, fmt.Errorf("journal: %s: damaged: has %d bytes where there were %d", name, len(b), s.Length)
	}
	if err := checkWhole(path.Base(s.Name), b); err != nil {
		return nil, fmt.Errorf("journal: %s: %w", name, err)
	}
	return b[:s.Length], nil
}

// checkWhole returns an error when a segment that was put whole is not as it was put.
func checkWhole(base string, b []byte) error {
	if appended(base) {
		return nil
	}
	named, ok := digestIn(base)
	if ok && named == digestOf(b) {
		return nil
	}
	// It is damaged, or of an older version: those had no digest in their names.
	length, err := decodeSegment(b, func(string) bool { return false }, nil)
	switch {
	case err != nil:
		return err
	case length == 0 || length < int64(len(b)):
		return fmt.Errorf("offset %d: damaged: the frame there is not whole, and this file was put whole", length)
	case ok:
		return fmt.Errorf("offset %d: damaged: it ends there, and does not have the digest in its name", len(b))
	}
	return nil
}

// decodeSegment reads frame after frame and returns the length of those that are whole.
func decodeSegment(b []byte, keep func(string) bool, each func(*Record)) (int64, error) {
	decoder := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(decoder)
	var buf []byte
	for at := 0; at < len(b); {
		n, err := frameLength(b[at:])
		if err == nil {
			buf, err = decoder.DecodeAll(b[at:at+n], buf[:0])
		}
		if err != nil {
			if !frameAfter(decoder, b[at+1:]) {
				return int64(at), nil
			}
			return 0, fmt.Errorf("offset %d: damaged: %w", at, err)
		}
		if err := decodeLines(buf, keep, each); err != nil {
			return 0, fmt.Errorf("frame at offset %d: %w", at, err)
		}
		at += n
	}
	return int64(len(b)), nil
}

// wholeFrames returns the length of the frames that b begins with and holds whole.
func wholeFrames(b []byte) int {
	at := 0
	for at < len(b) {
		n, err := frameLength(b[at:])
		if err != nil {
			return at
		}
		at += n
	}
	return at
}

var frameMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// frameLength returns the length of the zstd frame that b begins with, by walking its block
// headers (RFC 8878, section 3.1.1), or errTorn when b ends before the frame does.
func frameLength(b []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		if len(b) < zstd.HeaderMaxSize {
			return 0, errTorn
		}
		return 0, err
	}
	if h.Skippable {
		return 0, errors.New("a skippable frame, which no segment has")
	}
	at := h.HeaderSize
	for last := false; !last; {
		if len(b) < at+3 {
			return 0, errTorn
		}
		header := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		last = header&1 == 1
		size := header >> 3
		switch header >> 1 & 3 {
		case 1: // run-length: one byte stands for all
			size = 1
		case 3:
			return 0, errors.New("a reserved block type")
		}
		at += 3 + size
	}
	if h.HasCheckSum {
		at += 4
	}
	if len(b) < at {
		return 0, errTorn
	}
	return at, nil
}

// frameAfter says whether a whole frame begins anywhere in b: then what is before it is
// damage and no torn end.
func frameAfter(decoder *zstd.Decoder, b []byte) bool {
	for {
		i := bytes.Index(b, frameMagic)
		if i < 0 {
			return false
		}
		b = b[i:]
		if n, err := frameLength(b); err == nil {
			if _, err := decoder.DecodeAll(b[:n], nil); err == nil {
				return true
			}
		}
		b = b[len(frameMagic):]
	}
}
