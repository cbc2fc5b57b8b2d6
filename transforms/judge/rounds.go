package judge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"coeval/schemas"
	"coeval/transforms/prompting"
	"coeval/transforms/stage"
)

// The defaults of [Rounds]. In simulation they keep the whole gap of judge pairs for 0.15 of the generated
// tokens; see docs/sizing-and-cost.md.
const (
	DefaultMaxJudgments = 40
	DefaultDistance     = 1.8
)

// PerRound is the number of judgments in each round after the first.
const PerRound = 6

// Rounds contains the rule by which the contested response is judged in rounds: Options.N judgments first, then
// PerRound more in each round until one score is distant from the mean of the response's reads. A judge pair
// needs a judgment that errs, and a response with one is not known before it is judged.
type Rounds struct {
	// Max bounds the judgments of the response: Options.N to 256. Zero means DefaultMaxJudgments.
	Max int `json:"max"`
	// Distance is the smallest distance of a distant score from the mean of the reads, in standard deviations of
	// their distribution: above 0 to 10, with at most 3 decimals. A larger one takes more judgments. Zero means DefaultDistance.
	Distance float64 `json:"distance"`
}

func (r Rounds) withDefaults() Rounds {
	if r.Max == 0 {
		r.Max = DefaultMaxJudgments
	}
	if r.Distance == 0 {
		r.Distance = DefaultDistance
	}
	return r
}

// validate returns an error that names every field with a value that is not allowed after a first round of n.
func (r Rounds) validate(n int) error {
	var errs []error
	if r.Max < n || r.Max > 256 {
		errs = append(errs, fmt.Errorf("judge: rounds.max is %d; allowed is n, %d, to 256", r.Max, n))
	}
	if !(r.Distance > 0 && r.Distance <= 10) || !schemas.HasDecimals(r.Distance, 3) {
		errs = append(errs, fmt.Errorf("judge: rounds.distance is %v; allowed is above 0 to 10, with at most 3 decimals", r.Distance))
	}
	return errors.Join(errs...)
}

func (r Rounds) thousandths() int64 { return int64(math.Round(1000 * r.Distance)) }

// Next returns the number of judgments of the round that follows these judgments, of which some of the asked ones
// may be missing, or the reason why none follows. Read is the score of the response by its reads.
func (r Rounds) Next(asked int, judgments []schemas.Judgment, read schemas.Score) (more int, stop schemas.Stop) {
	r = r.withDefaults()
	for i := range judgments {
		if j := &judgments[i]; j.Unparsed == "" && r.isDistant(j.Score, read) {
			return 0, schemas.StopDistant
		}
	}
	if asked >= r.Max {
		return 0, schemas.StopBound
	}
	return min(PerRound, r.Max-asked), ""
}

// isDistant reports whether s ≠ m and |s − m| ≥ d·√V for a score s, the mean m and the variance V of the reads. With their
// sums of n reads and d in thousandths that is, in integers,
//
//	1000²·(n·s − Σm)² ≥ (1000·d)²·(n·Σm² − (Σm)²)
//
// With scores of at most 100,000, n of at most 256 and d of at most 10 each side is below 2^73.
func (r Rounds) isDistant(score int, read schemas.Score) bool {
	n := int64(read.N)
	off := n*int64(score) - read.Written()
	variance := n*read.Squares - read.Written()*read.Written()
	d := r.thousandths()
	high, low := bits.Mul64(uint64(off*off), 1000*1000)
	boundHigh, boundLow := bits.Mul64(uint64(variance), uint64(d*d))
	return off != 0 && (high > boundHigh || high == boundHigh && low >= boundLow)
}

// inRounds judges the contested response until the rule of s.Rounds stops.
func (s *judging) inRounds(ctx context.Context, c stage.Caller, d *schemas.Dossier, conversation *prompting.Conversation, stop context.CancelCauseFunc) error {
	r := d.Contested()
	if r == nil || r.Status != schemas.Complete {
		return nil
	}
	call := s.call(&d.Prompt, conversation, r.Text, stop)
	r.Judgments = nil
	for {
		said, err := stage.Do(ctx, c, []stage.Call{call})
		if err != nil {
			return err
		}
		s.read(d, r, call.First, said[0])
		asked := call.First + call.N
		more, why := s.Rounds.Next(asked, r.Judgments, r.Score)
		if why != "" {
			d.Judging = &schemas.Judging{Stopped: why, Asked: asked}
			return nil
		}
		call.First, call.N = asked, more
	}
}
