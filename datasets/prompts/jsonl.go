package prompts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"coeval/schemas"
)

// maxWindow is the most memory that a zstd file may ask for, the limit of the zstd program too.
const maxWindow = 128 << 20

// decompress returns the text of a file, all frames or members of it one after the other.
func decompress(r io.Reader, compression string) (io.ReadCloser, error) {
	switch compression {
	case ".gz":
		text, err := gzip.NewReader(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("not a gzip file: %w", err)
		}
		return text, nil
	case ".zst":
		text, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("not a zstd file: %w", err)
		}
		return text.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

func readJSONL(ctx context.Context, text io.Reader, f File, o Options, each func(line Line) error) error {
	lines := newLineReader(text, o.MaxLineBytes)
	if lines.isArray() {
		return fmt.Errorf("prompts: %s: the file is one JSON array, not an object a line; `jq -c '.[]'` makes it so", f.Path)
	}
	for f.LastLine == 0 || lines.number < f.LastLine {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("prompts: %s: %w", f.Path, err)
		}
		data, large, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readError(f, lines.number, err)
		}
		if lines.number == 1 {
			data = bytes.TrimPrefix(data, byteOrderMark)
		}
		data = bytes.Trim(data, blanks)
		var failure *schemas.Failure
		switch {
		case large:
			failure = tooLarge(o.MaxLineBytes)
		case len(data) == 0:
			continue
		}
		if err := give(f, lines.number, data, failure, o, each); err != nil {
			return err
		}
	}
	return nil
}

// readError is the error of a text that ends too early. Only what is compressed can tell damage.
func readError(f File, number int64, err error) error {
	why := ""
	if _, compression, _ := kindOf(f.Path); compression != "" && !errors.Is(err, context.Canceled) {
		why = "the file is damaged or cut off: "
	}
	return fmt.Errorf("prompts: %s: after line %d: %s%w", f.Path, number, why, err)
}

var byteOrderMark = []byte("\uFEFF")

// blanks are the white space of JSON.
const blanks = " \t\r\n"

// A lineReader splits a text into lines of at most max bytes, and holds no more of one.
type lineReader struct {
	text   *bufio.Reader
	max    int
	number int64 // of the line that next gave last
	buf    []byte
}

func newLineReader(text io.Reader, limit int) *lineReader {
	const bufferBytes = 64 << 10
	return &lineReader{text: bufio.NewReaderSize(text, bufferBytes), max: limit}
}

// isArray says whether the text begins as a JSON array. A text that can't be read is none:
// the first line tells why.
func (l *lineReader) isArray() bool {
	const enough = 512
	head, _ := l.text.Peek(enough)
	head = bytes.TrimLeft(bytes.TrimPrefix(head, byteOrderMark), blanks)
	return len(head) > 0 && head[0] == '['
}

// next returns a line without its end, good until the next call; or, for one that is too
// large, nothing. After the last line it returns io.EOF.
func (l *lineReader) next() (line []byte, large bool, err error) {
	l.buf = l.buf[:0]
	some := false
	for {
		part, err := l.text.ReadSlice('\n')
		some = some || len(part) > 0
		ended := err == nil || errors.Is(err, io.EOF) && some
		if !ended && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, false, err
		}
		part = bytes.TrimSuffix(part, []byte("\n"))
		if !large {
			l.buf = append(l.buf, part...)
		}
		// A carriage return belongs to the end, and is not counted.
		if len(bytes.TrimSuffix(l.buf, []byte("\r"))) > l.max {
			large, l.buf = true, l.buf[:0]
		}
		if ended {
			l.number++
			return l.buf, large, nil
		}
	}
}
