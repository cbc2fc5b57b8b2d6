package pages

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"coeval/datasets/rundir"
	"coeval/runners/compare"
	"coeval/runners/pages/charts"
)

// ComparisonFile is the name of the page of a comparison in the last run's folder.
const ComparisonFile = "compare.html"

//go:embed comparison.tmpl
var comparisonText string

var comparisonTemplate = template.Must(template.New("comparison").Funcs(template.FuncMap{
	"comma": comma, "percent": percent, "line": visibleLine, "add": func(a, b int) int { return a + b }, "even": isEven, "share": shareOf, "rank": rankOf, "simulated": isSimulated, "drifts": hasDrift,
	"style": func() template.CSS { return template.CSS(pageStyle) }, //nolint:gosec // our own file
}).Parse(comparisonText))

// WriteComparison writes the page of a comparison of runs.
func WriteComparison(ctx context.Context, name string, c *compare.Comparison) error {
	list := comparisonCharts(c)
	var b bytes.Buffer
	if err := comparisonTemplate.Execute(&b, struct {
		*compare.Comparison
		Charts  []charts.Chart
		Summary string
	}{c, list, saturation(c)}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return rundir.WriteOwn(ctx, name, b.Bytes(), rundir.IsPage)
}

// isSimulated reports whether the simulated worker answered in a run.
func isSimulated(c []compare.Iteration) bool {
	return slices.ContainsFunc(c, func(i compare.Iteration) bool { return i.Simulated })
}

// hasDrift reports whether any two neighbouring runs scored the same texts of past.
func hasDrift(steps []compare.Step) bool {
	return slices.ContainsFunc(steps, func(s compare.Step) bool { return s.PastResponses > 0 })
}

// saturation sums the signs up.
func saturation(c *compare.Comparison) string {
	var seen []string
	unknown := 0
	for _, s := range c.Signs {
		switch {
		case s.Seen:
			seen = append(seen, s.Name)
		case !s.Known:
			unknown++
		}
	}
	known := len(c.Signs) - unknown
	var text string
	switch {
	case known == 0:
		return "Not known: the figures of all signs of saturation are missing."
	case len(seen) > 0:
		text = fmt.Sprintf("%d of %d known signs of saturation: %s.", len(seen), known, strings.Join(seen, "; "))
	default:
		text = fmt.Sprintf("None of the %d known signs of saturation is seen.", known)
	}
	if unknown > 0 {
		text += fmt.Sprintf(" %d more can't be judged: their figures are missing.", unknown)
	}
	return text
}

// chartNotes explain how to read the charts.
var chartNotes = map[string]string{
	"Mean score of a response":           "A rising mean with a falling spread shows a judge that no longer distinguishes answers.",
	"Spread within a prompt":             "Mean of the best less the worst response: pairs are made of this difference.",
	"Variance of a response's judgments": "The disagreement that the meta-judge compares.",
	"Agreement of judge and people":      "On the same labels: the paper's judge fell back after its peak.",
	compare.LengthRow:                    "Growth is length for quality, unless the tasks ask for it.",
	"Order conflicts":                    "The winner changes with the order; tossing a coin gives 50\u00a0%.",
	"The higher score wins":              "50\u00a0% is blind to scores; the paper's rose to 97.7\u00a0%.",
}

// comparisonCharts draws the figures of the signs over the runs.
func comparisonCharts(c *compare.Comparison) []charts.Chart {
	var list charts.List
	for _, row := range c.Rows() {
		note, ok := chartNotes[row.Name]
		if !ok {
			continue
		}
		var points plotter.XYs
		for i, v := range row.Values {
			if v != nil {
				y := *v
				if row.Percent {
					y *= 100
				}
				points = append(points, plotter.XY{X: float64(i + 1), Y: y})
			}
		}
		if len(points) == 0 {
			continue
		}
		p := charts.New("run", row.Unit)
		err := p.Curve(points, charts.First, true)
		p.X.Min, p.X.Max = 0.75, float64(len(c.Runs))+0.25
		p.X.Tick.Marker = runTicks(len(c.Runs))
		p.Y.Min, p.Y.Max = 0, max(p.Y.Max*1.08, 0.1)
		list.Add(p, row.Name, note, err)
	}
	return list.Charts
}

// runTicks is the number of runs, each of which gets a tick.
type runTicks int

// Ticks implements [plot.Ticker].
func (n runTicks) Ticks(_, _ float64) []plot.Tick {
	var out []plot.Tick
	for i := range int(n) {
		out = append(out, plot.Tick{Value: float64(i + 1), Label: charts.Label(float64(i + 1))})
	}
	return out
}

func shareOf(x *float64) string {
	if x == nil {
		return "–"
	}
	return percent(*x)
}

func rankOf(x *float64) string {
	if x == nil {
		return "–"
	}
	return signed(*x, 2)
}

func isEven(c []charts.Chart) bool { return len(c)%2 == 0 }
