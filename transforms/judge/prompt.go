package judge

import (
	_ "embed"
	"slices"
	"strings"

	"coeval/schemas"
	"coeval/transforms/prompting"
)

// Rubric is the additive rubric of five points.
//
//go:embed rubric.txt
var Rubric string

//go:embed judge.tmpl
var builtIn string

// A Template renders what the judge is asked.
type Template struct{ quoting *prompting.Template }

// ParseTemplate returns the template of a source, the built-in one if it is empty. It returns
// an error if the source is no text/template that shows the last turn and the response.
func ParseTemplate(source string) (Template, error) {
	if source == "" {
		source = builtIn
	}
	turns, response := prompting.Conversation(prompting.SampleTurns), prompting.New("response", "sample response")
	t, err := prompting.ParseTemplate(prompting.Form{
		Name: "judge", Fields: ".Conversation and .Response",
		Sheets: []prompting.Sheet{newSheet(turns, response), newSheet(turns[1:2], response)}, Shown: []string{"sample last question", "sample response"},
	}, source)
	return Template{t}, err
}

// Messages returns what the judge is asked about a response to a conversation. It depends on
// the template and the texts alone.
func (t Template) Messages(conversation []schemas.Message, response string) ([]schemas.Message, error) {
	return t.render(prompting.Conversation(conversation), prompting.New("response", response))
}

// Digest identifies all of what the judge is asked but for the quoted texts.
func (t Template) Digest() string { return t.quoting.Digest }

func (t Template) render(turns []prompting.Text, response prompting.Text) ([]schemas.Message, error) {
	return t.quoting.Render(newSheet(turns, response))
}

// newSheet returns what a template sees, all quoted texts fenced.
// The conversation's items are its turns, a system message as the assistant's instructions.
func newSheet(turns []prompting.Text, response prompting.Text) prompting.Sheet {
	page := append(slices.Clone(turns), response)
	return prompting.Sheet{
		"Rubric":       strings.TrimSpace(Rubric),
		"Conversation": prompting.Fences(turns, page),
		"Response":     response.Fence(page),
	}
}
