package figures

import (
	"math"

	"gonum.org/v1/gonum/stat"

	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/transforms/judge/points"
)

type scoreTally struct {
	// judgments counts scores by thousandths.
	judgments []int64
	bins      bins
	// means are of (S, V).
	means             moments
	response          Histogram
	variance          Histogram
	spread            float64
	prompts, tiedTop  int64
	pairs, tied       int64
	generate, judging Unparsed
}

func newScoreTally(b bins) scoreTally {
	ofBuiltIn := float64(b.top) / points.MaxScore
	return scoreTally{
		judgments: make([]int64, b.top+1), bins: b,
		response: Histogram{Width: b.width()}, variance: Histogram{Width: 0.1 * ofBuiltIn * ofBuiltIn},
		generate: newUnparsed(schemas.StageGenerate), judging: newUnparsed(schemas.StageJudge),
	}
}

func newUnparsed(stage string) Unparsed { return Unparsed{Stage: stage, Reasons: map[string]int64{}} }

func (u *Unparsed) add(reason *string) {
	u.Texts++
	if reason != nil {
		u.Unparsed++
		u.Reasons[*reason]++
	}
}

func (u *Unparsed) join(o *Unparsed) {
	u.Texts += o.Texts
	u.Unparsed += o.Unparsed
	for reason, n := range o.Reasons {
		u.Reasons[reason] += n
	}
}

func (u Unparsed) figures() Unparsed {
	u.Share = share(u.Unparsed, u.Texts)
	return u
}

func (t *scoreTally) add(d *runs.Numbers) {
	for i := range d.Judgments {
		j := &d.Judgments[i]
		t.judging.add(j.UnparsedReason)
		if j.Score != nil {
			t.judgments[max(0, min(thousandths(*j.Score), t.bins.top))]++
		}
	}
	var scored []float64
	for i := range d.Responses {
		r := &d.Responses[i]
		var reason *string
		if r.Status != string(schemas.Complete) {
			reason = &r.Status
		}
		t.generate.add(reason)
		if r.ScoreMean != nil && r.ScoreVariance != nil {
			scored = append(scored, *r.ScoreMean)
			t.means.add(*r.ScoreMean, *r.ScoreVariance)
			t.response.add(*r.ScoreMean)
			t.variance.add(*r.ScoreVariance)
		}
	}
	t.addSpread(scored)
}

// addSpread takes the means of one prompt. Equal means are equal floats: the one division of
// equal sums gives the same, and so does that of multiples.
func (t *scoreTally) addSpread(scored []float64) {
	if len(scored) < 2 {
		return
	}
	highest, lowest, atTop := math.Inf(-1), math.Inf(1), 0
	for i, s := range scored {
		switch {
		case s > highest:
			highest, atTop = s, 1
		case s == highest:
			atTop++
		}
		lowest = min(lowest, s)
		for _, other := range scored[:i] {
			t.pairs++
			if s == other {
				t.tied++
			}
		}
	}
	t.prompts++
	t.spread += highest - lowest
	if atTop > 1 {
		t.tiedTop++
	}
}

func (t *scoreTally) join(u *scoreTally) {
	for i, n := range u.judgments {
		t.judgments[i] += n
	}
	t.means.join(&u.means)
	t.response.join(&u.response)
	t.variance.join(&u.variance)
	t.spread += u.spread
	t.prompts += u.prompts
	t.tiedTop += u.tiedTop
	t.pairs += u.pairs
	t.tied += u.tied
	t.generate.join(&u.generate)
	t.judging.join(&u.judging)
}

func (t *scoreTally) figures() Scores {
	s := Scores{
		Responses: t.means.n, ResponseMean: t.means.meanX,
		ResponseHistogram: t.response, Variance: t.means.meanY, VarianceHistogram: t.variance,
		Spread: share(t.spread, t.prompts), SpreadPrompts: t.prompts,
		Ties: share(t.tied, t.pairs), ResponsePairs: t.pairs, TiedTop: share(t.tiedTop, t.prompts),
		Highest: t.bins.points(10), Histogram: make([]int64, 11),
		Unparsed: []Unparsed{t.generate.figures(), t.judging.figures()},
	}
	if t.means.n > 0 {
		s.ResponseDeviation = math.Sqrt(t.means.xx / float64(t.means.n))
	}
	var points, weights []float64
	for score, n := range t.judgments {
		if n > 0 {
			s.Judgments += n
			points = append(points, float64(score)/1000)
			weights = append(weights, float64(n))
			s.Histogram[t.bins.tenth(score)] += n
		}
	}
	if s.Judgments > 0 {
		var variance float64
		s.Mean, variance = stat.PopMeanVariance(points, weights)
		s.Deviation = math.Sqrt(variance)
		s.Top = share(t.judgments[t.bins.top], s.Judgments)
	}
	return s
}
