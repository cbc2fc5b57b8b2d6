package pairwise_test

import (
	"strings"
	"testing"
	"unicode"

	"coeval/transforms/pairwise"
)

func TestParseVerdict(t *testing.T) {
	for _, test := range []struct {
		text     string
		verdict  pairwise.Verdict
		unparsed string
	}{
		{"Verdict: A>>B", pairwise.MuchBetter, ""},
		{"Verdict: A>B", pairwise.Better, ""},
		{"Verdict: A=B", pairwise.Tie, ""},
		{"Verdict: B>A", pairwise.Worse, ""},
		{"Verdict: B>>A", pairwise.MuchWorse, ""},
		{"Verdict: A<B", pairwise.Worse, ""},
		{"Verdict: B << A", pairwise.MuchBetter, ""},
		{"My reasons.\n\n**Verdict:** [[A>>B]]", pairwise.MuchBetter, ""},
		{"My final verdict is: [[B>A]].", pairwise.Worse, ""},
		{"Verdict: `A > B`", pairwise.Better, ""},
		{"Verdict: A&gt;B", pairwise.Better, ""},
		{"Verdict：A＞B", pairwise.Better, ""},
		{"Verdict: A ≫ B", pairwise.MuchBetter, ""},
		{"Verdict: A", pairwise.Better, ""},
		{"Verdict: A is worse.", "", pairwise.Ambiguous},
		{"Winner: A is the weaker answer", "", pairwise.Ambiguous},
		{"Verdict: A is clearly better", pairwise.Better, ""},
		{"Verdict: b", pairwise.Worse, ""},
		{"Verdict: Answer B", pairwise.Worse, ""},
		{"Verdict: Assistant A is better.", pairwise.Better, ""},
		{"Winner: B", pairwise.Worse, ""},
		{"Verdict: tie", pairwise.Tie, ""},
		{"Verdict: A>B because it is correct.", pairwise.Better, ""},
		{"Verdict: A>B\nVerdict: B>A", "", pairwise.Ambiguous},
		{"Verdict: A>B\nVerdict: A>B", pairwise.Better, ""},
		{"Verdict: A>>B\n\nWinner: A", pairwise.MuchBetter, ""},
		{"Winner: B\nVerdict: B>>A", pairwise.MuchWorse, ""},
		{"Verdict: A>>B\n\nWinner: B", "", pairwise.Ambiguous},
		{"Verdict: A=B\n\nWinner: A", "", pairwise.Ambiguous},
		{"Winner: A because it has no errors or omissions.", pairwise.Better, ""},
		{"Winner: A. It checks if the list is empty.", pairwise.Better, ""},
		{"Winner: A because it returns either a list or nothing.", pairwise.Better, ""},
		{"Winner: A, but only if the date is right.", "", pairwise.Ambiguous},
		{"Winner: A because it is right. If not, choose B.", "", pairwise.Ambiguous},
		{"Winner: A because it is right or B because it is short.", "", pairwise.Ambiguous},
		{"Verdict: A>B\nWait, that is wrong.", "", pairwise.Ambiguous},
		{"Verdict: A>B (B invents a date)", pairwise.Better, ""},
		{"Verdict: A>B (B is better)", "", pairwise.Ambiguous},
		{"Verdict: A>B (if the date is right)", "", pairwise.Ambiguous},
		{"Verdict: A, B", "", pairwise.Ambiguous},
		{"Verdict: B is better than A", pairwise.Worse, ""},
		{"Verdict: A is clearly better than B", pairwise.Better, ""},
		{"Verdict: A is not better than B", "", pairwise.Ambiguous},
		{"Verdict: B is no better than A", "", pairwise.Ambiguous},
		{"Verdict: A is hardly better than B", "", pairwise.Ambiguous},
		{"Verdict: A is certainly not better than B", "", pairwise.Ambiguous},
		{"Verdict: A is not the winner", "", pairwise.Ambiguous},
		{"Winner: A as well as B", "", pairwise.Ambiguous},
		{"Winner: A, as well as B", "", pairwise.Ambiguous},
		{"Winner: A as much as B", "", pairwise.Ambiguous},
		{"Winner: A as it has the date that B lacks.", pairwise.Better, ""},
		{"Winner: A, as answer B invents a date.", pairwise.Better, ""},
		{`{"reasoning": "x", "verdict": "B>>A"}`, pairwise.MuchWorse, ""},
		{"Verdict: A>B, or rather B>A", "", pairwise.Ambiguous},
		{"Verdict: A>A", "", pairwise.Ambiguous},
		{"Verdict: better", "", pairwise.Ambiguous},
		{"Verdict: not A", "", pairwise.Ambiguous},
		{"Verdict: A and B are close, A>B", "", pairwise.Ambiguous},
		{"Verdict: <A>>B, A>B, A=B, B>A or B>>A>", "", pairwise.Missing}, // the instruction's placeholder
		{"A is the better answer.", "", pairwise.Missing},
		{"It says:\n> Verdict: A>B", "", pairwise.Quoted},
		{"```\nVerdict: A>B\n```", pairwise.Better, ""}, // a block of its own
		{"It says:\n```\nVerdict: A>B\n```", "", pairwise.Quoted},
		{" \n", "", pairwise.Empty},
	} {
		verdict, unparsed := pairwise.ParseVerdict(test.text, "stop", pairwise.Five)
		if verdict != test.verdict || unparsed != test.unparsed {
			t.Errorf("ParseVerdict(%q) = %q, %q; want %q, %q", test.text, verdict, unparsed, test.verdict, test.unparsed)
		}
	}
	if _, unparsed := pairwise.ParseVerdict("Verdict: A>B", "length", pairwise.Five); unparsed != pairwise.CutOff {
		t.Errorf("a text that was cut off has the reason %q", unparsed)
	}
}

// On the scale of two, degrees fall together and a tie is no verdict.
func TestParseVerdictOfTwo(t *testing.T) {
	for text, want := range map[string]pairwise.Verdict{
		"Verdict: A>>B": pairwise.Better, "Verdict: A": pairwise.Better, "Verdict: B>>A": pairwise.Worse, "Verdict: A=B": "",
	} {
		if got, _ := pairwise.ParseVerdict(text, "stop", pairwise.Two); got != want {
			t.Errorf("ParseVerdict(%q) = %q; want %q", text, got, want)
		}
	}
}

// Swapping the letters of a text swaps its verdict, and a verdict without a verdict line is none.
func FuzzParseVerdict(f *testing.F) {
	for _, seed := range []string{"[[A", "[[B>A]]", "Verdict: A>>B", "**Verdict:** [[B>A]].", "Verdict: A=B", "Winner: B", "Verdict: <A or B>", `{"verdict":"A"}`} {
		f.Add(seed)
	}
	swap := strings.NewReplacer("A", "B", "B", "A")
	opposite := map[pairwise.Verdict]pairwise.Verdict{
		pairwise.MuchBetter: pairwise.MuchWorse, pairwise.Better: pairwise.Worse, pairwise.Tie: pairwise.Tie,
		pairwise.Worse: pairwise.Better, pairwise.MuchWorse: pairwise.MuchBetter, "": "",
	}
	f.Fuzz(func(t *testing.T, text string) {
		verdict, unparsed := pairwise.ParseVerdict(text, "stop", pairwise.Five)
		if (verdict == "") == (unparsed == "") {
			t.Fatalf("ParseVerdict(%q) = %q, %q", text, verdict, unparsed)
		}
		lower := strings.ToLower(text)
		if verdict != "" && !strings.Contains(lower, "verdict") && !strings.Contains(lower, "winner") &&
			!strings.Contains(text, "{") && !strings.Contains(text, "]]") { // JSON may escape the key, and brackets need none
			t.Fatalf("ParseVerdict(%q) = %q without a label", text, verdict)
		}
		// A word with the letters A or B would not survive the swap, so that only the label is allowed.
		rest := strings.NewReplacer("Verdict", "", "Winner", "", "A", "", "B", "").Replace(text)
		if strings.ContainsFunc(rest, func(r rune) bool { return unicode.IsLetter(r) || r == '&' || r == '\\' }) {
			return
		}
		if swapped, _ := pairwise.ParseVerdict(swap.Replace(text), "stop", pairwise.Five); swapped != opposite[verdict] {
			t.Fatalf("ParseVerdict(%q) = %q, and swapped %q", text, verdict, swapped)
		}
	})
}
