package transport

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A request on a kept connection waits until that has been quiet, and bytes that come until then are
// no answer to it.
func TestGuardedConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer func() { _, _ = client.Close(), server.Close() }() // a pipe's Close returns nil
		c := &guardedConn{Conn: client}
		go func() {
			b := make([]byte, 1)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}()
		send := func() { // an answer of one byte
			if _, err := server.Write([]byte("a")); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		ask := func() { // a request of one byte
			if _, err := c.Write([]byte("q")); err != nil {
				t.Error(err)
			}
		}
		go io.Copy(io.Discard, server) //nolint:errcheck // ends with the pipe
		send()
		c.assign()
		if c.answered() {
			t.Error("a request that has not been written counts as answered")
		}
		began := time.Now()
		time.AfterFunc(quiet/2, func() { _, _ = server.Write([]byte("s")) }) // a stray one
		ask()
		if took := time.Since(began); took != quiet {
			t.Errorf("the request was sent after %s, want %s", took, quiet)
		}
		if c.answered() {
			t.Error("the stray answer counts as one to the request")
		}
		send()
		if !c.answered() {
			t.Error("the answer does not count")
		}
		ask() // the rest of a body is not held up
		if took := time.Since(began); took != quiet {
			t.Errorf("the rest was sent after %s", took)
		}
	})
}
