package simulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"coeval/transforms/inprocess"
)

// A Running is a server that accepts connections.
type Running struct {
	server *Server
	http   *http.Server
	addr   string
	done   chan error
	close  func() error
}

// Start starts a server that listens on o.Addr. The caller must close it.
func Start(o Options) (*Running, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.o.Addr)
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	return s.serve(l, l.Addr().String()), nil
}

// StartInProcess starts a server for clients in this process alone; see package inprocess. It opens
// no socket and ignores o.Addr. The caller must close the server.
func StartInProcess(o Options) (*Running, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	l := inprocess.Listen("simulated")
	return s.serve(l, l.Host()), nil
}

func (s *Server) serve(l net.Listener, addr string) *Running {
	r := &Running{
		server: s,
		http:   &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, IdleTimeout: 2 * time.Minute},
		addr:   addr,
		done:   make(chan error, 1),
	}
	// The goroutine outlives this call. Close waits for it.
	go func() { r.done <- r.http.Serve(l) }()
	r.close = sync.OnceValue(r.shut)
	return r
}

// URL is the base of the chat protocol, as an endpoint's URL: http://host:port/v1.
func (r *Running) URL() string { return r.Root() + "/v1" }

// Root is the base of the simulator's own paths, for example /stats: http://host:port.
func (r *Running) Root() string { return "http://" + r.addr }

// Server is the server itself.
func (r *Running) Server() *Server { return r.server }

// Close closes all connections and the listener. Further calls do nothing.
func (r *Running) Close() error { return r.close() }

func (r *Running) shut() error {
	err := r.http.Close()
	if serveErr := <-r.done; !errors.Is(serveErr, http.ErrServerClosed) && err == nil {
		err = serveErr
	}
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	return nil
}
