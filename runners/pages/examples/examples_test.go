package examples

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/schemas/sanitize"
)

func TestDiffering(t *testing.T) {
	a, b := differing("The answer is good. Score: 4", "The answer is very good. Score: 2")
	if got, want := marked(a), "The answer is good. Score: [4]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// Which of the blanks belongs to the word more is the diff's choice.
	if got, want := marked(b), "The answer is [very ]good. Score: [2]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Marked or not, the spans together are the text.
func FuzzDiffering(f *testing.F) {
	f.Add("a b c", "a x c")
	f.Add("", "only one")
	f.Add("\x1b one  two\n", "one\ttwo \u202e\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		left, right := differing(a, b)
		for _, c := range []struct {
			shown Text
			said  string
		}{{left, a}, {right, b}} {
			var got strings.Builder
			for _, s := range c.shown.Spans {
				got.WriteString(s.Text)
			}
			head, cut := sanitize.Cut(c.said, maxText)
			if want := sanitize.Text(head); got.String() != want || c.shown.Left != cut {
				t.Errorf("%q is shown as %q with %d left", c.said, got.String(), c.shown.Left)
			}
		}
	})
}

func marked(t Text) string {
	var b strings.Builder
	for _, s := range t.Spans {
		if s.Marked {
			fmt.Fprintf(&b, "[%s]", s.Text)
		} else {
			b.WriteString(s.Text)
		}
	}
	return b.String()
}

func TestPicks(t *testing.T) {
	picks := newPicks()
	for _, p := range []schemas.Pair{
		{ID: "a", ScoreMargin: 2, ChosenChars: 5},
		{ID: "b", ScoreMargin: -3},
		{ID: "c", ScoreMargin: 0.5},
		{ID: "d", ScoreMargin: 3},
		{ID: "e", ScoreMargin: 2, ChosenChars: 9},
		{ID: "f", ScoreMargin: -0.5},
		{ID: "g", ScoreMargin: 1},
	} {
		for k := range picks {
			picks[k].offer(&p)
		}
	}
	got := map[string]string{}
	for _, pick := range picks {
		for _, p := range pick.best {
			got[pick.title] += p.ID
		}
	}
	// Of equals the lower ID: a before e, c before f.
	want := map[string]string{"Widest margins": "da", "Narrowest margins": "cf", "Lower score chosen": "b", "Longest chosen": "e"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
