// Package wire posts bodies over kept HTTP/1.1 connections, each on its caller's goroutine.
//
// It exists because net/http's client hands every request through two goroutines of its
// connection, which costs a third of the CPU of a call: see BenchmarkPost. It is no more than
// what an inference endpoint needs: POST with a body that is at hand, an answer that is read
// whole, no redirect, no cookie, no proxy, no HTTP/2.
//
// It promises that a request is sent once, and once more only when a connection that was idle
// for a second turns out to be closed before a byte of the answer came; that an answer
// larger than allowed is not read on; and that no connection is used again whose answer was
// not read to its end.
package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrTooLarge is the error of an answer with a larger body than allowed.
var ErrTooLarge = errors.New("the body is larger than allowed")

// ErrDial is the error of a connection that could not be made, whatever the reason.
var ErrDial = errors.New("no connection")

// A Client keeps the connections to any number of targets. It is safe for concurrent use.
type Client struct {
	// KeepAlive is how long an idle connection is kept; it should be less than the server's.
	KeepAlive time.Duration
	// DialTimeout bounds connecting and the TLS handshake.
	DialTimeout time.Duration
	// TLS is the configuration for https. Nil means the default.
	TLS *tls.Config

	mu     sync.Mutex
	closed bool
}

// A Target is where a client posts to. It is safe for concurrent use.
type Target struct {
	client  *Client
	address string      // host:port
	tls     *tls.Config // nil for http
	head    []byte      // up to the value of Content-Length

	mu   sync.Mutex
	idle []*conn // the one used last is last
	busy map[*conn]struct{}
}

// conn is a connection between two requests or in one.
type conn struct {
	net.Conn

	reader *bufio.Reader
	since  time.Time // when it fell idle
	// dropped is why its request was given up. Under the target's lock.
	dropped error
}

// An Answer is what came back, whatever its status. Of the header it has what [Heeded] names.
type Answer struct {
	Status int
	Server string // what says that it answers
	Header http.Header
	Body   []byte
}

// Target returns the target of a URL with the headers that each request carries.
func (c *Client) Target(to *url.URL, header http.Header) (*Target, error) {
	t := &Target{client: c, busy: map[*conn]struct{}{}}
	port := "80"
	switch to.Scheme {
	case "http":
	case "https":
		port = "443"
		t.tls = c.TLS.Clone()
		if t.tls == nil {
			t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		t.tls.ServerName = to.Hostname()
	default:
		return nil, fmt.Errorf("%s: the scheme is %q; allowed are http and https", to.Redacted(), to.Scheme)
	}
	if p := to.Port(); p != "" {
		port = p
	}
	t.address = net.JoinHostPort(to.Hostname(), port)
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\n", to.RequestURI(), to.Host)
	if err := header.Write(&b); err != nil {
		return nil, err
	}
	b.WriteString("Content-Length: ")
	t.head = []byte(b.String())
	return t, nil
}

// Post sends a body and returns the answer, of which the body may have up to limit bytes. It
// gives up at the deadline with an error that is [os.ErrDeadlineExceeded], and when ctx ends.
func (t *Target) Post(ctx context.Context, body []byte, deadline time.Time, limit int64) (*Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, idle := t.take()
	stale := idle > staleAfter
	for {
		if c == nil {
			var err error
			if c, err = t.dial(ctx, deadline); err != nil {
				if ctx.Err() == nil && !time.Now().Before(deadline) {
					err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err) // net's is another one
				}
				return nil, fmt.Errorf("%w: %w", ErrDial, err)
			}
		}
		answer, silent, err := t.exchange(ctx, c, body, deadline, limit)
		if err == nil || !stale || !silent || ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, cause(ctx, err)
		}
		c, stale = nil, false // it was closed while it was idle: a new one is as good as the first
	}
}

// cause prefers the reason why ctx ended to what the connection made of it.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// staleAfter is how long a connection has to be idle for its end to be the server's idle
// time-out, and no word on the request.
const staleAfter = time.Second

// take returns an idle connection that is young enough, nil when there is none, and for how
// long it was idle.
func (t *Target) take() (c *conn, idle time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := len(t.idle) - 1
	if k < 0 {
		return nil, 0
	}
	c = t.idle[k]
	t.idle[k] = nil
	t.idle = t.idle[:k]
	if idle = time.Since(c.since); idle < t.client.KeepAlive {
		return c, idle
	}
	for _, old := range append(t.idle, c) { // this one was used last
		old.Close() //nolint:errcheck // nothing is lost with it
	}
	t.idle = nil
	return nil, 0
}

// begin lets a connection have a request until the deadline.
func (t *Target) begin(c *conn, deadline time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy[c] = struct{}{}
	return c.SetDeadline(deadline)
}

// end keeps a connection for the next request, or closes it, and closes those that nobody needed
// for long. It returns why the request was given up, nil if it wasn't.
func (t *Target) end(c *conn, keep bool) (dropped error) {
	c.since = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, c)
	if !keep || c.dropped != nil || t.client.isClosed() {
		c.Close() //nolint:errcheck // nothing is lost with it
		return c.dropped
	}
	old := 0
	for old < len(t.idle) && c.since.Sub(t.idle[old].since) >= t.client.KeepAlive {
		t.idle[old].Close() //nolint:errcheck // nothing is lost with it
		old++
	}
	if old > 0 {
		t.idle = append(t.idle[:0], t.idle[old:]...)
	}
	t.idle = append(t.idle, c)
	return nil
}

// Drop gives up the requests that wait for an answer: they end with this error.
func (t *Target) Drop(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.busy {
		c.dropped = why
		c.SetDeadline(past) //nolint:errcheck // it is closed, then
	}
}

// CloseIdle closes the connections that no request uses.
func (t *Target) CloseIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		c.Close() //nolint:errcheck // nothing is lost with it
	}
	t.idle = nil
}

// Close lets no connection be kept any more.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

const bufferSize = 8 << 10

func (t *Target) dial(ctx context.Context, deadline time.Time) (*conn, error) {
	if d := time.Now().Add(t.client.DialTimeout); t.client.DialTimeout > 0 && d.Before(deadline) {
		deadline = d
	}
	dialer := net.Dialer{Deadline: deadline, KeepAlive: 30 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, cause(ctx, err)
	}
	c = quick(c)
	if t.tls != nil {
		secure := tls.Client(c, t.tls)
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(cause(ctx, err), c.Close())
		}
		c = secure
	}
	return &conn{Conn: c, reader: bufio.NewReaderSize(c, bufferSize)}, nil
}

// long past: a connection with this deadline fails at once.
var past = time.Unix(1, 0)

// exchange sends the request over c and reads the answer. Silent says that not a byte of an
// answer came.
func (t *Target) exchange(ctx context.Context, c *conn, body []byte, deadline time.Time, limit int64) (a *Answer, silent bool, err error) {
	keep := false
	defer func() {
		if dropped := t.end(c, keep); dropped != nil && err != nil {
			silent, err = false, dropped // it is not sent again
		}
	}()
	if err := t.begin(c, deadline); err != nil {
		return nil, true, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(past) }) //nolint:errcheck // it is closed, then
	defer func() { keep = stop() && keep }()
	sent := t.send(c, body)
	// A server that refuses a body may close before it has read all of it, but not before it
	// has said why.
	if _, err := c.reader.Peek(1); err != nil {
		return nil, true, errors.Join(sent, err)
	}
	h, err := readHead(c.reader)
	if err != nil {
		return nil, false, err
	}
	a = &Answer{Status: h.status, Server: h.serverName(), Header: h.header}
	a.Body, err = h.readBody(c.reader, limit)
	keep = err == nil && sent == nil && !h.close && c.reader.Buffered() == 0
	return a, false, err
}

func (t *Target) send(c *conn, body []byte) error {
	head := make([]byte, 0, len(t.head)+16)
	head = strconv.AppendInt(append(head, t.head...), int64(len(body)), 10)
	head = append(head, "\r\n\r\n"...)
	if whole, ok := c.Conn.(interface{ writeParts(a, b []byte) error }); ok {
		return whole.writeParts(head, body)
	}
	parts := net.Buffers{head, body}
	_, err := parts.WriteTo(c.Conn)
	return err
}

// trusted is up to which length memory is made ready for a body before it is there.
const trusted = 1 << 20

// ReadBody reads a body of a length that its head told, -1 when it didn't, or nothing of one
// that is too large.
func ReadBody(body io.Reader, length, limit int64) ([]byte, error) {
	switch {
	case length > limit:
		return nil, ErrTooLarge
	case length >= 0 && length <= trusted:
		b := make([]byte, length)
		_, err := io.ReadFull(body, b)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return b, err
	}
	if length < 0 {
		length = limit + 1 // what is more is too large
	}
	b, err := io.ReadAll(io.LimitReader(body, length))
	if err == nil && length <= limit && int64(len(b)) < length {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && int64(len(b)) > limit {
		err = ErrTooLarge
	}
	return b, err
}
