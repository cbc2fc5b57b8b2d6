package attempt

import (
	"testing"
	"testing/synctest"
	"time"

	"coeval/datasets/prompts"
	"coeval/runners/progress"
)

// The load over time has some points of a run of seconds, and not many of one of hours.
func TestSeries(t *testing.T) {
	for _, c := range []struct {
		took        time.Duration
		least, most int
	}{{2 * time.Second, 7, 10}, {3 * time.Hour, maxPoints / 2, maxPoints}} {
		synctest.Test(t, func(t *testing.T) {
			a := &Attempt{Scan: &prompts.Scan{}, ID: "none"}
			m := a.startMonitor(t.Context(), progress.NewScreen(t.Output()))
			<-time.After(c.took)
			series := m.end()
			if n := len(series); n < c.least || n > c.most {
				t.Fatalf("%s: %d points, want %d to %d", c.took, n, c.least, c.most)
			}
			if first, last := series[0].Seconds, series[len(series)-1].Seconds; first > c.took.Seconds()/5 || last < 0.99*c.took.Seconds()-1 {
				t.Errorf("%s: the points are from %v to %v seconds", c.took, first, last)
			}
		})
	}
}
