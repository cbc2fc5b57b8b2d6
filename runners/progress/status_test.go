package progress

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"coeval/transforms/infer"
)

// status returns a status in which every part is present.
func status() *Status {
	return &Status{
		Total: 10_000_000, Elapsed: 26 * time.Hour, Interval: 250 * time.Millisecond,
		Now: infer.Snapshot{
			Prompts: 1_234_567, Asked: 1_000_000, Begun: 1_236_000, Asking: 25 * time.Hour, Requests: 20_000_100, Generations: 98_765_532,
			Replayed: 23_000_000, Failed: 12_345, InFlight: 8192, Permits: 8192, Held: 8000, Retries: 77, LastFault: "status 503: \"overloaded\"\nand more",
		},
		Before: infer.Snapshot{Requests: 20_000_000, Generations: 98_765_432},
		Servers: []Server{
			{URL: "http://gpu-node-1.cluster.internal:8000/v1", InUse: 1000, Permits: 1024},
			{URL: "http://gpu-node-2.cluster.internal:8000/v1", Failing: true},
		},
	}
}

// A line is never wider than asked for, and has the numbers that matter most at 60 columns.
func TestLinesFit(t *testing.T) {
	for columns := 1; columns <= 300; columns++ {
		for name, line := range map[string]string{"bar": status().Bar(columns), "log": status().Log(columns)} {
			if width := runewidth.StringWidth(line); columns >= 40 && width > columns {
				t.Errorf("%s at %d columns has %d: %s", name, columns, width, line)
			}
		}
	}
	// Asked are 1,000,000 and half of the 1,433 under way, in 25 hours; to ask are the other half and
	// 81.0 % of the 8,764,000 not begun: 7.10 million, which take 177 hours.
	if got, want := status().Bar(59), "1,234,567/10,000,000 prompts · 7d9h left · 12,345 failed"; got != want {
		t.Errorf("at 59 columns: %q, want %q", got, want)
	}
	wide := status().Bar(400)
	for _, part := range []string{
		"[###---------------------------] 1,234,567/10,000,000 prompts", // 0.123 of 30 cells
		"400 generations/s", "400 requests/s", "98 % of the limit", "23,000,000 replayed",
		"1 of 2 servers fail", "gpu-node-1.cluster.internal:8000 1000/1024", "gpu-node-2.cluster.internal:8000 fails",
		"77 retries, the last: status 503",
	} {
		if !strings.Contains(wide, part) {
			t.Errorf("at 400 columns %q is missing: %s", part, wide)
		}
	}
	if log := status().Log(100); !strings.HasPrefix(log, "1d2h · 1,234,567/10,000,000 prompts · ") {
		t.Errorf("a line of a log: %s", log)
	}
}

// Warnings that matter more than numbers stand alone.
func TestWhatStandsAlone(t *testing.T) {
	s := status()
	s.Silent, s.Patience = 65*time.Second, 10*time.Minute
	if got := s.Bar(200); !strings.HasPrefix(got, "no server answers for 1m5s, waiting up to 10m0s: status 503") {
		t.Errorf("got %q", got)
	}
	s = status()
	s.Now.Prompts = s.Total
	if bar, log := s.Bar(200), s.Log(200); bar != "writing files" || log != "1d2h: writing files" {
		t.Errorf("got %q and %q", bar, log)
	}
}

// A run that waits because servers asked it to names the cause, also on a narrow terminal.
func TestWaitNamesItsCause(t *testing.T) {
	s := &Status{Total: 10, Interval: time.Second, Now: infer.Snapshot{Prompts: 1, Requests: 8, Generations: 7, Retries: 1, LastFault: "429 Too Many Requests: slow do..."}}
	s.Before = s.Now
	if got, want := s.Log(80), "0s · 1/10 prompts · waiting after: 429 Too Many Requests: slow do..."; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Now.InFlight = 1
	if got := s.Log(80); strings.Contains(got, "waiting") {
		t.Errorf("with a request in flight: %q", got)
	}
}

func TestTimeLeft(t *testing.T) {
	const hour = 3600.0
	for _, tt := range []struct {
		name  string
		total int64
		now   infer.Snapshot
		want  float64 // seconds
	}{
		// 1,000 prompts an hour: 9,999,000 take 9,999 hours. In nanoseconds the product of an hour and
		// 9,999,000 is 3.6e19, more than an int64 has.
		{"10 million", 10_000_000, infer.Snapshot{Prompts: 1000, Asked: 1000, Begun: 1000, Asking: time.Hour}, 9999 * hour},
		// Half of the time is over.
		{"half", 2000, infer.Snapshot{Prompts: 1000, Asked: 1000, Begun: 1000, Asking: time.Hour}, hour},
		// 900 of the first 1,000 prompts came from the journal, and 100 took the hour. A tenth of the
		// 1,000 prompts left has to be asked: again 100, another hour. All of them count as much.
		{"replayed", 2000, infer.Snapshot{Prompts: 1000, Asked: 100, Begun: 1000, Asking: time.Hour}, hour},
		// At the start the journal's prompts are done at once and 100 are under way, 2 done: all 200 not
		// begun may be as those, 102 of 1,000. Asked so far 2 + 50; to ask 50 + 200·102/1000 = 70.4.
		{"replayed at the start", 1200, infer.Snapshot{Prompts: 900, Asked: 2, Begun: 1000, Asking: 52 * time.Second}, 70.4},
		// No prompt waits: the 100 in progress are half done.
		{"end", 1000, infer.Snapshot{Prompts: 900, Asked: 900, Begun: 1000, Asking: 950 * time.Second}, 50},
		// Lines that were merged are not begun; the run may have fewer prompts than counted.
		{"more than counted", 900, infer.Snapshot{Prompts: 950, Asked: 950, Begun: 950, Asking: time.Hour}, 0},
	} {
		s := Status{Total: tt.total, Now: tt.now}
		if got, ok := s.left(); !ok || math.Abs(got-tt.want) > 1e-6*tt.want {
			t.Errorf("%s: %v seconds (%t), want %v", tt.name, got, ok, tt.want)
		}
	}
	for name, now := range map[string]infer.Snapshot{"nothing": {}, "only replayed": {Prompts: 100, Begun: 100}} {
		s := Status{Total: 1000, Now: now}
		if got, ok := s.left(); ok {
			t.Errorf("%s: %v seconds, want no estimate", name, got)
		}
	}
}

func TestSpell(t *testing.T) {
	for seconds, want := range map[float64]string{
		-1: "0s", 0: "0s", 0.4: "0s", 59.4: "59s", 59.6: "1m", 61: "1m1s", 3599: "59m59s", 3600: "1h", 7260: "2h1m", 86399: "23h59m",
		86400: "1d", 90000: "1d1h", 9999 * 3600: "416d15h", 1e300: "over 100 years", math.Inf(1): "over 100 years", math.NaN(): "over 100 years",
	} {
		if got := spell(seconds); got != want {
			t.Errorf("%v seconds: %q, want %q", seconds, got, want)
		}
	}
}

func ExampleStatus_Bar() {
	s := Status{
		Total: 10_000, Interval: time.Second,
		Now:    infer.Snapshot{Prompts: 4000, Asked: 4000, Begun: 4000, Asking: 40 * time.Second, Generations: 9000, InFlight: 256},
		Before: infer.Snapshot{Generations: 7000},
	}
	fmt.Println(s.Bar(60))
	fmt.Println(s.Bar(100))
	// Output:
	// 4,000/10,000 prompts · 1m left · 2,000 generations/s
	// [#####---------] 4,000/10,000 prompts · 1m left · 2,000 generations/s · 256 in flight · 0 requests/s
}
