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
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"coeval/schemas"
)

const (
	// maxWindow is the most memory that a zstd file may ask for, the limit of the zstd program too.
	maxWindow = 128 << 20
	// maxPassed bounds how much of a line above the limit is read to find its end.
	maxPassed = 1 << 30
	// bufferBytes is how much of a text is read at once.
	bufferBytes = 64 << 10
)

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

// utf8Text returns a text without its byte order mark; UTF-16, which begins with one, as UTF-8.
func utf8Text(r io.Reader) *bufio.Reader {
	text := bufio.NewReaderSize(r, bufferBytes)
	head, _ := text.Peek(len(byteOrderMark))
	switch {
	case bytes.HasPrefix(head, byteOrderMark):
		_, _ = text.Discard(len(byteOrderMark)) // it is in the buffer
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		utf16 := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM)
		return bufio.NewReaderSize(transform.NewReader(text, utf16.NewDecoder()), bufferBytes)
	}
	return text
}

var byteOrderMark = []byte("\uFEFF")

// blanks are the white space of JSON.
const blanks = " \t\r\n"

// A splitter splits a text into its lines.
type splitter interface {
	// next returns a line, good until the next call; nothing and failure for one that can't be
	// parsed; io.EOF after the last.
	next() (line []byte, failure *schemas.Failure, err error)
	// number is that of the line that next gave last.
	number() int64
}

// readText gives the lines of a text to each.
func readText(ctx context.Context, r io.Reader, kind string, f File, o Options, each func(line Line) error) error {
	text := utf8Text(r)
	var s splitter = &lineReader{text: text, max: o.MaxLineBytes}
	switch first := firstByte(text); {
	case isTable(kind):
		t, err := newTable(text, kind, o.MaxLineBytes)
		if err != nil {
			return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
		}
		s = t
	case first == '[':
		s = &arrayReader{text: text, max: o.MaxLineBytes}
	}
	for f.LastLine == 0 || s.number() < f.LastLine {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
		}
		data, failure, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readError(f, s.number(), err)
		}
		data = bytes.Trim(data, blanks)
		if len(data) == 0 && failure == nil {
			continue
		}
		if _, lines := s.(*lineReader); lines && s.number() == 1 && len(data) == 1 && data[0] == '{' {
			return fmt.Errorf("prompts: %s: the file is JSON over several lines; write an object a line, or one array of objects", show(f.Path))
		}
		if err := give(f, s.number(), data, failure, nil, o, each); err != nil {
			return err
		}
	}
	return nil
}

// readError is the error of a text that ends too early.
func readError(f File, number int64, err error) error {
	why := ""
	if _, compression, _ := kindOf(f.Path); compression != "" && !errors.Is(err, context.Canceled) && !errors.Is(err, errText) {
		why = "the file is damaged or cut off: "
	}
	return fmt.Errorf("prompts: %s: after line %d: %s%w", show(f.Path), number, why, err)
}

// errText is an error of the text itself, not of the file that has it.
var errText = errors.New("the text can't be read")

// textError returns an error that says what is wrong with a text.
func textError(format string, args ...any) error { return problem(fmt.Sprintf(format, args...)) }

type problem string

func (p problem) Error() string { return string(p) }

// Is makes the problem an errText.
func (problem) Is(target error) bool { return target == errText }

// firstByte returns the first byte of a text that is not white space, or 0. A text that
// can't be read has none: its first line has the reason.
func firstByte(text *bufio.Reader) byte {
	const enough = 512
	head, _ := text.Peek(enough)
	if head = bytes.TrimLeft(head, blanks); len(head) > 0 {
		return head[0]
	}
	return 0
}

// A lineReader splits a text at its line ends, and keeps at most max bytes of a line.
type lineReader struct {
	text  *bufio.Reader
	max   int
	given int64
	buf   []byte
}

func (l *lineReader) number() int64 { return l.given }

// next returns a line without its end.
func (l *lineReader) next() (line []byte, failure *schemas.Failure, err error) {
	l.buf = l.buf[:0]
	some, large, passed := false, false, 0
	for {
		part, err := l.text.ReadSlice('\n')
		some = some || len(part) > 0
		ended := err == nil || errors.Is(err, io.EOF) && some
		if !ended && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, nil, err
		}
		if passed += len(part); passed > maxPassed {
			return nil, nil, textError("a line has more than %d MiB", maxPassed>>20)
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
			l.given++
			if large {
				return nil, tooLarge(l.max), nil
			}
			return l.buf, nil, nil
		}
	}
}

// An arrayReader splits a JSON array into its entries, and keeps at most max bytes of one.
type arrayReader struct {
	text  *bufio.Reader
	max   int
	given int64
	buf   []byte
	// begun reports whether the array's bracket was read, ended whether its other one was.
	begun, ended bool
}

func (a *arrayReader) number() int64 { return a.given }

// next returns an entry. Of the JSON only brackets, strings and commas are looked at.
func (a *arrayReader) next() (entry []byte, failure *schemas.Failure, err error) {
	if !a.begun {
		if _, err := a.skipBlanks(); err != nil {
			return nil, nil, err
		}
		_, _ = a.text.Discard(1) // the bracket was seen
		a.begun = true
	}
	c, err := a.skipBlanks()
	switch {
	case a.ended && errors.Is(err, io.EOF):
		return nil, nil, io.EOF
	case errors.Is(err, io.EOF):
		return nil, nil, textError("the JSON array has no end: the file is cut off")
	case err != nil:
		return nil, nil, err
	case a.ended:
		return nil, nil, textError("there is more behind the JSON array")
	case c == ']' && a.given == 0:
		_, _ = a.text.Discard(1)
		a.ended = true
		return a.next()
	}
	return a.entry()
}

// entry reads up to the comma or the bracket after an entry.
func (a *arrayReader) entry() (entry []byte, failure *schemas.Failure, err error) {
	a.buf = a.buf[:0]
	depth, quoted, escaped, large, passed := 0, false, false, false, 0
	for {
		c, err := a.text.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil, nil, textError("the JSON array has no end: the file is cut off")
		}
		if err != nil {
			return nil, nil, err
		}
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			a.ended = c == ']'
			a.given++
			switch {
			case large:
				return nil, tooLarge(a.max), nil
			case len(bytes.Trim(a.buf, blanks)) == 0:
				return nil, bad(BadJSON, "an entry of the JSON array is missing"), nil
			}
			return a.buf, nil, nil
		}
		if passed++; passed > maxPassed {
			return nil, nil, textError("an entry has more than %d MiB", maxPassed>>20)
		}
		if !large {
			a.buf = append(a.buf, c)
		}
		if len(a.buf) > a.max {
			large, a.buf = true, a.buf[:0]
		}
	}
}

// skipBlanks passes over white space and returns the byte after it without reading it.
func (a *arrayReader) skipBlanks() (byte, error) {
	for {
		c, err := a.text.ReadByte()
		if err != nil {
			return 0, err
		}
		if !bytes.ContainsRune([]byte(blanks), rune(c)) {
			return c, a.text.UnreadByte()
		}
	}
}
