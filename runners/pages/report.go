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
package pages

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"slices"

	"coeval/datasets/store"
	"coeval/runners/estimate"
	"coeval/runners/figures"
	"coeval/runners/runs"
	"coeval/runners/summary"
)

// File is the name of the page in the run's folder.
const File = "report.html"

// Options say what the page tells beside the run itself.
type Options struct {
	Prices estimate.Prices
}

// page is what the template shows.
type page struct {
	Run      *runs.Run
	Figures  *figures.Figures
	Summary  *summary.Summary
	Verdict  []string
	Warnings []string
	Tiles    []tile
	Dropped  []dropped
	// Charts are by section.
	ScoreCharts, LengthCharts, MetaCharts, OperationCharts []Chart
	Operation                                              *Operation
	Examples                                               []exampleGroup
}

//go:embed page.tmpl
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"comma": comma, "elo": elo, "sorted": sorted, "even": isEven,
	"comma64": func(n int) string { return comma(int64(n)) }, "percent": percent, "signed": signed, "points": points, "money": estimate.Amount, "line": visibleLine, "duration": duration, "cost": costOf, "seconds": secondsOf, "per": per, "whole": wholeOf,
	"style": func() template.CSS { return template.CSS(pageStyle) }, //nolint:gosec // our own file
}).Parse(pageText))

// Write computes the figures of a run and writes its page. It returns both.
func Write(ctx context.Context, r *runs.Run, o Options) (f *figures.Figures, name string, err error) {
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
func render(ctx context.Context, r *runs.Run, f *figures.Figures, o Options) ([]byte, error) {
	operation, err := OperationOf(ctx, r, o.Prices)
	if err != nil {
		return nil, err
	}
	p := &page{Run: r, Figures: f, Operation: operation}
	var settings summary.Operation // of an attempt the summary takes no more than this
	settings.Config.Actor.Temperature = r.Settings.Actor.Role.Temperature
	p.Summary = summary.New(r.Manifest, &settings)
	p.Warnings = slices.Concat(p.Summary.Warnings, warnings(f))
	p.Verdict, p.Tiles, p.Dropped = verdict(p.Summary, f, len(p.Warnings)), tiles(p.Summary, f), drops(p.Summary)
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
