package pairs_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"coeval/schemas"
	"coeval/transforms/pairs"
)

func init() {
	register.Function1x1(judgeOutcome)
}

// cells counts pairs of prompts with consecutive IDs: n of each chosen and rejected score.
func cells(kinds ...[3]int) schemas.BalanceCounts {
	counts := schemas.BalanceCounts{Cells: map[schemas.BalanceCell]int64{}}
	id := 0
	for _, k := range kinds {
		for range k[0] {
			counts.Cells[pairs.BalanceCell(fmt.Sprint("prompt ", id), k[1], k[2])]++
			id++
		}
	}
	return counts
}

func TestBalance(t *testing.T) {
	tests := []struct {
		name   string
		o      pairs.BalanceOptions
		counts schemas.BalanceCounts
		// The most that can be kept; whole buckets may leave a few less.
		most int64
	}{
		{"no option is enabled", pairs.BalanceOptions{}, cells([3]int{90, 5000, 4000}), 90},
		{"nothing is there", pairs.BalanceOptions{ClassCap: 0.4, Directions: 0.1}, cells(), 0},
		// 20 lower ones allow 20·1.1/0.9 = 24 higher ones.
		{"directions", pairs.BalanceOptions{Directions: 0.1}, cells([3]int{80, 5000, 4000}, [3]int{20, 3000, 4000}), 44},
		{"directions that agree", pairs.BalanceOptions{Directions: 0.1}, cells([3]int{22, 5000, 4000}, [3]int{20, 3000, 4000}), 42},
		{"one direction", pairs.BalanceOptions{Directions: 0.1}, cells([3]int{80, 5000, 4000}), 0},
		{"equal scores have no direction", pairs.BalanceOptions{Directions: 0.1}, cells([3]int{10, 4000, 4000}, [3]int{1, 4000, 5000}), 10},
		// L ≤ 0.4·(20 + 20 + L) up to L = 26.
		{"cap", pairs.BalanceOptions{ClassCap: 0.4}, cells([3]int{60, 5000, 4000}, [3]int{20, 4000, 3000}, [3]int{20, 3000, 2000}), 66},
		{"cap that holds", pairs.BalanceOptions{ClassCap: 0.4}, cells([3]int{40, 5000, 4000}, [3]int{30, 4000, 3000}, [3]int{30, 3000, 2000}), 100},
		{"too few scores for the cap", pairs.BalanceOptions{ClassCap: 0.4}, cells([3]int{40, 5000, 4000}, [3]int{40, 4000, 3000}), 0},
		{"a cap of all", pairs.BalanceOptions{ClassCap: 1}, cells([3]int{40, 5000, 4000}), 40},
	}
	for _, tt := range tests {
		b := pairs.NewBalance(tt.counts, tt.o)
		kept := b.Kept(tt.counts)
		// A few thousandths of the pairs share a bucket with another one.
		if kept > tt.most || kept < tt.most-2 {
			t.Errorf("%s: %d pairs are kept, want at most %d and nearly that", tt.name, kept, tt.most)
		}
	}
}

// The numbers of kept pairs follow from the counts alone: the numbers of TestBalance.
func TestKept(t *testing.T) {
	for _, tt := range []struct{ got, want int64 }{
		{pairs.KeptByDirections(80, 0, 20, 0.1), 44},
		{pairs.KeptByDirections(22, 3, 20, 0.1), 45},
		{pairs.KeptByDirections(80, 5, 0, 0.1), 5},
		{pairs.KeptByClassCap([]int64{60, 20, 20}, 0.4), 66},
		{pairs.KeptByClassCap([]int64{40, 40}, 0.4), 0},
		{pairs.KeptByClassCap(nil, 0.4), 0},
	} {
		if tt.got != tt.want {
			t.Errorf("%d pairs are kept, want %d", tt.got, tt.want)
		}
	}
}

// For all pairs, the kept ones satisfy both options, and every dropped one has the reason of an enabled
// option.
func TestBalanceHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var kinds [][3]int
		for range 1 + rng.IntN(8) {
			kinds = append(kinds, [3]int{rng.IntN(200), 500 * rng.IntN(11), 500 * rng.IntN(11)})
		}
		counts := cells(kinds...)
		o := pairs.BalanceOptions{}
		if rng.IntN(3) > 0 {
			o.ClassCap = 0.1 + 0.8*rng.Float64()
		}
		if rng.IntN(3) > 0 {
			o.Directions = 0.01 + 0.5*rng.Float64()
		}
		b := pairs.NewBalance(counts, o)
		score, directions := b.Shares(counts)
		if o.ClassCap > 0 && score > o.ClassCap+1e-6 {
			t.Errorf("%v of %v: one score makes up %.4f", o, kinds, score)
		}
		if o.Directions > 0 && directions > o.Directions+1e-6 {
			t.Errorf("%v of %v: the directions differ by %.4f", o, kinds, directions)
		}
		for c := range counts.Cells {
			reason := b.Reason(c)
			if reason == schemas.ClassCap && o.ClassCap == 0 || reason == schemas.Direction && (o.Directions == 0 || c.Direction == 0) {
				t.Errorf("%v: a pair is dropped for %s", o, reason)
			}
		}
	}
}

func TestBalanceOptions(t *testing.T) {
	for _, o := range []pairs.BalanceOptions{{ClassCap: -0.1}, {ClassCap: 1.1}, {ClassCap: math.NaN()}, {Directions: -1}, {Directions: 1}, {Directions: math.NaN()}} {
		if o.Validate() == nil {
			t.Errorf("%+v is allowed", o)
		}
		p, s := beam.NewPipelineWithRoot()
		_ = p
		if _, err := pairs.BalancePairs(s, beam.CreateList(s, []schemas.Record{{}}), o); err == nil {
			t.Errorf("BalancePairs takes %+v", o)
		}
	}
}

func judgeOutcome(r schemas.Record) string {
	if r.Judge == nil {
		return "none"
	}
	return string(r.Judge.Outcome) + r.Judge.Reason
}

// Nine pairs in one direction and one in the other: one of the nine is left, and records without
// a pair stay as they are.
func TestBalancePairs(t *testing.T) {
	var records []schemas.Record
	for i := range 12 {
		id := fmt.Sprint("prompt ", i)
		f := &schemas.Finding{PromptID: id, Judgments: []schemas.JudgmentFinding{{ID: "a", Score: 4000}, {ID: "b", Score: 3000}}}
		c := &schemas.Selection{Outcome: schemas.Paired, ChosenID: "a", RejectedID: "b"}
		switch i {
		case 9:
			c.ChosenID, c.RejectedID = "b", "a"
		case 10:
			c = &schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.EqualElo}
		case 11:
			f, c = nil, nil
		}
		records = append(records, schemas.Record{Finding: f, Judge: c})
	}
	p, s := beam.NewPipelineWithRoot()
	balanced, err := pairs.BalancePairs(s, beam.CreateList(s, records), pairs.BalanceOptions{Directions: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	dropped := string(schemas.Dropped) + schemas.Direction
	paired := string(schemas.Paired)
	passert.Equals(s, beam.ParDo(s, judgeOutcome, balanced),
		paired, paired, dropped, dropped, dropped, dropped, dropped, dropped, dropped, dropped, string(schemas.Dropped)+schemas.EqualElo, "none")
	ptest.RunAndValidate(t, p)
}
