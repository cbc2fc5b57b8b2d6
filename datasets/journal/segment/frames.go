package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Bounds on decompression, because the file may come from anyone. One frame is a group commit, or at
// most bytesPerFrame of a compacted file. All frames of a segment together may decompress to maxUnpacked
// plus maxRatio times their size. Texts compress to about a tenth; the keys of calls do not compress.
const (
	maxFrame    = 256 << 20
	maxUnpacked = 256 << 20
	maxRatio    = 1024
)

// errTorn reports a frame that continues after the end of the file.
var errTorn = errors.New("the frame continues after the end of the file")

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
	if err != nil { // the options are constants: cannot happen
		panic(err)
	}
	return d
}}

// CheckWhole returns an error when a segment that was written whole is not as it was written.
func CheckWhole(base string, b []byte) error {
	if IsAppendable(base) {
		return nil
	}
	named, ok := DigestIn(base)
	if ok && named == Digest(b) {
		return nil
	}
	// It is damaged, or of an older version, whose names had no digest.
	length, err := Decode(b, func(string) bool { return false }, nil)
	switch {
	case err != nil:
		return err
	case length == 0 || length < int64(len(b)):
		return fmt.Errorf("offset %d: damaged: the frame there is not whole, and this file was written whole", length)
	case ok:
		return fmt.Errorf("offset %d: damaged: the file ends there, and does not have the digest in its name", len(b))
	}
	return nil
}

// Decode decodes the frames of a segment in order and returns the length of the whole ones. A
// torn last frame is no error. It calls each with the records of the prompts for which keep returns
// true.
func Decode(b []byte, keep func(string) bool, each func(*Record)) (int64, error) {
	f := newFrames(b)
	defer f.close()
	for {
		lines, err := f.next()
		switch {
		case errors.Is(err, io.EOF):
			return int64(f.at), nil
		case err != nil && !f.frameAfter():
			return int64(f.at), nil
		case err != nil:
			return 0, fmt.Errorf("offset %d: damaged: %w", f.at, err)
		}
		if err := decodeLines(lines, keep, each); err != nil {
			return 0, fmt.Errorf("frame at offset %d: %w", f.at, err)
		}
		f.at = f.end
	}
}

// frames walks over the frames of a segment.
type frames struct {
	b       []byte
	at, end int // of the current frame
	decoder *zstd.Decoder
	buffer  []byte
	left    int64 // the number of bytes that may still be decompressed
}

func newFrames(b []byte) *frames {
	decoder, ok := decoders.Get().(*zstd.Decoder)
	if !ok { // the pool has decoders only: cannot happen
		panic("journal: no decoder")
	}
	return &frames{b: b, decoder: decoder, left: maxUnpacked + maxRatio*int64(len(b))}
}

func (f *frames) close() { decoders.Put(f.decoder) }

// next decompresses the frame at f.at. It returns io.EOF at the end. The result is valid until the next
// call.
func (f *frames) next() ([]byte, error) {
	if f.at >= len(f.b) {
		return nil, io.EOF
	}
	n, err := frameLength(f.b[f.at:])
	if err != nil {
		return nil, err
	}
	f.end = f.at + n
	if f.buffer, err = f.decoder.DecodeAll(f.b[f.at:f.end], f.buffer[:0]); err != nil {
		return nil, err
	}
	if f.left -= int64(len(f.buffer)); f.left < 0 {
		return nil, errExpands
	}
	return f.buffer, nil
}

// errExpands reports a segment that no run can have written.
var errExpands = fmt.Errorf("the frames unpack to more than %d times their size", maxRatio)

// skip moves f.at to the next whole frame after it, and reports whether there is one.
func (f *frames) skip() bool {
	for from := f.at + 1; from < len(f.b); {
		i := bytes.Index(f.b[from:], frameMagic)
		if i < 0 {
			return false
		}
		from += i
		if n, err := frameLength(f.b[from:]); err == nil {
			if _, err := f.decoder.DecodeAll(f.b[from:from+n], nil); err == nil {
				f.at = from
				return true
			}
		}
		from += len(frameMagic)
	}
	return false
}

// frameAfter reports whether a whole frame begins anywhere after f.at. Then a bad frame there is damage
// and not a torn end.
func (f *frames) frameAfter() bool {
	ahead := *f
	return ahead.skip()
}

// WholeLength returns the length of the whole frames that b begins with.
func WholeLength(b []byte) int {
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
