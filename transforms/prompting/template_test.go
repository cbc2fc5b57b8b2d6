package prompting

import (
	"strings"
	"testing"
)

// A template that is cut into pieces renders what text/template makes of it.
func TestPieces(t *testing.T) {
	sheet := Sheet{"Rubric": "the <rubric>", "Response": "{{.Rubric}}", "Conversation": []string{"a", "", "b\n"}}
	short := Sheet{"Rubric": "r", "Response": "x", "Conversation": []string{}}
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
		made, err := ParseTemplate(Form{Name: "sample", Sheets: []Sheet{sheet, short}}, tt.source)
		if err != nil {
			t.Fatal(err)
		}
		if (made.pieces != nil || tt.source == "") != tt.pieces {
			t.Errorf("%q: cut into pieces is %t, want %t", tt.source, made.pieces != nil, tt.pieces)
		}
		for _, s := range []Sheet{sheet, short} {
			var want strings.Builder
			if err := made.text.Execute(&want, s); err != nil {
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
	form := Form{Name: "sample", Fields: ".Response", Sheets: []Sheet{{"Response": "the answer"}}, Shown: []string{"the answer"}}
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
