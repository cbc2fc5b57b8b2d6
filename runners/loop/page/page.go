// Package page draws the page over all iterations of a loop.
package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"

	"coeval/runners/loop/decide"
)

// File is the page's name in the folder of the loop.
const File = "loop.html"

//go:embed loop.tmpl
var source string

var layout = template.Must(template.New("loop").Parse(source))

// An Entry is one evaluated iteration.
type Entry struct {
	Iteration  int
	Preset     string
	Report     string // a path from the page
	Gain       *decide.Estimate
	Agreement  *decide.Agreement
	Chars      *float64
	Signs      string
	Hours, USD float64
	Best       bool
	Decision   string
}

// Length returns the mean length of responses in characters, if it is known.
func (e Entry) Length() float64 {
	if e.Chars == nil {
		return 0
	}
	return *e.Chars
}

// A row is an entry with the place of its gain in the chart.
type row struct {
	Entry

	X, Y, Low, High float64
}

// Chart geometry, in units of the picture.
const (
	chartWidth, chartHeight = 640.0, 240.0
	chartMargin             = 40.0
)

// Write writes the page of a loop into its folder. Figure is the name of the gain, last the number of the last
// iteration, and ended the reasons of the last decision.
func Write(dir, figure string, entries []Entry, last int, ended []string) error {
	data := struct {
		Figure        string
		Rows          []row
		Line          string
		Width, Height float64
		Middle        float64
		Ended         []string
	}{Figure: strings.ReplaceAll(figure, "_", " "), Width: chartWidth, Height: chartHeight, Middle: height(0.5), Ended: ended}
	var points []string
	for _, e := range entries {
		r := row{Entry: e, X: chartMargin + (float64(e.Iteration)-0.5)/float64(last)*(chartWidth-2*chartMargin)}
		if g := e.Gain; g != nil {
			r.Y, r.Low, r.High = height(g.Value), height(g.Low), height(g.High)
			points = append(points, fmt.Sprintf("%.1f,%.1f", r.X, r.Y))
		}
		data.Rows = append(data.Rows, r)
	}
	data.Line = strings.Join(points, " ")
	var b strings.Builder
	if err := layout.Execute(&b, data); err != nil {
		return fmt.Errorf("loop: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, File), []byte(b.String()), 0o666)
}

func height(share float64) float64 { return chartMargin + (1-share)*(chartHeight-2*chartMargin) }
