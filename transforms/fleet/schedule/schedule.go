// Package schedule decides which request goes to which server, and when. It sends nothing itself. Its
// clock is a function in its Options.
//
// # Permits
//
// A Limiter shares the permits of servers among all requests of a process. A permit is one generation in
// flight; a [pacing.Pace] limits the permits of each server. A request of n choices takes its n permits
// together, on one server. Otherwise two requests that each have half of their permits would wait for each
// other forever.
//
// # Order
//
// Requests wait here, not at a server: another server can still take them. Each request waits in the queue
// of its prompt's home server, which probably has the prompt's text in its prefix cache. Homes are assigned
// by rendezvous hashing, weighted by the limits, with bounded load. A server with room serves its own queue
// first, otherwise the longest queue that it may serve. It leaves requests that failed on it to other
// servers. Near the end of a run, a slow server takes no new requests. Later stages go before earlier ones, so
// that prompts finish and memory stays flat. Once all prompts of the run have been read, earlier stages go
// first. Otherwise the last prompts would start after all others had finished.
//
// For example, of two servers with 4 permits each, A is the home of a prompt with 6 comparisons. A
// serves 4 of them; B, if idle, takes the other 2.
//
// # Health
//
// The [Limiter] grants no permits of a server
//   - before the time in its Retry-After or rate-limit headers, and while its quota is used up. There is one
//     exception: a server without rate limits that delivers answers and asks for a second or less is crowded.
//     It gets fewer requests for that time, and none if it rejects one of these;
//   - for a short time after three rejections in a row;
//   - during a quarantine, unless all servers are quarantined. A quarantine follows three faults in a row,
//     if no connection was possible or the server has sent no answer for a while. Three rejections count
//     too, if no request is in flight and the server has delivered nothing for a while. After the
//     quarantine one request at a time tests the server.
//
// Rendezvous hashing is by Thaler and Ravishankar (1998), bounded load by Mirrokni, Thorup and
// Zadimoghaddam (2016).
package schedule

import (
	"slices"
	"sync"
	"time"

	"coeval/transforms/fleet/pacing"
)

// Options configure a Limiter. The zero value is for a Limiter on the wall clock that reports to
// nobody.
type Options struct {
	// Now returns the time. Nil means time.Now.
	Now func() time.Time
	// AfterFunc calls f once after d, on a goroutine of its own. Nil means time.AfterFunc.
	AfterFunc func(d time.Duration, f func())
	// Changed receives by how much the number of permits, and of permits in flight, has changed. It
	// must not call the Limiter. May be nil.
	Changed func(permits int, inFlight float64)
}

// A Limiter shares the permits of servers among all requests of a process. A permit is one
// generation in flight. A request takes its permits at once, on one server: taking them one by one
// would deadlock. A Limiter is safe for concurrent use.
type Limiter struct {
	options Options

	mu     sync.Mutex
	queues []*queue // the one to serve first is first
	pools  []*pool
	// servers are the servers of all pools, each once.
	servers []*Server
	// feeders is the number of bundles that may still receive prompts. Ending is true once there
	// are none left.
	feeders int
	ending  bool
	// draining stops all grants.
	draining bool
	// releasing is true while a timer runs that releases permits of finished choices.
	releasing bool
}

// A Server is one server as its Limiter knows it, which owns all of it.
type Server struct {
	name  string
	hash  uint64
	pace  *pacing.Pace
	quota *pacing.Quota // nil if none is configured

	// inFlight is in permits, outstanding in generations that were asked for.
	inFlight    float64
	outstanding int
	groups      []*Grant // requests that release permits before their answer
	homes       int      // prompts in progress whose home it is
	health

	// metered is true if the server allows a number of requests in a time.
	metered bool
	// reportedPermits and reportedInFlight are the sums of the values passed to Options.Changed.
	reportedPermits  int
	reportedInFlight float64
}

// NewServer returns a server whose limit p finds. Its name decides which prompts it is the home of. A
// nil quota means that none is configured.
func NewServer(name string, p *pacing.Pace, quota *pacing.Quota) *Server {
	return &Server{name: name, hash: hashOf(name), pace: p, quota: quota, metered: quota != nil}
}

// Name returns the name that the server was made with.
func (s *Server) Name() string { return s.name }

// FixedLimit reports whether the server's limit was configured.
func (s *Server) FixedLimit() bool { return s.pace.Fixed() }

// A Grant is the permits of one request in flight. Its holder must release it.
type Grant struct {
	server *Server
	class  pacing.Class
	probe  bool
	since  time.Time
	// permits is the number of permits that the request still occupies, level the number in flight when it
	// was granted.
	permits, level float64
}

// Server returns the server that the request goes to.
func (g *Grant) Server() *Server { return g.server }

// New returns a Limiter.
func New(o Options) *Limiter {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	if o.Changed == nil {
		o.Changed = func(int, float64) {}
	}
	return &Limiter{options: o}
}

// Drain stops all grants. Requests in flight continue.
func (l *Limiter) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
}

// Close drains, and reports to Options.Changed that there are no permits any more. Grants that are
// still in flight may be released later.
func (l *Limiter) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for _, s := range l.servers {
		l.options.Changed(-s.reportedPermits, -s.reportedInFlight)
		s.reportedPermits, s.reportedInFlight = 0, 0
	}
	l.options.Changed = func(int, float64) {}
}

// Feed changes the number of bundles that may still receive prompts. At 0 the earlier stages go
// first instead of the later ones.
func (l *Limiter) Feed(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.feeders += by
	if ending := l.feeders == 0; ending != l.ending {
		l.ending = ending
		l.sortQueues()
	}
}

// InFlight reports whether any permit is in use, by requests in flight or about to be sent.
func (l *Limiter) InFlight() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.servers, func(s *Server) bool { return s.outstanding > 0 })
}

// Permits returns the limits of all servers together.
func (l *Limiter) Permits() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := 0
	for _, s := range l.servers {
		sum += int(s.pace.Limit())
	}
	return sum
}

// A State describes the load of one server.
type State struct {
	Name string
	// Outstanding are the generations that were asked for, InFlight the permits that they still
	// occupy, Permits the limit.
	Outstanding       int
	InFlight, Permits float64
	// Running is the number of choices that the server works on, -1 if unknown, as with a
	// configured limit. WaitingShare is the last known number of waiting choices per running one.
	Running, WaitingShare float64
	// Quarantined is true while the server fails, and one request at a time finds out whether it is
	// back.
	Quarantined bool
	// NotBefore is until when the server receives nothing, because it or its quota asks for that. It
	// may be in the past.
	NotBefore time.Time
}

// States returns the state of each server, and how many requests wait for permits by stage.
func (l *Limiter) States() (states []State, waiting map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.servers {
		running := 0.0
		if s.outstanding > 0 && s.quarantinedUntil.IsZero() {
			running = s.pace.Running()
		}
		states = append(states, State{
			Name: s.name, Outstanding: s.outstanding, InFlight: s.inFlight, Permits: s.pace.Limit(),
			Running: running, WaitingShare: s.pace.Share(), Quarantined: !s.quarantinedUntil.IsZero(), NotBefore: s.notBefore,
		})
	}
	waiting = map[string]int{}
	for _, q := range l.queues {
		for _, waiters := range q.waiters {
			for _, w := range waiters {
				waiting[w.Stage] += len(w.Sizes) - w.granted
			}
		}
	}
	return states, waiting
}
