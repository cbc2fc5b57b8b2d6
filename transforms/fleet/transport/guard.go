package transport

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// quiet is how long an HTTP/1 connection must have been silent before it carries another request. A
// faulty server that sends two answers to one request sends the second right after the first. On a busy
// machine the next request could be sent in between, and would get the second answer. 5 ms are half a
// percent of a generation of one second.
const quiet = 5 * time.Millisecond

// unwritten is the value of readsBefore while nothing of the request has been written.
const unwritten = -1

// A guardedConn detects answers that arrive before their request.
type guardedConn struct {
	net.Conn
	// reads is the number of reads, lastRead the time of the last in nanoseconds since 1970.
	reads, lastRead atomic.Int64
	// reused is true from the moment a kept connection is assigned to a request until its first
	// write. readsBefore is the number of reads at that write, or unwritten.
	reused      atomic.Bool
	readsBefore atomic.Int64
}

// assign prepares a kept connection for its next request.
func (c *guardedConn) assign() {
	c.readsBefore.Store(unwritten)
	c.reused.Store(true)
}

// answered reports whether something arrived after the first bytes of the request had been sent. A stray
// answer in net/http's buffer can be returned for a request that still waits in Write.
func (c *guardedConn) answered() bool {
	before := c.readsBefore.Load()
	return before != unwritten && c.reads.Load() != before
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
			<-time.After(wait)
		}
		c.readsBefore.Store(c.reads.Load())
	}
	return c.Conn.Write(b)
}

// guardOf returns the guard of a connection. It returns nil for HTTP/2, which numbers its requests.
func guardOf(c net.Conn) *guardedConn {
	if t, ok := c.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		c = t.NetConn()
	}
	guarded, _ := c.(*guardedConn)
	return guarded
}
