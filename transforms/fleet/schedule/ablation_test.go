package schedule

import (
	"reflect"
	"sync"
	"testing"
	"time"

	"coeval/transforms/fleet/pacing"
)

// The smallest improvement that justifies a constant of a Pace: one point.
const (
	moreUse       = "slot use"
	lessWaiting   = "waiting choices for each slot"
	fewerRefused  = "refusals for each request"
	fewerInFlight = "the last limit, in hundreds of permits"
)

// ablationServers are the servers of TestAblations, with the number of latencies that each slot has work
// for.
var ablationServers = map[string]paceTest{
	"4 slots":           {server: virtualServer{slots: 4, mean: 0.1}, latencies: 1500},
	"16 quick":          {server: virtualServer{slots: 16, mean: 0.016}, latencies: 2400},
	"16 slots":          {server: virtualServer{slots: 16, mean: 0.1}, latencies: 1000},
	"16 slow":           {server: virtualServer{slots: 16, mean: 10}, latencies: 300},
	"64 slots":          {server: virtualServer{slots: 64, mean: 0.064}, latencies: 300},
	"256 slots":         {server: virtualServer{slots: 256, mean: 0.1}, latencies: 120},
	"full at 32":        {server: virtualServer{slots: 256, mean: 0.2, maxQueue: 32}, latencies: 300},
	"full at 16":        {server: virtualServer{slots: 16, mean: 0.2, maxQueue: 16}, latencies: 600},
	"429":               {server: virtualServer{slots: 64, mean: 8, maxQueue: 16, after: 1}, latencies: 200},
	"random 503":        {server: virtualServer{slots: 64, mean: 0.2, refuse: 0.2}, latencies: 250},
	"half refused":      {server: virtualServer{slots: 64, mean: 0.2, refuse: 0.5}, latencies: 300},
	"slower batch":      {server: virtualServer{slots: 64, mean: 0.1, slowdown: 1}, latencies: 250},
	"nine times":        {server: virtualServer{slots: 64, mean: 0.1, slowdown: 8}, latencies: 250},
	"stalls":            {server: virtualServer{slots: 64, mean: 0.1, stalls: 2}, latencies: 250},
	"full at 32, 429":   {server: virtualServer{slots: 256, mean: 8, maxQueue: 32, after: 1}, latencies: 150},
	"4 slots, no usage": {server: virtualServer{slots: 4, mean: 1, noUsage: true}, latencies: 1000},
	"busy process":      {server: virtualServer{slots: 64, mean: 0.01, door: 0.001}, latencies: 300},
	"quick, stalls":     {server: virtualServer{slots: 4, mean: 0.001, stalls: 0.5}, latencies: 50_000},
}

// Each tuned constant of a Pace is worth its code: with another value slot use, the queue or refusals are
// worse by at least a point on one of the servers. The figures are means of four runs.
func TestAblations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		constant string
		other    float64 // seconds for a time
		server   string
		reports  string
		worse    string
	}{
		{"InitialLimit", 2, "4 slots", "waits", moreUse},
		{"Admission", 0, "4 slots", "waits", lessWaiting},
		{"Arrivals", 1e9, "busy process", "metrics", fewerInFlight},
		{"Gain", 1, "16 quick", "metrics", lessWaiting},
		{"AimRoot", 1, "stalls", "metrics", moreUse},
		{"MaxAim", 1e9, "16 quick", "metrics", lessWaiting},
		{"IdleGain", 0, "quick, stalls", "metrics", moreUse},
		{"MaxFall", 1, "4 slots", "waits", moreUse},
		{"ReadingPart", 0, "16 slow", "metrics", fewerInFlight},
		{"MinReadingInterval", 0.1, "256 slots", "metrics", moreUse},
		{"AimDecrease", 1, "full at 32", "metrics", fewerRefused},
		{"AimIncrease", 2, "full at 32", "metrics", fewerRefused},
		{"CeilingAfter", 1, "full at 16", "nothing", fewerRefused},
		{"RejectedNoise", 5, "full at 32", "metrics", fewerRefused},
		{"RejectedAlone", 1, "full at 16", "nothing", fewerRefused},
		{"RejectedSame", 1e9, "half refused", "metrics", moreUse},
		{"MinRejected", 1, "random 503", "nothing", moreUse},
		{"MinBelow", 1, "429", "metrics", fewerRefused},
		{"RejectedGrowth", 0, "random 503", "nothing", moreUse},
		{"RoundPart", 0, "256 slots", "nothing", moreUse},
		{"RoundMin", 8, "16 slots", "nothing", moreUse},
		{"RateBlend", 0.15, "256 slots", "nothing", moreUse},
		{"MeanAnswers", 0, "4 slots", "waits", moreUse},
		{"PhaseRounds", 1, "slower batch", "nothing", lessWaiting},
		{"PhaseSeconds", 0, "quick, stalls", "nothing", moreUse},
		{"StartGrowth", 1, "full at 32, 429", "waits", fewerRefused},
		{"Step", 1, "nine times", "nothing", moreUse},
		{"Better", 1, "4 slots, no usage", "nothing", lessWaiting},
		{"Worse", 1, "quick, stalls", "nothing", fewerInFlight},
		{"SizedBetter", 1, "16 slots", "nothing", lessWaiting},
		{"SizedWorse", 1, "slower batch", "nothing", lessWaiting},
		{"StartGain", 1, "quick, stalls", "nothing", lessWaiting},
		{"MinSized", 0, "quick, stalls", "nothing", moreUse},
		{"MinGroups", 0, "16 slots", "nothing", moreUse},
		{"MaxStretch", 1e9, "16 slots", "nothing", lessWaiting},
		{"CutTo", 1, "16 slots", "nothing", moreUse},
		{"CutSeconds", 0, "16 slots", "nothing", lessWaiting},
		{"CutLoss", 0, "nine times", "nothing", moreUse},
		{"CutRounds", 1, "nine times", "nothing", moreUse},
		{"Slowest", 1, "256 slots", "nothing", moreUse},
		{"Kept", 0, "16 slots", "nothing", moreUse},
		{"ReleasePart", 1, "16 quick", "metrics", moreUse},
		{"MinRelease", 0.02, "16 quick", "metrics", moreUse},
		{"MaxRelease", 10, "256 slots", "nothing", moreUse},
	}
	missing := map[string]bool{}
	for f := range reflect.TypeFor[pacing.Tuning]().Fields() {
		missing[f.Name] = true
	}
	for _, tt := range tests {
		delete(missing, tt.constant)
		t.Run(tt.constant, func(t *testing.T) {
			t.Parallel()
			other := pacing.Defaults
			set(reflect.ValueOf(&other).Elem().FieldByName(tt.constant), tt.other)
			compareRuns(t, tt.server, tt.reports, other, tt.worse)
		})
	}
	for _, name := range slowConstants {
		delete(missing, name)
	}
	for name := range missing {
		t.Errorf("%s has no test", name)
	}
}

// slowConstants are for servers that answer a few requests a minute.
var slowConstants = []string{"StartLevel"}

// Without these constants a slow server without metrics has more choices in flight, which a kill would lose:
// more at once, or more in the mean.
func TestAblationsOfSlowServers(t *testing.T) {
	t.Parallel()
	run := func(tuning pacing.Tuning) (most int, mean float64) {
		for _, slots := range []int{1, 2, 4} {
			for seed := range uint64(16) {
				_, n, waiting := slowServer(slots, seed, tuning)
				most, mean = max(most, n), mean+waiting/48
			}
		}
		return most, mean
	}
	most, mean := run(pacing.Defaults)
	for _, name := range slowConstants {
		other := pacing.Defaults
		set(reflect.ValueOf(&other).Elem().FieldByName(name), 0)
		most0, mean0 := run(other)
		t.Logf("%s: at most %d in flight, without it %d; %.2f for each slot, without it %.2f", name, most, most0, mean, mean0)
		if most0 <= most && mean0 < 1.01*mean {
			t.Errorf("%s improves neither", name)
		}
	}
}

func set(v reflect.Value, x float64) {
	switch {
	case v.Kind() == reflect.Float64:
		v.SetFloat(x)
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(x * 1e9))
	default:
		v.SetInt(int64(x))
	}
}

// A baseline contains the figures of a server under the default constants, once for all that compare with it.
type baseline struct {
	once                         sync.Once
	use, waiting, refused, limit float64
}

var baselines sync.Map // of *baseline, by the server and its kind of reports

// compareRuns checks that other constants are worse than the defaults by a point.
func compareRuns(t *testing.T, server, reports string, other pacing.Tuning, worse string) {
	t.Helper()
	const seeds = 4
	on := ablationServers[server]
	kept, _ := baselines.LoadOrStore([2]string{server, reports}, &baseline{})
	b := kept.(*baseline)
	b.once.Do(func() { b.use, b.waiting, b.refused, b.limit = figures(on, reports, pacing.Defaults, seeds) })
	use, waiting, refused, limit := b.use, b.waiting, b.refused, b.limit
	use0, waiting0, refused0, limit0 := figures(on, reports, other, seeds)
	t.Logf("use %.3f, otherwise %.3f; waiting %.3f, %.3f; refused %.3f, %.3f; limit %.0f, %.0f", use, use0, waiting, waiting0, refused, refused0, limit, limit0)
	gain := map[string]float64{moreUse: use - use0, lessWaiting: waiting0 - waiting, fewerRefused: refused0 - refused, fewerInFlight: (limit0 - limit) / 100}[worse]
	if gain < 0.01 {
		t.Errorf("it improves %s by %.3f, less than a point", worse, gain)
	}
}
