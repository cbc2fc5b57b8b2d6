// Package answerstest checks a parser of results against the tables of endings that people have read.
package answerstest

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// tables are the endings in the folder testdata of package judge: known ones, and sets that were written
// before the grammar had read them.
var tables = []string{
	"verdict-endings.jsonl", "held-out-endings.jsonl", "second-endings.jsonl", "third-endings.jsonl", "fourth-endings.jsonl",
	"fifth-endings.jsonl", "sixth-endings.jsonl", "seventh-endings.jsonl",
}

// An ending is a text with the reading that a person gives it, nil for a text without a result.
type ending[T any] struct {
	Kind     string `json:"kind"`
	Text     string `json:"text"`
	Expected *T     `json:"-"`
}

func read[T any](t *testing.T, name, kind string) []ending[T] {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "judge", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out []ending[T]
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e struct {
			ending[T]

			Expected json.RawMessage `json:"expected"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != kind { // the others have values of another type
			continue
		}
		if err := json.Unmarshal(e.Expected, &e.ending.Expected); err != nil {
			t.Fatal(err)
		}
		out = append(out, e.ending)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Check runs a parser on all endings of a kind, judge or meta. Of the endings that a person can read, the
// parser must read at least 95 %, and none wrongly. The test must run in a folder beside judge.
func Check[T comparable](t *testing.T, kind string, parse func(text string) (value T, unparsed string)) {
	t.Helper()
	for _, name := range tables {
		readable, right := 0, 0
		for _, e := range read[T](t, name, kind) {
			got, unparsed := parse(e.Text)
			switch {
			case e.Expected == nil && unparsed == "":
				t.Errorf("%s: %q: read as %v, which nobody says", name, e.Text, got)
			case e.Expected == nil:
			case unparsed != "":
				readable++
				t.Logf("%s: %q: not read (%s), want %v", name, e.Text, unparsed, *e.Expected)
			case got != *e.Expected:
				readable++
				t.Errorf("%s: %q: read as %v, want %v", name, e.Text, got, *e.Expected)
			default:
				readable++
				right++
			}
		}
		t.Logf("%s: %d of %d readable endings read", name, right, readable)
		if readable == 0 || 100*right < 95*readable {
			t.Errorf("%s: %d of %d readable endings read, want at least 95 %%", name, right, readable)
		}
	}
}

// Texts returns the endings of a kind.
func Texts(t *testing.T, kind string) []string {
	t.Helper()
	var out []string
	for _, name := range tables {
		for _, e := range read[any](t, name, kind) {
			out = append(out, e.Text)
		}
	}
	return out
}
