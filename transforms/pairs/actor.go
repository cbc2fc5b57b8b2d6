package pairs

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"coeval/schemas"
)

// ActorOptions decide how an actor pair is chosen.
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
	// Method selects the models between whose responses the pair is picked. Empty means Tiers.
	Method ActorMethod `json:"method,omitempty"`
	// Phase is 1 or 2, of the method Temporal alone: in phase 2 the future's responses may be chosen.
	// Zero means 1.
	Phase int `json:"phase,omitempty"`
}

// An ActorMethod selects the models between whose responses an actor pair is picked.
type ActorMethod string

const (
	// Tiers picks both sides among the actor's own responses.
	Tiers ActorMethod = "tiers"
	// Temporal anchors the rejected side in the past's responses, and in phase 2 the chosen side in
	// the future's (Wang et al., arXiv 2508.06026).
	Temporal ActorMethod = "temporal"
)

// Validate returns an error that names every field with a value that is not allowed.
func (o ActorOptions) Validate() error {
	var errs []error
	// Rounding comes first: 0.4999999 is no way around the bound.
	if !(o.Rho >= 0 && inMillionths(o.Rho) < 500_000 && schemas.HasDecimals(o.Rho, 6)) {
		errs = append(errs, fmt.Errorf("pairs: rho is %v; allowed is 0 to below 0.5, with at most 6 decimals: from 0.5 on the tiers overlap", o.Rho))
	}
	if !(o.MinMargin >= 0 && o.MinMargin <= 100 && schemas.HasDecimals(o.MinMargin, 3)) {
		errs = append(errs, fmt.Errorf("pairs: min_margin is %v; allowed is 0 to 100, with at most 3 decimals", o.MinMargin))
	}
	if o.MaxChosenChars < 0 {
		errs = append(errs, fmt.Errorf("pairs: max_chosen_chars is %d; allowed is 0 (no limit) or more", o.MaxChosenChars))
	}
	switch o.Method {
	case "", Tiers, Temporal:
	default:
		errs = append(errs, fmt.Errorf("pairs: method is %q; allowed is %s or %s", o.Method, Tiers, Temporal))
	}
	if o.Phase < 0 || o.Phase > 2 {
		errs = append(errs, fmt.Errorf("pairs: phase is %d; allowed is 1 or 2", o.Phase))
	}
	return errors.Join(errs...)
}

func inMillionths(x float64) int64  { return int64(math.Round(x * 1e6)) }
func inThousandths(x float64) int64 { return int64(math.Round(x * 1e3)) }

// Actor picks the pair of responses that trains the actor.
//
// With Smax and Smin the highest and the lowest mean of the actor's scored responses,
//
//	top tier:    S_k ≥ (1−ρ)·Smax + ρ·Smin    chosen:   its shortest response
//	bottom tier: S_k ≤ (1−ρ)·Smin + ρ·Smax    rejected: its longest response
//
// of equally long ones the one with the lowest ID. So the margin left is at least
// (1−2ρ)(Smax−Smin), and len(chosen) − len(rejected) never rises with ρ. For the method temporal
// see [temporal]. The options must be valid.
func Actor(f *schemas.Finding, o ActorOptions) schemas.Selection {
	if f.OverBudget {
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.OverBudget}
	}
	if o.Method == Temporal {
		return temporal(f, o)
	}
	own := poolOf(f, "")
	if len(own.scored) < 2 {
		if len(own.scored)+lostResponses(f, "") < 2 { // without the failures too
			return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.TooFewScored}
		}
		return undecided(f, schemas.TooFewScored, schemas.StageGenerate, schemas.StageReads, schemas.StageJudge)
	}
	if compareMeans(own.highest, own.lowest) == 0 {
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.EqualScores}
	}
	rho := inMillionths(o.Rho)
	return o.keep(own.shortestOfTop(rho), own.longestOfBottom(rho))
}

// keep returns a pair, or why it is dropped.
func (o ActorOptions) keep(chosen, rejected schemas.ResponseFinding) schemas.Selection {
	switch {
	case !hasMargin(chosen.Score, rejected.Score, inThousandths(o.MinMargin)):
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.Margin}
	case o.MaxChosenChars > 0 && chosen.Chars > o.MaxChosenChars:
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.ChosenTooLong}
	}
	return schemas.Selection{Outcome: schemas.Paired, ChosenID: chosen.ID, RejectedID: rejected.ID}
}

// temporal picks a pair whose sides may come from other checkpoints, all judged by the current one.
// With A, P and F the scored responses of actor, past and future,
//
//	rejected: the worst of P if min S(P) < min S(A), else the worst of A
//	chosen:   in phase 2 the best of F if max S(F) > max S(A), else the best of A
//
// and the pair is kept if S(chosen) > S(rejected). Best and worst are the shortest response of the
// top tier and the longest of the bottom tier, as in [Actor], of the pool that the side comes
// from. If all responses of the past are the actor's, this is the best of A against its worst.
func temporal(f *schemas.Finding, o ActorOptions) schemas.Selection {
	own, past, future := poolOf(f, ""), poolOf(f, schemas.RolePast), pool{}
	lost := lostResponses(f, "") + lostResponses(f, schemas.RolePast)
	if o.Phase == 2 {
		future = poolOf(f, schemas.RoleFuture)
		lost += lostResponses(f, schemas.RoleFuture)
	}
	if all := len(own.scored) + len(past.scored) + len(future.scored); len(own.scored) == 0 || all < 2 {
		if len(own.scored)+lostResponses(f, "") == 0 || all+lost < 2 { // without the failures too
			return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.TooFewScored}
		}
		return undecided(f, schemas.TooFewScored, schemas.StageGenerate, schemas.StagePast, schemas.StageFuture, schemas.StageReads, schemas.StageJudge)
	}
	from, against := own, own
	if len(future.scored) > 0 && compareMeans(future.highest, own.highest) > 0 {
		from = future
	}
	if len(past.scored) > 0 && compareMeans(past.lowest, own.lowest) < 0 {
		against = past
	}
	rho := inMillionths(o.Rho)
	chosen, rejected := from.shortestOfTop(rho), against.longestOfBottom(rho)
	if compareMeans(chosen.Score, rejected.Score) <= 0 {
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.NoGap}
	}
	return o.keep(chosen, rejected)
}

// A pool is the scored responses of one role.
type pool struct {
	scored          []schemas.ResponseFinding
	highest, lowest schemas.Score
}

// poolOf returns the scored responses of a pool; the empty name is the actor's.
func poolOf(f *schemas.Finding, name string) pool {
	var p pool
	for _, r := range f.Responses {
		if r.Pool != name || !r.Score.Scored {
			continue
		}
		if len(p.scored) == 0 || compareMeans(r.Score, p.highest) > 0 {
			p.highest = r.Score
		}
		if len(p.scored) == 0 || compareMeans(r.Score, p.lowest) < 0 {
			p.lowest = r.Score
		}
		p.scored = append(p.scored, r)
	}
	return p
}

// shortestOfTop returns the shortest response of the top tier, which the best one is in. The pool
// must not be empty.
func (p *pool) shortestOfTop(rho int64) (chosen schemas.ResponseFinding) {
	for _, r := range p.scored {
		if compareTier(r.Score, p.highest, p.lowest, rho) >= 0 {
			if chosen.ID == "" || r.Chars < chosen.Chars || r.Chars == chosen.Chars && r.ID < chosen.ID {
				chosen = r
			}
		}
	}
	return chosen
}

// longestOfBottom returns the longest response of the bottom tier, which the worst one is in. The
// pool must not be empty. Below ρ = 0.5 the tiers of one pool share no response, unless all are
// equal.
func (p *pool) longestOfBottom(rho int64) (rejected schemas.ResponseFinding) {
	for _, r := range p.scored {
		if compareTier(r.Score, p.lowest, p.highest, rho) <= 0 {
			if rejected.ID == "" || r.Chars > rejected.Chars || r.Chars == rejected.Chars && r.ID < rejected.ID {
				rejected = r
			}
		}
	}
	return rejected
}

// lostResponses returns how many more responses of a pool might have a score if no call had failed.
func lostResponses(f *schemas.Finding, pool string) int {
	asked := map[string]string{"": schemas.StageGenerate, schemas.RolePast: schemas.StagePast, schemas.RoleFuture: schemas.StageFuture}[pool]
	lost := 0
	for _, c := range f.Failed {
		if c.Stage == asked {
			lost += c.Calls
		}
	}
	for _, r := range f.Responses {
		if r.Pool == pool && !r.Score.Scored && r.FailedJudgments > 0 {
			lost++
		}
	}
	return lost
}

// All comparisons are of integers: a mean is Sum/N with Sum in thousandths, and both sides are
// multiplied by the denominators. With N ≤ 256 and scores of at most 5,000 a Sum is at most 1.28e6. The
// largest product, in compareTier, is at most 1e6·1.28e6·256² = 8.4e16, and its right side is a
// weighted mean of such products: the largest int64 is 9.2e18.

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

// hasMargin reports whether S_a − S_b reaches a margin in thousandths.
func hasMargin(a, b schemas.Score, margin int64) bool {
	an, bn := int64(a.N), int64(b.N)
	return a.Sum*bn-b.Sum*an >= margin*an*bn
}
