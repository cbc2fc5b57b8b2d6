package prompting

import (
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

// A template that is cut into pieces renders the same text as text/template.
func TestPieces(t *testing.T) {
	data := Data{"Rubric": "the <rubric>", "Response": "{{.Rubric}}", "Conversation": []string{"a", "", "b\n"}}
	short := Data{"Rubric": "r", "Response": "x", "Conversation": []string{}}
	tests := []struct {
		source string
		pieces bool
	}{
		{"", true},
		{"only text", true},
		{"{{.Rubric}}", true},
		{"a {{.Rubric}} b\n{{- range .Conversation }}\n {{.}},\n{{- end }}\n{{.Response}}{{/* note */}}", true},
		{"{{range .Conversation}}{{end}}", true},
		{"{{range .Conversation}}{{.}}{{.}}{{end}}", true},
		{"{{range .Conversation}}{{.}}{{else}}none{{end}}", false},
		{"{{range $i, $turn := .Conversation}}{{$i}}{{$turn}}{{end}}", false},
		{"{{range .Conversation}}{{$.Rubric}}{{end}}", false},
		{"{{if .Rubric}}yes{{end}}", false},
		{"{{.Rubric | printf \"%q\"}}", false},
		{"{{len .Conversation}}", false},
		{"{{$r := .Rubric}}{{$r}}", false},
		{"{{.Conversation}}", false},
	}
	for _, tt := range tests {
		made, err := ParseTemplate(Form{Name: "sample", Samples: []Data{data, short}}, tt.source)
		if err != nil {
			t.Fatal(err)
		}
		if (made.pieces != nil || tt.source == "") != tt.pieces {
			t.Errorf("%q: cut into pieces is %t, want %t", tt.source, made.pieces != nil, tt.pieces)
		}
		for _, s := range []Data{data, short} {
			var want strings.Builder
			if err := template.Must(template.New("").Parse(tt.source)).Execute(&want, s); err != nil {
				t.Fatal(err)
			}
			got, err := made.Render(s)
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Content != strings.TrimSpace(want.String()) {
				t.Errorf("%q: got %q, want %q", tt.source, got[0].Content, want.String())
			}
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	form := Form{Name: "sample", Fields: ".Response", Samples: []Data{{"Response": "the answer"}}, Shown: []string{"the answer"}}
	for source, want := range map[string]string{
		"{{":             "sample: template: ",
		"{{.Answer}}":    "Answer",
		"nothing":        "sample: template: it must show .Response",
		"{{.Response.}}": "sample: template: ",
	} {
		if _, err := ParseTemplate(form, source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want one with %q", source, err, want)
		}
	}
}

func TestSystemPart(t *testing.T) {
	form := Form{Name: "sample", Samples: []Data{{"Rubric": "the rubric", "Response": "the answer"}}, Shown: []string{"the answer", "the rubric"}}
	made, err := ParseTemplate(form, `{{define "system"}} You are a judge. {{.Rubric}} {{end}}Grade: {{.Response}}`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := made.Render(form.Samples[0])
	if err != nil {
		t.Fatal(err)
	}
	want := []schemas.Message{{Role: "system", Content: "You are a judge. the rubric"}, {Role: "user", Content: "Grade: the answer"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	empty, err := ParseTemplate(Form{Name: "sample", Samples: form.Samples}, `{{define "system"}} {{end}}Grade: {{.Response}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := empty.Render(form.Samples[0]); err != nil || len(got) != 1 {
		t.Errorf("an empty system part renders %v, %v; want one message", got, err)
	}
}
