package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"coeval/datasets/prompts"
)

// The load over time has some points of a run of seconds, and not many of one of hours.
func TestSeries(t *testing.T) {
	for _, c := range []struct {
		took        time.Duration
		least, most int
	}{{2 * time.Second, 7, 10}, {3 * time.Hour, mostPoints / 2, mostPoints}} {
		synctest.Test(t, func(t *testing.T) {
			r := &run{command: &cobra.Command{}, scan: &prompts.Scan{}, attempt: "none"}
			r.command.SetErr(t.Output())
			p := r.startProgress(t.Context())
			<-time.After(c.took)
			series := p.end()
			if n := len(series); n < c.least || n > c.most {
				t.Fatalf("%s: %d points, want %d to %d", c.took, n, c.least, c.most)
			}
			if first, last := series[0].Seconds, series[len(series)-1].Seconds; first > c.took.Seconds()/5 || last < 0.99*c.took.Seconds()-1 {
				t.Errorf("%s: the points are from %v to %v seconds", c.took, first, last)
			}
		})
	}
}
