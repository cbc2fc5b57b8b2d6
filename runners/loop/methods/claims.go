package methods

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"coeval/runners/loop/decide"
)

// An Interval is a mean over seeds with its 95 % interval by Student's t.
type Interval struct{ Mean, Low, High float64 }

func (i Interval) String() string {
	return fmt.Sprintf("%+.3f (%+.3f to %+.3f)", i.Mean, i.Low, i.High)
}

// IntervalOf returns the interval of the mean of independent values. One value has an interval without
// bounds.
func IntervalOf(values []float64) Interval {
	n := float64(len(values))
	mean, sd := stat.MeanStdDev(values, nil)
	if len(values) < 2 {
		return Interval{Mean: mean, Low: math.Inf(-1), High: math.Inf(1)}
	}
	half := distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile(0.975) * sd / math.Sqrt(n)
	return Interval{Mean: mean, Low: mean - half, High: mean + half}
}

// A Claim is one checked statement.
type Claim struct {
	Statement string
	// Evidence has the figures.
	Evidence string
	Holds    bool
}

// most is the share of seeds that "stops" means, few that of "does not".
const most, few = 0.8, 0.2

// Claims checks the statements about the method, under our rule. Compared is the iteration at which
// variants are compared.
func Claims(all []Outcome, compared int) []Claim {
	meta, static := of(all, Meta), of(all, Static)
	agreement := func(p *Point) float64 { return p.Agreement }
	quality := func(p *Point) float64 { return p.Skill.Quality }
	rise := IntervalOf(differences(meta, meta, agreement, compared, 1))
	gain := IntervalOf(differences(meta, static, quality, compared, compared))
	stalled, went := stoppedBy(static, decide.SignsRule), stoppedBy(meta, decide.SignsRule)
	long, short := stoppedBy(of(all, NoControl), decide.LengthRule), stoppedBy(meta, decide.LengthRule)
	growth := IntervalOf(values(of(all, NoControl), (*Point).Growth, compared))
	noise := IntervalOf(differences(of(all, ShuffledName), of(all, ShuffledName), agreement, compared, 1))
	bound := decide.DefaultRules().LengthGrowth
	return []Claim{
		{
			Statement: fmt.Sprintf("With the meta-judge, the judge's agreement with the truth rises from iteration 1 to %d.", compared),
			Evidence:  "change of agreement " + rise.String(),
			Holds:     rise.Low > 0 && monotone(meta, agreement, compared),
		},
		{
			Statement: fmt.Sprintf("After %d iterations the actor is better with the meta-judge than with the static judge.", compared),
			Evidence:  "paired difference of true quality, in points, " + gain.String(),
			Holds:     gain.Low > 0,
		},
		{
			Statement: "With the static judge the loop stops for saturation, and with the meta-judge it does not.",
			Evidence:  fmt.Sprintf("it stopped so in %.0f %% and %.0f %% of the seeds", 100*stalled, 100*went),
			Holds:     stalled >= most && went <= few,
		},
		{
			Statement: fmt.Sprintf("Without length control answers grow by more than %.0f %%, and the loop stops for it; with length control it does not.", 100*bound),
			Evidence:  fmt.Sprintf("growth after %d iterations %s; it stopped for length in %.0f %% and %.0f %% of the seeds", compared, growth, 100*long, 100*short),
			Holds:     growth.Low > bound && long >= most && short <= few,
		},
		{
			Statement: "With shuffled judge labels the judge gains nothing.",
			Evidence:  "change of agreement " + noise.String(),
			Holds:     noise.Low <= 0 && noise.Mean < rise.Mean/4,
		},
	}
}

// values returns a figure of each outcome at an iteration.
func values(outcomes []Outcome, figure func(*Point) float64, iteration int) []float64 {
	var out []float64
	for _, o := range outcomes {
		if iteration <= len(o.Points) {
			out = append(out, figure(&o.Points[iteration-1]))
		}
	}
	return out
}

// differences returns, seed by seed, a figure of a at one iteration less that of b at another.
func differences(a, b []Outcome, figure func(*Point) float64, at, from int) []float64 {
	left, right := values(a, figure, at), values(b, figure, from)
	out := make([]float64, min(len(left), len(right)))
	for i := range out {
		out[i] = left[i] - right[i]
	}
	return out
}

// monotone reports whether the mean of a figure rises in every iteration.
func monotone(outcomes []Outcome, figure func(*Point) float64, last int) bool {
	for t := 2; t <= last; t++ {
		if stat.Mean(values(outcomes, figure, t), nil) <= stat.Mean(values(outcomes, figure, t-1), nil) {
			return false
		}
	}
	return true
}

// stoppedBy returns the share of loops that a rule stopped.
func stoppedBy(outcomes []Outcome, rule string) float64 {
	n := 0
	for _, o := range outcomes {
		if slices.Contains(o.Rules, rule) {
			n++
		}
	}
	return float64(n) / float64(max(len(outcomes), 1))
}
