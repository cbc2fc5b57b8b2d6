package pairs

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"coeval/schemas"
)

// ActorOptions say how an actor pair is picked.
type ActorOptions struct {
	// Rho is the strength of length control, in [0, 0.5) with at most six decimals: the share of
	// the range of means that counts as the top, and as the bottom. More prefers short chosen
	// and long rejected responses, at a margin that may shrink to 1−2·Rho of the range. Zero
	// means none: the best against the worst.
	Rho float64 `json:"rho"`
	// MinMargin is the least difference of the two means, 0 to 100 points with at most three
	// decimals. Zero means any difference above 0.
	MinMargin float64 `json:"min_margin"`
	// MaxChosenChars drops a pair whose chosen response is longer, in Unicode code points. It
	// is applied after the selection: the pair is not replaced. Zero means no limit.
	MaxChosenChars int `json:"max_chosen_chars"`
}

// Validate returns an error that names every field with a value that is not allowed.
func (o ActorOptions) Validate() error {
	var errs []error
	// Rounding comes first: 0.4999999 is no way around the bound.
	if !(o.Rho >= 0 && inMillionths(o.Rho) < 500_000 && hasDecimals(o.Rho, 6)) {
		errs = append(errs, fmt.Errorf("pairs: rho is %v; allowed is 0 to below 0.5, with at most 6 decimals: from 0.5 on the tiers overlap", o.Rho))
	}
	if !(o.MinMargin >= 0 && o.MinMargin <= 100 && hasDecimals(o.MinMargin, 3)) {
		errs = append(errs, fmt.Errorf("pairs: min_margin is %v; allowed is 0 to 100, with at most 3 decimals", o.MinMargin))
	}
	if o.MaxChosenChars < 0 {
		errs = append(errs, fmt.Errorf("pairs: max_chosen_chars is %d; allowed is 0 (no limit) or more", o.MaxChosenChars))
	}
	return errors.Join(errs...)
}

func inMillionths(x float64) int64  { return int64(math.Round(x * 1e6)) }
func inThousandths(x float64) int64 { return int64(math.Round(x * 1e3)) }

// hasDecimals says whether x is the float next to a number with at most n decimals.
func hasDecimals(x float64, n int) bool {
	scale := math.Pow10(n)
	return math.Abs(x) < 1e9 && math.Round(x*scale)/scale == x
}

// Actor picks the pair of responses that trains the actor.
//
// With Smax and Smin the highest and the lowest mean of the scored responses,
//
//	top tier:    S_k ≥ (1−ρ)·Smax + ρ·Smin    chosen:   its shortest response
//	bottom tier: S_k ≤ (1−ρ)·Smin + ρ·Smax    rejected: its longest response
//
// of equally long ones the one with the lowest ID. So the margin left is at least
// (1−2ρ)(Smax−Smin), and len(chosen) − len(rejected) never rises with ρ. The options must be
// valid.
func Actor(f *schemas.Finding, o ActorOptions) schemas.Choice {
	if f.OverBudget {
		return schemas.Choice{Outcome: schemas.Dropped, Reason: schemas.OverBudget}
	}
	var scored []schemas.ResponseFinding
	for _, r := range f.Responses {
		if r.Score.Scored {
			scored = append(scored, r)
		}
	}
	if len(scored) < 2 {
		if len(scored)+lostResponses(f) < 2 { // without the failures too
			return schemas.Choice{Outcome: schemas.Dropped, Reason: schemas.TooFewScored}
		}
		return undecided(f, schemas.TooFewScored, schemas.StageGenerate, schemas.StageJudge)
	}
	highest, lowest := scored[0].Score, scored[0].Score
	for _, r := range scored[1:] {
		if compareMeans(r.Score, highest) > 0 {
			highest = r.Score
		}
		if compareMeans(r.Score, lowest) < 0 {
			lowest = r.Score
		}
	}
	if compareMeans(highest, lowest) == 0 {
		return schemas.Choice{Outcome: schemas.Dropped, Reason: schemas.EqualScores}
	}
	chosen, rejected := tierPair(scored, highest, lowest, inMillionths(o.Rho))
	switch {
	case !hasMargin(chosen.Score, rejected.Score, inThousandths(o.MinMargin)):
		return schemas.Choice{Outcome: schemas.Dropped, Reason: schemas.Margin}
	case o.MaxChosenChars > 0 && chosen.Chars > o.MaxChosenChars:
		return schemas.Choice{Outcome: schemas.Dropped, Reason: schemas.ChosenTooLong}
	}
	return schemas.Choice{Outcome: schemas.Paired, ChosenID: chosen.ID, RejectedID: rejected.ID}
}

// lostResponses returns how many more responses might have a score if no call had failed.
func lostResponses(f *schemas.Finding) int {
	lost := 0
	for _, c := range f.Failed {
		if c.Stage == schemas.StageGenerate {
			lost += c.Calls
		}
	}
	for _, r := range f.Responses {
		if !r.Score.Scored && r.FailedJudgments > 0 {
			lost++
		}
	}
	return lost
}

// tierPair returns the shortest response of the top tier and the longest of the bottom tier.
// Neither tier is empty, since highest and lowest are in them, and below ρ = 0.5 they share none.
func tierPair(scored []schemas.ResponseFinding, highest, lowest schemas.Score, rho int64) (chosen, rejected schemas.ResponseFinding) {
	for _, r := range scored {
		if compareTier(r.Score, highest, lowest, rho) >= 0 {
			if chosen.ID == "" || r.Chars < chosen.Chars || r.Chars == chosen.Chars && r.ID < chosen.ID {
				chosen = r
			}
		}
		if compareTier(r.Score, lowest, highest, rho) <= 0 {
			if rejected.ID == "" || r.Chars > rejected.Chars || r.Chars == rejected.Chars && r.ID < rejected.ID {
				rejected = r
			}
		}
	}
	return chosen, rejected
}

// All comparisons are of integers: a mean is Sum/N with Sum in thousandths, and both sides
// are multiplied by the denominators. With N ≤ 256 and scores of at most 5,000 a Sum is at
// most 1.28e6. The largest product, in compareTier, is at most 1e6·1.28e6·256² = 8.4e16, and
// its right side is a weighted mean of such products: an int64 holds 9.2e18.

// compareMeans returns the sign of S_a − S_b.
func compareMeans(a, b schemas.Score) int {
	return cmp.Compare(a.Sum*int64(b.N), b.Sum*int64(a.N))
}

// compareTier returns the sign of S − ((1−ρ)·S_near + ρ·S_far), with ρ in millionths.
func compareTier(s, near, far schemas.Score, rho int64) int {
	n, nearN, farN := int64(s.N), int64(near.N), int64(far.N)
	return cmp.Compare(
		1e6*s.Sum*nearN*farN,
		(1e6-rho)*near.Sum*n*farN+rho*far.Sum*n*nearN,
	)
}

// hasMargin says whether S_a − S_b reaches a margin in thousandths.
func hasMargin(a, b schemas.Score, margin int64) bool {
	an, bn := int64(a.N), int64(b.N)
	return a.Sum*bn-b.Sum*an >= margin*an*bn
}
