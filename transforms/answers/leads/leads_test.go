package leads

import (
	"testing"

	"coeval/transforms/answers/prose"
)

func isLabel(word string) bool { return word == "score" }

func TestOnly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"":                           true,
		"so my final ":               true,
		"1. based on the rubric, ":   true,
		"score: ":                    true, // a label before the label
		"insgesamt ergibt sich der ": true,
		"综合来看，":                      true,
		"the reviewer's ":            true,
		"the paper's ":               false,
		"step 2 – ":                  true,
		"if it were longer, the ":    false,
	} {
		if got := Only(prose.Fold(text), isLabel); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                        "",
		" awarded: 4":             " awarded",
		" of the response is 4":   " of the response",
		" for this answer: 4":     " for this answer",
		" depends on":             "",
		"s: 4":                    "", // a part of the label's own word
		" de la réponse\u00a0: 4": " de la réponse",
	} {
		if got := text[:After(text)]; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestHasTotal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"score": false, "total score": true, "итоговая оценка": true, "总分": true, "subtotal": false} {
		if got := HasTotal(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// The check that spares most texts the expression of list numbers never keeps a match from it.
func FuzzListNumber(f *testing.F) {
	for _, s := range []string{"", "1. form: 4", "(2) form", "step 2: form", "step ٢: form", "form 4", "two. form"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if folded := prose.Fold(s); listNumber.MatchString(folded) && !prose.HasDigit(folded) {
			t.Errorf("%q has no digit, and a list number", folded)
		}
	})
}
