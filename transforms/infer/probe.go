package infer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"coeval/schemas"
)

// stageProbe is how the counts name the requests of a probe.
const stageProbe = "probe"

const (
	// probeTokens is enough for a server to start a choice; what it says does not matter.
	probeTokens = 4
	// probeMessages is how many messages a probe tries of which a server refuses even one choice.
	probeMessages = 3
)

// batching is how many choices of a model a server was seen to give in one request.
type batching struct {
	most int
	// exact says that more were refused.
	exact bool
}

// batch returns the endpoints of a role that answer, and the largest n, up to the given, that
// all of them take. With several the first that answer are enough: the others are met meanwhile,
// and one that does not answer is left out for a while. If none does, the run's patience
// decides how long that may be.
func (f *fleet) batch(ctx context.Context, endpoints []*endpoint, r *Role, n int, calls *callCounts) ([]*endpoint, int, error) {
	if len(endpoints) == 1 {
		m, err := f.meet(ctx, endpoints[0], r, n, calls)
		return endpoints, m, err
	}
	for began := time.Now(); ; {
		usable := make([]*endpoint, 0, len(endpoints))
		most, coming := n, false
		for _, e := range endpoints {
			if m, ok := e.met(r, n); ok {
				usable, most = append(usable, e), min(most, m)
				continue
			}
			f.meetSoon(e, r, n)
			coming = coming || e.expected()
		}
		if err := f.unmeetable(); err != nil {
			return nil, 0, err
		}
		if len(usable) > 0 && !coming {
			return usable, most, nil
		}
		if err := f.patient(endpoints, r, began); err != nil {
			return nil, 0, err
		}
		if !pauseFor(ctx, betweenMeetings) {
			return nil, 0, ctx.Err()
		}
	}
}

const (
	// betweenMeetings is how long to wait before all endpoints are looked at again.
	betweenMeetings = 10 * time.Millisecond
	// meetingGrace is how long those that answer wait for one that is being met.
	meetingGrace = 300 * time.Millisecond
)

// meetSoon meets an endpoint on a goroutine of the fleet, if nobody does and it wasn't silent just
// now.
func (f *fleet) meetSoon(e *endpoint, r *Role, n int) {
	if e.silent() {
		return
	}
	select {
	case e.probing <- struct{}{}:
	default:
		return
	}
	e.mu.Lock()
	e.meeting = time.Now()
	e.mu.Unlock()
	over := func() {
		e.mu.Lock()
		e.meeting = time.Time{}
		e.mu.Unlock()
		<-e.probing
	}
	begun := f.begin(func() {
		defer over()
		if _, ok := e.met(r, n); ok {
			return
		}
		if _, err := f.meetNow(f.ctx, e, r, n, &f.own, true); err != nil {
			f.failedToMeet(f.ctx, err)
		}
	})
	if !begun {
		over()
	}
}

// failedToMeet keeps the error of a meeting, which ends the run: who meets next must not ask again.
func (f *fleet) failedToMeet(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fatal = cmp.Or(f.fatal, err)
}

// expected says that the endpoint is being met, and that it may soon be known.
func (e *endpoint) expected() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.meeting.IsZero() && time.Since(e.meeting) < meetingGrace
}

// unmeetable returns the error of a meeting that ends the run.
func (f *fleet) unmeetable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fatal
}

// meet finds out, before a role's first call of its only endpoint, what model is there, and how
// many choices it gives in a request: llama.cpp as many as it has slots, some gateways refuse n,
// others ignore it and send one choice with a 200.
func (f *fleet) meet(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts) (int, error) {
	if m, ok := e.met(r, n); ok {
		return m, nil
	}
	select {
	case e.probing <- struct{}{}: // one at a time
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-e.probing }()
	if m, ok := e.met(r, n); ok {
		return m, nil
	}
	if err := f.unmeetable(); err != nil {
		return 0, err
	}
	m, err := f.meetNow(ctx, e, r, n, calls, false)
	if err != nil {
		f.failedToMeet(ctx, err)
	}
	return m, err
}

// meetNow is for who holds the endpoint's probing. With others to ask it returns 0 when the
// endpoint does not answer.
func (f *fleet) meetNow(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts, others bool) (int, error) {
	if err := f.identify(ctx, e, r); err != nil {
		return 0, err
	}
	m, err := f.probe(ctx, e, r, n, calls, others)
	if err != nil {
		return 0, err
	}
	if m > 0 && !e.proved(r) {
		began := time.Now()
		answers, err := f.prove(ctx, e, r, calls, others)
		for err == nil && !answers && !others {
			if err = f.patient([]*endpoint{e}, r, began); err == nil {
				answers, err = f.prove(ctx, e, r, calls, others)
			}
		}
		if err != nil {
			return 0, err
		}
		if !answers {
			m = 0
		}
	}
	f.startObserving(e, r)
	e.mu.Lock()
	defer e.mu.Unlock()
	if m == 0 {
		e.silentUntil = time.Now().Add(silence)
		return 0, nil
	}
	e.identified[r.Identity()] = true
	if n > 1 {
		e.batching[r.Model] = batching{most: m, exact: m < n}
	}
	return m, nil
}

// silence is how long an endpoint that did not answer is left alone, while there are others.
const silence = 10 * time.Second

func (e *endpoint) silent() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.silentUntil)
}

func (e *endpoint) met(r *Role, n int) (int, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.batching[r.Model]
	return min(max(b.most, 1), n), e.isProved(r) && e.identified[r.Identity()] && (n == 1 || b.exact || b.most >= n)
}

// probe asks for n short choices, then for half as many, until the server gives them all. A
// server that refuses even one choice of a message, or fails at it, says nothing about n: another
// message is tried. The patience of the run bounds how long a server may fail at all of them; with
// others to ask it may fail at one, and probe returns 0. One choice needs no probe then.
func (f *fleet) probe(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts, others bool) (int, error) {
	if n == 1 && !others {
		return 1, nil
	}
	began := time.Now()
	for refused := 0; refused < probeMessages; {
		m, code, err := f.probeOnce(ctx, e, r, n, calls, others)
		if err != nil || code == "" {
			return m, err
		}
		switch code {
		case CodeBadRequest, CodeContextLength, CodeTooLarge:
			refused++
		default:
			if others {
				return 0, nil
			}
			if err := f.patient([]*endpoint{e}, r, began); err != nil {
				return 0, err
			}
		}
	}
	return 1, nil
}

// probeOnce probes once with each n. A code says that the server gave not even one choice.
func (f *fleet) probeOnce(ctx context.Context, e *endpoint, r *Role, n int, calls *callCounts, others bool) (most int, code string, err error) {
	for ; n >= 1; n /= 2 {
		q := probeRequest(r, n)
		q.once = others
		generations, has, err := f.ask(ctx, []*endpoint{e}, nil, q, calls)
		if err != nil {
			return 0, "", err
		}
		f.watch.kept()
		if code = generations[0].Code; code == "" && !slices.Contains(has, false) {
			return n, "", nil
		}
		if code == CodeConnection || code == CodeTimeout {
			break // it isn't n that keeps it from answering
		}
	}
	return 0, code, nil
}

// probeRequest asks for n choices of a few tokens. The text is another one each time, so that
// none is asked for twice.
func probeRequest(r *Role, n int) request {
	short := *r
	short.MaxTokens, short.Stop, short.Verdict = probeTokens, nil, nil
	messages := []schemas.Message{{Role: "user", Content: "Say OK. " + uuid.NewString()}}
	return request{
		role: &short, stage: stageProbe, promptID: messages[0].Content, n: n,
		messages: func() []schemas.Message { return messages },
	}
}
