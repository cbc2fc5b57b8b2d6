package segment

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Bounds on decompression, because the file may come from anyone. A frame of up to wholeFrame bytes is
// decompressed at once. Writers make no larger ones; those of versions up to 2026-11-29 had up to maxFrame,
// and are read record by record. All frames of a segment together may decompress to maxUnpacked plus maxRatio
// times their size. Texts compress to about a tenth; the keys of calls do not compress.
const (
	wholeFrame  = 2 * bytesPerFrame
	maxFrame    = 256 << 20
	maxUnpacked = 256 << 20
	maxRatio    = 1024
	// maxWindow is twice the window of the encoders.
	maxWindow = 16 << 20
)

// errIncomplete reports a frame that continues after the end of the file.
var errIncomplete = errors.New("the frame continues after the end of the file")

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(wholeFrame), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil { // the options are constants: cannot happen
		panic(err)
	}
	return d
}}

// ErrDamaged reports that bytes of a segment are not as they were written.
var ErrDamaged = errors.New("damaged")

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
		return fmt.Errorf("offset %d: %w: the frame there is not whole, and this file was written whole", length, ErrDamaged)
	case ok:
		return fmt.Errorf("offset %d: %w: the file ends there, and does not have the digest in its name", len(b), ErrDamaged)
	}
	return nil
}

// Decode decodes the frames of a segment in order and returns the length of the whole ones. A
// incomplete last frame is no error. It calls each with the records of the prompts for which keep returns
// true.
func Decode(b []byte, keep func(string) bool, each func(*Record)) (int64, error) {
	f := newFrames(b)
	defer f.close()
	for {
		err := f.next()
		switch {
		case errors.Is(err, io.EOF):
			return int64(f.at), nil
		case err != nil && !errors.Is(err, errTooLarge) && !f.frameAfter():
			return int64(f.at), nil
		case err != nil:
			return 0, fmt.Errorf("offset %d: %w: %w", f.at, ErrDamaged, err)
		}
		if err := f.decode(keep, each); err != nil {
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
	buffer  []byte // the current frame, if it is not large
	// large is set when the current frame is decompressed piece by piece. longest is then the length of its
	// longest line.
	large   bool
	longest int
	// left is the number of bytes that may still be decompressed, and records the number of records.
	left, records int64
}

// moreRecords is the number of records that a segment may have in addition to one for each of its bytes.
// The shortest records repeat all but the number of a replicate, which takes more than a byte.
const moreRecords = 64 << 10

func newFrames(b []byte) *frames {
	decoder, ok := decoders.Get().(*zstd.Decoder)
	if !ok { // the pool has decoders only: cannot happen
		panic("journal: no decoder")
	}
	size := int64(len(b))
	return &frames{b: b, decoder: decoder, left: maxUnpacked + maxRatio*size, records: moreRecords + size}
}

func (f *frames) close() { decoders.Put(f.decoder) }

// open begins to decompress the current frame piece by piece. The caller must call end.
func (f *frames) open() (end func(), err error) {
	// Reset returns an error only of a closed decoder, and without it the next frame would wait for ever.
	return func() { _ = f.decoder.Reset(nil) }, f.decoder.Reset(bytes.NewReader(f.b[f.at:f.end]))
}

// next decompresses and checks the frame at f.at. It returns io.EOF at the end.
func (f *frames) next() error {
	if f.at >= len(f.b) {
		return io.EOF
	}
	n, blocks, err := frameLength(f.b[f.at:])
	f.left -= bytesPerBlock * blocks
	if err != nil {
		return err
	}
	f.end = f.at + n
	f.buffer, err = f.decoder.DecodeAll(f.b[f.at:f.end], f.buffer[:0])
	f.large = errors.Is(err, zstd.ErrDecoderSizeExceeded)
	switch {
	case f.large:
		return f.checkLarge()
	case err != nil:
		f.left -= int64(len(f.buffer))
		return foreign(err)
	}
	return f.spend(int64(len(f.buffer)))
}

// foreign marks the error of a frame whose header no writer makes.
func foreign(err error) error {
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fmt.Errorf("%w: %w", errTooLarge, err)
	}
	return err
}

// errTooLarge reports a segment that no run can have written.
var errTooLarge = errors.New("no run writes this")

func (f *frames) spend(bytes int64) error {
	if f.left -= bytes; f.left < 0 {
		return fmt.Errorf("%w: the frames unpack to more than %d times their size", errTooLarge, maxRatio)
	}
	return nil
}

// checkLarge decompresses the current frame without keeping it, because an error at its end means that
// none of its records counts.
func (f *frames) checkLarge() error {
	end, err := f.open()
	defer end()
	if err != nil {
		return foreign(err)
	}
	size, line := 0, 0
	f.longest = 0
	piece := make([]byte, 64<<10)
	for {
		n, err := f.decoder.Read(piece)
		if size += n; size > maxFrame {
			return fmt.Errorf("%w: a frame unpacks to more than %d MiB", errTooLarge, maxFrame>>20)
		}
		if spent := f.spend(int64(n)); spent != nil {
			return spent
		}
		for l := range bytes.Lines(piece[:n]) {
			line += len(l)
			f.longest = max(f.longest, line)
			if l[len(l)-1] == '\n' {
				line = 0
			}
		}
		switch {
		case f.longest > maxRecordBytes:
			return errLongRecord
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return foreign(err)
		}
	}
}

// decode calls each with the records of the current frame, of the prompts for which keep returns true; nil
// keeps all.
func (f *frames) decode(keep func(string) bool, each func(*Record)) (err error) {
	records := f.records
	defer func() {
		if err != nil {
			f.records = records // none of them counts
		}
	}()
	if !f.large {
		for line := range bytes.Lines(f.buffer) {
			if err := f.decodeLine(line, keep, each); err != nil {
				return err
			}
		}
		return nil
	}
	end, err := f.open()
	defer end()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(f.decoder)
	lines.Buffer(make([]byte, 0, f.longest+1), f.longest+1)
	lines.Split(longLines())
	for lines.Scan() {
		if err := f.decodeLine(lines.Bytes(), keep, each); err != nil {
			return err
		}
	}
	return lines.Err()
}

// longLines splits as [bufio.ScanLines] does, but searches each byte once for a line feed. ScanLines searches the
// beginning of a line again after each block that is read.
func longLines() bufio.SplitFunc {
	seen := 0 // bytes at the beginning of data without a line feed
	return func(data []byte, atEOF bool) (advance int, token []byte, err error) {
		i := bytes.IndexByte(data[seen:], '\n')
		switch {
		case i >= 0:
			end := seen + i
			seen = 0
			return end + 1, bytes.TrimSuffix(data[:end], []byte{'\r'}), nil
		case atEOF && len(data) > 0:
			seen = 0
			return len(data), bytes.TrimSuffix(data, []byte{'\r'}), nil
		}
		seen = len(data)
		return 0, nil, nil
	}
}

func (f *frames) decodeLine(line []byte, keep func(string) bool, each func(*Record)) error {
	if f.records--; f.records < 0 {
		return fmt.Errorf("%w: %w: there are more records than bytes", ErrDamaged, errTooLarge)
	}
	return decodeLine(line, keep, each)
}

// skip moves f.at to the next whole frame after it, and reports whether there is one.
func (f *frames) skip() bool {
	for from := f.at + 1; from < len(f.b) && f.left >= 0; {
		i := bytes.Index(f.b[from:], frameMagic)
		if i < 0 {
			return false
		}
		ahead := *f
		ahead.at = from + i
		err := ahead.next()
		f.left, f.buffer = ahead.left, ahead.buffer
		if err == nil {
			f.at = ahead.at
			return true
		}
		from += i + len(frameMagic)
	}
	return false
}

// frameAfter reports whether a whole frame begins anywhere after f.at. Then a bad frame there is damage
// and not an incomplete end.
func (f *frames) frameAfter() bool {
	ahead := *f
	return ahead.skip() || ahead.left < 0
}

// WholeLength returns the length of the whole frames that b begins with.
func WholeLength(b []byte) int {
	at := 0
	for at < len(b) {
		n, _, err := frameLength(b[at:])
		if err != nil {
			return at
		}
		at += n
	}
	return at
}

var frameMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// bytesPerBlock stands for the time to read the header of a block, in bytes to decompress.
const bytesPerBlock = 64

// frameLength returns the length of the zstd frame at the start of b, from the headers of its blocks (RFC
// 8878, section 3.1.1), and the number of blocks. It returns errIncomplete when b ends before the frame
// does.
func frameLength(b []byte) (length int, blocks int64, err error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		if len(b) < zstd.HeaderMaxSize {
			return 0, 0, errIncomplete
		}
		return 0, 0, err
	}
	if h.Skippable {
		return 0, 0, errors.New("a skippable frame, which no segment has")
	}
	at := h.HeaderSize
	for last := false; !last; blocks++ {
		if len(b) < at+3 {
			return 0, blocks, errIncomplete
		}
		header := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		last = header&1 == 1
		size := header >> 3
		switch header >> 1 & 3 {
		case 1: // run-length: one byte stands for all
			size = 1
		case 3:
			return 0, blocks, errors.New("a reserved block type")
		}
		at += 3 + size
	}
	if h.HasCheckSum {
		at += 4
	}
	if len(b) < at {
		return 0, blocks, errIncomplete
	}
	return at, blocks, nil
}
