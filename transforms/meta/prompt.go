package meta

import (
	_ "embed"
	"strings"

	"coeval/transforms/judge"
	"coeval/transforms/prompting"
)

//go:embed builtin/meta.tmpl
var builtIn string

//go:embed builtin/read.tmpl
var builtInRead string

//go:embed builtin/2026-11.tmpl
var builtIn2026November string

// A comparisonTemplate renders the messages for the meta-judge.
type comparisonTemplate struct {
	rendering              *prompting.Template
	rubric                 string
	perText                bool
	asksMetadata, asksMore bool
	// labels are the labels of a read; empty for a comparison in words.
	labels   string
	asksRead bool
}

// parseTemplate returns the template of the options. The templates have the names of the
// judge's.
func parseTemplate(o Options) (*comparisonTemplate, error) {
	t := &comparisonTemplate{rubric: strings.TrimSpace(o.Rubric)}
	source := o.Template
	switch source {
	case "", judge.BuiltIn:
		source = builtIn
		if o.Role.Read != nil {
			source = builtInRead
		}
	case judge.BuiltIn2026November:
		source, t.perText = builtIn2026November, true
	}
	if o.Role.Read != nil {
		t.labels = judge.JoinLabels(o.Role.Read.Labels)
		source = judge.ReadForm(source)
	}
	t.asksRead = judge.AsksRead(source)
	if t.rubric == "" {
		t.rubric = judge.BuiltInRubric(o.Template)
	}
	t.asksMetadata, t.asksMore = judge.AsksMetadata(source), judge.AsksMore(source)
	response := prompting.Text{Name: "response", Text: "sample response"}
	a, b := prompting.Text{Name: "judgment", Text: "sample judgment a"}, prompting.Text{Name: "judgment", Text: "sample judgment b"}
	all, one := prompting.NewConversation(prompting.SampleTurns), prompting.NewConversation(prompting.SampleTurns[1:2])
	var err error
	t.rendering, err = prompting.ParseTemplate(prompting.Form{
		Name: "meta", Fields: ".Conversation or .Question, .Response, .JudgmentA and .JudgmentB",
		Samples: []prompting.Data{t.data(all, judge.SampleMetadata, response, a, b), t.data(one, "{}", response, a, b)},
		Shown:   []string{"sample last question", "sample response", "sample judgment a", "sample judgment b"},
	}, source)
	return t, err
}

// data returns the fields of a template: those of the judge's and the two judgments.
func (t *comparisonTemplate) data(c *prompting.Conversation, metadata string, response, first, second prompting.Text) prompting.Data {
	others := []prompting.Text{response, first, second}
	var known judge.Metadata
	if t.asksMetadata {
		known = judge.ReadMetadata(metadata)
		others = append(others, known.Reference)
	}
	page := judge.NewPage(t.perText, c, others...)
	data := prompting.Data{
		"Rubric": t.rubric, "Conversation": page.Conversation(), "Response": page.Fence(response),
		"JudgmentA": page.Fence(first), "JudgmentB": page.Fence(second),
	}
	if t.asksRead {
		data["Read"], data["Labels"] = t.labels != "", t.labels
	}
	if t.asksMore {
		judge.AddQuestion(data, page, c)
		known.AddTo(data, page)
		raw := data["Raw"].(map[string]any)
		raw["Response"], raw["JudgmentA"], raw["JudgmentB"] = response.Text, first.Text, second.Text
	}
	return data
}
