package prompting

import (
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"

	"coeval/schemas"
)

// A Template renders a prompt of one message from a sheet of fenced texts.
type Template struct {
	name string
	text *template.Template
	// pieces are the template again when it only puts fields between texts. Templates are
	// executed for every call, and this takes a tenth of the time.
	pieces []piece
	// Digest covers all that decides what it renders.
	Digest string
}

// A Sheet has the fields that a template shows: strings, and lists of strings.
type Sheet map[string]any

// A Form says what a template has to be.
type Form struct {
	// Name begins its errors.
	Name string
	// Fields names the fields of the sheet that it must show.
	Fields string
	// Sheets are samples; every one must render. The fields of the first have the texts of
	// Shown in them, which are nowhere else.
	Sheets []Sheet
	Shown  []string
}

// SampleTurns is a conversation for a form's sheets. A template may treat its turns alike or not.
var SampleTurns = []schemas.Message{
	{Role: "system", Content: "sample instructions"},
	{Role: "user", Content: "sample question"},
	{Role: "assistant", Content: "sample answer"},
	{Role: "user", Content: "sample last question"},
}

// ParseTemplate returns the text/template of a source. It returns an error if the template
// fails on a sample, or leaves out a field that it must show.
func ParseTemplate(form Form, source string) (*Template, error) {
	text, err := template.New(form.Name).Option("missingkey=error").Parse(source)
	if err != nil {
		return nil, fmt.Errorf("%s: template: %w", form.Name, err)
	}
	t := &Template{name: form.Name, text: text}
	if pieces, plain := cut(text.Root, form.Sheets[0]); plain {
		t.pieces = pieces
	}
	for i, sheet := range form.Sheets {
		messages, err := t.Render(sheet)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			continue
		}
		t.Digest = schemas.Digest(source, messages[0].Content)
		for _, part := range form.Shown {
			if !strings.Contains(messages[0].Content, part) {
				return nil, fmt.Errorf("%s: template: it must show %s", form.Name, form.Fields)
			}
		}
	}
	return t, nil
}

// Render returns the message.
func (t *Template) Render(sheet Sheet) ([]schemas.Message, error) {
	if t.pieces != nil {
		parts := make([]string, 0, 64)
		for i := range t.pieces {
			parts = t.pieces[i].appendTo(parts, sheet)
		}
		return message(strings.Join(parts, "")), nil
	}
	var b strings.Builder
	if err := t.text.Execute(&b, sheet); err != nil {
		return nil, fmt.Errorf("%s: template: %w", t.name, err)
	}
	return message(b.String()), nil
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

// appendTo appends the strings that it stands for.
func (p *piece) appendTo(parts []string, sheet Sheet) []string {
	switch {
	case p.items != nil:
		for _, item := range sheet[p.field].([]string) {
			for _, inner := range p.items {
				if inner.text == "" {
					parts = append(parts, item)
				} else {
					parts = append(parts, inner.text)
				}
			}
		}
	case p.field != "":
		parts = append(parts, sheet[p.field].(string))
	}
	return append(parts, p.text)
}

// cut returns the pieces of a template, and whether they are all of it: texts, {{.Field}} of
// strings, and {{range .Field}} of lists with texts and {{.}} inside.
func cut(list *parse.ListNode, sample Sheet) ([]piece, bool) {
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

// fieldOf returns the F of a pipe that is no more than .F.
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
