package world

import (
	"strings"
	"testing"

	"coeval/schemas"
)

// A text in a form ends with the allowed value that is nearest to the world's own, after reasoning of at most
// the form's length. An object without reasoning has the value alone.
func TestForm(t *testing.T) {
	score := &Question{Role: schemas.RoleJudge}
	for _, c := range []struct {
		name         string
		form         Form
		q            *Question
		before, said string
		want         string
	}{
		{"a score", Form{Reasoning: 8, Label: "Score", Values: []string{"0", "2", "4"}}, score, "Reasons.", "3.5", "Reasons.\nScore: 4"},
		{"cut inside ö", Form{Reasoning: 2, Label: "Score", Values: []string{"0", "5"}}, score, "hör", "1", "h\nScore: 0"},
		{"an allowed verdict", Form{Label: "Winner", Values: []string{"A", "B"}}, &Question{Role: schemas.RoleMetaJudge}, "x", "B", "\nWinner: B"},
		{"another verdict", Form{Label: "Winner", Values: []string{"X", "Y"}}, &Question{Hash: 3}, "x", "B", "\nWinner: Y"},
		{"an object", Form{Reasoning: 1, Label: "score", Values: []string{"1"}, JSON: true}, score, "ab", "1", `{"reasoning":"a","score":"1"}`},
		{"a value alone", Form{Label: "score", Values: []string{"1"}, JSON: true}, score, "ab", "1", `{"score":"1"}`},
	} {
		if got := c.form.verdict(c.q, c.before, c.said); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The tokens of a text of single bytes are the text.
func TestTokens(t *testing.T) {
	c := Choice{Text: "nine byte", Tokens: 3}
	var b strings.Builder
	for i := range c.Tokens + 1 {
		b.WriteString(c.Token(i))
	}
	if b.String() != c.Text || c.Token(2) != "e" {
		t.Errorf("the tokens are %q", b.String())
	}
	if got := (&Choice{Text: "abcö"}).Token(0); got != "abc" {
		t.Errorf("the first token is %q: ö begins in it and ends in the next", got)
	}
}
