package judge

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"strings"

	"coeval/schemas"
	"coeval/transforms/judge/points"
	"coeval/transforms/prompting"
)

// Rubric is the built-in additive rubric of five points.
//
//go:embed builtin/rubric.txt
var Rubric string

//go:embed builtin/judge.tmpl
var builtIn string

// builtInRead is the built-in prompt of a read. It begins as that of a judgment does, so that servers
// which keep prefixes read both once.
//
//go:embed builtin/read.tmpl
var builtInRead string

// The built-in prompt of November 2026, whose journals replay under its name.
var (
	//go:embed builtin/2026-11.tmpl
	builtIn2026November string
	//go:embed builtin/rubric-2026-11.txt
	rubric2026November string
)

// The names of the built-in templates of judge and meta-judge, the current one first. Journals
// replay only with the template that they were made with. A run.json without a template is of
// a run with the one of November 2026.
const (
	BuiltIn             = "builtin:2026-12"
	BuiltIn2026November = "builtin:2026-11"
)

// A Template renders the messages for the judge.
type Template struct {
	rendering *prompting.Template
	rubric    string
	scale     points.Scale
	// labels are the labels of a read; empty for a judgment.
	labels string
	// perText reports whether each quoted text has a separate code.
	perText bool
	// asksMetadata reports whether the template shows .Reference or .Metadata, and asksMore whether it
	// shows any other field that the built-in template doesn't.
	asksMetadata, asksMore, asksRead bool
}

// ParseTemplate returns the template of the options. It returns an error if it is no
// text/template that shows the last turn and the response.
func ParseTemplate(o Options) (Template, error) {
	o = o.withDefaults()
	t := Template{rubric: o.rubric(), scale: o.Scale}
	source := o.Template
	switch source {
	case "", BuiltIn:
		source = builtIn
		if o.Role.Read != nil {
			source = builtInRead
		}
	case BuiltIn2026November:
		source, t.perText = builtIn2026November, true
	}
	if o.Role.Read != nil {
		t.labels = JoinLabels(o.Role.Read.Labels)
		source = ReadForm(source)
	}
	t.asksRead = AsksRead(source)
	t.asksMetadata = AsksMetadata(source)
	t.asksMore = AsksMore(source)
	response := prompting.Text{Name: "response", Text: "sample response"}
	all, one := prompting.NewConversation(prompting.SampleTurns), prompting.NewConversation(prompting.SampleTurns[1:2])
	var err error
	t.rendering, err = prompting.ParseTemplate(prompting.Form{
		Name: "judge", Fields: ".Conversation or .Question, and .Response",
		Samples: []prompting.Data{t.data(all, SampleMetadata, response), t.data(one, "{}", response)},
		Shown:   []string{"sample last question", "sample response"},
	}, source)
	return t, err
}

// rubric returns the rubric that the judge and the meta-judge see.
func (o Options) rubric() string {
	if o.Rubric != "" {
		return strings.TrimSpace(o.Rubric)
	}
	return BuiltInRubric(o.Template)
}

// BuiltInRubric returns the rubric that belongs to a built-in template, and the current one
// for any other.
func BuiltInRubric(template string) string {
	if template == BuiltIn2026November {
		return strings.TrimSpace(rubric2026November)
	}
	return strings.TrimSpace(Rubric)
}

// ShowsRubric reports whether the template of the options depends on the rubric.
func ShowsRubric(o Options) (bool, error) {
	o.Rubric = "one rubric"
	first, err := ParseTemplate(o)
	if err != nil {
		return false, err
	}
	o.Rubric = "another rubric"
	second, err := ParseTemplate(o)
	return err == nil && first.Digest() != second.Digest(), err
}

// Messages returns the messages for the judge about a response to a prompt. It depends on the template,
// the prompt's messages and the response, and on the prompt's metadata if the template shows it.
func (t Template) Messages(p *schemas.Prompt, response string) ([]schemas.Message, error) {
	return t.render(prompting.NewConversation(p.Messages), p.Metadata, response)
}

// Digest identifies the judge's messages except for the quoted texts.
func (t Template) Digest() string { return t.rendering.Digest }

func (t Template) render(c *prompting.Conversation, metadata, response string) ([]schemas.Message, error) {
	return t.rendering.Render(t.data(c, metadata, prompting.Text{Name: "response", Text: response}))
}

// data returns the fields of a template; see the config's documentation for their list.
func (t Template) data(c *prompting.Conversation, metadata string, response prompting.Text) prompting.Data {
	others := []prompting.Text{response}
	var known Metadata
	if t.asksMetadata {
		known = ReadMetadata(metadata)
		others = append(others, known.Reference)
	}
	page := NewPage(t.perText, c, others...)
	data := prompting.Data{
		"Rubric": t.rubric, "Lowest": points.Format(t.scale.Min), "Highest": points.Format(t.scale.Max),
		"Conversation": page.Conversation(), "Response": page.Fence(response),
	}
	if t.asksRead {
		data["Read"], data["Labels"] = t.labels != "", t.labels
	}
	if t.asksMore {
		AddQuestion(data, page, c)
		known.AddTo(data, page)
		data["Raw"].(map[string]any)["Response"] = response.Text
	}
	return data
}

// NewPage returns the page of a prompt, with a code for each text if perText is set.
func NewPage(perText bool, c *prompting.Conversation, others ...prompting.Text) *prompting.Page {
	if perText {
		return prompting.NewPagePerText(c, others...)
	}
	return prompting.NewPage(c, others...)
}

// AddQuestion adds .Question, and .Raw with the question, the system message and the turns as
// they are.
func AddQuestion(data prompting.Data, page *prompting.Page, c *prompting.Conversation) {
	question := c.Question()
	raw := map[string]any{"Question": question.Text, "System": ""}
	var turns []map[string]string
	for _, m := range c.Messages {
		if m.Role == "system" {
			raw["System"] = m.Content
		}
		turns = append(turns, map[string]string{"Role": m.Role, "Content": m.Content})
	}
	raw["Conversation"] = turns
	data["Question"], data["Raw"] = page.Fence(question), raw
}

// Metadata is what templates show of a prompt's metadata.
type Metadata struct {
	// Fields are the fields of the JSON object; a value that is no text is formatted as JSON.
	Fields map[string]string
	// Reference is the field "reference"; its text is empty if there is none.
	Reference prompting.Text
}

// SampleMetadata is metadata for trial renderings.
const SampleMetadata = `{"reference":"sample reference"}`

// ReadMetadata reads the metadata of a prompt, a JSON object.
func ReadMetadata(source string) Metadata {
	m := Metadata{Fields: map[string]string{}, Reference: prompting.Text{Name: "reference"}}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(source), &fields) != nil {
		return m
	}
	for key, raw := range fields {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		m.Fields[key] = text
	}
	m.Reference.Text = m.Fields["reference"]
	return m
}

// AddTo adds .Metadata and .Reference, which is empty where the prompt has none.
func (m Metadata) AddTo(data prompting.Data, page *prompting.Page) {
	data["Metadata"], data["Reference"] = m.Fields, ""
	raw := data["Raw"].(map[string]any)
	raw["Reference"] = m.Reference.Text
	if m.Reference.Text != "" {
		data["Reference"] = page.Fence(m.Reference)
	}
}

// AsksMetadata reports whether the source of a template names .Metadata or .Reference.
func AsksMetadata(source string) bool {
	return strings.Contains(source, "Metadata") || strings.Contains(source, "Reference")
}

// AsksMore reports whether the source of a template names a field that the built-in templates
// don't show.
func AsksMore(source string) bool {
	return AsksMetadata(source) || strings.Contains(source, "Question") || strings.Contains(source, "Raw")
}

// readSuffix ends the prompt of a read from a template without a form for reads.
const readSuffix = `

Do not reason or explain now. Whatever is said above about the form of your answer, reply with nothing but one of these: {{.Labels}}.
`

// AsksRead reports whether the source of a template shows .Read or .Labels, and so has a form for reads.
func AsksRead(source string) bool {
	return strings.Contains(source, ".Labels") || readField.MatchString(source)
}

var readField = regexp.MustCompile(`\.Read\b`)

// ReadForm returns the source of a template in the form for reads: the source itself if it shows .Read
// or .Labels, otherwise with an ending that asks for one label at once.
func ReadForm(source string) string {
	if AsksRead(source) {
		return source
	}
	return strings.TrimRight(source, " \n") + readSuffix
}

// JoinLabels lists labels in a prompt: A or B; 0, 1, 2 or 3.
func JoinLabels(labels []string) string {
	if len(labels) < 2 {
		return strings.Join(labels, "")
	}
	last := len(labels) - 1
	return strings.Join(labels[:last], ", ") + " or " + labels[last]
}
