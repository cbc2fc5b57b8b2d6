package schedule

import (
	"testing"

	"coeval/transforms/fleet/pacing"
)

// What a constant of a Pace must improve: by a point at least, or the constant goes.
const (
	moreUse      = "slot use"
	lessWaiting  = "waiting choices for each slot"
	fewerRefused = "refusals for each request"
)

// Each tuned constant of a Pace is worth its code: without it slot use, the queue or refusals are worse
// by at least a point on one of the servers. The figures are means of three runs.
func TestAblations(t *testing.T) {
	server := func(name string) paceTest {
		for _, tt := range paceTests {
			if tt.name == name {
				return tt
			}
		}
		t.Fatalf("no test is called %q", name)
		return paceTest{}
	}
	sized := paceTest{server: virtualServer{slots: 16, mean: 0.1}, latencies: 1000}
	// The network and stalls take most of an answer's time.
	far := paceTest{server: virtualServer{slots: 4, mean: 0.001, stalls: 0.5}, latencies: 50_000}
	full := server("503 beyond a queue of 32")
	for _, tt := range []struct {
		without string
		edit    func(*pacing.Tuning)
		on      paceTest
		told    string
		worse   string
	}{
		{"InitialLimit", func(t *pacing.Tuning) { t.InitialLimit = 2 }, server("64 slots"), "metrics", moreUse},
		{"Gain", func(t *pacing.Tuning) { t.Gain = 1 }, server("4 slots"), "waits", moreUse},
		{"MaxAim", func(t *pacing.Tuning) { t.MaxAim = 1e9 }, server("16 slots"), "metrics", lessWaiting},
		{"IdleGain", func(t *pacing.Tuning) { t.IdleGain = 0 }, far, "metrics", moreUse},
		{"IdleNoise", func(t *pacing.Tuning) { t.IdleNoise = 0 }, server("16 slots"), "metrics", lessWaiting},
		{"AimDecrease", func(t *pacing.Tuning) { t.AimDecrease = 1 }, full, "metrics", fewerRefused},
		{"AimIncrease", func(t *pacing.Tuning) { t.AimIncrease = 2 }, full, "metrics", fewerRefused},
		{"CeilingAfter", func(t *pacing.Tuning) { t.CeilingAfter = 1 }, full, "metrics", fewerRefused},
		{"RoundAnswers", func(t *pacing.Tuning) { t.RoundAnswers = 4 }, server("4 slots"), "waits", moreUse},
		{"PhaseRounds", func(t *pacing.Tuning) { t.PhaseRounds = 1 }, sized, "nothing", lessWaiting},
		{"PhaseSeconds", func(t *pacing.Tuning) { t.PhaseSeconds = 0 }, sized, "nothing", moreUse},
		{"StartGain", func(t *pacing.Tuning) { t.StartGain = 1 }, far, "nothing", lessWaiting},
		{"MinSized", func(t *pacing.Tuning) { t.MinSized = 0 }, far, "nothing", moreUse},
		{"MaxStretch", func(t *pacing.Tuning) { t.MaxStretch = 1e9 }, sized, "nothing", lessWaiting},
		{"CutTo", func(t *pacing.Tuning) { t.CutTo = 1 }, sized, "nothing", moreUse},
		{"CutSeconds", func(t *pacing.Tuning) { t.CutSeconds = 0 }, sized, "nothing", moreUse},
		{"Slowest", func(t *pacing.Tuning) { t.Slowest = 1 }, sized, "nothing", moreUse},
	} {
		t.Run(tt.without, func(t *testing.T) {
			t.Parallel()
			tuning := pacing.Defaults
			use, waiting, refused, _ := figures(tt.on, tt.told, tuning, 3)
			tt.edit(&tuning)
			use0, waiting0, refused0, _ := figures(tt.on, tt.told, tuning, 3)
			t.Logf("use %.3f, without it %.3f; waiting %.3f, %.3f; refused %.3f, %.3f", use, use0, waiting, waiting0, refused, refused0)
			gain := map[string]float64{moreUse: use - use0, lessWaiting: waiting0 - waiting, fewerRefused: refused0 - refused}[tt.worse]
			if gain < 0.01 {
				t.Errorf("it improves %s by %.3f, less than a point", tt.worse, gain)
			}
		})
	}
}
