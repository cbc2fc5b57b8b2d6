package figures

import (
	"cmp"
	"slices"

	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/transforms/pairs"
	"coeval/transforms/score"
)

// CrossFit measures the actor's pairs with judgments that did not choose them.
//
// A pair is chosen because its chosen response got high scores and its rejected response low ones, so
// the same scores make it look better than it is. Here the parsed judgments of every response are split
// in two: in the order of their replicates, the first, third, … are one half, the second, fourth, …
// the other. One half chooses a pair for each prompt by the run's settings, the other half measures
// it, and the other way round. Responses without a judgment in both halves are left out.
//
// The figures are slightly too low for the run's own pairs, which were chosen on twice as many
// judgments.
type CrossFit struct {
	// Pairs are the pairs of both directions.
	Pairs int64 `json:"pairs"`
	// Margin is the mean of S(chosen) − S(rejected) in points, WinShare the mean share of the pairs
	// of one judgment of each response in which the score of the chosen one is higher, equal scores
	// counting half.
	Margin   float64 `json:"margin"`
	WinShare float64 `json:"win_share"`
}

// Reliability estimates how well S ranks responses: the correlation of S with the S of as many other
// judgments.
//
// With r Pearson's correlation of the means of both halves (see [CrossFit]), the reliability of the
// mean of both is 2r/(1+r) (Spearman and Brown, 1910), and 0 for a negative r.
type Reliability struct {
	// Responses have a judgment in both halves, Judgments is the mean number of their parsed judgments.
	Responses int64   `json:"responses"`
	Judgments float64 `json:"judgments"`
	// Within is of the deviations from each prompt's means: selections are made within a prompt. All is
	// over all responses. They are null where the means have no spread.
	Within *float64 `json:"within"`
	All    *float64 `json:"all"`
	// Needed is the number of judgments that would give Within the value [EnoughReliability], by the
	// same formula; null where Within is null or 0.
	Needed *float64 `json:"needed"`
}

// EnoughReliability is the reliability below which a report asks for more judgments.
const EnoughReliability = 0.7

// minReliabilityResponses is the least number of responses of a reliability.
const minReliabilityResponses = 3

type crossTally struct {
	options     pairs.ActorOptions
	calibration *score.Calibration
	pairs       int64
	margin      float64
	wins        float64
	judgments   int64
	// all are the means of both halves, within their deviations from each prompt's means.
	all, within moments
}

// halves are the parsed scores of a response in thousandths.
type halves [2][]int

func halvesOf(n *runs.Numbers) map[string]*halves {
	parsed := make([]*runs.Judgment, 0, len(n.Judgments))
	for i := range n.Judgments {
		if n.Judgments[i].Score != nil {
			parsed = append(parsed, &n.Judgments[i])
		}
	}
	slices.SortFunc(parsed, func(a, b *runs.Judgment) int { return cmp.Compare(a.Replicate, b.Replicate) })
	out := map[string]*halves{}
	for _, j := range parsed {
		h := out[j.ResponseID]
		if h == nil {
			h = &halves{}
			out[j.ResponseID] = h
		}
		k := (len(h[0]) + len(h[1])) % 2
		h[k] = append(h[k], thousandths(*j.Score))
	}
	return out
}

func (t *crossTally) add(n *runs.Numbers) {
	split := halvesOf(n)
	findings := [2]schemas.Finding{{PromptID: n.Prompt.ID}, {PromptID: n.Prompt.ID}}
	var own moments
	for i := range n.Responses {
		r := &n.Responses[i]
		h := split[r.ID]
		if h == nil || len(h[1]) == 0 || r.ScoreMean == nil {
			continue
		}
		t.judgments += int64(len(h[0]) + len(h[1]))
		var means [2]float64
		for k := range h {
			f := schemas.ResponseFinding{ID: r.ID, Pool: r.Pool, Status: schemas.Status(r.Status), Chars: int(r.Chars), Score: t.calibration.Apply(sumsOf(h[k], true))}
			findings[k].Responses = append(findings[k].Responses, f)
			means[k] = f.Score.Mean()
		}
		own.add(means[0], means[1])
	}
	t.all.join(&own)
	own.meanX, own.meanY = 0, 0 // the deviations from the prompt's means have the mean 0
	t.within.join(&own)
	for k := range findings {
		selection := pairs.Actor(&findings[k], t.options)
		if selection.Outcome != schemas.Paired {
			continue
		}
		measured := &findings[1-k]
		t.pairs++
		t.margin += responseOf(measured, selection.ChosenID).Score.Mean() - responseOf(measured, selection.RejectedID).Score.Mean()
		t.wins += winShare(split[selection.ChosenID][1-k], split[selection.RejectedID][1-k])
	}
}

// sumsOf adds up scores in thousandths.
func sumsOf(scores []int, isScored bool) schemas.Score {
	sums := schemas.Score{N: len(scores), Scored: isScored}
	for _, s := range scores {
		sums.Sum += int64(s)
		sums.Squares += int64(s) * int64(s)
	}
	return sums
}

func (t *crossTally) join(u *crossTally) {
	t.pairs += u.pairs
	t.margin += u.margin
	t.wins += u.wins
	t.judgments += u.judgments
	t.all.join(&u.all)
	t.within.join(&u.within)
}

// figures returns nil for figures of nothing.
func (t *crossTally) figures() (*CrossFit, *Reliability) {
	var fit *CrossFit
	if t.pairs > 0 {
		fit = &CrossFit{Pairs: t.pairs, Margin: share(t.margin, t.pairs), WinShare: share(t.wins, t.pairs)}
	}
	if t.all.n < minReliabilityResponses {
		return fit, nil
	}
	r := &Reliability{Responses: t.all.n, Judgments: share(t.judgments, t.all.n), Within: stepUp(&t.within), All: stepUp(&t.all)}
	if r.Within != nil && *r.Within > 0 {
		const target = EnoughReliability
		needed := r.Judgments * target * (1 - *r.Within) / (*r.Within * (1 - target))
		r.Needed = &needed
	}
	return fit, r
}

// stepUp returns the reliability of the mean of two halves from their correlation.
func stepUp(m *moments) *float64 {
	if !(m.xx > minSpread && m.yy > minSpread) {
		return nil
	}
	r := max(m.correlation(), 0)
	reliability := 2 * r / (1 + r)
	return &reliability
}

// minSpread is a sum of squares above that of equal means with different roundings.
const minSpread = 1e-12
