package pairs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/schemas"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[balanceFn]())
	register.Function2x0(countBalanceFn)
	register.Function2x1(addBalance)
	register.Emitter1[schemas.BalanceCounts]()
}

// BalanceOptions bound the imbalance of a run's judge pairs. The one known failure of the method is a
// judge that learns one score, or learns to score high.
type BalanceOptions struct {
	// ClassCap is the largest share of the judge pairs whose chosen judgments have one score, above 0
	// to 1. A low cap keeps few pairs if the judge uses few scores: with k scores, a cap below 1/k
	// keeps none. Zero means no cap.
	ClassCap float64 `json:"class_cap,omitempty"`
	// Directions is the largest difference between the judge pairs whose chosen judgment
	// scores higher and those where it scores lower, as a share of both, above 0 to below 1.
	// Zero means no bound.
	Directions float64 `json:"directions,omitempty"`
}

// Validate returns an error that names every field with a value that is not allowed.
func (o BalanceOptions) Validate() error {
	var errs []error
	if !(o.ClassCap >= 0 && o.ClassCap <= 1) {
		errs = append(errs, fmt.Errorf("pairs: class_cap is %v; allowed is 0 (no cap) to 1", o.ClassCap))
	}
	if !(o.Directions >= 0 && o.Directions < 1) {
		errs = append(errs, fmt.Errorf("pairs: directions is %v; allowed is 0 (no bound) to below 1", o.Directions))
	}
	return errors.Join(errs...)
}

// Enabled reports whether the options bound anything.
func (o BalanceOptions) Enabled() bool { return o.ClassCap > 0 || o.Directions > 0 }

// buckets is the number of parts into which the hash of the prompt's ID divides the pairs of a kind.
// Pairs are kept or dropped by whole parts: up to about 4,096 pairs of a kind that is one by one, and
// above in steps of a 4,096th.
const buckets = 4096

// BalanceCell returns the kind of a judge pair: the chosen score, the direction, and the part
// of the prompt's ID.
func BalanceCell(promptID string, chosen, rejected int) schemas.BalanceCell {
	bucket, err := strconv.ParseInt(schemas.Digest("balance", promptID)[:3], 16, 32) // 12 bits
	if err != nil {
		panic(fmt.Sprintf("pairs: a digest is no number: %v", err))
	}
	return schemas.BalanceCell{Score: chosen, Direction: cmp.Compare(chosen, rejected), Bucket: int(bucket)}
}

// A Balance selects the judge pairs that a run keeps: the cells whose bucket is below the bounds
// of their direction and of their score.
type Balance struct {
	directions map[int]int
	scores     map[int]int
}

// NewBalance returns the balance of a run's judge pairs. It lowers the bound of the more frequent
// direction until the directions agree, then the bounds of the scores above the cap, and
// repeats both until neither option is violated. Each step keeps as many pairs as it can.
func NewBalance(counts schemas.BalanceCounts, o BalanceOptions) *Balance {
	b := &Balance{directions: map[int]int{}, scores: map[int]int{}}
	for c := range counts.Cells {
		b.directions[c.Direction], b.scores[c.Score] = buckets, buckets
	}
	for b.balanceDirections(counts.Cells, o.Directions) || b.capScores(counts.Cells, o.ClassCap) {
	}
	return b
}

// Reason returns the reason for which a pair is dropped; empty if it is kept.
func (b *Balance) Reason(c schemas.BalanceCell) string {
	switch {
	case c.Bucket >= b.directions[c.Direction]:
		return schemas.Direction
	case c.Bucket >= b.scores[c.Score]:
		return schemas.ClassCap
	}
	return ""
}

// Kept returns the number of pairs that the balance keeps.
func (b *Balance) Kept(counts schemas.BalanceCounts) (kept int64) {
	for c, n := range counts.Cells {
		if b.Reason(c) == "" {
			kept += n
		}
	}
	return kept
}

// tolerance absorbs the rounding of a share times a count.
const tolerance = 1e-9

// balanceDirections lowers the bound of the more frequent direction: with m pairs of the other one and
// a share b, M − m ≤ b·(M + m) is satisfied up to M = m·(1+b)/(1−b).
func (b *Balance) balanceDirections(cells map[schemas.BalanceCell]int64, share float64) (changed bool) {
	if share <= 0 {
		return false
	}
	kept := map[int]int64{}
	for c, n := range cells {
		if b.Reason(c) == "" {
			kept[c.Direction] += n
		}
	}
	more, most, least := 1, kept[1], kept[-1]
	if least > most {
		more, most, least = -1, least, most
	}
	limit := maxOfOther(least, share)
	if most <= limit {
		return false
	}
	b.directions[more] = b.lower(cells, b.directions[more], limit, func(c schemas.BalanceCell) bool { return c.Direction == more })
	return true
}

// maxOfOther returns the largest count of one direction that is allowed with a smaller count of the
// other.
func maxOfOther(least int64, share float64) int64 {
	return int64(float64(least)*(1+share)/(1-share) + tolerance)
}

// KeptByDirections returns how many of a run's judge pairs balance_directions alone keeps, from
// their counts by direction.
func KeptByDirections(higher, equal, lower int64, share float64) int64 {
	limit := maxOfOther(min(higher, lower), share)
	return min(higher, limit) + equal + min(lower, limit)
}

// KeptByClassCap returns how many of a run's judge pairs judge_class_cap alone keeps, from their
// counts by chosen score.
func KeptByClassCap(counts []int64, share float64) (kept int64) {
	limit := largestLevel(counts, share)
	for _, n := range counts {
		kept += min(n, limit)
	}
	return kept
}

// capScores lowers the bounds of the scores with more than the largest L for which
// L ≤ cap·Σ min(n_s, L): with L pairs of each of those no score exceeds the cap.
func (b *Balance) capScores(cells map[schemas.BalanceCell]int64, share float64) (changed bool) {
	if share <= 0 || share >= 1 {
		return false
	}
	kept := map[int]int64{}
	for c, n := range cells {
		if b.Reason(c) == "" {
			kept[c.Score] += n
		}
	}
	limit := largestLevel(slices.Collect(maps.Values(kept)), share)
	for score, n := range kept {
		if n > limit {
			b.scores[score] = b.lower(cells, b.scores[score], limit, func(c schemas.BalanceCell) bool { return c.Score == score })
			changed = true
		}
	}
	return changed
}

// largestLevel returns the largest L with L ≤ share·Σ min(n, L). The difference is concave in L
// and 0 at 0, so that the levels which satisfy it have no gap.
func largestLevel(counts []int64, share float64) int64 {
	if len(counts) == 0 {
		return 0
	}
	fits := func(level int64) bool {
		var sum int64
		for _, n := range counts {
			sum += min(n, level)
		}
		return float64(level) <= share*float64(sum)+tolerance
	}
	low, high := int64(0), slices.Max(counts)
	for low < high {
		if middle := low + (high-low+1)/2; fits(middle) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// lower returns the largest bound below the given one under which at most limit pairs of a kind
// are kept.
func (b *Balance) lower(cells map[schemas.BalanceCell]int64, bound int, limit int64, is func(schemas.BalanceCell) bool) int {
	perBucket := make([]int64, bound)
	for c, n := range cells {
		if is(c) && b.Reason(c) == "" {
			perBucket[c.Bucket] += n
		}
	}
	var sum int64
	for bucket, n := range perBucket {
		if sum += n; sum > limit {
			return bucket
		}
	}
	return bound
}

// BalancePairs drops judge pairs until the run's pairs satisfy o.
//
// It takes a PCollection<schemas.Record> with the judge's selections, and returns one of the same length
// in which some of these selections are dropped for the reason direction or class_cap. The dropped pairs
// depend on o, and on the prompts' IDs and the scores of all pairs. It returns an error if o is invalid.
func BalancePairs(s beam.Scope, records beam.PCollection, o BalanceOptions) (beam.PCollection, error) {
	if err := o.Validate(); err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("pairs.BalancePairs")
	counts := beam.Combine(s, addBalance, beam.ParDo(s, countBalanceFn, records))
	return beam.ParDo(s, &balanceFn{Options: o}, records, beam.SideInput{Input: counts}), nil
}

// cellOf returns the kind of a record's judge pair; false if it has none.
func cellOf(r *schemas.Record) (c schemas.BalanceCell, ok bool) {
	if r.Finding == nil || r.Judge == nil || r.Judge.Outcome != schemas.Paired {
		return c, false
	}
	var chosen, rejected int
	for _, j := range r.Finding.Judgments {
		switch j.ID {
		case r.Judge.ChosenID:
			chosen = j.Score
		case r.Judge.RejectedID:
			rejected = j.Score
		}
	}
	return BalanceCell(r.Finding.PromptID, chosen, rejected), true
}

func countBalanceFn(r schemas.Record, emit func(schemas.BalanceCounts)) {
	if c, ok := cellOf(&r); ok {
		emit(schemas.BalanceCounts{Cells: map[schemas.BalanceCell]int64{c: 1}})
	}
}

// addBalance returns the sum. Beam forbids changing an input.
func addBalance(a, b schemas.BalanceCounts) schemas.BalanceCounts {
	if len(a.Cells) < len(b.Cells) {
		a, b = b, a
	}
	sum := maps.Clone(a.Cells)
	for c, n := range b.Cells {
		sum[c] += n
	}
	return schemas.BalanceCounts{Cells: sum}
}

type balanceFn struct {
	Options BalanceOptions

	balance *Balance
}

func (f *balanceFn) ProcessElement(ctx context.Context, r schemas.Record, counts []schemas.BalanceCounts) schemas.Record {
	if f.balance == nil { // the side input is the run's, so that every element has the same one
		var all schemas.BalanceCounts
		for _, c := range counts {
			all = addBalance(all, c)
		}
		f.balance = NewBalance(all, f.Options)
	}
	if r.Judge == nil {
		return r
	}
	selection := *r.Judge
	if c, ok := cellOf(&r); ok {
		if reason := f.balance.Reason(c); reason != "" {
			selection = schemas.Selection{Outcome: schemas.Dropped, Reason: reason, Elo: selection.Elo}
		}
	}
	count(ctx, schemas.RoleJudge, selection)
	r.Judge = &selection
	return r
}

// Shares returns the largest share of one chosen score, and the difference of the directions as
// a share of both, of what a balance keeps; 0 of nothing.
func (b *Balance) Shares(counts schemas.BalanceCounts) (score, directions float64) {
	perScore, perDirection, all := map[int]int64{}, map[int]int64{}, int64(0)
	for c, n := range counts.Cells {
		if b.Reason(c) == "" {
			perScore[c.Score] += n
			perDirection[c.Direction] += n
			all += n
		}
	}
	if all == 0 {
		return 0, 0
	}
	score = float64(slices.Max(slices.Collect(maps.Values(perScore)))) / float64(all)
	if both := perDirection[1] + perDirection[-1]; both > 0 {
		directions = math.Abs(float64(perDirection[1]-perDirection[-1])) / float64(both)
	}
	return score, directions
}
