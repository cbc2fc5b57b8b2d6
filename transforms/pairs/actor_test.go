package pairs

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

// scored returns the numbers of a response with these scores in thousandths.
func scored(id string, chars int, scores ...int64) schemas.ResponseFinding {
	r := schemas.ResponseFinding{ID: id, Status: schemas.Complete, Chars: chars}
	for _, s := range scores {
		r.Score.N++
		r.Score.Sum += s
		r.Score.Squares += s * s
	}
	r.Score.Scored = r.Score.N >= 2
	return r
}

func responses(rs ...schemas.ResponseFinding) *schemas.Finding {
	return &schemas.Finding{PromptID: "p", Responses: rs}
}

func paired(chosen, rejected string) schemas.Selection {
	return schemas.Selection{Outcome: schemas.Paired, ChosenID: chosen, RejectedID: rejected}
}

func droppedFor(reason string) schemas.Selection {
	return schemas.Selection{Outcome: schemas.Dropped, Reason: reason}
}

func failedWith(code string) schemas.Selection {
	return schemas.Selection{Outcome: schemas.Failed, Reason: code}
}

// Smax = 4 (a), Smin = 1 (g), range 3.
var seven = responses(
	scored("a", 900, 4000, 4000),
	scored("b", 500, 3500, 3700), // 3.6
	scored("c", 400, 3000, 3080), // 3.04
	scored("d", 100, 2500, 2500), // 2.5
	scored("e", 990, 1900, 2000), // 1.95
	scored("f", 700, 1200, 1200), // 1.2
	scored("g", 300, 1000, 1000),
)

func TestActor(t *testing.T) {
	shared := []schemas.FailedCalls{
		{Stage: schemas.StageGenerate, Code: "timeout", Calls: 2},
		{Stage: schemas.StageJudge, Code: "context_length", Calls: 11},
		{Stage: schemas.StageMeta, Code: "bad_request", Calls: 99},
	}
	withFailures := func(f *schemas.Finding, failed ...schemas.FailedCalls) *schemas.Finding {
		f.Failed = failed
		return f
	}
	tests := []struct {
		name string
		f    *schemas.Finding
		o    ActorOptions
		want schemas.Selection
	}{
		{"best against worst", seven, ActorOptions{}, paired("a", "g")},
		// Top from 4 − 0.1·3 = 3.7: a. Bottom to 1.3: f and g, the longer is f.
		{"rho 0.1", seven, ActorOptions{Rho: 0.1}, paired("a", "f")},
		// Top from 3.04: a, b, c; the shortest is c. Bottom to 1.96: e, f, g; the longest is e.
		{"rho 0.32", seven, ActorOptions{Rho: 0.32}, paired("c", "e")},
		// Top from 3.0401: c is out by a ten-thousandth.
		{"rho just below 0.32", seven, ActorOptions{Rho: 0.319966}, paired("b", "e")},
		// Top from 2.8, bottom to 2.2: d is in neither.
		{"rho 0.4", seven, ActorOptions{Rho: 0.4}, paired("c", "e")},
		{"margin reached", seven, ActorOptions{MinMargin: 3}, paired("a", "g")},
		{"margin missed", seven, ActorOptions{MinMargin: 3.001}, droppedFor(schemas.Margin)},
		// S_c − S_e = 3.04 − 1.95 = 1.09.
		{"margin of the tiers reached", seven, ActorOptions{Rho: 0.32, MinMargin: 1.09}, paired("c", "e")},
		{"margin of the tiers missed", seven, ActorOptions{Rho: 0.32, MinMargin: 1.091}, droppedFor(schemas.Margin)},
		{"chosen fits", seven, ActorOptions{MaxChosenChars: 900}, paired("a", "g")},
		{"chosen too long, not replaced", seven, ActorOptions{MaxChosenChars: 899}, droppedFor(schemas.ChosenTooLong)},
		{"margin before length", seven, ActorOptions{MinMargin: 4, MaxChosenChars: 1}, droppedFor(schemas.Margin)},

		{"no response", responses(), ActorOptions{}, droppedFor(schemas.TooFewScored)},
		{"one scored", responses(scored("a", 1, 4000, 5000), scored("b", 1, 1000)), ActorOptions{}, droppedFor(schemas.TooFewScored)},
		// 10/3 = 20/6, though not as floats.
		{
			"equal scores", responses(scored("a", 1, 3000, 3000, 4000), scored("b", 2, 3000, 3000, 4000, 4000, 3000, 3000)),
			ActorOptions{},
			droppedFor(schemas.EqualScores),
		},
		{"unscored counts for nothing", responses(scored("a", 9, 3000, 3000), scored("b", 9, 2000, 2000), scored("c", 1, 5000)), ActorOptions{}, paired("a", "b")},
		// The mean of c is 2, its median 3: by the median it would not be the lowest.
		{"mean, not median", responses(scored("a", 5, 4000, 4000), scored("b", 5, 2500, 2500, 2500), scored("c", 5, 3000, 3000, 0)), ActorOptions{}, paired("a", "c")},
		// All are equally long: the lowest ID of each tier.
		{"ties", responses(scored("d", 5, 1000, 1000), scored("b", 5, 4000, 4000), scored("a", 5, 4000, 4000), scored("c", 5, 1000, 1000)), ActorOptions{}, paired("a", "c")},

		{
			"too few scored, the most calls failed at the judge", withFailures(responses(scored("a", 1)), shared...),
			ActorOptions{},
			failedWith("context_length"),
		},
		{
			"as many calls, the earlier stage", withFailures(
				responses(), schemas.FailedCalls{Stage: schemas.StageGenerate, Code: "timeout", Calls: 2}, schemas.FailedCalls{Stage: schemas.StageJudge, Code: "bad_request", Calls: 2},
			), ActorOptions{}, failedWith("timeout"),
		},
		{
			"as many calls, the alphabet", withFailures(
				responses(lost("a"), lost("b")), schemas.FailedCalls{Stage: schemas.StageJudge, Code: "timeout", Calls: 2}, schemas.FailedCalls{Stage: schemas.StageJudge, Code: "bad_request", Calls: 2},
			), ActorOptions{}, failedWith("bad_request"),
		},
		// One response that was scored and one that might have been are two; one lost alone is one.
		{"a lost response would do", withFailures(responses(scored("a", 1, 1000, 1000), lost("b")), shared...), ActorOptions{}, failedWith("context_length")},
		{"a lost response would not do", withFailures(responses(lost("b")), shared[1:]...), ActorOptions{}, droppedFor(schemas.TooFewScored)},
		{"meta feeds no actor pair", withFailures(responses(), shared[2]), ActorOptions{}, droppedFor(schemas.TooFewScored)},
		{
			"a failed call is no excuse for equal scores", withFailures(responses(scored("a", 1, 1000, 1000), scored("b", 1, 1000, 1000)), shared...),
			ActorOptions{},
			droppedFor(schemas.EqualScores),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Actor(tt.f, tt.o)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// randomResponses returns responses with few different scores and lengths, so that ties are common.
func randomResponses(rng *rand.Rand) *schemas.Finding {
	f := &schemas.Finding{}
	for k := range 2 + rng.IntN(7) {
		scores := make([]int64, 1+rng.IntN(5))
		for i := range scores {
			scores[i] = 500 * rng.Int64N(11)
		}
		f.Responses = append(f.Responses, scored(fmt.Sprint("r", k), 100*rng.IntN(9), scores...))
	}
	return f
}

func find(f *schemas.Finding, id string) schemas.ResponseFinding {
	for _, r := range f.Responses {
		if r.ID == id {
			return r
		}
	}
	panic(id)
}

func mean(s schemas.Score) *big.Rat { return big.NewRat(s.Sum, int64(s.N)) }

func TestActorProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	rhos := []int64{0, 50_000, 123_456, 250_000, 320_000, 400_000, 499_999}
	for range 2000 {
		f := randomResponses(rng)
		before := 0
		for i, rho := range rhos {
			o := ActorOptions{Rho: float64(rho) / 1e6}
			c := Actor(f, o)
			if c.Outcome != schemas.Paired {
				break // the same for every rho: too few or equal scores
			}
			chosen, rejected := find(f, c.ChosenID), find(f, c.RejectedID)
			if over := chosen.Chars - rejected.Chars; i > 0 && over > before {
				t.Fatalf("rho %v: len(chosen) − len(rejected) rose from %d to %d: %+v", o.Rho, before, over, f)
			}
			before = chosen.Chars - rejected.Chars
			checkMargin(t, f, rho, chosen, rejected)

			shuffled := responses(f.Responses...)
			shuffled.Responses = append([]schemas.ResponseFinding(nil), f.Responses...)
			rng.Shuffle(len(f.Responses), func(i, k int) {
				shuffled.Responses[i], shuffled.Responses[k] = shuffled.Responses[k], shuffled.Responses[i]
			})
			if diff := cmp.Diff(c, Actor(shuffled, o)); diff != "" {
				t.Fatalf("the order of the responses changes the pair: %s", diff)
			}
		}
	}
}

// checkMargin checks S(chosen) − S(rejected) ≥ (1 − 2ρ)(Smax − Smin) in exact fractions.
func checkMargin(t *testing.T, f *schemas.Finding, rho int64, chosen, rejected schemas.ResponseFinding) {
	t.Helper()
	var highest, lowest *big.Rat
	for _, r := range f.Responses {
		if !r.Score.Scored {
			continue
		}
		if s := mean(r.Score); highest == nil || s.Cmp(highest) > 0 {
			highest = s
		}
		if s := mean(r.Score); lowest == nil || s.Cmp(lowest) < 0 {
			lowest = s
		}
	}
	left := new(big.Rat).Sub(mean(chosen.Score), mean(rejected.Score))
	bound := new(big.Rat).Mul(big.NewRat(1e6-2*rho, 1e6), new(big.Rat).Sub(highest, lowest))
	if left.Cmp(bound) < 0 {
		t.Fatalf("rho %d millionths: margin %v is below %v: %+v", rho, left, bound, f)
	}
}

// The integers are right where the numbers are as large as they can be.
func TestActorLargest(t *testing.T) {
	full := make([]int64, 256)
	for i := range full {
		full[i] = 5000
	}
	almost := append([]int64{4999}, full[1:]...)
	zero := make([]int64, 256)
	f := responses(scored("a", 2, full...), scored("b", 1, almost...), scored("c", 1, zero...), scored("d", 1, full[:255]...))
	// Top from 5·(1 − ρ): b has 5 − 1/256000 and misses ρ = 0, but not ρ = 1e-6, whose bound is 5 − 5e-6.
	if got := Actor(f, ActorOptions{}); !cmp.Equal(got, paired("d", "c")) {
		t.Errorf("rho 0: got %+v", got)
	}
	if got := Actor(f, ActorOptions{Rho: 1e-6}); !cmp.Equal(got, paired("b", "c")) {
		t.Errorf("rho 1e-6: got %+v", got)
	}
}

func TestActorOptions(t *testing.T) {
	tests := []struct {
		o    ActorOptions
		want string // empty: valid
	}{
		{ActorOptions{}, ""},
		{ActorOptions{Rho: 0.499999, MinMargin: 5, MaxChosenChars: 1}, ""},
		{ActorOptions{Rho: 0.5}, "rho is 0.5; allowed is 0 to below 0.5"},
		{ActorOptions{Rho: 0.4999999}, "rho is 0.4999999"},
		{ActorOptions{Rho: 0.1234567}, "at most 6 decimals"},
		{ActorOptions{Rho: -0.1}, "rho is -0.1"},
		{ActorOptions{MinMargin: 0.0001}, "min_margin is 0.0001; allowed is 0 to 100, with at most 3 decimals"},
		{ActorOptions{MinMargin: 100.5}, "min_margin is 100.5"},
		{ActorOptions{MaxChosenChars: -1}, "max_chosen_chars is -1"},
		{ActorOptions{Method: Temporal, Phase: 2}, ""},
		{ActorOptions{Method: "best"}, `method is "best"; allowed is tiers or temporal`},
		{ActorOptions{Phase: 3}, "phase is 3; allowed is 1 or 2"},
	}
	for _, tt := range tests {
		err := tt.o.Validate()
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.o, err, tt.want)
		}
	}
	both := ActorOptions{Rho: 1, MinMargin: -1}.Validate()
	if both == nil || !strings.Contains(both.Error(), "rho") || !strings.Contains(both.Error(), "min_margin") {
		t.Errorf("got %v, want both problems", both)
	}
}

func ExampleActor() {
	f := responses(scored("a", 900, 4000, 4000), scored("b", 300, 3500, 3700), scored("c", 800, 1000, 2000))
	for _, rho := range []float64{0, 0.32} {
		c := Actor(f, ActorOptions{Rho: rho})
		fmt.Printf("rho %.2f: chosen %s, rejected %s\n", rho, c.ChosenID, c.RejectedID)
	}
	// Output:
	// rho 0.00: chosen a, rejected c
	// rho 0.32: chosen b, rejected c
}

// lost is a response without a score, of which calls for judgments failed.
func lost(id string) schemas.ResponseFinding {
	return schemas.ResponseFinding{ID: id, Status: schemas.Complete, Chars: 1, FailedJudgments: 2}
}
