package counters

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The measured time of requests ends with the last answer, even if permits change later. Generations in
// flight are counted by stage.
func TestCountersAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Counters{}
		after := func(d time.Duration) { <-time.After(d) }
		w.PermitsChanged(8, 0)
		if s := w.Snapshot(); s.Asking != 0 || s.PermitUse != 0 {
			t.Errorf("before the first request %+v", s)
		}
		after(time.Second)
		w.RequestStarted("judge", 3)
		w.PermitsChanged(0, 4)
		after(2 * time.Second)
		w.RequestStarted("meta", 1)
		if s := w.Snapshot(); s.Asking != 0 || s.InFlight != 4 || s.InFlightByStage["judge"] != 3 || s.InFlightByStage["meta"] != 1 {
			t.Errorf("before the first answer %+v", s)
		}
		w.RequestEnded("judge", 3)
		after(2 * time.Second)
		w.RequestEnded("meta", 1)
		w.PermitsChanged(0, -4)
		after(time.Minute)
		w.PermitsChanged(2, 0)
		// 4 of 8 permits were held for 4 seconds.
		if s := w.Snapshot(); s.Asking != 4*time.Second || s.PermitUse != 0.5 || s.InFlight != 0 || s.InFlightByStage["meta"] != 0 {
			t.Errorf("after the last answer %+v", s)
		}
	})
}

// The most common failure comes first, with its message and count.
func TestFailuresAreCounted(t *testing.T) {
	c := &Counters{}
	for i := range 100 {
		c.RecordFailure("judge", "bad_request", []string{"a", "b", "a"}[i%3])
		c.RecordFailure("actor", "timeout", fmt.Sprint(i))
	}
	got := c.Snapshot().Failures
	if got[0] != (Failure{Role: "judge", Code: "bad_request", Message: "a", Count: 67}) {
		t.Errorf("the first is %+v", got[0])
	}
	sum := int64(0)
	for _, f := range got {
		sum += f.Count
	}
	if sum != 200 || len(got) > maxFailures+2 {
		t.Errorf("%d failures of %d kinds", sum, len(got))
	}
}
