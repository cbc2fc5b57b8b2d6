package infer

import (
	"testing"
	"testing/synctest"
	"time"
)

// The time of asking ends with the last answer, whatever happens to the permits after it; a stage's
// generations in flight are told apart.
func TestWatchAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watch{}
		after := func(d time.Duration) { <-time.After(d) }
		w.permitted(8, 0)
		if s := w.snapshot(); s.Asking != 0 || s.PermitUse != 0 {
			t.Errorf("before the first request %+v", s)
		}
		after(time.Second)
		w.start("judge", 3)
		w.permitted(0, 4)
		after(2 * time.Second)
		w.start("meta", 1)
		if s := w.snapshot(); s.Asking != 0 || s.InFlight != 4 || s.InFlightByStage["judge"] != 3 || s.InFlightByStage["meta"] != 1 {
			t.Errorf("before the first answer %+v", s)
		}
		w.end("judge", 3)
		after(2 * time.Second)
		w.end("meta", 1)
		w.permitted(0, -4)
		after(time.Minute)
		w.permitted(2, 0)
		// 4 of 8 permits were held for 4 seconds.
		if s := w.snapshot(); s.Asking != 4*time.Second || s.PermitUse != 0.5 || s.InFlight != 0 || s.InFlightByStage["meta"] != 0 {
			t.Errorf("after the last answer %+v", s)
		}
	})
}
