package pairs

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

// in puts responses into a pool.
func in(pool string, rs ...schemas.ResponseFinding) []schemas.ResponseFinding {
	for i := range rs {
		rs[i].Pool = pool
	}
	return rs
}

func TestTemporal(t *testing.T) {
	past := func(rs ...schemas.ResponseFinding) []schemas.ResponseFinding { return in(schemas.RolePast, rs...) }
	future := func(rs ...schemas.ResponseFinding) []schemas.ResponseFinding { return in(schemas.RoleFuture, rs...) }
	// S is 4, 3.6 and 2.
	own := []schemas.ResponseFinding{scored("a", 900, 4000, 4000), scored("b", 300, 3600, 3600), scored("c", 500, 2000, 2000)}
	finding := func(pools ...[]schemas.ResponseFinding) *schemas.Finding {
		return &schemas.Finding{Responses: slices.Concat(pools...)}
	}
	failed := func(f *schemas.Finding, stage string) *schemas.Finding {
		f.Failed = []schemas.FailedCalls{{Stage: stage, Code: "timeout", Calls: 1}}
		return f
	}
	one, two := ActorOptions{Method: Temporal}, ActorOptions{Method: Temporal, Phase: 2}
	tests := []struct {
		name string
		f    *schemas.Finding
		o    ActorOptions
		want schemas.Selection
	}{
		{"past's worst is lower", finding(own, past(scored("p", 1, 1000, 1000), scored("q", 1, 3000, 3000))), one, paired("a", "p")},
		{"past's worst ties with the actor's", finding(own, past(scored("p", 1, 2000, 2000), scored("q", 1, 5000, 5000))), one, paired("a", "c")},
		// 2 = 6/3, though not as sums.
		{"equal as fractions", finding(own, past(scored("p", 1, 1000, 2000, 3000))), one, paired("a", "c")},
		{"past's worst is higher", finding(own, past(scored("p", 1, 2001, 2001))), one, paired("a", "c")},
		{"past's best is never chosen", finding(own, past(scored("p", 1, 5000, 5000), scored("q", 1, 1000, 1000))), one, paired("a", "q")},
		{"no past", finding(own), one, paired("a", "c")},
		{"phase 1 has no future", finding(own, future(scored("f", 1, 5000, 5000))), one, paired("a", "c")},

		{"future's best is higher", finding(own, past(scored("p", 1, 1000, 1000)), future(scored("f", 1, 4500, 4500), scored("g", 1, 0, 0))), two, paired("f", "p")},
		{"future's best ties", finding(own, future(scored("f", 1, 4000, 4000))), two, paired("a", "c")},
		{"future's worst is never rejected", finding(own, future(scored("f", 1, 0, 0))), two, paired("a", "c")},

		// One response of the actor stands on both sides.
		{"one response, no past", finding(own[:1]), one, droppedFor(schemas.TooFewScored)},
		{"one response, a lower past", finding(own[:1], past(scored("p", 1, 1000, 1000))), one, paired("a", "p")},
		{"one response, a higher past", finding(own[:1], past(scored("p", 1, 5000, 5000))), one, droppedFor(schemas.NoGap)},
		{"equal responses", finding([]schemas.ResponseFinding{scored("a", 1, 3000, 3000), scored("b", 2, 3000, 3000)}), one, droppedFor(schemas.NoGap)},
		{"the actor has none", finding(past(scored("p", 1, 1000, 1000), scored("q", 1, 2000, 2000))), one, droppedFor(schemas.TooFewScored)},
		{"the actor has none, future does", finding(past(scored("p", 1, 1000, 1000)), future(scored("f", 1, 5000, 5000))), two, droppedFor(schemas.TooFewScored)},
		{"the actor's call failed", failed(finding(past(scored("p", 1, 1000, 1000))), schemas.StageGenerate), one, failedWith("timeout")},
		{"a call of past is no answer of the actor", failed(finding(past(scored("p", 1, 1000, 1000))), schemas.StagePast), one, droppedFor(schemas.TooFewScored)},
		{"past's call might have given one", failed(finding(own[:1]), schemas.StagePast), one, failedWith("timeout")},
		{"future's call matters in phase 2 only", failed(finding(own[:1]), schemas.StageFuture), one, droppedFor(schemas.TooFewScored)},
		{"future's call might have given one", failed(finding(own[:1]), schemas.StageFuture), two, failedWith("timeout")},
		{"a failed call is no excuse for no gap", failed(finding(own[:1], past(scored("p", 1, 5000, 5000))), schemas.StagePast), one, droppedFor(schemas.NoGap)},

		// Tiers at ρ = 0.3 are of one pool. The actor's top begins at 4 − 0.3·2 = 3.4: b is shorter. Past's
		// bottom ends at 1 + 0.3·2 = 1.6: q is longer.
		{
			"tiers of each side's pool", finding(own, past(scored("p", 100, 1000, 1000), scored("q", 200, 1600, 1600), scored("r", 900, 3000, 3000))),
			ActorOptions{Method: Temporal, Rho: 0.3},
			paired("b", "q"),
		},
		// Past's bottom ends at 1.9 + 0.4·3 = 3.1: q, as long as it is, scores more than the chosen a.
		{
			"the tier closes the gap", finding([]schemas.ResponseFinding{scored("a", 1, 2000, 2000)}, past(scored("p", 1, 1900, 1900), scored("q", 9, 3000, 3000), scored("r", 1, 4900, 4900))),
			ActorOptions{Method: Temporal, Rho: 0.4},
			droppedFor(schemas.NoGap),
		},
		{"margin", finding(own, past(scored("p", 1, 1000, 1000))), ActorOptions{Method: Temporal, MinMargin: 3.001}, droppedFor(schemas.Margin)},
		{"chosen too long", finding(own, past(scored("p", 1, 1000, 1000))), ActorOptions{Method: Temporal, MaxChosenChars: 899}, droppedFor(schemas.ChosenTooLong)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Actor(tt.f, tt.o)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Responses of other models leave the pair of the method tiers as it is.
func TestTiersKnowNoPools(t *testing.T) {
	f := responses(scored("a", 1, 3000, 3000), scored("b", 1, 2000, 2000))
	f.Responses = append(f.Responses, in(schemas.RolePast, scored("p", 1, 0, 0))...)
	f.Responses = append(f.Responses, in(schemas.RoleFuture, scored("f", 1, 5000, 5000))...)
	if got := Actor(f, ActorOptions{}); !cmp.Equal(got, paired("a", "b")) {
		t.Errorf("got %+v", got)
	}
}

// With past and future that give the same scores as the actor, or without them, temporal is the best
// against the worst, except that equal scores are no gap. The order of the responses doesn't matter,
// and a pair always has a gap.
func TestTemporalProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	outcomes := map[string]int{}
	for range 3000 {
		own := randomResponses(rng)
		o := ActorOptions{Method: Temporal, Phase: 1 + rng.IntN(2), Rho: []float64{0, 0.2, 0.4}[rng.IntN(3)]}
		want := Actor(own, ActorOptions{Rho: o.Rho})
		if want.Reason == schemas.EqualScores {
			want.Reason = schemas.NoGap
		}
		same := &schemas.Finding{Responses: slices.Clone(own.Responses)}
		for _, pool := range []string{schemas.RolePast, schemas.RoleFuture} {
			for _, r := range own.Responses {
				r.ID, r.Pool = pool+r.ID, pool
				same.Responses = append(same.Responses, r)
			}
		}
		if len(poolOf(own, "").scored) >= 2 { // else the copies make two of one
			for _, f := range []*schemas.Finding{own, same} {
				if diff := cmp.Diff(want, Actor(f, o)); diff != "" {
					t.Fatalf("past is the actor: %s\n%+v", diff, f)
				}
			}
		}

		mixed := &schemas.Finding{Responses: slices.Clone(own.Responses)}
		for i := range mixed.Responses {
			mixed.Responses[i].Pool = []string{"", schemas.RolePast, schemas.RoleFuture}[rng.IntN(3)]
		}
		c := Actor(mixed, o)
		outcomes[string(c.Outcome)+c.Reason]++
		rng.Shuffle(len(mixed.Responses), func(i, k int) {
			mixed.Responses[i], mixed.Responses[k] = mixed.Responses[k], mixed.Responses[i]
		})
		if diff := cmp.Diff(c, Actor(mixed, o)); diff != "" {
			t.Fatalf("the order of the responses changes the pair: %s", diff)
		}
		if c.Outcome != schemas.Paired {
			continue
		}
		chosen, rejected := find(mixed, c.ChosenID), find(mixed, c.RejectedID)
		if mean(chosen.Score).Cmp(mean(rejected.Score)) <= 0 {
			t.Fatalf("no gap: %+v", c)
		}
		if chosen.Pool == schemas.RolePast || rejected.Pool == schemas.RoleFuture || o.Phase == 1 && chosen.Pool != "" {
			t.Fatalf("chosen of %q, rejected of %q in phase %d", chosen.Pool, rejected.Pool, o.Phase)
		}
	}
	for _, want := range []string{"paired", "droppedno_gap", "droppedtoo_few_scored"} {
		if outcomes[want] == 0 {
			t.Errorf("no prompt is %s: %v", want, outcomes)
		}
	}
}

// The contested response of a dossier with pools is the actor's, and so are the missing replicates.
func TestJudgeOfPools(t *testing.T) {
	f := &schemas.Finding{Responses: in(schemas.RolePast, scored("p", 1, 1000, 3000), lost("q"))}
	f.Failed = []schemas.FailedCalls{{Stage: schemas.StageJudge, Code: "timeout", Calls: 2}}
	w := schemas.PositionWeights{First: 0.5, Second: 0.5}
	if got := Judge(f, w, JudgeOptions{}); !cmp.Equal(got, droppedFor(schemas.NotContested)) {
		t.Errorf("without a response of the actor: %+v", got)
	}
	f.Responses = append(f.Responses, lost("a"))
	if got := Judge(f, w, JudgeOptions{}); !cmp.Equal(got, failedWith("timeout")) {
		t.Errorf("with a response whose judging failed: %+v", got)
	}
}
