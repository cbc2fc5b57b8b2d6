// Package lines splits the text of a file into candidates for prompts: lines, array entries or table rows.
//
// It decompresses, reads UTF-16, and limits the bytes of a line that are kept in memory. It does not
// interpret lines; package conversation does.
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"coeval/datasets/internal/conversation"
	"coeval/schemas"
)

const (
	// maxWindow is the largest memory that a zstd file may ask for. The zstd program has the same limit.
	maxWindow = 128 << 20
	// maxPassed bounds how much of a line above the limit is read to find its end.
	maxPassed = 1 << 30
	// bufferBytes is how much of a text is read at once.
	bufferBytes = 64 << 10
)

// Decompress returns the text of a file, all frames or members of it one after the other.
func Decompress(r io.Reader, compression string) (io.ReadCloser, error) {
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

// Blanks are the white space of JSON.
const Blanks = " \t\r\n"

// A Splitter splits a text into its lines.
type Splitter interface {
	// Next returns a line, good until the next call; nothing and failure for one that can't be
	// parsed; io.EOF after the last.
	Next() (line []byte, failure *schemas.Failure, err error)
	// Number is the number of the last line from Next.
	Number() int64
}

// The codes of lines that can't be parsed. A line may also have one of package conversation's.
const (
	TooLarge = "too_large"
	BadRow   = "bad_row"
)

// Split returns the lines of a text: by its kind the rows of a table (.csv, .tsv), plain lines (.txt), or
// the rows of YAML (.yaml, .yml). Any other is JSON: an object in each line, the entries of an array, the rows
// that an object contains, or its columns. Of a line it keeps at most limit bytes. IsPrompt reports whether JSON
// is a prompt.
func Split(r io.Reader, kind string, limit int, isPrompt func([]byte) bool) (Splitter, error) {
	text := utf8Text(r)
	switch kind {
	case ".csv", ".tsv":
		return newTable(text, kind, limit)
	case ".txt":
		return plainReader{&lineReader{text: text, max: limit}}, nil
	case ".yaml", ".yml":
		return &wholeReader{text: text, yaml: true, max: limit, isPrompt: isPrompt}, nil
	}
	switch first := firstByte(text); {
	case first == '[' && !hasListInEachLine(text):
		return &arrayReader{text: text, max: limit}, nil
	case first == '{':
		return splitObjects(text, limit, isPrompt), nil
	}
	return &lineReader{text: text, max: limit}, nil
}

// bad is the failure of a line.
func bad(code, format string, args ...any) *schemas.Failure {
	return &schemas.Failure{Stage: schemas.StagePrompts, Code: code, Message: fmt.Sprintf(format, args...)}
}

// TooLong is the failure of a line above the limit.
func TooLong(limit int) *schemas.Failure {
	return bad(TooLarge, "the line is larger than %d bytes", limit)
}

// ErrText is an error of the text itself, not of the file that has it.
var ErrText = errors.New("the text can't be read")

// textError returns an error that describes the fault of a text.
func textError(format string, args ...any) error { return problem(fmt.Sprintf(format, args...)) }

type problem string

func (p problem) Error() string { return string(p) }

// Is makes the problem an ErrText.
func (problem) Is(target error) bool { return target == ErrText }

// firstByte returns the first byte of a text that is not white space, or 0. A text that
// can't be read has none: its first line has the reason.
func firstByte(text *bufio.Reader) byte {
	const enough = 512
	head, _ := text.Peek(enough)
	if head = bytes.TrimLeft(head, Blanks); len(head) > 0 {
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

// Number returns the number of the line that Next gave last.
func (l *lineReader) Number() int64 { return l.given }

// Next returns a line without its end.
func (l *lineReader) Next() (line []byte, failure *schemas.Failure, err error) {
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
				return nil, TooLong(l.max), nil
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
	// isPrompt is set for an array in an object.
	isPrompt func([]byte) bool
}

// Number returns the number of the line that Next gave last.
func (a *arrayReader) Number() int64 { return a.given }

// Next returns an entry. Of the JSON only brackets, strings and commas are looked at.
func (a *arrayReader) Next() (entry []byte, failure *schemas.Failure, err error) {
	if !a.begun {
		if _, err := a.skipBlanks(); err != nil {
			return nil, nil, err
		}
		_, _ = a.text.Discard(1) // the bracket was seen
		a.begun = true
	}
	if a.ended && a.isPrompt != nil {
		return nil, nil, checkRest(a.text, a.isPrompt)
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
		return a.Next()
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
				return nil, TooLong(a.max), nil
			case len(bytes.Trim(a.buf, Blanks)) == 0:
				return nil, bad(conversation.BadJSON, "an entry of the JSON array is missing"), nil
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
		if !bytes.ContainsRune([]byte(Blanks), rune(c)) {
			return c, a.text.UnreadByte()
		}
	}
}
