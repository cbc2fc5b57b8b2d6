package methods

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"coeval/runners/loop/decide"
)

// Table returns the figures after the compared iteration, as a table in Markdown with intervals over
// seeds.
func Table(all []Outcome, variants []Variant, compared int) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| variant | seeds | actor / judge pairs | true quality, points | judge's agreement | on its actor's answers | LC win rate | length | stops after | for |")
	fmt.Fprintln(&b, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, v := range variants {
		outcomes := of(all, v.Name)
		at := func(form string, scale float64, figure func(*Point) float64) string {
			i := IntervalOf(values(outcomes, figure, compared))
			if len(outcomes) < 2 {
				return fmt.Sprintf(form, scale*i.Mean)
			}
			return fmt.Sprintf(form+" ± %.*f", scale*i.Mean, decimals(form), scale*(i.High-i.Mean))
		}
		actor, judge := 0, 0
		for _, o := range outcomes {
			actor, judge = actor+o.ActorPairs, judge+o.JudgePairs
		}
		n := max(len(outcomes), 1)
		fmt.Fprintf(&b, "| %s | %d | %d / %d | %s | %s %% | %s %% | %s %% | %s %% | %s | %s |\n", v.Title, len(outcomes), actor/n, judge/n,
			at("%+.2f", 1, func(p *Point) float64 { return p.Skill.Quality }),
			at("%.1f", 100, func(p *Point) float64 { return p.Agreement }),
			at("%.1f", 100, func(p *Point) float64 { return p.Own }),
			at("%.1f", 100, func(p *Point) float64 { return p.WinRate }),
			at("%+.0f", 100, (*Point).Growth),
			stops(outcomes), reasons(outcomes))
	}
	return b.String()
}

// decimals returns the number of decimals in a format such as %+.2f.
func decimals(form string) int { return int(form[strings.IndexByte(form, '.')+1] - '0') }

// stops returns the range of iterations after which loops stopped.
func stops(outcomes []Outcome) string {
	var at []int
	for _, o := range outcomes {
		at = append(at, o.Stopped)
	}
	if len(at) == 0 {
		return ""
	}
	slices.Sort(at)
	if at[0] == at[len(at)-1] {
		return fmt.Sprint(at[0])
	}
	return fmt.Sprintf("%d to %d", at[0], at[len(at)-1])
}

// reasons returns the rules that stopped the loops, with the number of seeds where not all.
func reasons(outcomes []Outcome) string {
	count := map[string]int{}
	for _, o := range outcomes {
		for _, rule := range o.Rules {
			count[rule]++
		}
	}
	var rules []string
	for rule := range count {
		rules = append(rules, rule)
	}
	slices.SortFunc(rules, func(a, b string) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	for i, rule := range rules {
		name := map[string]string{
			decide.SignsRule: "signs of saturation", decide.PatienceRule: "no gain", decide.LengthRule: "length",
			decide.LimitRule: "the end", decide.AgreementRule: "agreement fell",
		}[rule]
		if rules[i] = cmp.Or(name, rule); count[rule] < len(outcomes) {
			rules[i] += fmt.Sprintf(" (%d of %d)", count[rule], len(outcomes))
		}
	}
	return strings.Join(rules, ", ")
}

// panel is one chart of the picture.
type panel struct {
	title  string
	scale  float64
	figure func(*Point) float64
}

var panels = []panel{
	{"true quality of the actor, points", 1, func(p *Point) float64 { return p.Skill.Quality }},
	{"judge's agreement with the truth, %", 100, func(p *Point) float64 { return p.Agreement }},
	{"the same on its actor's answers, %", 100, func(p *Point) float64 { return p.Own }},
	{"length of answers over the first model's, %", 100, (*Point).Growth},
}

// colours are the palette of Okabe and Ito, which people with any colour vision can distinguish.
var colours = []color.Color{
	color.RGBA{0, 114, 178, 255},
	color.RGBA{213, 94, 0, 255},
	color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255},
	color.RGBA{86, 180, 233, 255},
	color.RGBA{230, 159, 0, 255},
	color.RGBA{90, 90, 90, 255},
}

// Picture returns an SVG of all figures by iteration, with 95 % intervals over seeds.
func Picture(all []Outcome, variants []Variant, compared int) ([]byte, error) {
	const columns, rows = 2, 2
	canvas := vgsvg.New(24*vg.Centimeter, 18*vg.Centimeter)
	area := draw.New(canvas)
	area.SetColor(color.White)
	area.Fill(area.Path())
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Millimeter * 4, PadY: vg.Millimeter * 4, PadTop: vg.Millimeter * 2, PadBottom: vg.Millimeter * 2, PadLeft: vg.Millimeter * 2, PadRight: vg.Millimeter * 4}
	for i, p := range panels {
		chart, err := p.chart(all, variants, compared)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			chart.Legend = plot.NewLegend()
		}
		chart.Draw(tiles.At(area, i%columns, i/columns))
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("methods: %w", err)
	}
	return b.Bytes(), nil
}

// chart draws one line a variant, slightly apart, so that intervals don't hide each other.
func (p *panel) chart(all []Outcome, variants []Variant, compared int) (*plot.Plot, error) {
	chart := plot.New()
	chart.Title.Text = p.title
	chart.X.Label.Text = "iteration"
	chart.X.Tick.Marker = plot.ConstantTicks(ticks(compared))
	chart.Legend.Top, chart.Legend.Left = true, true
	chart.Legend.TextStyle.Font.Size = vg.Points(8)
	chart.Add(plotter.NewGrid())
	for i, v := range variants {
		outcomes := of(all, v.Name)
		var points plotter.XYs
		var bars plotter.YErrors
		for t := 1; t <= compared; t++ {
			interval := IntervalOf(values(outcomes, p.figure, t))
			const apart = 0.02
			points = append(points, plotter.XY{X: float64(t) + apart*float64(i), Y: p.scale * interval.Mean})
			half := p.scale * (interval.High - interval.Mean)
			if len(outcomes) < 2 {
				half = 0 // no interval
			}
			bars = append(bars, struct{ Low, High float64 }{half, half})
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, fmt.Errorf("methods: %w", err)
		}
		line.Color, line.Width = colours[i%len(colours)], vg.Points(1.5)
		errors, err := plotter.NewYErrorBars(struct {
			plotter.XYs
			plotter.YErrors
		}{points, bars})
		if err != nil {
			return nil, fmt.Errorf("methods: %w", err)
		}
		errors.Color = line.Color
		chart.Add(line, errors)
		chart.Legend.Add(v.Title, line)
	}
	return chart, nil
}

func ticks(last int) []plot.Tick {
	var out []plot.Tick
	for t := 1; t <= last; t++ {
		out = append(out, plot.Tick{Value: float64(t), Label: fmt.Sprint(t)})
	}
	return out
}
