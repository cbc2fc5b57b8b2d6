// Package charts draws the charts of a page as SVG that scales with the page and takes the colours of its
// theme.
package charts

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"coeval/schemas/sanitize"
)

// The size of a chart in its own units: on a phone one is about a pixel, so that text of 11
// can be read there.
const chartWidth, chartHeight = 340, 215

// Charts use placeholder colours, which become CSS variables of the page's theme. First, Second and Third are
// the colours of data.
var (
	ink    = color.NRGBA{1, 1, 1, 255}
	rule   = color.NRGBA{2, 2, 2, 255}
	First  = color.NRGBA{3, 3, 3, 255}
	Second = color.NRGBA{4, 4, 4, 255}
	paper  = color.NRGBA{5, 5, 5, 255}
	Third  = color.NRGBA{6, 6, 6, 255}

	themed = strings.NewReplacer(
		"#010101", "var(--soft)", "#020202", "var(--rule)", "#030303", "var(--first)", "#040404", "var(--second)", "#050505", "var(--paper)", "#060606", "var(--third)",
	)
	// shades are the colours shadeMark, percent of opacity, 0.
	shades   = regexp.MustCompile(`#09([0-9A-Fa-f]{2})00`)
	svgHead  = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	svgFont  = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;font-weight:[^;"]*;font-style:[^;"]*;?`)
	decimals = regexp.MustCompile(`(\d+\.\d\d)\d+`)
)

const shadeMark = 9

var dashLengths = []vg.Length{3, 3}

// A Chart is a figure of the page.
type Chart struct {
	Title string
	// Note explains how to read it.
	Note string
	// Keys name the colours where there are several.
	Keys []Key
	SVG  template.HTML
}

// A List collects charts. A chart that can't be drawn is replaced by a sentence.
type List struct{ Charts []Chart }

// Add adds a chart with its title and a note on how to read it, unless an error is not nil.
func (l *List) Add(p *Plot, title, note string, errs ...error) {
	chart, err := newChart(p, title, note)
	if err := errors.Join(append(errs, err)...); err != nil {
		chart = Chart{Title: title, Note: "Not known: the chart can't be drawn (" + sanitize.Line(err.Error()) + ")."}
	}
	l.Charts = append(l.Charts, chart)
}

// A Key names a colour of a chart: first, second or third.
type Key struct{ Colour, Name string }

// A Plot is a plot with the values that a reader sees on hovering.
type Plot struct {
	*plot.Plot

	hovers []hover
}

// A hover is a rectangle, in the values of the axes, with a text.
type hover struct {
	left, right, low, high float64
	text                   string
}

// New returns an empty plot with the labels of its axes.
func New(x, y string) *Plot {
	p := &Plot{Plot: plot.New()}
	p.BackgroundColor = color.Transparent
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 12.5}
		a.Tick.Label.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 12}
		a.Label.TextStyle.Color, a.Tick.Label.Color = ink, ink
		a.Label.Padding = 4
		a.Color, a.Tick.Color = rule, rule
		a.Tick.Length = 3
		a.Padding = 3
		a.Tick.Marker = ticks(5)
	}
	p.Y.Width, p.Y.Tick.Width = 0, 0
	p.Y.Min = 0
	lines := plotter.NewGrid()
	lines.Vertical.Color = nil
	lines.Horizontal = draw.LineStyle{Color: rule, Width: 0.75}
	p.Add(lines)
	return p
}

// ticks is the approximate number of ticks, at round numbers.
type ticks int

// Ticks implements [plot.Ticker].
func (n ticks) Ticks(low, high float64) []plot.Tick {
	if !(high > low) {
		return []plot.Tick{{Value: low, Label: Label(low)}}
	}
	step := math.Pow10(int(math.Floor(math.Log10((high - low) / float64(n)))))
	for _, by := range []float64{1, 2, 2.5, 5, 10} {
		if (high-low)/(step*by) <= float64(n) {
			step *= by
			break
		}
	}
	var out []plot.Tick
	for i := math.Ceil(low/step - 1e-9); i*step <= high+step*1e-9; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: Label(i * step)})
	}
	return out
}

// Label is a number with at most two decimals, with the minus of print.
func Label(v float64) string {
	if v == 0 {
		return "0"
	}
	text := strconv.FormatFloat(math.Round(math.Abs(v)*100)/100, 'f', -1, 64)
	if math.Abs(v) >= 1000 {
		text = humanize.Comma(int64(math.Round(math.Abs(v))))
	}
	if v < 0 {
		return "−" + text
	}
	return text
}

// svgOf draws a plot as SVG that scales with the page, takes the theme's colours, and has its title for
// screen readers.
func svgOf(p *Plot, title string) (svg template.HTML, err error) {
	defer func() { // the library panics on values that it can't draw
		if r := recover(); r != nil {
			err = fmt.Errorf("report: chart %s: %v", title, r)
		}
	}()
	return drawSVG(p, title)
}

func drawSVG(p *Plot, title string) (template.HTML, error) {
	canvas := vgsvg.New(chartWidth, chartHeight)
	area := draw.Crop(draw.New(canvas), 2, -8, 2, -6)
	p.Draw(area)
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", fmt.Errorf("report: chart %s: %w", title, err)
	}
	head := fmt.Sprintf(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(title))
	svg := svgHead.ReplaceAllLiteralString(b.String(), head)
	svg = svgFont.ReplaceAllLiteralString(svg, "")
	svg = decimals.ReplaceAllString(svg, "$1")
	svg = shades.ReplaceAllStringFunc(svg, func(c string) string {
		percent, _ := strconv.ParseUint(c[3:5], 16, 8)
		return fmt.Sprintf("var(--first);fill-opacity:%.2f", float64(percent)/100)
	})
	svg = themed.Replace(svg)
	if end := strings.LastIndex(svg, "</svg>"); end >= 0 {
		svg = svg[:end] + p.titles(area) + svg[end:]
	}
	return template.HTML(svg), nil //nolint:gosec // our own drawing: numbers, and labels that are escaped
}

// minHover is the minimum width and height of a rectangle to hover on, in units of the chart.
const minHover = 10

// titles returns an invisible rectangle with a title for each value: browsers show it on hovering, without
// a script.
func (p *Plot) titles(area draw.Canvas) string {
	data := p.DataCanvas(area)
	x, y := p.Transforms(&data)
	var b strings.Builder
	for _, h := range p.hovers {
		left, right, low, high := float64(x(h.left)), float64(x(h.right)), float64(y(h.low)), float64(y(h.high))
		width, height := max(right-left, minHover), max(high-low, minHover)
		middleX, middleY := (left+right)/2, (low+high)/2
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="hover"><title>%s</title></rect>`,
			middleX-width/2, chartHeight-middleY-height/2, width, height, template.HTMLEscapeString(h.text))
	}
	return b.String()
}

func newChart(p *Plot, title, note string) (Chart, error) {
	svg, err := svgOf(p, title)
	return Chart{Title: title, Note: note, SVG: svg}, err
}

// Bars draws counts as shares in percent, from the value low on in bins of one width.
func (p *Plot) Bars(low, width float64, counts []int64) {
	var total int64
	for _, n := range counts {
		total += n
	}
	h := &plotter.Histogram{FillColor: First, LineStyle: draw.LineStyle{Color: paper, Width: 1}}
	for i, n := range counts {
		at := low + float64(i)*width
		h.Bins = append(h.Bins, plotter.HistogramBin{Min: at, Max: at + width, Weight: 100 * float64(n) / float64(max(total, 1))})
	}
	for i, bin := range h.Bins {
		p.hovers = append(p.hovers, hover{bin.Min, bin.Max, 0, bin.Weight, fmt.Sprintf("%s to %s: %.1f %% (%s)", Label(bin.Min), Label(bin.Max), bin.Weight, humanize.Comma(counts[i]))})
	}
	p.Add(h)
	p.X.Min, p.X.Max = low, low+float64(max(len(counts), 1))*width
	p.Y.Min, p.Y.Max = 0, max(p.Y.Max, 1)
}

// Curve draws points joined by a line.
func (p *Plot) Curve(points plotter.XYs, c color.Color, dots bool) error {
	line, scatter, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: c, Width: 1.75}
	p.Add(line)
	if dots {
		scatter.GlyphStyle = draw.GlyphStyle{Color: c, Radius: 2.5, Shape: draw.CircleGlyph{}}
		p.Add(scatter)
		for _, at := range points {
			p.hovers = append(p.hovers, hover{at.X, at.X, at.Y, at.Y, fmt.Sprintf("%s: %s", Label(at.X), Label(at.Y))})
		}
	}
	return nil
}

// Area fills the space between two curves over the same points.
func (p *Plot) Area(low, high plotter.XYs, c color.Color) error {
	outline := slices.Clone(high)
	for _, at := range slices.Backward(low) {
		outline = append(outline, at)
	}
	filled, err := plotter.NewPolygon(outline)
	if err != nil {
		return err
	}
	filled.Color, filled.Width = c, 0
	p.Add(filled)
	return nil
}

// Level draws a dashed line across the plot.
func (p *Plot) Level(y float64) error {
	return p.Dashes(plotter.XYs{{X: p.X.Min, Y: y}, {X: p.X.Max, Y: y}})
}

// Dashes draws points joined by a dashed line.
func (p *Plot) Dashes(points plotter.XYs) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: ink, Width: 1, Dashes: dashLengths}
	p.Add(line)
	return nil
}

// Spot marks one point.
func (p *Plot) Spot(x, y float64) error {
	s, err := plotter.NewScatter(plotter.XYs{{X: x, Y: y}})
	if err != nil {
		return err
	}
	s.GlyphStyle = draw.GlyphStyle{Color: Second, Radius: 4.5, Shape: draw.CircleGlyph{}}
	p.Add(s)
	return nil
}

// Cells draws counts as shades of one colour: rows upwards, in cells of this width and height from 0 on.
func (p *Plot) Cells(counts [][]int64, width, height float64) {
	p.Add(cells{counts: counts, width: width, height: height})
}

// cells draws a grid of counts.
type cells struct {
	counts        [][]int64
	width, height float64
}

// Plot implements [plot.Plotter].
func (g cells) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	var most int64
	for _, row := range g.counts {
		for _, n := range row {
			most = max(most, n)
		}
	}
	for i, row := range g.counts {
		for k, n := range row {
			if n == 0 {
				continue
			}
			// Opacity is encoded as a separate colour, because vgsvg would mix it into the colour.
			shade := color.NRGBA{R: shadeMark, G: uint8(15 + 85*math.Sqrt(float64(n)/float64(most))), A: 255}
			low, high := float64(i)*g.height, float64(i+1)*g.height
			c.FillPolygon(shade, []vg.Point{
				{X: x(float64(k) * g.width), Y: y(low)},
				{X: x(float64(k+1) * g.width), Y: y(low)},
				{X: x(float64(k+1) * g.width), Y: y(high)},
				{X: x(float64(k) * g.width), Y: y(high)},
			})
		}
	}
}

// Dots draws points without a line.
func (p *Plot) Dots(points plotter.XYs) error {
	s, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	s.GlyphStyle = draw.GlyphStyle{Color: rule, Radius: 1.5, Shape: draw.CircleGlyph{}}
	p.Add(s)
	return nil
}
