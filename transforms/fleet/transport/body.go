package transport

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// readBody reads at most limit bytes, decompressed. With an error it returns the part received so far.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	r, err := decoded(io.LimitReader(resp.Body, limit+1), resp.Header.Get("Content-Encoding"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if n := resp.ContentLength; n > 0 && n <= min(limit, maxUpFront) {
		b.Grow(int(n) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if n > limit {
		return nil, ErrTooLarge
	}
	if err == nil && resp.Header.Get("Content-Encoding") == "" && bytes.HasPrefix(b.Bytes(), gzipMagic) {
		return unlabelled(b.Bytes(), limit)
	}
	return b.Bytes(), err
}

// inUTF8 converts a body in the character set that its Content-Type names, as Latin-1 or UTF-16. A body that
// is valid UTF-8 without zero bytes stays as it is, since some servers name a wrong one. The zero bytes of
// UTF-16 identify it without a name: texts of servers begin with an ASCII character.
func inUTF8(body []byte, contentType string) []byte {
	if utf8.Valid(body) && bytes.IndexByte(body, 0) < 0 {
		return body
	}
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || parameters["charset"] == "" {
		parameters = map[string]string{"charset": utf16Of(body)}
	}
	encoding, err := htmlindex.Get(parameters["charset"])
	if err != nil {
		return body
	}
	out, _, err := transform.Bytes(unicode.BOMOverride(encoding.NewDecoder()), body)
	if err != nil {
		return body
	}
	return out
}

// utf16Of returns the name of the kind of UTF-16 that a text with zero bytes has, "" for none.
func utf16Of(body []byte) string {
	body = bytes.TrimPrefix(bytes.TrimPrefix(body, []byte("\xff\xfe")), []byte("\xfe\xff"))
	switch {
	case len(body) < 2 || len(body)%2 != 0:
	case body[0] == 0 && body[1] != 0:
		return "utf-16be"
	case body[0] != 0 && body[1] == 0:
		return "utf-16le"
	}
	return ""
}

// gzipMagic begins a gzip stream, and no JSON.
var gzipMagic = []byte{0x1f, 0x8b}

// unlabelled decompresses a body whose gateway compressed it without a Content-Encoding. It returns
// a body that is no gzip stream as it is.
func unlabelled(body []byte, limit int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body, nil //nolint:nilerr // no gzip stream
	}
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if n > limit {
		return nil, ErrTooLarge
	}
	return b.Bytes(), err
}

// maxUpFront is the largest Content-Length for which the buffer is allocated up front.
const maxUpFront = 1 << 20

// decoded decompresses a body. The client requests no compression, but some servers compress anyway.
func decoded(r io.Reader, encoding string) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "gzip", "x-gzip":
		return gzip.NewReader(r)
	case "deflate": // in zlib format by the standard, often without it
		b := bufio.NewReader(r)
		head, err := b.Peek(2)
		if err == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(b)
		}
		return flate.NewReader(b), nil
	case "br":
		return brotli.NewReader(r), nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return r, nil
}

// IsSuccess reports whether a status is that of a complete answer. Some gateways answer 201 instead of 200.
func IsSuccess(status int) bool {
	return status == http.StatusOK || status == http.StatusCreated || status == http.StatusNonAuthoritativeInfo
}
