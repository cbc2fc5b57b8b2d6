package fleet

import (
	"testing"
	"testing/synctest"
	"time"
)

// The time of asking ends with the last answer, whatever happens to the permits after it; a stage's
// generations in flight are told apart.
func TestCountersAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Counters{}
		after := func(d time.Duration) { <-time.After(d) }
		w.permitsChanged(8, 0)
		if s := w.Snapshot(); s.Asking != 0 || s.PermitUse != 0 {
			t.Errorf("before the first request %+v", s)
		}
		after(time.Second)
		w.requestStarted("judge", 3)
		w.permitsChanged(0, 4)
		after(2 * time.Second)
		w.requestStarted("meta", 1)
		if s := w.Snapshot(); s.Asking != 0 || s.InFlight != 4 || s.InFlightByStage["judge"] != 3 || s.InFlightByStage["meta"] != 1 {
			t.Errorf("before the first answer %+v", s)
		}
		w.requestEnded("judge", 3)
		after(2 * time.Second)
		w.requestEnded("meta", 1)
		w.permitsChanged(0, -4)
		after(time.Minute)
		w.permitsChanged(2, 0)
		// 4 of 8 permits were held for 4 seconds.
		if s := w.Snapshot(); s.Asking != 4*time.Second || s.PermitUse != 0.5 || s.InFlight != 0 || s.InFlightByStage["meta"] != 0 {
			t.Errorf("after the last answer %+v", s)
		}
	})
}
