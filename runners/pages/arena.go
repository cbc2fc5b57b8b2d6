package pages

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"

	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/runners/arena"
)

//go:embed arena.tmpl
var arenaText string

var arenaTemplate = template.Must(template.New("arena").Funcs(template.FuncMap{
	"comma64": func(n int) string { return comma(int64(n)) }, "percent": percent, "line": visibleLine, "signed": signed, "whole": wholeOf,
	"place": place,
	"style": func() template.CSS { return template.CSS(pageStyle) }, //nolint:gosec // our own file
}).Parse(arenaText))

// WriteArena writes the page of an arena into its folder and returns its name.
func WriteArena(ctx context.Context, dir string, r *arena.Report) (string, error) {
	var b bytes.Buffer
	if err := arenaTemplate.Execute(&b, r); err != nil {
		return "", fmt.Errorf("arena: %w", err)
	}
	name := store.Join(dir, arena.PageFile)
	return name, rundir.WriteOwn(ctx, name, b.Bytes(), rundir.IsPage)
}

// The interval's picture is a line from 0 to 100 %, in units of the picture.
const lineStart, lineLength = 10.0, 200.0

// place returns where a share lies on the line.
func place(share float64) float64 { return lineStart + lineLength*share }
