// Package figures computes the figures that show whether a run's data is worth training on. They describe
// the scores and their reliability, the effect of length, the meta-judge's behaviour, and the models whose
// texts are in the pairs.
//
// [Of] streams the raw tables, as many shards at a time as there are cores. Memory does not grow with
// text length. It grows by three numbers for each actor pair. Figures do not depend on the number of
// cores.
//
// Means are plain means. Variances and standard deviations are of the population, except for
// [Control].Scale. A share over zero rows is 0, and its count is 0. runners/readers/figures.py computes
// every figure again from the same tables in Python.
package figures

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"coeval/runners/runs"
	"coeval/schemas"
)

// Figures are the figures of a run.
type Figures struct {
	Out       string `json:"out"`
	Simulated bool   `json:"simulated"`
	Prompts   int64  `json:"prompts"`
	Models    Models `json:"models"`
	// Calibration describes the map of S to people's scale; null if S is on the judge's scale.
	Calibration *Calibration `json:"calibration"`
	Scores      Scores       `json:"scores"`
	Length      Length       `json:"length"`
	// CrossFit is null without a pair, Reliability with fewer than three responses.
	CrossFit    *CrossFit    `json:"cross_fit"`
	Reliability *Reliability `json:"reliability"`
	// Meta is null when no judge pairs were requested.
	Meta *Meta `json:"meta"`
	// Pools is null when the actor alone answered.
	Pools *Pools `json:"pools"`
}

// Models are the models of the three roles, with their revisions.
type Models struct {
	Actor     string `json:"actor"`
	Judge     string `json:"judge"`
	MetaJudge string `json:"meta_judge"`
}

// Calibration is the date of a map, and the number of responses with people's scores behind it.
type Calibration struct {
	Date      string `json:"date"`
	Responses int    `json:"responses"`
}

// Scores are about the judge's scores, in rubric points.
type Scores struct {
	// Reads reports whether S and V are those of reads. The judgments are then those of the contested responses alone.
	Reads bool `json:"reads,omitempty"`
	// Judgments are those with a score; Mean and Deviation are of these scores, Top the share
	// of them that is Highest, the highest of the judge's scale.
	Judgments int64   `json:"judgments"`
	Highest   float64 `json:"highest"`
	Mean      float64 `json:"mean"`
	Deviation float64 `json:"deviation"`
	Top       float64 `json:"top"`
	// Histogram has their scores, each in the bin of the nearest tenth of Highest, halves upwards: for
	// the built-in scale 0, 0.5, …, 5.
	Histogram []int64 `json:"histogram"`
	// Responses are the scored ones, with their means S and variances V.
	Responses         int64   `json:"responses"`
	ResponseMean      float64 `json:"response_mean"`
	ResponseDeviation float64 `json:"response_deviation"`
	// ResponseHistogram has S in bins of a twentieth of Highest from 0 on, the last from Highest on.
	ResponseHistogram Histogram `json:"response_histogram"`
	// Variance is the mean of V in squared points, VarianceHistogram has V in bins of 0.1, or of
	// as large a part of another scale.
	Variance          float64   `json:"variance"`
	VarianceHistogram Histogram `json:"variance_histogram"`
	// Spread is the mean over the prompts with at least two scored responses of Smax − Smin.
	Spread        float64 `json:"spread"`
	SpreadPrompts int64   `json:"spread_prompts"`
	// Ties is the share of equal S among the pairs of scored responses to one prompt; TiedTop
	// the share of the prompts with at least two scored responses whose Smax several have.
	Ties          float64 `json:"ties"`
	ResponsePairs int64   `json:"response_pairs"`
	TiedTop       float64 `json:"tied_top"`
	// Unparsed is by stage, in the order of the stages: responses that are not judged,
	// judgments without a score, comparisons without a verdict.
	Unparsed []Unparsed `json:"unparsed"`
}

// Unparsed counts the texts of a stage without a score or verdict.
type Unparsed struct {
	Stage    string           `json:"stage"`
	Texts    int64            `json:"texts"`
	Unparsed int64            `json:"unparsed"`
	Share    float64          `json:"share"`
	Reasons  map[string]int64 `json:"reasons"`
}

// Histogram counts values in bins of one width from 0 on: [0, Width), [Width, 2·Width), ….
type Histogram struct {
	Width  float64 `json:"width"`
	Counts []int64 `json:"counts"`
}

// Length is about lengths in characters (Unicode code points).
type Length struct {
	// Pairs are the actor pairs that the run's settings give, whether the role was requested
	// or not, Chosen and Rejected their mean lengths, Difference the mean of chosen − rejected,
	// Shorter the share of the pairs whose chosen response is the shorter one.
	Pairs      int64   `json:"pairs"`
	Chosen     float64 `json:"chosen"`
	Rejected   float64 `json:"rejected"`
	Difference float64 `json:"difference"`
	Shorter    float64 `json:"shorter"`
	// Slope is of the least-squares line of S on length over all scored responses, in points for 1,000
	// characters, Correlation Pearson's. SlopeWithin and CorrelationWithin are the same for the deviations
	// from each prompt's means: the effect of length among the answers to one prompt. They are 0 where
	// all lengths are the same.
	Slope             float64 `json:"slope"`
	Intercept         float64 `json:"intercept"`
	Correlation       float64 `json:"correlation"`
	SlopeWithin       float64 `json:"slope_within"`
	CorrelationWithin float64 `json:"correlation_within"`
	// LongerWins is the share of the pairs of scored responses to one prompt, of unlike
	// lengths, whose longer one has the higher S; equal ones count half.
	LongerWins   float64 `json:"longer_wins"`
	LongerWinsOf int64   `json:"longer_wins_of"`
	// Control is the win share of the chosen responses with length taken out; null with fewer
	// than two pairs.
	Control *Control `json:"control"`
	// Rho has the pairs of each strength of length control, with the run's other settings.
	Rho []RhoFigures `json:"rho"`
	// Grid counts the scored responses by length and S.
	Grid Grid `json:"grid"`
}

// Control is the length-controlled win share of chosen over rejected responses.
//
// A pair's wins y are the share of all pairs of one judgment of the chosen and one of the
// rejected response in which the chosen one's score is higher; equal scores count half. With d
// the length of the chosen less that of the rejected response, s the sample standard deviation of
// d over the pairs (n − 1), and γ how hard the prompt is,
//
//	P(win) = σ(θ + φ·tanh(d/s) + ψ·γ)
//
// is fitted to y by maximum likelihood with a ridge of (1/1000)·(θ² + φ² + ψ²)/2 that keeps all
// finite. The win share at equal length is the mean of σ(θ + ψ·γ) over the pairs.
//
// This is length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475) but for where γ comes
// from. There it is a number for each instruction, fitted to the answers of many models. One run
// has one pair for each prompt, and a number for each prompt would fit the noise of its y. So γ is
// measured instead: the mean S of all scored responses to the prompt, standardized over the pairs
// (population) and negated, so that a hard prompt has a positive γ. It does not depend on which of the
// two responses was chosen.
type Control struct {
	// WinShare is the mean of y, Controlled the win share at equal length.
	WinShare   float64 `json:"win_share"`
	Controlled float64 `json:"controlled"`
	Theta      float64 `json:"theta"`
	Phi        float64 `json:"phi"`
	Psi        float64 `json:"psi"`
	Scale      float64 `json:"scale"`
}

// RhoFigures are the actor pairs that one rho gives.
type RhoFigures struct {
	Rho float64 `json:"rho"`
	// Own marks the run's own rho.
	Own   bool  `json:"own"`
	Pairs int64 `json:"pairs"`
	// Chosen is their mean length, Difference the mean of chosen − rejected, Margin that of
	// S(chosen) − S(rejected) in points.
	Chosen     float64 `json:"chosen"`
	Difference float64 `json:"difference"`
	Margin     float64 `json:"margin"`
}

// Grid counts in cells of CharsWidth characters and PointsHeight points, a twentieth of the scale; the last cell of a row has
// all that is longer.
type Grid struct {
	CharsWidth   int     `json:"chars_width"`
	PointsHeight float64 `json:"points_height"`
	// Counts[i][k] are the responses of S in the twentieth i and length in the cell k.
	Counts [][]int64 `json:"counts"`
}

// Meta is about the meta-judge.
type Meta struct {
	Comparisons int64 `json:"comparisons"`
	// Verdicts are the comparisons with a winner, First the share of them that the judgment
	// shown first won.
	Verdicts int64   `json:"verdicts"`
	First    float64 `json:"first"`
	// BothOrders are the pairs of judgments with a winner in both orders. Consistent is the
	// share with the same judgment in both; of the others, the conflicts, BothFirst is the
	// share of the pairs in which the first shown won twice, BothSecond the second.
	BothOrders int64   `json:"both_orders"`
	Consistent float64 `json:"consistent"`
	BothFirst  float64 `json:"both_first"`
	BothSecond float64 `json:"both_second"`
	// HigherWins is the share of the verdicts on judgments of unlike scores in which the one
	// with the higher score won.
	HigherWins   float64 `json:"higher_wins"`
	HigherWinsOf int64   `json:"higher_wins_of"`
	// ByGap has the same by the difference of the scores, to the nearest tenth of the highest score,
	// halves upwards: for the built-in scale 0 (below a quarter), 0.5, …, 5.
	ByGap []GapFigures `json:"by_gap"`
	// Graphs are the contested responses with a verdict. A graph's nodes are the distinct
	// judgments, with an edge from each to the judgments that it beat at least once. Connected
	// is the share of graphs that are one strong component, Largest
	// the mean share of the nodes in the largest strong component.
	Graphs    int64   `json:"graphs"`
	Connected float64 `json:"connected"`
	Largest   float64 `json:"largest"`
	// EloResponses are the contested responses with ratings. EloSpread is the mean of highest
	// less lowest, EloHistogram has it in bins of 0.25.
	EloResponses int64     `json:"elo_responses"`
	EloSpread    float64   `json:"elo_spread"`
	EloHistogram Histogram `json:"elo_histogram"`
}

// GapFigures are the verdicts on judgments whose scores differ by about Gap.
type GapFigures struct {
	Gap        float64 `json:"gap"`
	Verdicts   int64   `json:"verdicts"`
	HigherWins float64 `json:"higher_wins"`
}

// Of computes the figures of a run. A table that can't be read is an error.
func Of(ctx context.Context, r *runs.Run) (*Figures, error) {
	tallies := make([]*tally, r.Shards)
	_, highest := r.Settings.Scale()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for shard := range tallies {
		tallies[shard] = newTally(r.Settings.Method.ActorOptions(), r.Settings.Calibration, highest, r.Settings.ReadsScores())
		group.Go(func() error {
			if err := r.Each(ctx, shard, tallies[shard].add); err != nil || len(r.Settings.Actor.Pools) == 0 {
				return err
			}
			return tallies[shard].pools.addPairs(ctx, r, shard)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	sum := newTally(r.Settings.Method.ActorOptions(), r.Settings.Calibration, highest, r.Settings.ReadsScores())
	for _, t := range tallies { // in the order of the shards, so that sums of floats agree
		sum.join(t)
	}
	crossFit, reliability := sum.cross.figures()
	f := &Figures{
		Out: r.Dir, Simulated: r.Manifest.Simulated, Prompts: sum.prompts,
		Models: Models{
			Actor: r.Settings.Actor.Role.Identity(), Judge: r.Settings.Judge.Role.Identity(), MetaJudge: r.Settings.MetaJudge.Role.Identity(),
		},
		Scores: sum.scores.figures(), Length: sum.length.figures(), CrossFit: crossFit, Reliability: reliability,
	}
	f.Scores.Reads = r.Settings.ReadsScores()
	if c := r.Settings.Calibration; c != nil {
		f.Calibration = &Calibration{Date: c.Date, Responses: c.Responses}
	}
	if r.Settings.Wants(schemas.RoleJudge) {
		f.Meta = sum.meta.figures()
		f.Scores.Unparsed = append(f.Scores.Unparsed, sum.meta.unparsed())
	}
	if len(r.Settings.Actor.Pools) > 0 {
		f.Pools = sum.pools.figures(&r.Settings)
	}
	return f, nil
}

// share returns part / whole, 0 of nothing.
func share[N int64 | float64](part N, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
