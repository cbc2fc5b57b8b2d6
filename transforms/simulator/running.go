package simulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Running is a server that listens.
type Running struct {
	server *Server
	http   *http.Server
	addr   string
	done   chan error
	close  func() error
}

// Start starts a server on o.Addr. It has to be closed.
func Start(o Options) (*Running, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.o.Addr)
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	r := &Running{
		server: s,
		http:   &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, IdleTimeout: 2 * time.Minute},
		addr:   l.Addr().String(),
		done:   make(chan error, 1),
	}
	// Serving outlives this call; Close waits for it.
	go func() { r.done <- r.http.Serve(l) }()
	r.close = sync.OnceValue(r.shut)
	return r, nil
}

// URL is the base of the chat protocol, as an endpoint's URL: http://host:port/v1.
func (r *Running) URL() string { return r.Root() + "/v1" }

// Root is the base of the simulator's own paths, /stats and others: http://host:port.
func (r *Running) Root() string { return "http://" + r.addr }

// Server is the server itself.
func (r *Running) Server() *Server { return r.server }

// Close cuts all connections and stops listening. Closing again does nothing more.
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
