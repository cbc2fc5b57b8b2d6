package prompting

import (
	"fmt"
	"strings"
	"text/template/parse"

	"coeval/schemas"
)

// A Template renders a prompt from fenced and raw texts: a message of the user and, if the
// template defines a part named system, a system message before it.
type Template struct {
	name string
	text *executions
	// system reports whether the template has a part for the system message.
	system bool
	// pieces are the template again when it only puts fields between texts. Templates are
	// executed for every call, and this takes a tenth of the time.
	pieces []piece
	// Digest covers everything that determines its output.
	Digest string
}

// Data has the fields that a template shows: strings, lists of strings, and maps of raw texts.
type Data map[string]any

// A Form describes the templates of one role.
type Form struct {
	// Name begins its errors.
	Name string
	// Fields names the fields that a template must show.
	Fields string
	// Samples are data for trial renderings, all of which must succeed. The fields of the
	// first have the texts of Shown in them, which are nowhere else.
	Samples []Data
	Shown   []string
}

// SampleTurns is a conversation for samples. A template may treat its turns alike or not.
var SampleTurns = []schemas.Message{
	{Role: "system", Content: "sample instructions"},
	{Role: "user", Content: "sample question"},
	{Role: "assistant", Content: "sample answer"},
	{Role: "user", Content: "sample last question"},
}

// systemPart is the name of the part that renders the system message.
const systemPart = "system"

// ParseTemplate returns the text/template of a source. It returns an error if the template
// fails on a sample, or leaves out a field that it must show.
func ParseTemplate(form Form, source string) (*Template, error) {
	text, err := parseBounded(form.Name, source)
	if err != nil {
		return nil, fmt.Errorf("%s: template: %w", form.Name, err)
	}
	t := &Template{name: form.Name, text: &executions{text: text}, system: text.Lookup(systemPart) != nil}
	if pieces, plain := cut(text.Root, form.Samples[0]); plain && !t.system {
		t.pieces = pieces
	}
	if err := countSteps(text); err != nil {
		return nil, fmt.Errorf("%s: template: %w", form.Name, err)
	}
	for i, data := range form.Samples {
		messages, err := t.Render(data)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			continue
		}
		parts := []string{source}
		for _, m := range messages {
			parts = append(parts, m.Content)
		}
		t.Digest = schemas.Digest(parts...)
		all := strings.Join(parts[1:], "\n")
		for _, part := range form.Shown {
			if !strings.Contains(all, part) {
				return nil, fmt.Errorf("%s: template: it must show %s", form.Name, form.Fields)
			}
		}
	}
	return t, nil
}

// Render returns the messages. A system message without content is left out.
func (t *Template) Render(data Data) ([]schemas.Message, error) {
	if t.pieces != nil {
		parts := make([]string, 0, 64)
		for i := range t.pieces {
			parts = t.pieces[i].appendTo(parts, data)
		}
		return message(strings.Join(parts, "")), nil
	}
	user, err := t.execute(t.name, data)
	if err != nil {
		return nil, err
	}
	if !t.system {
		return message(user), nil
	}
	content, err := t.execute(systemPart, data)
	if err != nil {
		return nil, err
	}
	if content = strings.TrimSpace(content); content == "" {
		return message(user), nil
	}
	return append([]schemas.Message{{Role: "system", Content: content}}, message(user)...), nil
}

func (t *Template) execute(part string, data Data) (string, error) {
	out, err := t.text.execute(part, data)
	if err != nil {
		return "", fmt.Errorf("%s: template: %w", t.name, err)
	}
	return out, nil
}

func message(s string) []schemas.Message {
	return []schemas.Message{{Role: "user", Content: strings.TrimSpace(s)}}
}

// piece is a text, a field, or a list's items with pieces around each, of which the piece
// without any of these is the item.
type piece struct {
	text, field string
	items       []piece
}

// appendTo appends its strings.
func (p *piece) appendTo(parts []string, data Data) []string {
	switch {
	case p.items != nil:
		for _, item := range data[p.field].([]string) {
			for _, inner := range p.items {
				if inner.text == "" {
					parts = append(parts, item)
				} else {
					parts = append(parts, inner.text)
				}
			}
		}
	case p.field != "":
		parts = append(parts, data[p.field].(string))
	}
	return append(parts, p.text)
}

// cut returns the pieces of a template, and whether they are all of it: texts, {{.Field}} of
// strings, and {{range .Field}} of lists with texts and {{.}} inside.
func cut(list *parse.ListNode, sample Data) ([]piece, bool) {
	var out []piece
	for _, node := range list.Nodes {
		switch n := node.(type) {
		case *parse.TextNode:
			out = append(out, piece{text: string(n.Text)})
		case *parse.ActionNode:
			field, ok := fieldOf(n.Pipe)
			if _, is := sample[field].(string); !ok || !is {
				return nil, false
			}
			out = append(out, piece{field: field})
		case *parse.RangeNode:
			field, ok := fieldOf(n.Pipe)
			items, plain := cutItems(n.List)
			if _, is := sample[field].([]string); !ok || !is || !plain || n.ElseList != nil {
				return nil, false
			}
			out = append(out, piece{field: field, items: items})
		default:
			return nil, false
		}
	}
	return out, true
}

func cutItems(list *parse.ListNode) ([]piece, bool) {
	out := []piece{}
	for _, node := range list.Nodes {
		switch n := node.(type) {
		case *parse.TextNode:
			out = append(out, piece{text: string(n.Text)})
		case *parse.ActionNode:
			if n.Pipe.String() != "." {
				return nil, false
			}
			out = append(out, piece{})
		default:
			return nil, false
		}
	}
	return out, true
}

// fieldOf returns the F of a pipe that consists of .F.
func fieldOf(p *parse.PipeNode) (string, bool) {
	if len(p.Decl) != 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return "", false
	}
	f, ok := p.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok || len(f.Ident) != 1 {
		return "", false
	}
	return f.Ident[0], true
}
