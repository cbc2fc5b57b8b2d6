package meta

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/judge/quote"
)

//go:embed meta.tmpl
var builtIn string

// sheet is what a template sees. All quoted texts are fenced.
type sheet struct {
	Rubric string
	// Conversation holds the turns, a system message as the assistant's instructions.
	Conversation         []string
	Response             string
	JudgmentA, JudgmentB string
}

// promptTemplate is a template with the digest of all that decides what it renders.
type promptTemplate struct {
	text   *template.Template
	digest string
}

// sample is rendered to find out what a template does.
var sample = []schemas.Message{
	{Role: "system", Content: "sample instructions"},
	{Role: "user", Content: "sample question"},
	{Role: "assistant", Content: "sample answer"},
	{Role: "user", Content: "sample last question"},
}

// parseTemplate returns the template of a source, the built-in one if it is empty.
func parseTemplate(source string) (promptTemplate, error) {
	if source == "" {
		source = builtIn
	}
	text, err := template.New("meta").Parse(source)
	if err != nil {
		return promptTemplate{}, fmt.Errorf("meta: template: %w", err)
	}
	t := promptTemplate{text: text}
	rendered, err := t.messages(sample, "sample response", "sample judgment a", "sample judgment b")
	if err != nil {
		return promptTemplate{}, err
	}
	for _, part := range []string{"sample last question", "sample response", "sample judgment a", "sample judgment b"} {
		if !strings.Contains(rendered[0].Content, part) {
			return promptTemplate{}, errors.New("meta: template: it must show .Conversation, .Response, .JudgmentA and .JudgmentB")
		}
	}
	if _, err := t.messages(sample[1:2], "sample response", "sample judgment a", "sample judgment b"); err != nil {
		return promptTemplate{}, err
	}
	t.digest = schemas.Digest(source, rendered[0].Content)
	return t, nil
}

func (t promptTemplate) messages(conversation []schemas.Message, response, first, second string) ([]schemas.Message, error) {
	page := []string{response, first, second}
	for _, m := range conversation {
		page = append(page, m.Content)
	}
	var b strings.Builder
	b.Grow(quote.Room(page))
	err := t.text.Execute(&b, sheet{
		Rubric:       strings.TrimSpace(judge.Rubric),
		Conversation: quote.Conversation(conversation, page...),
		Response:     quote.Fence("response", response, page...),
		JudgmentA:    quote.Fence("judgment", first, page...),
		JudgmentB:    quote.Fence("judgment", second, page...),
	})
	if err != nil {
		return nil, fmt.Errorf("meta: template: %w", err)
	}
	return []schemas.Message{{Role: "user", Content: strings.TrimSpace(b.String())}}, nil
}
