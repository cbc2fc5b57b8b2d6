package loop

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"

	"coeval/runners/loop/decide"
)

// PageFile is the page over all iterations.
const PageFile = "loop.html"

//go:embed loop.tmpl
var pageSource string

var page = template.Must(template.New("loop").Parse(pageSource))

// row is one iteration on the page.
type row struct {
	Iteration int
	Preset    string
	Report    string
	Gain      *decide.Estimate
	// X, Y, Low and High place the gain in the chart.
	X, Y, Low, High float64
	Agreement       *decide.Agreement
	Chars           *float64
	Signs           string
	Hours, USD      float64
	Best            bool
	Decision        string
}

// Chart geometry, in units of the picture.
const (
	chartWidth, chartHeight = 640.0, 240.0
	chartMargin             = 40.0
)

// writePage writes the page from the state.
func (l *Loop) writePage() error {
	rows := l.rows()
	data := struct {
		Figure        string
		Rows          []row
		Line          string
		Width, Height float64
		Middle        float64
		Ended         []string
	}{Figure: strings.ReplaceAll(l.Config.Evaluate.Figure, "_", " "), Rows: rows, Width: chartWidth, Height: chartHeight, Middle: height(0.5)}
	var points []string
	for _, r := range rows {
		if r.Gain != nil {
			points = append(points, fmt.Sprintf("%.1f,%.1f", r.X, r.Y))
		}
	}
	data.Line = strings.Join(points, " ")
	if last := l.state.Last(); last > 0 {
		if d, err := read[decide.Decision](l.state, last, Decide); err == nil {
			data.Ended = d.Reasons
		}
	}
	var b strings.Builder
	if err := page.Execute(&b, data); err != nil {
		return fmt.Errorf("loop: %w", err)
	}
	return os.WriteFile(filepath.Join(l.Config.Dir, PageFile), []byte(b.String()), 0o666)
}

func height(share float64) float64 { return chartMargin + (1-share)*(chartHeight-2*chartMargin) }

func (l *Loop) rows() []row {
	last := l.state.Last()
	best := 0
	if d, err := read[decide.Decision](l.state, last, Decide); err == nil {
		best = d.Best
	}
	var rows []row
	for t := 1; t <= last; t++ {
		m, err := read[measured](l.state, t, Measure)
		if err != nil {
			continue // it isn't evaluated yet
		}
		r := row{
			Iteration: t, Preset: l.Config.turn(t).Preset, Report: fmt.Sprintf("it-%d/data/report.html", t),
			Gain: m.Gain, Agreement: m.Agreement, Chars: m.Chars, Signs: strings.Join(m.Signs, "; "),
			Hours: m.GPUHours, USD: m.USD, Best: t == best,
			X: chartMargin + (float64(t)-0.5)/float64(last)*(chartWidth-2*chartMargin),
		}
		if m.Gain != nil {
			r.Y, r.Low, r.High = height(m.Gain.Value), height(m.Gain.Low), height(m.Gain.High)
		}
		if d, err := read[decide.Decision](l.state, t, Decide); err == nil {
			r.Decision = strings.Join(d.Reasons, "; ")
		}
		rows = append(rows, r)
	}
	return rows
}
