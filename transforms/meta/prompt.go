package meta

import (
	_ "embed"
	"strings"

	"coeval/transforms/judge"
	"coeval/transforms/judge/quote"
)

//go:embed meta.tmpl
var builtIn string

// parseTemplate returns the template of a source, the built-in one if it is empty.
func parseTemplate(source string) (*quote.Template, error) {
	if source == "" {
		source = builtIn
	}
	turns, response := quote.Conversation(quote.SampleTurns), quote.New("response", "sample response")
	a, b := quote.New("judgment", "sample judgment a"), quote.New("judgment", "sample judgment b")
	return quote.ParseTemplate(quote.Form{
		Name: "meta", Fields: ".Conversation, .Response, .JudgmentA and .JudgmentB",
		Sheets: []quote.Sheet{newSheet(turns, response, a, b), newSheet(turns[1:2], response, a, b)},
		Shown:  []string{"sample last question", "sample response", "sample judgment a", "sample judgment b"},
	}, source)
}

// newSheet returns what a template sees, all quoted texts fenced.
// The conversation's items are its turns, a system message as the assistant's instructions.
func newSheet(turns []quote.Text, response, first, second quote.Text) quote.Sheet {
	page := make([]quote.Text, 0, len(turns)+3)
	page = append(append(page, turns...), response, first, second)
	return quote.Sheet{
		"Rubric":       strings.TrimSpace(judge.Rubric),
		"Conversation": quote.Fences(turns, page),
		"Response":     response.Fence(page),
		"JudgmentA":    first.Fence(page),
		"JudgmentB":    second.Fence(page),
	}
}
