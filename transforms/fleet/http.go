package fleet

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/inprocess"
)

const (
	// keepAlive is shorter than uvicorn's 5 s, so that no request uses a connection that the server
	// is about to close.
	keepAlive = 4 * time.Second
	// dialTimeout limits connecting, and the TLS handshake.
	dialTimeout = 10 * time.Second
	// maxIdle is the largest number of idle connections to a server. It exceeds the number of
	// requests in flight, since closing a connection early costs a handshake later.
	maxIdle = 4096
	// pingAfter is how long an HTTP/2 connection may be silent before the client pings it. All
	// requests to a server share the connection, so that a dead one would block them all.
	pingAfter = 15 * time.Second

	requestIDHeader = "X-Request-Id"
	requestIDPrefix = "coeval-"
)

// newHTTPClient returns the client for endpoints whose certificates are signed by the system's
// authorities, or also by those in a file. It honours HTTPS_PROXY and SSL_CERT_FILE, and uses HTTP/2 with
// servers that offer it over TLS.
func newHTTPClient(caFile string) (*http.Client, error) {
	roots, err := authorities(caFile)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     keepAlive,
		DisableCompression:  true, // answers are small, and the size of unrequested compression is bounded below
		WriteBufferSize:     16 << 10,
		ReadBufferSize:      16 << 10,
	}
	inprocess.Attach(transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &guardedConn{Conn: c}, nil
	}
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: noRedirects}, nil
}

// authorities returns the certificate authorities of the system and of a PEM file. Nil means those of
// the system.
func authorities(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file names a file that can't be read: %w. Give the path of a PEM file with the certificate authority of the server", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file names %s, which contains no PEM certificate. Give the certificate authority of the server as PEM", caFile)
	}
	return roots, nil
}

// quiet is how long an HTTP/1 connection must have been silent before it carries another request. A
// faulty server that sends two answers to one request sends the second right after the first. On a busy
// machine the next request could be sent in between, and would get the second answer. 5 ms are half a
// percent of a generation of one second.
const quiet = 5 * time.Millisecond

// A guardedConn detects answers that arrive before their request.
type guardedConn struct {
	net.Conn
	// reads is the number of reads, lastRead the time of the last in nanoseconds since 1970.
	reads, lastRead atomic.Int64
	// reused is true from the moment a kept connection is assigned to a request until its first
	// write. readsBefore is the number of reads at that write.
	reused      atomic.Bool
	readsBefore atomic.Int64
}

// Read counts reads.
func (c *guardedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.lastRead.Store(time.Now().UnixNano())
		c.reads.Add(1)
	}
	return n, err
}

// Write sends the first bytes of a request after the connection has been quiet.
func (c *guardedConn) Write(b []byte) (int, error) {
	if c.reused.Swap(false) {
		if wait := quiet - time.Since(time.Unix(0, c.lastRead.Load())); wait > 0 {
			sleep(context.Background(), wait)
		}
		c.readsBefore.Store(c.reads.Load())
	}
	return c.Conn.Write(b)
}

// guardOf returns the guard of a kept connection. It returns nil for a new one and for HTTP/2, which
// numbers its requests.
func guardOf(info httptrace.GotConnInfo) *guardedConn {
	c := info.Conn
	if t, ok := c.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		c = t.NetConn()
	}
	guarded, ok := c.(*guardedConn)
	if !ok || !info.Reused {
		return nil
	}
	return guarded
}

// An answer is the server's answer, whatever its status.
type answer struct {
	status int
	header http.Header
	body   []byte
	stream bool // server-sent events
}

var (
	errTooLarge     = errors.New("the body is larger than allowed")
	errForeign      = errors.New("the answer belongs to another request")
	errUnresponsive = errors.New("the server has sent nothing for a long time, not even its list of models")
)

// post sends a body to the completions path and reads an answer of at most limit bytes. With an error,
// the answer has the part received so far, or is nil.
func (e *endpoint) post(ctx context.Context, body []byte, limit int64, timeout time.Duration) (*answer, error) {
	ctx, done := e.whileAlive(ctx)
	defer done()
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(within, http.MethodPost, e.urlOf(openai.CompletionsPath), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	a, err := e.exchange(req, limit)
	if err != nil && errors.Is(context.Cause(ctx), errUnresponsive) {
		err = errUnresponsive
	}
	return a, err
}

// get fetches a page within a time limit.
func (e *endpoint) get(ctx context.Context, url string, limit int64, timeout time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return e.exchange(req, limit)
}

func (e *endpoint) exchange(req *http.Request, limit int64) (*answer, error) {
	id := requestIDPrefix + uuid.NewString()
	req.Header = e.header.Clone()
	req.Header.Set(requestIDHeader, id)
	var guard *guardedConn
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if guard = guardOf(info); guard != nil {
			guard.reused.Store(true)
		}
	}}
	resp, err := e.client.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	e.recordBytes()
	if to := resp.Header.Get("Location"); to != "" {
		resp.Header.Set("Location", e.secrets.String(to))
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, stream: strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")}
	if guard != nil && guard.reads.Load() == guard.readsBefore.Load() {
		return a, fmt.Errorf("%w: it arrived before the request was sent", errForeign)
	}
	if echo := resp.Header.Get(requestIDHeader); e.isForeign(id, echo) {
		return a, fmt.Errorf("%w: %s is %q, the client sent %q", errForeign, requestIDHeader, e.secrets.String(echo), id)
	}
	a.body, err = readBody(resp, limit)
	a.body = e.secrets.Bytes(a.body)
	return a, err
}

// isForeign reports whether an echoed request ID shows that the answer belongs to another request. Some
// services number requests themselves. So an ID of another form counts only if the server has returned
// one of ours before.
func (e *endpoint) isForeign(sent, echo string) bool {
	switch echo {
	case "":
		return false
	case sent:
		e.echoes.Store(true)
		return false
	}
	return strings.HasPrefix(echo, requestIDPrefix) || e.echoes.Load()
}

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
		return nil, errTooLarge
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
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return r, nil
}

// ownFault returns a sentence about a fault of this machine, empty for any other error. Servers are not
// responsible for these faults, and they must not become final failures of calls.
func ownFault(err error) string {
	switch {
	case err == nil:
	// The resolver reports a failed socket as text alone.
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), strings.Contains(err.Error(), syscall.EMFILE.Error()):
		return "this process has no file descriptors left. Raise the limit (ulimit -n) or set client.max_in_flight lower"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no free ports for connections. Set client.max_in_flight lower, or widen net.ipv4.ip_local_port_range"
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return "this machine has no memory for connections. Set client.max_in_flight lower"
	}
	return ""
}

// unreachable reports whether no connection was made: the name, the address, a proxy or TLS failed.
func unreachable(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "remote error") ||
		errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &certificate) ||
		strings.Contains(err.Error(), "TLS handshake timeout") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}
