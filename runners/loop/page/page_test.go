package page_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/runners/loop/decide"
	"coeval/runners/loop/page"
)

// The page shows the figures of each iteration, and "not known" for a missing figure.
func TestWrite(t *testing.T) {
	chars := 206.6
	entries := []page.Entry{
		{Iteration: 1, Preset: "paper-1", Report: "it-1/report.html"},
		{
			Iteration: 2, Preset: "paper-2", Report: "it-2/report.html", Chars: &chars, Best: true, Hours: 1.25, USD: 3,
			Gain: &decide.Estimate{Value: 0.6, Low: 0.5, High: 0.7}, Agreement: &decide.Agreement{Share: 0.75, Pairs: 40},
			Signs: "scores approach the maximum", Decision: "all 2 iterations are done",
		},
	}
	dir := t.TempDir()
	if err := page.Write(dir, "lc_win_rate", entries, 2, []string{"all 2 iterations are done"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, page.File))
	if err != nil {
		t.Fatal(err)
	}
	html := string(b)
	for _, want := range []string{"<td>207", "0.600", "(0.500 to 0.700)", "0.750", "of 40 pairs", "<td>1.25", "<td>3.00", "scores approach the maximum", "lc win rate"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(html, "not known"); n != 3 { // the first iteration's gain, agreement and characters
		t.Errorf("the page has %d figures that are not known, want 3", n)
	}
	if strings.Contains(html, "%!") {
		t.Errorf("the page has a value that was formatted by a wrong verb:\n%s", html)
	}
}
