package elements

import (
	"slices"
	"testing"
)

func TestLabel(t *testing.T) {
	for text, want := range map[string]string{
		"no element":                         "no element",
		"<score>4</score>":                   "score: 4 ",
		"<Final_Score>\n4\n</Final_Score>":   "\nfinal score: 4\n ",
		"<answer>4</answer>":                 "RESULT: 4 ",
		"[SCORE]4[/SCORE]":                   "score: 4 ",
		"<score>4":                           "score: 4",
		"<score>your score":                  "<score>your score",
		"<b>fine</b>":                        " fine ",
		"<form>short</form><score>1</score>": " short… score: 1 ",
	} {
		if got := Label(text, "RESULT"); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestThoughtEnds(t *testing.T) {
	if got := ThoughtEnds("<think>\nwell\n</think>\nScore: 4 </Draft>"); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("thoughts end on the lines %d", got)
	}
}
