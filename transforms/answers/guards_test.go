package answers

import (
	"strings"
	"testing"

	"coeval/transforms/answers/prose"
)

// The checks that spare most texts an expression never keep a match from it.
func FuzzGuards(f *testing.F) {
	for _, s := range []string{
		"", " ", "(0-5): 4", " [out of 5]", "\t/5", ", out of five", "using the scale of 0-5", "von 5 punkten", "из 5", "sur 5", "de 5", "\u00a0(5)", "\v(5)", "x(5)",
		": 4", " := 4", "\u201d) - 4", " x: 4", "4: 4", "\u2192 4", "\ufe0f: 4", "\v: 4",
		"1. Form: 4", "step 2: Form", "\u2022 Form : 4", "Form 4",
		"User:", "## Response 2", "q 1:", "question 2", "RESPONSE B", "(_ task two", "u\u017fer: hi", "ta\u212a 2", "reply", "Example 2", "answer to grade", "###answer to grade",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded := prose.Fold(strings.ReplaceAll(s, "\n", " "))
		if got, want := noteAt(folded), notes.FindString(folded); got != want {
			t.Errorf("the note at the beginning of %q is %q, the expression finds %q", folded, got, want)
		}
		if sep := separator.FindString(folded); sep != "" && isASCIILetter(nextByte(folded)) {
			t.Errorf("%q begins with a letter, and with the separator %q", folded, sep)
		}
		if head := headed.FindString(folded); head != "" && !strings.Contains(folded, ":") {
			t.Errorf("%q has no colon, and the heading %q", folded, head)
		}
		begin := strings.TrimLeft(s, " \t\r\v\f#*>-[(_\"")
		if begin != "" && isASCIILetter(begin[0]) && (turnMark.MatchString(s) || len(s) <= maxSubject && subject.MatchString(s)) && !startsTurn(s) {
			t.Errorf("%q begins a turn by the expressions alone", s)
		}
	})
}
