// Package inprocess connects HTTP clients to servers of the same process through memory. It opens no
// socket, so no other process can reach these servers.
//
// A server gets a host name that ends in ".invalid", which no name server resolves (RFC 6761). A client
// reaches it through a transport from [Attach].
//
// Connections are [net.Pipe]s and not grpc's bufconn, because net/http relies on deadlines: with bufconn a deadline that
// was extended can still expire, and the server closes the connection.
package inprocess

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// The servers of the process. A client finds a server by its host name, because a URL is all that
// reaches a client through a pipeline's options.
var (
	mu      sync.Mutex
	last    int
	servers = map[string]*Listener{}
)

// Listener accepts the connections of one server. It implements net.Listener.
type Listener struct {
	host    string
	dialed  chan net.Conn
	closed  chan struct{}
	closing sync.Once
}

// Listen returns a listener with a new host name: NAME-1.invalid, NAME-2.invalid and so on.
func Listen(name string) *Listener {
	mu.Lock()
	defer mu.Unlock()
	last++
	l := &Listener{host: fmt.Sprintf("%s-%d.invalid", name, last), dialed: make(chan net.Conn), closed: make(chan struct{})}
	servers[l.host] = l
	return l
}

// Host returns the host name that clients use: http://HOST.
func (l *Listener) Host() string { return l.host }

// Accept waits for a connection. It returns net.ErrClosed once the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops the listener. Connections that it accepted stay open.
func (l *Listener) Close() error {
	l.closing.Do(func() {
		mu.Lock()
		delete(servers, l.host)
		mu.Unlock()
		close(l.closed)
	})
	return nil
}

// Addr returns the listener's host name.
func (l *Listener) Addr() net.Addr { return address(l.host) }

type address string

func (address) Network() string  { return "inprocess" }
func (a address) String() string { return string(a) }

// dial connects to the listener once its server accepts.
func (l *Listener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	var err error
	select {
	case l.dialed <- server:
		return client, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Net: l.Addr().Network(), Addr: l.Addr(), Err: err}
}

// Serves reports whether a server of this process has the host name.
func Serves(host string) bool { return lookup(host) != nil }

func lookup(host string) *Listener {
	mu.Lock()
	defer mu.Unlock()
	return servers[host]
}

// Attach lets a transport reach the servers of this process, past any proxy. Requests to other hosts
// keep the transport's own Proxy and DialContext.
func Attach(t *http.Transport) {
	proxy, dial := t.Proxy, t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if proxy == nil || Serves(r.URL.Hostname()) {
			return nil, nil
		}
		return proxy(r)
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if l := lookup(host); l != nil {
			return l.dial(ctx)
		}
		return dial(ctx, network, addr)
	}
}
