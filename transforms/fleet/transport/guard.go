package transport

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

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
			<-time.After(wait)
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
