package pairs

import (
	"errors"
	"fmt"
	"math"

	"coeval/schemas"
	"coeval/transforms/rating"
)

// A WeightsMode is a source of position weights.
type WeightsMode string

// The modes of position weights.
const (
	// RunWeights come from all comparisons of the run. More prompts can change old pairs.
	RunWeights WeightsMode = "run"
	// ResponseWeights come from the response's own comparisons, each count plus 1.
	ResponseWeights WeightsMode = "response"
	// FixedWeights are JudgeOptions.Fixed.
	FixedWeights WeightsMode = "fixed"
)

// A RatingMode names the model that rates judgments.
type RatingMode string

// The models of ratings.
const (
	// EloRating penalizes the square of each rating; see [Elo].
	EloRating RatingMode = "elo"
	// ScoresRating has a prior in which judgments with near scores are mostly equally good; see
	// package rating.
	ScoresRating RatingMode = "scores"
)

// JudgeOptions decide how a judge pair is chosen.
type JudgeOptions struct {
	// Rating names the model that rates judgments. Empty means elo.
	Rating RatingMode `json:"rating,omitempty"`
	// Prior is the prior of the rating scores. No other rating reads it.
	Prior rating.Prior `json:"prior,omitzero"`
	// PositionWeights is the source of the weights. Empty means run.
	PositionWeights WeightsMode `json:"position_weights,omitempty"`
	// Fixed are the weights of the mode fixed, which sum to 1. No other mode reads them.
	Fixed schemas.PositionWeights `json:"fixed"`
	// Lambda is the ridge on the ratings, above 0. Without it no finite maximum exists unless
	// everybody's wins reach everybody; more pulls all ratings together. Zero means 0.1.
	Lambda float64 `json:"lambda"`
	// MinJudgments is how many distinct parsed judgments the contested response needs, 2 to
	// 256; the meta stage must have the same number. Zero means 3.
	MinJudgments int `json:"min_judgments"`
	// KeepEqualScores keeps a pair whose judgments give the same score. Zero means that it is
	// dropped.
	KeepEqualScores bool `json:"keep_equal_scores"`
	// MaxJudgmentChars drops a pair whose chosen judgment is longer, in Unicode code points.
	// Zero means no limit.
	MaxJudgmentChars int `json:"max_judgment_chars"`
	// Balance bounds the imbalance of the run's pairs. If it is enabled, [BalancePairs] follows
	// [JudgePairs]. Its zero value bounds nothing.
	Balance BalanceOptions `json:"balance,omitzero"`
}

func (o JudgeOptions) withDefaults() JudgeOptions {
	if o.Rating == "" {
		o.Rating = EloRating
	}
	if o.PositionWeights == "" {
		o.PositionWeights = RunWeights
	}
	if o.Lambda == 0 {
		o.Lambda = 0.1
	}
	if o.MinJudgments == 0 {
		o.MinJudgments = 3
	}
	return o
}

// Validate returns an error that names every field with a value that is not allowed.
func (o JudgeOptions) Validate() error {
	o = o.withDefaults()
	var errs []error
	switch o.PositionWeights {
	case RunWeights, ResponseWeights:
	case FixedWeights:
		if w := o.Fixed; !(w.First >= 0 && w.Second >= 0 && math.Abs(w.First+w.Second-1) <= 1e-9) {
			errs = append(errs, fmt.Errorf("pairs: fixed weights are %v and %v; allowed are two numbers from 0 to 1 that sum to 1", w.First, w.Second))
		}
	default:
		errs = append(errs, fmt.Errorf("pairs: position_weights is %q; allowed is %s, %s or %s", o.PositionWeights, RunWeights, ResponseWeights, FixedWeights))
	}
	if o.Rating != EloRating && o.Rating != ScoresRating {
		errs = append(errs, fmt.Errorf("pairs: rating is %q; allowed is %s or %s", o.Rating, EloRating, ScoresRating))
	}
	errs = append(errs, o.Prior.Validate())
	if !(o.Lambda >= 1e-6 && o.Lambda <= 1e3) {
		errs = append(errs, fmt.Errorf("pairs: lambda is %v; allowed is 1e-06 to 1000", o.Lambda))
	}
	if o.MinJudgments < 2 || o.MinJudgments > 256 {
		errs = append(errs, fmt.Errorf("pairs: min_judgments is %d; allowed is 2 to 256", o.MinJudgments))
	}
	if o.MaxJudgmentChars < 0 {
		errs = append(errs, fmt.Errorf("pairs: max_judgment_chars is %d; allowed is 0 (no limit) or more", o.MaxJudgmentChars))
	}
	errs = append(errs, o.Balance.Validate())
	return errors.Join(errs...)
}

// Judge picks the pair of judgments that trains the judge: the one with the highest rating
// against the one with the lowest. Of equals the lowest ID is chosen and the highest
// rejected. Run are the run's weights, which the modes response and fixed don't read. The
// options must be valid.
func Judge(f *schemas.Finding, run schemas.PositionWeights, o JudgeOptions) schemas.Selection {
	o = o.withDefaults()
	switch {
	case f.OverBudget:
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.OverBudget}
	case f.ContestedID == "" && !hasScored(f) && lostResponses(f, "") > 0:
		return undecided(f, schemas.NotContested, schemas.StageGenerate, schemas.StageReads, schemas.StageJudge)
	case f.ContestedID == "":
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.NotContested}
	case len(f.Judgments) < o.MinJudgments && len(f.Judgments)+lostJudgments(f) < o.MinJudgments:
		return schemas.Selection{Outcome: schemas.Dropped, Reason: schemas.TooFewJudgments}
	case len(f.Judgments) < o.MinJudgments:
		return undecided(f, schemas.TooFewJudgments, schemas.StageJudge)
	}
	eps := o.rate(f, o.weights(f, run))
	best, worst := extremes(f.Judgments, eps)
	selection := o.decide(f, eps, best, worst)
	selection.Elo = eps
	return selection
}

// rate returns the ratings of a finding's judgments in logits.
func (o JudgeOptions) rate(f *schemas.Finding, w schemas.PositionWeights) []float64 {
	if o.Rating == ScoresRating {
		return Scores(f, w, o.Prior)
	}
	return Elo(wins(f, w), o.Lambda)
}

// maxPosition bounds the position term, which is infinite where one place never wins.
const maxPosition = 5

// Scores returns the ratings at the mode of package rating's posterior, rounded to 1e-9. Each verdict
// is a game, and each read one of the weight [rating.ReadWeight]. The position term is the log-odds with which the first-shown judgment wins,
//
//	b = ln(win1st / win2nd) = ln(w2 / w1)
//
// from the position weights, at most 5 in size. The options must be valid.
func Scores(f *schemas.Finding, w schemas.PositionWeights, prior rating.Prior) []float64 {
	scores := make([]int, len(f.Judgments))
	var games []rating.Game
	for m := range f.Judgments {
		scores[m] = f.Judgments[m].Score
		for n := range f.Judgments {
			if m == n {
				continue
			}
			if win, ok := f.Win(m, n); ok {
				g := rating.Game{First: m, Second: n, Win: share(win)}
				if len(f.Reads) > 0 {
					g.Weight = rating.ReadWeight
				}
				games = append(games, g)
			}
		}
	}
	position := min(max(math.Log(w.Second/w.First), -maxPosition), maxPosition)
	if math.IsNaN(position) { // 0/0
		position = 0
	}
	post, err := rating.Fit(scores, games, position, prior)
	if err != nil { // the games are of these judgments, and Validate has checked the prior
		panic(fmt.Sprintf("pairs: prompt %s: %v", f.PromptID, err))
	}
	return roundRatings(post.Mean)
}

// decide returns the selection for the judgments with the highest and the lowest rating.
func (o JudgeOptions) decide(f *schemas.Finding, eps []float64, best, worst int) schemas.Selection {
	chosen, rejected := f.Judgments[best], f.Judgments[worst]
	var reason string
	switch {
	case !hasVerdicts(f, best) || !hasVerdicts(f, worst):
		return undecided(f, schemas.TooFewVerdicts, schemas.StageMeta)
	case eps[best] == eps[worst]:
		reason = schemas.EqualElo
	case chosen.Fingerprint == rejected.Fingerprint:
		reason = schemas.EqualTexts
	case chosen.Score == rejected.Score && !o.KeepEqualScores:
		reason = schemas.EqualJudgmentScores
	case o.MaxJudgmentChars > 0 && chosen.Chars > o.MaxJudgmentChars:
		reason = schemas.JudgmentTooLong
	default:
		return schemas.Selection{Outcome: schemas.Paired, ChosenID: chosen.ID, RejectedID: rejected.ID}
	}
	return schemas.Selection{Outcome: schemas.Dropped, Reason: reason}
}

// lostJudgments returns how many judgments of the contested response failed for good.
func lostJudgments(f *schemas.Finding) int {
	for _, r := range f.Responses {
		if r.ID == f.ContestedID {
			return r.FailedJudgments
		}
	}
	return 0
}

// hasScored reports whether a response of the actor, one of which is the contested one, is scored.
func hasScored(f *schemas.Finding) bool {
	for _, r := range f.Responses {
		if r.Pool == "" && r.Score.Scored {
			return true
		}
	}
	return false
}

// hasVerdicts reports whether at least a third of the comparisons of judgment m that were asked
// have a winner, or a probability: of all 2(n−1), unless a budget left some out. It reports false if none
// was asked.
func hasVerdicts(f *schemas.Finding, m int) bool {
	verdicts, asked := 0, 0
	for k := range f.Judgments {
		if k == m {
			continue
		}
		for _, order := range [][2]int{{m, k}, {k, m}} {
			if f.Verdict(order[0], order[1]) != schemas.NotAsked {
				asked++
			}
			if _, ok := f.Win(order[0], order[1]); ok {
				verdicts++
			}
		}
	}
	return asked > 0 && 3*verdicts >= asked
}

// CountPositions counts a finding's comparisons that the first-shown and the second-shown
// judgment won. Reads are sums of probabilities, in millionths.
func CountPositions(f *schemas.Finding) schemas.PositionCounts {
	var c schemas.PositionCounts
	for m := range f.Judgments {
		for n := range f.Judgments {
			if win, ok := f.Win(m, n); ok && m != n {
				c.First += win
				c.Second += schemas.ReadUnit - win
			}
		}
	}
	if len(f.Reads) == 0 {
		c.First, c.Second = c.First/schemas.ReadUnit, c.Second/schemas.ReadUnit
	}
	return c
}

// Weights returns the position weights
//
//	w1 = win2nd / (win1st + win2nd)    of a win in first place
//	w2 = win1st / (win1st + win2nd)    of a win in second place
//
// so that a win in the place that wins less often counts more. With no wins both are 1/2.
func Weights(c schemas.PositionCounts) schemas.PositionWeights {
	all := c.First + c.Second
	if all == 0 {
		return schemas.PositionWeights{First: 0.5, Second: 0.5}
	}
	return schemas.PositionWeights{First: float64(c.Second) / float64(all), Second: float64(c.First) / float64(all)}
}

func (o JudgeOptions) weights(f *schemas.Finding, run schemas.PositionWeights) schemas.PositionWeights {
	switch o.PositionWeights {
	case FixedWeights:
		return o.Fixed
	case ResponseWeights:
		one := int64(1)
		if len(f.Reads) > 0 {
			one = schemas.ReadUnit
		}
		return Weights(addPositions(CountPositions(f), schemas.PositionCounts{First: one, Second: one}))
	default:
		return run
	}
}

// wins returns the matrix of weighted wins
//
//	B_mn = w1·[r(m,n) = first] + w2·[r(n,m) = second]
//
// where r(m,n) is the verdict that showed m first and n second. A win in both orders counts
// w1 + w2 = 1. Two verdicts that contradict each other give both sides the same. A read puts the
// probabilities of these events in their place.
func wins(f *schemas.Finding, w schemas.PositionWeights) [][]float64 {
	b := make([][]float64, len(f.Judgments))
	for m := range b {
		b[m] = make([]float64, len(b))
		for n := range b {
			if m == n {
				continue
			}
			if win, ok := f.Win(m, n); ok {
				b[m][n] += w.First * share(win)
			}
			if win, ok := f.Win(n, m); ok {
				b[m][n] += w.Second * share(schemas.ReadUnit-win)
			}
		}
	}
	return b
}

// extremes returns the places of the highest rating, of equals the lowest ID, and of the
// lowest rating, of equals the highest ID.
func extremes(judgments []schemas.JudgmentFinding, eps []float64) (best, worst int) {
	for i := range eps {
		if eps[i] > eps[best] || eps[i] == eps[best] && judgments[i].ID < judgments[best].ID {
			best = i
		}
		if eps[i] < eps[worst] || eps[i] == eps[worst] && judgments[i].ID > judgments[worst].ID {
			worst = i
		}
	}
	return best, worst
}

// share returns the probability of a win, exactly 1 for a verdict.
func share(micros int64) float64 { return float64(micros) / schemas.ReadUnit }
