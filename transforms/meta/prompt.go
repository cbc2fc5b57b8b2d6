package meta

import (
	_ "embed"
	"strings"

	"coeval/transforms/judge"
	"coeval/transforms/prompting"
)

//go:embed meta.tmpl
var builtIn string

// parseTemplate returns the template of a source, the built-in one if it is empty.
func parseTemplate(source string) (*prompting.Template, error) {
	if source == "" {
		source = builtIn
	}
	turns, response := prompting.Conversation(prompting.SampleTurns), prompting.New("response", "sample response")
	a, b := prompting.New("judgment", "sample judgment a"), prompting.New("judgment", "sample judgment b")
	return prompting.ParseTemplate(prompting.Form{
		Name: "meta", Fields: ".Conversation, .Response, .JudgmentA and .JudgmentB",
		Sheets: []prompting.Sheet{newSheet(turns, response, a, b), newSheet(turns[1:2], response, a, b)},
		Shown:  []string{"sample last question", "sample response", "sample judgment a", "sample judgment b"},
	}, source)
}

// newSheet returns what a template sees, all quoted texts fenced.
// The conversation's items are its turns, a system message as the assistant's instructions.
func newSheet(turns []prompting.Text, response, first, second prompting.Text) prompting.Sheet {
	page := make([]prompting.Text, 0, len(turns)+3)
	page = append(append(page, turns...), response, first, second)
	return prompting.Sheet{
		"Rubric":       strings.TrimSpace(judge.Rubric),
		"Conversation": prompting.Fences(turns, page),
		"Response":     response.Fence(page),
		"JudgmentA":    first.Fence(page),
		"JudgmentB":    second.Fence(page),
	}
}
