package pages

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"

	"gonum.org/v1/plot/plotter"

	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/runners/calibrate"
	"coeval/runners/calibrate/isotonic"
	"coeval/runners/pages/charts"
)

// CalibrationFile is the name of the page that compares a judge with people.
const CalibrationFile = "calibration.html"

//go:embed calibration.tmpl
var calibrationText string

var calibrationTemplate = template.Must(template.New("calibration").Funcs(template.FuncMap{
	"comma": comma, "percent": percent, "line": visibleLine, "even": isEven, "share": shareOf,
	"number": func(x float64) string { return signed(x, 2) }, "points": points,
	"estimate": func(e *calibrate.Estimate) string { return estimateOf(e, percent) },
	"rank": func(e *calibrate.Estimate) string {
		return estimateOf(e, func(x float64) string { return signed(x, 3) })
	},
	"style": func() template.CSS { return template.CSS(pageStyle) }, //nolint:gosec // our own file
	"count": func(n int) string { return comma(int64(n)) },
}).Parse(calibrationText))

// WriteCalibration writes the page that compares a judge with people into a folder and returns its path.
func WriteCalibration(ctx context.Context, out string, f *calibrate.Figures) (string, error) {
	list := calibrationCharts(f)
	var b bytes.Buffer
	if err := calibrationTemplate.Execute(&b, struct {
		*calibrate.Figures
		Charts []charts.Chart
	}{f, list}); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	name := store.Join(out, CalibrationFile)
	return name, rundir.WriteOwn(ctx, name, b.Bytes(), rundir.IsPage)
}

func estimateOf(e *calibrate.Estimate, format func(float64) string) string {
	switch {
	case e == nil:
		return "–"
	case e.Low == nil:
		return format(e.Value)
	}
	return fmt.Sprintf("%s (%s to %s)", format(e.Value), format(*e.Low), format(*e.High))
}

func calibrationCharts(f *calibrate.Figures) []charts.Chart {
	var list charts.List
	if f.Reliability != nil {
		p := charts.New("judgments for the favoured response, %", "people prefer it, %")
		var points plotter.XYs
		for _, b := range f.Reliability.Bins {
			points = append(points, plotter.XY{X: 100 * b.Predicted, Y: 100 * b.Observed})
		}
		err := diagonal(p, 50, 100)
		if err == nil {
			err = p.Curve(points, charts.First, true)
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 50, 102, 0, 104
		list.Add(p, "How sure, and how right", "On the dashed line a judge is as sure as it is right; below it, too sure.", err)
	}
	if len(f.Curve) > 0 {
		p := charts.New("difference of scores, points", "people prefer the first, %")
		err := steps(p, f.Curve)
		p.Y.Min, p.Y.Max = 0, 104
		list.Add(p, "Preference by difference of scores", "Isotonic regression of the preference; a steep rise at 0 is a judge whose small differences mean something.", err)
	}
	if f.Fit != nil && len(f.Fit.Blocks) > 0 {
		p := charts.New("S of the judge, points", "people, points")
		var labelled plotter.XYs
		for _, s := range f.Scores {
			if mean := f.Responses[s.Response].Mean; mean != nil {
				labelled = append(labelled, plotter.XY{X: *mean, Y: s.People})
			}
		}
		err := diagonal(p, 0, 5)
		if err == nil {
			err = p.Dots(thinned(labelled))
		}
		if err == nil {
			err = blocks(p, f.Fit.Blocks)
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 5.1, 0, 5.2
		list.Add(p, "The judge's scale and people's", "Dots are labels, the line is the map; on the dashed line both scales are one.", err)
	}
	return list.Charts
}

// maxDots is how many labels are drawn.
const maxDots = 2000

// thinned leaves out points in even steps where there are too many to be seen.
func thinned(points plotter.XYs) plotter.XYs {
	step := (len(points) + maxDots - 1) / maxDots
	if step <= 1 {
		return points
	}
	var out plotter.XYs
	for i := 0; i < len(points); i += step {
		out = append(out, points[i])
	}
	return out
}

// diagonal draws the line on which both axes agree.
func diagonal(p *charts.Plot, low, high float64) error {
	return p.Dashes(plotter.XYs{{X: low, Y: low}, {X: high, Y: high}})
}

// steps draws an isotonic regression of shares as it is.
func steps(p *charts.Plot, all []isotonic.Block) error {
	var points plotter.XYs
	for _, b := range all {
		points = append(points, plotter.XY{X: b.From, Y: 100 * b.People}, plotter.XY{X: b.To, Y: 100 * b.People})
	}
	return p.Curve(points, charts.First, false)
}

// blocks draws the map that goes through the middles of an isotonic regression.
func blocks(p *charts.Plot, all []isotonic.Block) error {
	var points plotter.XYs
	for _, b := range all {
		points = append(points, plotter.XY{X: b.At, Y: b.People})
	}
	const few = 30
	return p.Curve(points, charts.First, len(points) <= few)
}
