package figures

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/runners/glm"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// A prompt with two responses:
//
//	a  1000 characters  scores 5, 4     S 4.5  V 0.25  contested
//	b  2000 characters  scores 2, 2, 3  S 7/3  V 2/9
//
// and one that is truncated. Of the comparisons of a's judgments x (5) and y (4), both orders
// have a winner: the first shown.
func dossier() *runs.Numbers {
	judgment := func(id, response string, score float64) runs.Judgment {
		return runs.Judgment{ID: id, ResponseID: response, Score: &score, Distinct: true}
	}
	d := &runs.Numbers{
		Prompt: runs.Prompt{ID: "p", ContestedResponseID: new("a")},
		Responses: []runs.Response{
			{ID: "a", Status: "complete", Chars: 1000, ScoreMean: new(4.5), ScoreVariance: new(0.25)},
			{ID: "b", Status: "complete", Chars: 2000, ScoreMean: new(7.0 / 3), ScoreVariance: new(2.0 / 9)},
			{ID: "c", Status: "truncated", Chars: 9999},
		},
		Judgments: []runs.Judgment{
			judgment("x", "a", 5), judgment("y", "a", 4), judgment("s", "b", 2), judgment("t", "b", 2), judgment("u", "b", 3),
			{ID: "v", ResponseID: "b", UnparsedReason: new("cut_off")},
		},
		Comparisons: []runs.Comparison{
			{FirstID: "x", SecondID: "y", Winner: "first"},
			{FirstID: "y", SecondID: "x", Winner: "first"},
		},
	}
	d.Judgments[0].Elo, d.Judgments[1].Elo = new(0.75), new(-0.75)
	return d
}

func tallied(t *testing.T, dossiers ...*runs.Numbers) *tally {
	t.Helper()
	sum := newTally(pairs.ActorOptions{Rho: 0.32}, nil, 5, false)
	for _, d := range dossiers {
		if err := sum.add(d); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

var near = cmpopts.EquateApprox(0, 1e-9)

func TestScores(t *testing.T) {
	got := tallied(t, dossier()).scores.figures()
	want := Scores{
		// 5, 4, 2, 2, 3: mean 16/5 = 3.2; Σs² = 58, so that the variance is 58/5 − 3.2² = 1.36.
		Judgments: 5, Highest: 5, Mean: 3.2, Deviation: math.Sqrt(1.36), Top: 0.2, Histogram: []int64{0, 0, 0, 0, 2, 0, 1, 0, 1, 0, 1},
		// 4.5 and 7/3: mean 41/12, each (4.5 − 7/3)/2 = 13/12 from it. 4.5 is in the bin 18, 7/3 in 9.
		Responses: 2, ResponseMean: 41.0 / 12, ResponseDeviation: 13.0 / 12,
		ResponseHistogram: Histogram{0.25, []int64{9: 1, 18: 1}},
		// (1/4 + 2/9)/2 = 17/72; both lie in [0.2, 0.3).
		Variance: 17.0 / 72, VarianceHistogram: Histogram{0.1, []int64{0, 0, 2}},
		Spread: 13.0 / 6, SpreadPrompts: 1, ResponsePairs: 1,
		Unparsed: []Unparsed{
			{Stage: "generate", Texts: 3, Unparsed: 1, Share: 1.0 / 3, Reasons: map[string]int64{"truncated": 1}},
			{Stage: "judge", Texts: 6, Unparsed: 1, Share: 1.0 / 6, Reasons: map[string]int64{"cut_off": 1}},
		},
	}
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
}

func TestTies(t *testing.T) {
	d := dossier()
	d.Responses[1].ScoreMean = new(4.5)
	d.Responses = append(d.Responses, runs.Response{ID: "d", Status: "complete", ScoreMean: new(1.0), ScoreVariance: new(0.0)})
	got := tallied(t, d, dossier()).scores.figures()
	// Of the first prompt one of the three pairs is tied, at the top; of the second none of one.
	if got.Ties != 0.25 || got.ResponsePairs != 4 || got.TiedTop != 0.5 || math.Abs(got.Spread-(3.5+13.0/6)/2) > 1e-12 {
		t.Errorf("%+v", got)
	}
}

func TestLength(t *testing.T) {
	got := tallied(t, dossier(), dossier()).length.figures()
	if len(got.Rho) != 11 || !got.Rho[7].Own || got.Rho[7].Rho != 0.32 {
		t.Errorf("rho %+v, want 0, 0.05, …, 0.45 and the run's 0.32", got.Rho)
	}
	got.Rho, got.Grid = nil, Grid{}
	want := Length{
		// a is chosen, b rejected, at every rho.
		Pairs: 2, Chosen: 1000, Rejected: 2000, Difference: -1000, Shorter: 1,
		// The line through (1000, 4.5) and (2000, 7/3), and all points lie on it.
		Slope: -13.0 / 6, Intercept: 4.5 + 13.0/6, Correlation: -1, SlopeWithin: -13.0 / 6, CorrelationWithin: -1,
		LongerWinsOf: 2,
		// Each of 5 and 4 is above each of 2, 2 and 3. Both differences are −1000, so that their
		// deviation is 0 and length explains nothing; θ is the root of 2(1 − σ(θ)) = θ/1000.
		Control: &Control{WinShare: 1, Controlled: glm.Logistic(got.Control.Theta), Theta: got.Control.Theta},
	}
	if residue := 2*(1-glm.Logistic(got.Control.Theta)) - got.Control.Theta/1000; math.Abs(residue) > 1e-9 {
		t.Errorf("θ is %v, off by %v", got.Control.Theta, residue)
	}
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
}

// With length, hardness and wins apart, the fit recovers the causes of the wins.
func TestControlRecovers(t *testing.T) {
	const theta, phi, psi = 0.8, -0.5, 0.3
	const n = 2000
	// The sample variance of −n, …, n is n(n+1)(2n+1)/3 / 2n = (n+1)(2n+1)/6.
	s := math.Sqrt((n + 1) * (2*n + 1) / 6.0)
	// Levels are 3.5 at the n+1 even places and 2.5 at the n odd ones: their mean is 3 + 0.5/(2n+1),
	// their variance 0.25 less the square of the mean's distance from 3.
	off := 0.5 / (2*n + 1)
	deviation := math.Sqrt(0.25 - off*off)
	var differences, levels, wins []float64
	controlled := 0.0
	for i := -n; i <= n; i++ {
		level := 3.5 - math.Abs(float64(i%2))
		d, gamma := float64(i), (3+off-level)/deviation
		differences, levels = append(differences, d), append(levels, level)
		wins = append(wins, glm.Logistic(theta+phi*math.Tanh(d/s)+psi*gamma))
		controlled += glm.Logistic(theta+psi*gamma) / (2*n + 1)
	}
	got := control(differences, levels, wins)
	// Without the ridge the likelihood's maximum is exactly there; the ridge moves it by about
	// ridge/(n·p(1−p)) ≈ 1e-3/(4001·0.2) ≈ 1e-6.
	want := &Control{WinShare: got.WinShare, Controlled: controlled, Theta: theta, Phi: phi, Psi: psi, Scale: s}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-5)); diff != "" {
		t.Error(diff)
	}
	if got := control(differences[:1], levels[:1], wins[:1]); got != nil {
		t.Errorf("one pair gives %+v", got)
	}
}

func TestMeta(t *testing.T) {
	d := dossier()
	d.Comparisons = append(d.Comparisons, runs.Comparison{FirstID: "x", SecondID: "y", Winner: "none", UnparsedReason: new("tie")})
	sum := tallied(t, d)
	got := sum.meta.figures()
	want := &Meta{
		// The judgment shown first won both: 5 over 4, and 4 over 5. So each reaches the other.
		Comparisons: 3, Verdicts: 2, First: 1, BothOrders: 1, BothFirst: 1,
		HigherWins: 0.5, HigherWinsOf: 2, ByGap: []GapFigures{{Gap: 1, Verdicts: 2, HigherWins: 0.5}},
		Graphs: 1, Connected: 1, Largest: 1,
		EloResponses: 1, EloSpread: 1.5, EloHistogram: Histogram{0.25, []int64{6: 1}},
	}
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
	if u := sum.meta.unparsed(); u.Texts != 3 || u.Unparsed != 1 || u.Reasons["tie"] != 1 {
		t.Errorf("unparsed %+v", u)
	}

	d.Comparisons = []runs.Comparison{{FirstID: "x", SecondID: "y", Winner: "first"}, {FirstID: "y", SecondID: "x", Winner: "second"}}
	got = tallied(t, d).meta.figures()
	// x won twice: consistent, and no win leads back to x, so each is a separate component.
	if got.Consistent != 1 || got.First != 0.5 || got.HigherWins != 1 || got.Connected != 0 || got.Largest != 0.5 {
		t.Errorf("%+v", got)
	}
}

// Shards only change the order in which sums are made.
func TestJoin(t *testing.T) {
	other := dossier()
	other.Responses[0].Chars, other.Responses[0].ScoreMean = 300, new(3.25)
	whole := tallied(t, dossier(), other, dossier())
	parts := newTally(pairs.ActorOptions{Rho: 0.32}, nil, 5, false)
	parts.join(tallied(t, dossier()))
	parts.join(tallied(t, other, dossier()))
	a := whole.length.figures()
	b := parts.length.figures()
	if diff := cmp.Diff(a, b, near); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(whole.scores.figures(), parts.scores.figures(), near); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(whole.meta.figures(), parts.meta.figures(), near); diff != "" {
		t.Error(diff)
	}
}

// A run of nothing has figures too.
func TestNothing(t *testing.T) {
	sum := tallied(t, &runs.Numbers{Failures: []schemas.FailureRow{{}}})
	if l := sum.length.figures(); l.Pairs != 0 || l.Control != nil {
		t.Errorf("%+v", l)
	}
	if s := sum.scores.figures(); s.Mean != 0 || s.Judgments != 0 {
		t.Errorf("%+v", s)
	}
	if m := sum.meta.figures(); m.Verdicts != 0 || m.First != 0 {
		t.Errorf("%+v", m)
	}
}

// Scores between the half points go to the nearest one, halves upwards, and so do differences.
func TestHalfPoints(t *testing.T) {
	d := dossier()
	*d.Judgments[0].Score, *d.Judgments[1].Score = 4.5, 3.7 // a difference of 0.8 is nearest to 1
	*d.Judgments[2].Score, *d.Judgments[3].Score, *d.Judgments[4].Score = 2.25, 2.24, 0.2
	sum := tallied(t, d)
	if diff := cmp.Diff([]int64{1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0}, sum.scores.figures().Histogram); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]GapFigures{{Gap: 1, Verdicts: 2, HigherWins: 0.5}}, sum.meta.figures().ByGap); diff != "" {
		t.Error(diff)
	}
}

// A chosen response that is as long as the rejected one is not the shorter one, and neither is longer.
func TestEqualLengths(t *testing.T) {
	d := dossier()
	d.Responses[1].Chars = d.Responses[0].Chars
	got := tallied(t, d).length.figures()
	if got.Pairs != 1 || got.Shorter != 0 || got.LongerWinsOf != 0 {
		t.Errorf("%+v", got)
	}
}

// On a scale up to 10 or 100 points no score counts as another: bins are tenths and twentieths of it.
// With the scores of dossier times 2, or 20, the counts are those of the built-in scale.
func TestOtherScales(t *testing.T) {
	want := tallied(t, dossier())
	for _, factor := range []float64{2, 20} {
		d := dossier()
		for i := range d.Judgments {
			if s := d.Judgments[i].Score; s != nil {
				*s *= factor
			}
		}
		for i := range d.Responses {
			if r := &d.Responses[i]; r.ScoreMean != nil {
				*r.ScoreMean *= factor
				*r.ScoreVariance *= factor * factor
			}
		}
		got := newTally(pairs.ActorOptions{Rho: 0.32}, nil, 5*factor, false)
		if err := got.add(d); err != nil {
			t.Fatal(err)
		}
		s, before := got.scores.figures(), want.scores.figures()
		if s.Highest != 5*factor || math.Abs(s.Mean-factor*before.Mean) > 1e-9 || s.Top != before.Top {
			t.Errorf("times %g: highest %g, mean %g, top %g; want %g, %g, %g", factor, s.Highest, s.Mean, s.Top, 5*factor, factor*before.Mean, before.Top)
		}
		for name, diff := range map[string]string{
			"scores":    cmp.Diff(before.Histogram, s.Histogram),
			"responses": cmp.Diff(before.ResponseHistogram.Counts, s.ResponseHistogram.Counts),
			"variances": cmp.Diff(before.VarianceHistogram.Counts, s.VarianceHistogram.Counts),
			"grid":      cmp.Diff(want.length.grid, got.length.grid),
			"gaps":      cmp.Diff(want.meta.gaps, got.meta.gaps),
		} {
			if diff != "" {
				t.Errorf("times %g: %s: %s", factor, name, diff)
			}
		}
		if gap, was := got.meta.figures().ByGap[0].Gap, want.meta.figures().ByGap[0].Gap; gap != factor*was {
			t.Errorf("times %g: the gap is %g, want %g", factor, gap, factor*was)
		}
	}
}
