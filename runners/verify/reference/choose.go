// Package reference is a second implementation of the method, simple enough to review by hand.
//
// It picks the contested response and the pairs of both roles, fits Elo ratings, and repeats the decisions of
// rounds. It shares no code with the transforms that wrote a run: only the vocabulary of package schemas.
// Package verify compares its results with the tables. Package endings compares scores and verdicts with their
// texts.
package reference

import (
	"cmp"
	"math/big"
	"slices"

	"coeval/schemas"
)

// A Prompt is everything that the selections of a prompt depend on.
type Prompt struct {
	Responses []Response
	// Contested is the place of the contested response, negative for none. Judgments are its distinct
	// parsed judgments in the order of their IDs.
	Contested int
	Judgments []Judgment
	// Winners is the verdict on each ordered pair of judgments: Winners[m][n] showed m first.
	Winners [][]schemas.Winner
	// Reads is the probability that the first shown wins of each ordered pair, negative for none; nil
	// unless the comparisons are reads.
	Reads [][]float64
	// FailedCalls counts the calls that failed, by stage and code.
	FailedCalls map[schemas.FailedCalls]int
}

// A Response is a response with the numbers that choose it.
type Response struct {
	ID string
	// Pool is past or future; empty for a response of the actor.
	Pool  string
	Chars int
	// Mean and Variance are of its parsed scores in points; nil if it is not scored. Mean is on
	// people's scale if the run has a calibration.
	Mean, Variance *big.Rat
	// Distinct is the number of its distinct parsed judgments, Failed the number of its failed judge
	// calls.
	Distinct, Failed int
}

// A Judgment is a judgment of the contested response.
type Judgment struct {
	ID   string
	Text string
	// Score is in points.
	Score float64
	Chars int
}

// Rules are the settings of the selections, with the meaning that they have in the config.
type Rules struct {
	Rho, MinMargin                   float64
	MaxChosenChars, MaxJudgmentChars int
	// Temporal pairs have sides of past, and in Phase 2 of future.
	Temporal         bool
	Phase            int
	MinMetaJudgments int
	DropEqualScores  bool
}

// Moments returns mean and variance of scores in points. The scores are multiples of a thousandth, so
// that both are exact:
//
//	mean = Σs / n,    variance = Σs²/n − mean²
func Moments(scores []float64) (mean, variance *big.Rat) {
	sum, squares, n := new(big.Rat), new(big.Rat), big.NewRat(int64(len(scores)), 1)
	for _, s := range scores {
		r := rational(s, 1000)
		sum.Add(sum, r)
		squares.Add(squares, new(big.Rat).Mul(r, r))
	}
	mean = sum.Quo(sum, n)
	variance = squares.Quo(squares, n)
	return mean, variance.Sub(variance, new(big.Rat).Mul(mean, mean))
}

// rational returns x, a multiple of 1/denominator, exactly.
func rational(x float64, denominator int64) *big.Rat {
	scaled := x * float64(denominator)
	half := 0.5
	if scaled < 0 {
		half = -0.5
	}
	return big.NewRat(int64(scaled+half), denominator)
}

// Contested returns the place of the actor's scored response with the highest variance above 0, of equals
// the one with the lowest ID; negative if there is none. Responses with fewer than minDistinct
// distinct parsed judgments count only if no other response has a variance above 0.
func Contested(responses []Response, minDistinct int) int {
	disputed := func(r Response) bool { return r.Pool == "" && r.Variance != nil && r.Variance.Sign() > 0 }
	canCompare := func(r Response) bool { return disputed(r) && r.Distinct >= minDistinct }
	eligible := disputed
	if slices.ContainsFunc(responses, canCompare) {
		eligible = canCompare
	}
	best := -1
	for i, r := range responses {
		if !eligible(r) {
			continue
		}
		if best < 0 || cmp.Or(r.Variance.Cmp(responses[best].Variance), cmp.Compare(responses[best].ID, r.ID)) > 0 {
			best = i
		}
	}
	return best
}

// Actor chooses the actor's pair:
//
//	top tier:    S ≥ (1−ρ)·Smax + ρ·Smin    chosen: its shortest response
//	bottom tier: S ≤ (1−ρ)·Smin + ρ·Smax    rejected: its longest response
//
// Of equally long responses it takes the one with the lowest ID.
func (p *Prompt) Actor(r Rules) schemas.Selection {
	if r.Temporal {
		return p.temporal(r)
	}
	own := p.scored("")
	if len(own) < 2 {
		if len(own)+p.lost("") < 2 {
			return dropped(schemas.TooFewScored)
		}
		return p.undecided(schemas.TooFewScored, schemas.StageGenerate, schemas.StageReads, schemas.StageJudge)
	}
	if best(own).Cmp(worst(own)) == 0 {
		return dropped(schemas.EqualScores)
	}
	return r.keep(shortestOfTop(own, r.Rho), longestOfBottom(own, r.Rho))
}

// temporal chooses between the responses of several checkpoints. The candidates of each side are one
// pool: the past's for the rejected side if the lowest mean of all belongs to the past alone, the
// future's for the chosen side of phase 2 if the highest mean of actor and future belongs to the
// future alone, and the actor's otherwise.
func (p *Prompt) temporal(r Rules) schemas.Selection {
	names := []string{"", schemas.RolePast}
	if r.Phase == 2 {
		names = append(names, schemas.RoleFuture)
	}
	found, possible := 0, 0
	for _, name := range names {
		found += len(p.scored(name))
		possible += len(p.scored(name)) + p.lost(name)
	}
	own, past, future := p.scored(""), p.scored(schemas.RolePast), p.scored(schemas.RoleFuture)
	switch {
	case len(own)+p.lost("") == 0, possible < 2:
		return dropped(schemas.TooFewScored)
	case len(own) == 0, found < 2:
		return p.undecided(schemas.TooFewScored, schemas.StageGenerate, schemas.StagePast, schemas.StageFuture, schemas.StageReads, schemas.StageJudge)
	}
	chosenOf, rejectedOf := own, own
	if lowest := worst(slices.Concat(own, past)); lowest.Cmp(worst(own)) != 0 {
		rejectedOf = past
	}
	if r.Phase == 2 {
		if highest := best(slices.Concat(own, future)); highest.Cmp(best(own)) != 0 {
			chosenOf = future
		}
	}
	chosen, rejected := shortestOfTop(chosenOf, r.Rho), longestOfBottom(rejectedOf, r.Rho)
	if rejected.Mean.Cmp(chosen.Mean) >= 0 {
		return dropped(schemas.NoGap)
	}
	return r.keep(chosen, rejected)
}

// keep returns a pair, or why it is dropped.
func (r Rules) keep(chosen, rejected Response) schemas.Selection {
	switch margin := new(big.Rat).Sub(chosen.Mean, rejected.Mean); {
	case margin.Cmp(rational(r.MinMargin, 1000)) < 0:
		return dropped(schemas.Margin)
	case r.MaxChosenChars > 0 && chosen.Chars > r.MaxChosenChars:
		return dropped(schemas.ChosenTooLong)
	}
	return schemas.Selection{Outcome: schemas.Paired, ChosenID: chosen.ID, RejectedID: rejected.ID}
}

// scored returns the scored responses of a pool.
func (p *Prompt) scored(pool string) []Response {
	return slices.DeleteFunc(slices.Clone(p.Responses), func(r Response) bool { return r.Pool != pool || r.Mean == nil })
}

// lost returns how many more responses of a pool might be scored if no call had failed.
func (p *Prompt) lost(pool string) int {
	stage := schemas.StageGenerate
	switch pool {
	case schemas.RolePast:
		stage = schemas.StagePast
	case schemas.RoleFuture:
		stage = schemas.StageFuture
	}
	n := p.failed(stage)
	for _, r := range p.Responses {
		if r.Pool == pool && r.Mean == nil && r.Failed > 0 {
			n++
		}
	}
	return n
}

func byMean(a, b Response) int { return a.Mean.Cmp(b.Mean) }

// best and worst return the highest and the lowest mean.
func best(pool []Response) *big.Rat  { return slices.MaxFunc(pool, byMean).Mean }
func worst(pool []Response) *big.Rat { return slices.MinFunc(pool, byMean).Mean }

// tierWidth returns ρ·(Smax − Smin).
func tierWidth(pool []Response, rho float64) *big.Rat {
	w := new(big.Rat).Sub(best(pool), worst(pool))
	return w.Mul(w, rational(rho, 1e6))
}

func shortestOfTop(pool []Response, rho float64) Response {
	bound := new(big.Rat).Sub(best(pool), tierWidth(pool, rho))
	tier := slices.DeleteFunc(slices.Clone(pool), func(r Response) bool { return r.Mean.Cmp(bound) < 0 })
	return slices.MinFunc(tier, func(a, b Response) int { return cmp.Or(a.Chars-b.Chars, cmp.Compare(a.ID, b.ID)) })
}

func longestOfBottom(pool []Response, rho float64) Response {
	bound := new(big.Rat).Add(worst(pool), tierWidth(pool, rho))
	tier := slices.DeleteFunc(slices.Clone(pool), func(r Response) bool { return r.Mean.Cmp(bound) > 0 })
	return slices.MinFunc(tier, func(a, b Response) int { return cmp.Or(b.Chars-a.Chars, cmp.Compare(a.ID, b.ID)) })
}

// IsCompared reports whether the contested response has enough judgments for the meta-judge.
func (p *Prompt) IsCompared(r Rules) bool {
	return p.Contested >= 0 && len(p.Judgments) >= r.MinMetaJudgments
}

// Judge chooses the judge's pair from the ratings of the judgments: the highest rating against the
// lowest. Of equal ratings the lowest ID is chosen and the highest ID rejected. Ratings may be nil if the
// judgments were not compared.
func (p *Prompt) Judge(r Rules, ratings []float64) schemas.Selection {
	switch {
	case p.Contested < 0 && len(p.scored("")) == 0 && p.lost("") > 0:
		return p.undecided(schemas.NotContested, schemas.StageGenerate, schemas.StageReads, schemas.StageJudge)
	case p.Contested < 0:
		return dropped(schemas.NotContested)
	case !p.IsCompared(r) && len(p.Judgments)+p.Responses[p.Contested].Failed < r.MinMetaJudgments:
		return dropped(schemas.TooFewJudgments)
	case !p.IsCompared(r):
		return p.undecided(schemas.TooFewJudgments, schemas.StageJudge)
	}
	top, bottom := 0, 0
	for i := range p.Judgments { // in the order of IDs
		if ratings[i] > ratings[top] {
			top = i
		}
		if ratings[i] <= ratings[bottom] {
			bottom = i
		}
	}
	chosen, rejected := p.Judgments[top], p.Judgments[bottom]
	switch {
	case !p.isDecided(top) || !p.isDecided(bottom):
		return p.undecided(schemas.TooFewVerdicts, schemas.StageMeta)
	case ratings[top] == ratings[bottom]:
		return dropped(schemas.EqualElo)
	case schemas.Collapse(chosen.Text) == schemas.Collapse(rejected.Text):
		return dropped(schemas.EqualTexts)
	case chosen.Score == rejected.Score && r.DropEqualScores:
		return dropped(schemas.EqualJudgmentScores)
	case r.MaxJudgmentChars > 0 && chosen.Chars > r.MaxJudgmentChars:
		return dropped(schemas.JudgmentTooLong)
	}
	return schemas.Selection{Outcome: schemas.Paired, ChosenID: chosen.ID, RejectedID: rejected.ID}
}

// isDecided reports whether at least a third of a judgment's comparisons that were asked have a
// winner, and whether any was asked.
func (p *Prompt) isDecided(m int) bool {
	decided, of := 0, 0
	for n := range p.Judgments {
		if n == m {
			continue
		}
		for _, order := range [][2]int{{m, n}, {n, m}} {
			if p.Winners[order[0]][order[1]] != schemas.NotAsked {
				of++
			}
			if _, ok := p.win(order[0], order[1]); ok {
				decided++
			}
		}
	}
	return of > 0 && 3*decided >= of
}

// win returns the probability that the judgment shown first wins, 1 or 0 by a verdict.
func (p *Prompt) win(first, second int) (float64, bool) {
	if p.Reads != nil {
		return p.Reads[first][second], p.Reads[first][second] >= 0
	}
	switch p.Winners[first][second] {
	case schemas.First:
		return 1, true
	case schemas.Second:
		return 0, true
	}
	return 0, false
}

// failed counts the failed calls of a stage.
func (p *Prompt) failed(stage string) int {
	calls := 0
	for key, n := range p.FailedCalls {
		if key.Stage == stage {
			calls += n
		}
	}
	return calls
}

// undecided returns the selection of a prompt without a pair: failed, with the code of the most failed calls
// in these stages, and dropped if no call failed. Of equal counts the earliest stage decides, then the
// alphabet.
func (p *Prompt) undecided(reason string, stages ...string) schemas.Selection {
	code, most := "", 0
	for _, stage := range stages {
		calls := map[string]int{}
		for key, n := range p.FailedCalls {
			if key.Stage == stage {
				calls[key.Code] += n
			}
		}
		first := true
		for c, n := range calls {
			if n > most || n == most && !first && c < code {
				code, most, first = c, n, false
			}
		}
	}
	if most == 0 {
		return dropped(reason)
	}
	return schemas.Selection{Outcome: schemas.Failed, Reason: code}
}

func dropped(reason string) schemas.Selection {
	return schemas.Selection{Outcome: schemas.Dropped, Reason: reason}
}
