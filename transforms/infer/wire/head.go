package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
)

// Heeded are the fields of a header that an answer keeps, beside Server. The others are read
// over: making a map of all of them costs as much as reading the answer's JSON.
var Heeded = []string{
	"Retry-After",
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Limit-Tokens",
	"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Requests", "X-Ratelimit-Reset-Tokens",
}

// head is the head of an answer.
type head struct {
	status int
	server *string // the first
	header http.Header
	// length is what Content-Length says, -1 when it says nothing.
	length  int64
	chunked bool
	// old says that it is HTTP/1.0, which has no chunks.
	old bool
	// close says that the connection ends with this answer.
	close bool
}

const (
	// maxHead bounds the lines of a head together, maxInterim the answers such as 100 Continue.
	maxHead    = 256 << 10
	maxInterim = 10
)

var errHead = errors.New("the head of the answer is no HTTP/1")

// readHead reads the head of an answer and skips interim ones. As RFC 9112 asks, two lengths that
// differ are an error, a chunked body has no other length, and a field has no folded lines.
func readHead(r *bufio.Reader) (*head, error) {
	for range maxInterim {
		h, err := readOneHead(r)
		if err != nil || h.status >= 200 {
			return h, err
		}
	}
	return nil, errors.New("the server sends interim answers only")
}

func readOneHead(r *bufio.Reader) (*head, error) {
	left := maxHead
	line, err := readLine(r, &left)
	if err != nil {
		return nil, err
	}
	h := &head{length: -1}
	if err := h.statusLine(line); err != nil {
		return nil, err
	}
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		if err := h.field(line); err != nil {
			return nil, err
		}
	}
	switch {
	case h.status < 200, h.status == http.StatusNoContent, h.status == http.StatusNotModified:
		h.length, h.chunked = 0, false
	case h.chunked:
		h.length = -1
	case h.length < 0:
		h.close = true // its end is the connection's
	}
	return h, nil
}

// readLine returns a line without its end. It is valid until the next read. Of a line that is
// longer than the buffer it returns the start: none is so long that matters.
func readLine(r *bufio.Reader, left *int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = append(bytes.Clone(line), '\n')
		for *left > 0 && errors.Is(err, bufio.ErrBufferFull) {
			var more []byte
			more, err = r.ReadSlice('\n')
			*left -= len(more)
		}
	}
	if err != nil && *left > 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if *left -= len(line); *left < 0 {
		return nil, errors.New("the head of the answer is too long")
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}

// statusLine reads HTTP/1.1 200 OK.
func (h *head) statusLine(line []byte) error {
	rest, ok := bytes.CutPrefix(line, []byte("HTTP/1."))
	if !ok || len(rest) < 5 || rest[0] < '0' || rest[0] > '9' || rest[1] != ' ' || len(rest) > 5 && rest[5] != ' ' {
		return fmt.Errorf("%w: it begins with %.40q", errHead, line)
	}
	h.old = rest[0] == '0'
	h.close = h.old
	status, err := strconv.ParseUint(string(rest[2:5]), 10, 16)
	if err != nil || status < 100 {
		return fmt.Errorf("%w: its status is %q", errHead, rest[2:5])
	}
	h.status = int(status)
	return nil
}

// field reads Name: value.
func (h *head) field(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || !token(name) || hasControl(value) {
		return fmt.Errorf("%w: it has the line %.40q", errHead, line)
	}
	value = bytes.Trim(value, " \t")
	switch {
	case is(name, "Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 62)
		if err != nil || h.length >= 0 && h.length != int64(n) {
			return fmt.Errorf("%w: Content-Length is %.40q", errHead, value)
		}
		h.length = int64(n)
	case is(name, "Transfer-Encoding"):
		if h.old || h.chunked || !is(value, "chunked") {
			return fmt.Errorf("%w: Transfer-Encoding is %.40q", errHead, value)
		}
		h.chunked = true
	case is(name, "Connection"):
		for option := range bytes.SplitSeq(value, []byte{','}) {
			switch option = bytes.TrimSpace(option); {
			case is(option, "close"):
				h.close = true
			case is(option, "keep-alive"):
				h.close = false
			}
		}
	case is(name, "Server"):
		if h.server == nil {
			h.server = new(string(value))
		}
	default:
		if i := slices.IndexFunc(Heeded, func(heeded string) bool { return is(name, heeded) }); i >= 0 {
			if h.header == nil {
				h.header = http.Header{}
			}
			h.header.Add(Heeded[i], string(value))
		}
	}
	return nil
}

func (h *head) serverName() string {
	if h.server == nil {
		return ""
	}
	return *h.server
}

// is compares without regard to case, and cheaply when the lengths differ.
func is(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// token says whether a name is one by RFC 9110, 5.6.2.
func token(b []byte) bool {
	for _, c := range b {
		if !tokenBytes[c] {
			return false
		}
	}
	return true
}

var tokenBytes = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// readBody reads the body to its end, trailers included.
func (h *head) readBody(r *bufio.Reader, limit int64) ([]byte, error) {
	if !h.chunked {
		return ReadBody(r, h.length, limit)
	}
	b, err := ReadBody(httputil.NewChunkedReader(r), -1, limit)
	if err != nil {
		return b, err
	}
	left := maxHead
	for {
		line, err := readLine(r, &left)
		if err != nil || len(line) == 0 {
			return b, err
		}
	}
}
