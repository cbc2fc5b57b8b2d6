package judge

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"coeval/schemas"
	"coeval/transforms/judge/quote"
)

// Rubric is the additive rubric of five points.
//
//go:embed rubric.txt
var Rubric string

//go:embed judge.tmpl
var builtIn string

// sheet is what a template sees. All quoted texts are fenced.
type sheet struct {
	Rubric string
	// Conversation holds the turns, a system message as the assistant's instructions.
	Conversation []string
	// Response is the answer to judge.
	Response string
}

// Messages returns what the judge is asked about a response to a prompt. It depends on
// o.Template and the texts alone.
func Messages(o Options, prompt schemas.Prompt, responseText string) ([]schemas.Message, error) {
	t, err := parseTemplate(o.Template)
	if err != nil {
		return nil, err
	}
	return t.messages(prompt.Messages, responseText)
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
	text, err := template.New("judge").Parse(source)
	if err != nil {
		return promptTemplate{}, fmt.Errorf("judge: template: %w", err)
	}
	t := promptTemplate{text: text}
	rendered, err := t.messages(sample, "sample response")
	if err != nil {
		return promptTemplate{}, err
	}
	if !strings.Contains(rendered[0].Content, "sample last question") || !strings.Contains(rendered[0].Content, "sample response") {
		return promptTemplate{}, errors.New("judge: template: it must show .Conversation and .Response")
	}
	if _, err := t.messages(sample[1:2], "sample response"); err != nil {
		return promptTemplate{}, err
	}
	t.digest = schemas.Digest(source, rendered[0].Content)
	return t, nil
}

func (t promptTemplate) messages(conversation []schemas.Message, responseText string) ([]schemas.Message, error) {
	page := []string{responseText}
	for _, m := range conversation {
		page = append(page, m.Content)
	}
	var b strings.Builder
	b.Grow(quote.Room(page))
	err := t.text.Execute(&b, sheet{
		Rubric:       strings.TrimSpace(Rubric),
		Conversation: quote.Conversation(conversation, page...),
		Response:     quote.Fence("response", responseText, page...),
	})
	if err != nil {
		return nil, fmt.Errorf("judge: template: %w", err)
	}
	return []schemas.Message{{Role: "user", Content: strings.TrimSpace(b.String())}}, nil
}
