// Package endpoint holds one process's view of one server: its address, the discovered properties of its
// models, and its health.
//
// One lock of the [Endpoint] guards health and models; flags that never change back are atomic. Package
// schedule keeps the server's load. Package fleet sends the requests, and decides the reaction to a fault.
package endpoint

import (
	"sync"
	"sync/atomic"

	"coeval/transforms/fleet/schedule"
	"coeval/transforms/fleet/transport"
)

// An Endpoint is this process's view of one server. It is safe for concurrent use.
type Endpoint struct {
	*transport.Client
	// Server is the limiter's view.
	Server *schedule.Server
	// Simulated is true if the model list is the simulated server's, which may be behind a proxy.
	Simulated atomic.Bool
	// SGLang is true if the model list is SGLang's.
	SGLang atomic.Bool
	// Listed is true once the server, when ready, was asked which models it has.
	Listed atomic.Bool
	// discovering has a token during a discovery.
	discovering chan struct{}

	mu     sync.Mutex
	models map[string]*modelState // by model and revision
	health health
	// tokensPerRequest is a smoothed mean.
	tokensPerRequest float64
	// observed is true after the first call of Observe.
	observed bool
}

// New creates the view of a server that has not answered yet.
func New(c *transport.Client, s *schedule.Server) *Endpoint {
	e := &Endpoint{Client: c, Server: s, discovering: make(chan struct{}, 1), models: map[string]*modelState{}, health: newHealth()}
	c.OnBytes = e.recordBytes
	return e
}

// Observe reports whether this is its first call.
func (e *Endpoint) Observe() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := !e.observed
	e.observed = true
	return first
}
