package pages

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"coeval/runners/figures"
	"coeval/runners/pages/charts"
	"coeval/runners/summary"
	"coeval/schemas"
)

func scoreCharts(s *figures.Scores) []charts.Chart {
	var c charts.List
	p := charts.New("score of a judgment, points", "% of judgments")
	p.Bars(-s.Highest/20, s.Highest/10, s.Histogram)
	p.X.Tick.Marker = whole(s.Highest)
	whose, spread := "", "How far the judge disagrees with itself on one response. Near 0 leaves nothing to compare for the meta-judge."
	if s.Reads {
		whose = "Judgments in words, of the contested responses alone. "
		spread = "How widely a read spreads over the points. The contested response has the largest variance."
	}
	c.Add(p, "Scores of judgments", whose+fmt.Sprintf("In steps of %s points. A tall bar at %s means that the scale has no room left for better answers.", charts.Label(s.Highest/10), charts.Label(s.Highest)))

	p = charts.New("mean score of a response S, points", "% of responses")
	p.Bars(0, s.ResponseHistogram.Width, s.ResponseHistogram.Counts)
	p.X.Min, p.X.Max = 0, s.Highest*1.05
	p.X.Tick.Marker = whole(s.Highest)
	c.Add(p, "Mean score of each response", "The wider, the more there is to choose from.")

	p = charts.New("variance of a response's scores V, points²", "% of responses")
	p.Bars(0, s.VarianceHistogram.Width, s.VarianceHistogram.Counts)
	c.Add(p, "Variance of each response's scores", spread)
	return c.Charts
}

// whole are ticks at whole numbers up to the end of a scale, about five of them.
type whole float64

// Ticks implements [plot.Ticker].
func (n whole) Ticks(_, _ float64) []plot.Tick {
	var out []plot.Tick
	step := math.Ceil(float64(n) / 5)
	for at := 0.0; at <= float64(n); at += step {
		out = append(out, plot.Tick{Value: at, Label: charts.Label(at)})
	}
	return out
}

func lengthCharts(l *figures.Length, highest float64) []charts.Chart {
	var c charts.List
	columns := shown(&l.Grid)
	widest := float64(columns * l.Grid.CharsWidth)
	p := charts.New("length of a response, characters", "mean score S, points")
	counts := make([][]int64, len(l.Grid.Counts))
	for i, row := range l.Grid.Counts {
		counts[i] = row[:columns]
	}
	p.Cells(counts, float64(l.Grid.CharsWidth), l.Grid.PointsHeight)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, widest, 0, highest*1.05
	p.Y.Tick.Marker = whole(highest)
	line := plotter.XYs{}
	for i := range 51 { // the part of the line that lies on the scale
		x := widest * float64(i) / 50
		if y := l.Intercept + l.Slope*x/1000; y >= 0 && y <= highest*1.05 {
			line = append(line, plotter.XY{X: x, Y: y})
		}
	}
	var err error
	if len(line) > 1 {
		err = p.Curve(line, charts.Second, false)
	}
	c.Add(p, "Score against length", fmt.Sprintf(
		"Stronger colour is more responses; the line is fitted to all: %s points for 1,000 characters more. Among answers to one prompt: %s points.",
		signed(l.Slope, 2), signed(l.SlopeWithin, 2)), err)

	rho := func(title, y, note string, low float64, of func(r *figures.RhoFigures) float64) {
		p := charts.New("ρ, strength of length control", y)
		var points plotter.XYs
		var own *plotter.XY
		for i := range l.Rho {
			at := plotter.XY{X: l.Rho[i].Rho, Y: of(&l.Rho[i])}
			points = append(points, at)
			if l.Rho[i].Own {
				own = &at
			}
		}
		err := p.Curve(points, charts.First, true)
		p.X.Min, p.X.Max = 0, max(0.45, l.Rho[len(l.Rho)-1].Rho)
		p.Y.Min = min(low, p.Y.Min)
		p.Y.Max = max(p.Y.Max*1.04, p.Y.Min+1)
		var errs []error
		if low < 0 {
			errs = append(errs, p.Level(0))
		}
		if own != nil {
			errs = append(errs, p.Spot(own.X, own.Y))
		}
		c.Add(p, title, note, append(errs, err)...)
	}
	rho("Length by ρ", "difference, characters", "Mean length of chosen less rejected. Above the dashed line the chosen responses are the longer ones. The larger dot is this run.", -1, func(r *figures.RhoFigures) float64 { return r.Difference })
	rho("Margin by ρ", "margin, points", "Mean of S(chosen) − S(rejected). A clearer difference teaches more. The larger dot is this run.", 0, func(r *figures.RhoFigures) float64 { return r.Margin })
	rho("Number of pairs by ρ", "actor pairs", "With min_margin and max_chosen_chars as in this run. The larger dot is this run.", 0, func(r *figures.RhoFigures) float64 { return float64(r.Pairs) })
	return c.Charts
}

func metaCharts(m *figures.Meta, highest float64) []charts.Chart {
	var c charts.List
	p := charts.New("difference of the two scores, points", "higher score wins, %")
	var points plotter.XYs
	for _, g := range m.ByGap {
		if g.Verdicts >= minVerdicts {
			points = append(points, plotter.XY{X: g.Gap, Y: 100 * g.HigherWins})
		}
	}
	if len(points) > 0 {
		err := p.Curve(points, charts.First, true)
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, highest, 0, 100
		p.X.Tick.Marker = whole(highest)
		c.Add(p, "Does the higher score win?", fmt.Sprintf(
			"At the dashed line scores decide nothing; at 100 %% they decide everything, and the judge would learn to score high. Differences with fewer than %d verdicts are left out.", minVerdicts),
			err, p.Level(50))
	}
	p = charts.New("highest − lowest Elo in a response", "% of responses")
	p.Bars(0, m.EloHistogram.Width, m.EloHistogram.Counts)
	c.Add(p, "Spread of the Elo scores", "How clearly the meta-judge distinguishes the judgments of a response: a difference of 1 is a win in 73 % of comparisons.")
	return c.Charts
}

// minVerdicts is the least number of verdicts behind a point of the chart.
const minVerdicts = 30

func operationCharts(o *summary.Operation) []charts.Chart {
	var c charts.List
	if len(o.Series) < 2 {
		return nil
	}
	unit, by := "seconds", 1.0
	if last := o.Series[len(o.Series)-1].Seconds; last > 3*3600 {
		unit, by = "hours", 3600
	} else if last > 300 {
		unit, by = "minutes", 60
	}
	var rate plotter.XYs
	for i, s := range o.Series[1:] {
		before := o.Series[i]
		if d := s.Seconds - before.Seconds; d > 0 {
			rate = append(rate, plotter.XY{X: s.Seconds / by, Y: math.Max(0, float64(s.Generations-before.Generations)/d)})
		}
	}
	p := charts.New(unit+" since the start", "generations in flight")
	keys, err := flight(p, o.Series, by)
	note := "Where it sinks before the end, servers were idle or quarantined."
	limit, limited := permits(o.Series, by)
	if limited {
		note = "The dashed line is how many permits there were: while less is in flight, servers are idle. More may be in flight, since choices that are probably done need no permit."
		err = cmp.Or(err, p.Dashes(limit))
	}
	bounded(p)
	c.Add(p, "Generations in flight", note, err)
	c.Charts[0].Keys = keys
	if len(rate) > 1 {
		p = charts.New(unit+" since the start", "generations per second")
		err := p.Curve(rate, charts.First, false)
		bounded(p)
		c.Add(p, "Generations delivered", "The rate at which the servers delivered, from one sample to the next.", err)
	}
	return c.Charts
}

// permits returns how many permits there were over time, and whether that is known.
func permits(series []summary.Point, by float64) (line plotter.XYs, known bool) {
	for _, s := range series {
		line = append(line, plotter.XY{X: s.Seconds / by, Y: float64(s.Permits)})
		known = known || s.Permits > 0
	}
	return line, known
}

// bounded has both axes of a plot begin at 0.
func bounded(p *charts.Plot) {
	p.X.Min, p.Y.Min, p.Y.Max = 0, 0, max(p.Y.Max*1.04, 1)
}

// layers are the layers of the chart of generations in flight: responses of all models, judgments with
// their reads, and comparisons.
var layers = []struct {
	name   string
	colour color.Color
	stages []string
}{
	{"third", charts.Third, []string{schemas.StageGenerate, schemas.StagePast, schemas.StageFuture}},
	{"second", charts.Second, []string{schemas.StageJudge, schemas.StageReads}},
	{"first", charts.First, []string{schemas.StageMeta}},
}

// flight draws the generations in flight, stacked by stage where the stages are known.
func flight(p *charts.Plot, series []summary.Point, by float64) ([]charts.Key, error) {
	low, all := make(plotter.XYs, len(series)), make(plotter.XYs, len(series))
	told := false
	for i, s := range series {
		low[i].X, all[i].X, all[i].Y = s.Seconds/by, s.Seconds/by, float64(s.InFlight)
		told = told || s.InFlightByStage != nil
	}
	if !told {
		return nil, p.Curve(all, charts.First, false)
	}
	var keys []charts.Key
	for _, layer := range layers {
		high := slices.Clone(low)
		name := ""
		for _, stage := range layer.stages {
			for k, s := range series {
				high[k].Y += float64(s.InFlightByStage[stage])
				if s.InFlightByStage[stage] > 0 && name == "" {
					name = stage
				}
			}
		}
		if err := p.Area(low, high, layer.colour); err != nil {
			return nil, err
		}
		keys, low = append(keys, charts.Key{Colour: layer.name, Name: cmp.Or(name, layer.stages[0])}), high
	}
	return keys, nil
}

// shown returns the number of columns that contain all but the longest hundredth of the responses.
func shown(g *figures.Grid) int {
	columns := make([]int64, len(g.Counts[0]))
	var total int64
	for _, row := range g.Counts {
		for k, n := range row {
			columns[k] += n
			total += n
		}
	}
	var seen int64
	for k, n := range columns {
		seen += n
		if seen*100 >= total*99 {
			return k + 1
		}
	}
	return len(columns)
}
