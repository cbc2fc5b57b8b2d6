package policy

import (
	"testing"
	"time"

	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/pacing"
)

// Every kind of fault has an action.
func TestPolicyIsComplete(t *testing.T) {
	for kind := fault.Broken; kind <= fault.OwnMachine; kind++ {
		if _, ok := rules[kind]; !ok {
			t.Errorf("kind %d has no rule", kind)
		}
	}
}

// A request has failed if it is rejected again and again, while others succeed, for longer than the patience. If
// others are rejected too, it has not.
func TestRejectedForGood(t *testing.T) {
	for _, tt := range []struct {
		others, want int // after how many of its rejections others have an answer; the rejection that is its last
	}{
		{1, 602},  // the first that comes more than 600 s after the first
		{7, 1401}, // the 200th that follows one of others'
		{0, 0},
	} {
		now := time.Unix(0, 0)
		h, last := History{Last: now}, 0
		for n := 1; n <= 5000; n++ {
			if h.RejectedForGood(now, tt.others > 0 && n > 1 && (n-1)%tt.others == 0, 10*time.Minute) {
				last = n
				break
			}
			now = now.Add(time.Second)
		}
		if last != tt.want {
			t.Errorf("others have an answer after each %d: the last rejection was number %d, want %d", tt.others, last, tt.want)
		}
	}
}

// A failure counts while a server answers, and every fault lengthens the pause.
func TestRecordFailure(t *testing.T) {
	began := time.Unix(100, 0)
	h := History{Last: began}
	for i, alive := range []bool{true, false, true} {
		now := began.Add(time.Duration(i+1) * time.Second)
		h.RecordFault(now)
		h.RecordFailure(now, alive)
	}
	if want := (History{Tries: 2, Waits: 3, First: began.Add(time.Second), Last: began.Add(3 * time.Second)}); h != want {
		t.Errorf("the history is %+v, want %+v", h, want)
	}
}

// The pause doubles from 250 ms to 30 s, half of it jitter. Before a request to an overloaded server it stays at 1 s,
// the third step. A requested time counts instead, with at most 250 ms of jitter.
func TestPause(t *testing.T) {
	for _, tt := range []struct {
		name  string
		waits int
		flt   fault.Fault
		from  time.Duration
		to    time.Duration
	}{
		{"first fault", 1, fault.Fault{}, 125 * time.Millisecond, 250 * time.Millisecond},
		{"third fault", 3, fault.Fault{}, 500 * time.Millisecond, time.Second},
		{"many faults", 1000, fault.Fault{}, 15 * time.Second, 30 * time.Second},
		{"many overloads", 1000, fault.Fault{Kind: fault.Overloaded}, 500 * time.Millisecond, time.Second},
		{"requested", 9, fault.Fault{Kind: fault.Overloaded, RetryAfter: 7 * time.Second}, 7 * time.Second, 7250 * time.Millisecond},
		{"requested for long", 9, fault.Fault{RetryAfter: 1000 * time.Hour}, pacing.MaxWait, pacing.MaxWait + 250*time.Millisecond},
	} {
		h := History{Waits: tt.waits}
		for range 100 {
			if got := h.Pause(&tt.flt); got < tt.from || got > tt.to {
				t.Fatalf("%s: the pause is %s, want %s to %s", tt.name, got, tt.from, tt.to)
			}
		}
	}
}
