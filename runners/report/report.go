// Package report makes of a run's tables one page that tells whether its data is worth
// training on.
//
// [Write] puts it into the run's folder: one HTML file without scripts that loads nothing, in the
// reader's light or dark theme, for screens from 360 pixels on and for paper. Everything that a
// model or a file said is text on it: html/template escapes it, package plain makes visible what
// would act, and a content policy in the page forbids the browser to run or load anything.
//
// The page is made of the tables, of run.json, and of operations/ where that is there. It says
// nothing of the time at which it was made, so that the same run gives the same page.
package report

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"path"
	"slices"
	"strings"

	"coeval/datasets/store"
	"coeval/runners/dossiers"
	"coeval/runners/estimate"
	"coeval/runners/figures"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/sink"
)

// File is the name of the page in the run's folder.
const File = "report.html"

// Options say what the page tells beside the run itself.
type Options struct {
	Prices estimate.Prices
}

// page is what the template shows.
type page struct {
	Run      *dossiers.Run
	Figures  *figures.Figures
	Summary  *summary.Summary
	Verdict  []string
	Warnings []string
	Tiles    []tile
	Dropped  []dropped
	// Charts are by section.
	ScoreCharts, LengthCharts, MetaCharts, OperationCharts []Chart
	Operation                                              *operation
	Examples                                               []exampleGroup
}

//go:embed page.tmpl
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"comma": comma, "elo": elo, "sorted": sorted, "even": isEven,
	"comma64": func(n int) string { return comma(int64(n)) }, "percent": percent, "signed": signed, "points": points, "money": money, "line": visibleLine, "duration": duration,
	"style": func() template.CSS { return template.CSS(pageStyle) }, //nolint:gosec // our own file
}).Parse(pageText))

// Write computes the figures of a run and writes its page. It returns both.
func Write(ctx context.Context, r *dossiers.Run, o Options) (f *figures.Figures, name string, err error) {
	if f, err = figures.Of(ctx, r); err != nil {
		return nil, "", err
	}
	html, err := render(ctx, r, f, o)
	if err != nil {
		return nil, "", err
	}
	name = store.Join(r.Dir, File)
	return f, name, store.WriteFile(ctx, name, html)
}

// render returns the page.
func render(ctx context.Context, r *dossiers.Run, f *figures.Figures, o Options) ([]byte, error) {
	attempts, err := readAttempts(ctx, r.Dir)
	if err != nil {
		return nil, err
	}
	p := &page{Run: r, Figures: f}
	var settings summary.Operation // of an attempt the summary takes no more than this
	settings.Config.Actor.Temperature = r.Settings.Actor.Role.Temperature
	p.Summary = summary.New(r.Manifest, &settings)
	p.Verdict, p.Tiles, p.Dropped = verdict(p.Summary, f), tiles(p.Summary, f), drops(p.Summary)
	p.Warnings = slices.Concat(p.Summary.Warnings, warnings(f))
	p.Operation = newOperation(attempts, r.Manifest, o.Prices)
	if p.ScoreCharts, err = scoreCharts(&f.Scores); err != nil {
		return nil, err
	}
	if p.LengthCharts, err = lengthCharts(&f.Length); err != nil {
		return nil, err
	}
	if f.Meta != nil && f.Meta.Verdicts > 0 {
		if p.MetaCharts, err = metaCharts(f.Meta); err != nil {
			return nil, err
		}
	}
	if p.Operation.Longest != nil {
		if p.OperationCharts, err = operationCharts(p.Operation.Longest); err != nil {
			return nil, err
		}
	}
	if p.Examples, err = readExamples(ctx, r); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

// operation is what all attempts at the run took together.
type operation struct {
	Attempts []*attempt
	// Longest is the attempt with the most generations, nil when none asked for any.
	Longest *attempt
	// Stages are what was asked for, in the order of the stages, and All their sum.
	Stages []stageCalls
	All    schemas.CallTally
	// Failures are final failures of the data as it is now.
	Failures []failures
	Seconds  float64
	Asking   float64
	// Tokens and GPUs are what it costs at the prices that were given; nil without them.
	Tokens, GPUs *float64
	Prices       estimate.Prices
}

type stageCalls struct {
	Stage string
	schemas.CallTally
}

type failures struct {
	Stage, Code string
	Calls       int64
}

// attempt is a file of operations/.
type attempt = summary.Operation

// readAttempts returns the attempts in the order in which they began.
func readAttempts(ctx context.Context, dir string) ([]*attempt, error) {
	files, err := store.List(ctx, store.Join(dir, sink.OperationsFolder)+"/")
	if err != nil {
		return nil, err
	}
	var attempts []*attempt
	for _, f := range files {
		if name := path.Base(f.Path); !strings.HasSuffix(name, ".json") || strings.Count(name, ".") != 1 {
			continue // counts of an attempt that was not complete
		}
		b, err := store.ReadFile(ctx, f.Path)
		if err != nil {
			return nil, err
		}
		var a attempt
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, fmt.Errorf("%s can't be read: %w; without the file the report leaves section 5 out", f.Path, err)
		}
		attempts = append(attempts, &a)
	}
	return attempts, nil
}

func newOperation(attempts []*attempt, run *schemas.Run, prices estimate.Prices) *operation {
	o := &operation{Attempts: attempts, Prices: prices}
	byStage := map[string]schemas.CallTally{}
	for _, a := range attempts {
		o.Seconds += a.Seconds
		o.Asking += a.AskingSeconds
		var all schemas.CallTally
		for stage, calls := range a.Calls {
			byStage[stage] = byStage[stage].Plus(calls)
			all = all.Plus(calls)
		}
		if all.Generations > 0 && (o.Longest == nil || all.Generations > generations(o.Longest)) {
			o.Longest = a
		}
		o.All = o.All.Plus(all)
	}
	for _, stage := range []string{schemas.StageGenerate, schemas.StageJudge, schemas.StageMeta} {
		if calls, ok := byStage[stage]; ok {
			o.Stages = append(o.Stages, stageCalls{stage, calls})
		}
		for code, n := range run.Stats.FailedCalls[stage] {
			o.Failures = append(o.Failures, failures{stage, code, n})
		}
	}
	slices.SortStableFunc(o.Failures, func(a, b failures) int { return strings.Compare(a.Stage+a.Code, b.Stage+b.Code) })
	o.Tokens, o.GPUs = prices.Tokens(o.All.PromptTokens, o.All.CompletionTokens), prices.Hours(o.Asking)
	return o
}

func generations(a *attempt) int64 {
	var n int64
	for _, calls := range a.Calls {
		n += calls.Generations
	}
	return n
}
