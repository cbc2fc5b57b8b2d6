package endpoint

import (
	"context"
	"time"
)

// BeginDiscovery waits until no other discovery of the endpoint is in progress. The caller must call
// EndDiscovery after its own, unless BeginDiscovery returns an error, because ctx has ended.
func (e *Endpoint) BeginDiscovery(ctx context.Context) error {
	select {
	case e.discovering <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryBeginDiscovery is BeginDiscovery without waiting: it returns false if a discovery is in progress.
func (e *Endpoint) TryBeginDiscovery() bool {
	select {
	case e.discovering <- struct{}{}:
	default:
		return false
	}
	e.mu.Lock()
	e.health.discoverySince = time.Now()
	e.mu.Unlock()
	return true
}

// EndDiscovery ends a discovery.
func (e *Endpoint) EndDiscovery() {
	e.mu.Lock()
	e.health.discoverySince = time.Time{}
	e.mu.Unlock()
	<-e.discovering
}

// discoverGrace is how long known endpoints wait for an endpoint in discovery.
const discoverGrace = 300 * time.Millisecond

// Expected reports whether a discovery is in progress that may end soon.
func (e *Endpoint) Expected() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.health.discoverySince.IsZero() && time.Since(e.health.discoverySince) < discoverGrace
}
