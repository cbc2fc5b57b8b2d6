package schedule

import (
	"testing"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/pacing"
)

// A stoppedClock is a clock that a test moves.
type stoppedClock struct {
	now    time.Time
	timers []timer
}

type timer struct {
	at time.Time
	do func()
}

func (c *stoppedClock) options() Options {
	c.now = time.Unix(1e9, 0)
	return Options{
		Now:       func() time.Time { return c.now },
		AfterFunc: func(d time.Duration, f func()) { c.timers = append(c.timers, timer{c.now.Add(d), f}) },
	}
}

// advance moves the clock, and runs the timers that are due by then in their order.
func (c *stoppedClock) advance(d time.Duration) {
	for end := c.now.Add(d); ; {
		next := -1
		for i, t := range c.timers {
			if !t.at.After(end) && (next < 0 || t.at.Before(c.timers[next].at)) {
				next = i
			}
		}
		if next < 0 {
			c.now = end
			return
		}
		t := c.timers[next]
		c.timers = append(c.timers[:next], c.timers[next+1:]...)
		if t.at.After(c.now) {
			c.now = t.at
		}
		t.do()
	}
}

// grants returns how many requests have permits, and the last grant.
func (t *Ticket) grants() int { return t.waiter.granted }

// After a rejection with Retry-After the server receives nothing until that time is over, whichever
// request asks.
func TestRetryAfterHoldsTheServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		after, hold time.Duration
		delivers    bool // it delivered an answer just before
		metered     bool
		idle        time.Duration // since that answer
		denied      bool
	}{
		{name: "half a minute", after: 30 * time.Second, hold: 30 * time.Second, delivers: false},
		{name: "half a minute, from a server that delivers", after: 30 * time.Second, hold: 30 * time.Second, delivers: true},
		{name: "two seconds, from a server that delivers", after: 2 * time.Second, hold: 2 * time.Second, delivers: true},
		{name: "a second", after: time.Second, hold: time.Second, delivers: false},
		{name: "nothing", after: 0, hold: 0, delivers: false},
		{name: "a year", after: 365 * 24 * time.Hour, hold: pacing.MaxWait, delivers: true},
		{name: "a second, of a server with rate limits", after: time.Second, hold: time.Second, delivers: true, metered: true},
		{name: "a second, long after the last answer", after: time.Second, hold: time.Second, delivers: true, idle: 1100 * time.Millisecond},
		{name: "a second, of a server that denies the role", after: time.Second, hold: time.Second, delivers: true, denied: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var clock stoppedClock
			l := New(clock.options())
			servers := testServers(0)
			sizes := make([]int, 100)
			for i := range sizes {
				sizes[i] = 1
			}
			ticket := l.Enqueue(servers, request(schemas.StageMeta, "p", sizes...))
			first := ticket.grants() // the initial limit
			if tt.metered {
				l.ApplyRateLimit(servers[0], 0)
			}
			if tt.delivers {
				l.Release(<-ticket.waiter.grants, Result{})
			}
			clock.advance(tt.idle)
			before := ticket.grants()
			l.Release(<-ticket.waiter.grants, Result{Outcome: Overloaded, RetryAfter: tt.after, Denied: tt.denied})
			if held := ticket.grants() == before; held != (tt.hold > 0) {
				t.Fatalf("of %d permits, %d were granted again at once", first, ticket.grants()-before)
			}
			if tt.hold == 0 {
				return
			}
			// Neither answers nor other requests end the hold. A crowded server would get a request after two answers.
			for range 4 {
				l.Release(<-ticket.waiter.grants, Result{})
			}
			l.Enqueue(servers, request(schemas.StageJudge, "q", 1))
			clock.advance(tt.hold - time.Millisecond)
			if n := ticket.grants() - before; n > 0 {
				t.Errorf("%d requests were granted before the time was over", n)
			}
			clock.advance(10 * time.Millisecond)
			if ticket.grants() == before {
				t.Error("nothing was granted when the time was over")
			}
		})
	}
}

// A server that delivers answers and asks for a second is crowded: its load falls, and it gets requests as it
// answers others. If it rejects one of these, it gets nothing for the second.
func TestRetryAfterOfACrowdedServer(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{time.Second, time.Second / 4} {
		t.Run(pause.String(), func(t *testing.T) {
			t.Parallel()
			var clock stoppedClock
			l := New(clock.options())
			sizes := make([]int, 100)
			for i := range sizes {
				sizes[i] = 1
			}
			ticket := l.Enqueue(testServers(20), request(schemas.StageMeta, "p", sizes...))
			answer := func(r Result) { l.Release(<-ticket.waiter.grants, r) }
			answer(Result{}) // it delivers
			if n := ticket.grants(); n != 21 {
				t.Fatalf("%d requests were granted, want the limit of 20 and one for the answer", n)
			}
			clock.advance(time.Millisecond)
			answer(Result{Outcome: Overloaded, RetryAfter: pause})
			answer(Result{Outcome: Overloaded, RetryAfter: pause}) // sent before the first was rejected
			if n := ticket.grants(); n != 21 {
				t.Errorf("%d requests were granted after the rejections, want none", n-21)
			}
			// 18 are in flight, of which 0.9 · 18 = 16.2 leave room for 16. So three answers make room for one request.
			for i := range 3 {
				clock.advance(time.Millisecond)
				answer(Result{})
				if n, want := ticket.grants()-21, i/2; n != want {
					t.Errorf("%d requests were granted after %d answers, want %d", n, i+1, want)
				}
			}
			for range 15 { // those from before the rejections
				answer(Result{})
			}
			before := ticket.grants()
			clock.advance(time.Millisecond)
			answer(Result{Outcome: Overloaded, RetryAfter: pause}) // one that was sent after them
			answer(Result{})
			clock.advance(pause - 2*time.Millisecond)
			if n := ticket.grants() - before; n > 0 {
				t.Errorf("%d requests were granted in the pause after a rejection of a lower load", n)
			}
			clock.advance(10 * time.Millisecond)
			if n := ticket.grants() - before; n == 0 {
				t.Error("nothing was granted after the pause")
			}
		})
	}
}

// The other server gets the requests meanwhile.
func TestRetryAfterLeavesTheOthers(t *testing.T) {
	t.Parallel()
	var clock stoppedClock
	l := New(clock.options())
	servers := testServers(4, 4)
	sizes := make([]int, 100)
	for i := range sizes {
		sizes[i] = 1
	}
	ticket := l.Enqueue(servers, request(schemas.StageMeta, "p", sizes...))
	g := <-ticket.waiter.grants
	held := g.server
	l.Release(g, Result{Outcome: Overloaded, RetryAfter: time.Minute})
	for ticket.received = 1; ticket.received < ticket.waiter.granted; ticket.received++ {
		g := <-ticket.waiter.grants
		clock.advance(100 * time.Millisecond)
		if ticket.received > 8 && g.server == held {
			t.Fatal("a request went to the server that asked for a minute")
		}
		l.Release(g, Result{})
	}
	if ticket.received != 100 {
		t.Errorf("%d of 100 requests were granted", ticket.received)
	}
}
