package labels

import (
	"slices"
	"strings"
	"testing"
)

// Of the labels that begin at one place, the longest is found, with spaces or hyphens between its words.
func TestPlaces(t *testing.T) {
	x := NewIndex(slices.Values([]string{"score", "final score", "评分", "a"}))
	for line, want := range map[string][]string{
		"my final score: 4, score 3": {"final score", "score"},
		"final-score":                {"final-score"},
		"final  - score":             {"final  - score"},
		"final. score":               {"score"},
		"scores underscore":          {"score"}, // IsWord rejects it
		"最终评分：4":                     {"评分"},
		"a":                          {"a"},
		"":                           nil,
	} {
		var got []string
		for _, at := range x.Places(line) {
			got = append(got, line[at.Start:at.End])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q has the labels %q, want %q", line, got, want)
		}
	}
}

func TestIsWord(t *testing.T) {
	for _, tt := range []struct {
		text, label string
		want        bool
	}{
		{"score: 4", "score", true},
		{"scores: 4", "score", false},
		{"underscore", "score", false},
		{"(score)", "score", true},
		{"最终评分为", "评分", true},
		{"оценка", "оценк", false},
	} {
		at := strings.Index(tt.text, tt.label)
		if got := IsWord(tt.text, at, at+len(tt.label)); got != tt.want {
			t.Errorf("%q in %q is a word: %t", tt.label, tt.text, got)
		}
	}
}
