// Package pages renders the pages for people: the report of a run, the comparison of runs, the calibration
// of a judge, and an arena.
//
// A page is one HTML file without scripts that loads nothing. It follows the reader's light or dark
// theme, and fits paper and screens of 360 pixels or more. Untrusted text cannot run or load anything:
// html/template escapes it, and package sanitize makes control characters visible. A content policy in the
// page forbids the browser from running or loading anything.
//
// A figure that can't be computed reads "not known", and a sentence replaces a chart that can't be
// drawn. The rest of the page is written nevertheless. Pages contain no render time, so the same run
// always gives the same page.
package pages

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"

	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/runners/estimate"
	"coeval/runners/figures"
	"coeval/runners/operation"
	"coeval/runners/pages/charts"
	"coeval/runners/pages/examples"
	"coeval/runners/runs"
	"coeval/runners/summary"
	"coeval/schemas/sanitize"
)

// File is the name of the page in the run's folder.
const File = "report.html"

// Options are the parts of a report that don't come from the run.
type Options struct {
	// File is the path of the page. Empty means [File] in the run's folder.
	File   string
	Prices estimate.Prices
}

// page is the data of the template.
type page struct {
	Run       *runs.Run
	Figures   *figures.Figures
	Summary   *summary.Summary
	Sentences []string
	Checks    []check
	// Config is run.json's config, indented, and Seed the run's seed in it.
	Config, Seed string
	Warnings     []string
	Tiles        []tile
	Dropped      []dropped
	// Charts are by section.
	ScoreCharts, LengthCharts, MetaCharts, OperationCharts []charts.Chart
	Operation                                              *operation.Operation
	Examples                                               []examples.Group
}

//go:embed page.tmpl
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"add": func(a, b int) int { return a + b }, "comma": comma, "elo": elo, "needed": neededJudgments, "sorted": sorted, "even": isEven,
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
	if name = o.File; name == "" {
		name = store.Join(r.Dir, File)
	}
	return f, name, rundir.WriteOwn(ctx, name, html, rundir.IsPage)
}

// render returns the page.
func render(ctx context.Context, r *runs.Run, f *figures.Figures, o Options) ([]byte, error) {
	calls, err := operation.Of(ctx, r, o.Prices)
	if err != nil {
		return nil, err
	}
	p := &page{Run: r, Figures: f, Operation: calls}
	p.Config, p.Seed = configOf(r.Manifest.Config)
	if p.Summary, err = summaryOf(ctx, r); err != nil {
		return nil, err
	}
	p.Checks = checksOf(p.Summary, f)
	p.Warnings = slices.Concat(p.Summary.Warnings, warningsOf(p.Checks))
	p.Sentences, p.Tiles, p.Dropped = sentences(p.Summary, f, len(p.Warnings)), tiles(p.Summary, f), drops(p.Summary)
	p.ScoreCharts, p.LengthCharts = scoreCharts(&f.Scores), lengthCharts(&f.Length, f.Scores.Highest)
	if f.Meta != nil && f.Meta.Verdicts > 0 {
		p.MetaCharts = metaCharts(f.Meta, f.Scores.Highest)
	}
	if p.Operation.Longest != nil {
		p.OperationCharts = operationCharts(p.Operation.Longest)
	}
	if p.Examples, err = examples.Read(ctx, r); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

// summaryOf returns the summary of a finished run, without the figures of an attempt.
func summaryOf(ctx context.Context, r *runs.Run) (*summary.Summary, error) {
	var settings summary.Operation // of an attempt the summary needs these settings only
	settings.Config.Actor.Temperature, settings.Config.Actor.MaxTokens = &r.Settings.Actor.Role.Temperature, r.Settings.Actor.Role.MaxTokens
	settings.Config.Judge.MaxTokens, settings.Config.Method = r.Settings.Judge.Role.MaxTokens, r.Settings.Method
	s := summary.New(r.Manifest, &settings)
	err := s.AddFailures(ctx, r)
	return s, err
}

// configOf returns a config as people read it, and its seed.
func configOf(config json.RawMessage) (indented, seed string) {
	var b bytes.Buffer
	if json.Indent(&b, config, "", "  ") != nil {
		return "", ""
	}
	var fields struct {
		Seed json.Number `json:"seed"`
	}
	if json.Unmarshal(config, &fields) == nil {
		seed = fields.Seed.String()
	}
	return sanitize.Text(b.String()), seed
}
