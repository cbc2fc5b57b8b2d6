package prompting

import (
	"strings"
	"sync"
	"testing"
)

// Templates that would run or grow without end are refused when they are parsed.
func TestTemplatesThatCostTooMuch(t *testing.T) {
	form := Form{Name: "judge", Samples: []Data{{"Response": "the answer", "Conversation": []string{"a", "b", "c"}}}}
	doubling := `{{$x := "0123456789"}}{{range $i := 40}}{{$x = FUNCTION}}{{end}}{{.Response}}`
	for source, want := range map[string]string{
		`{{range 1000000000}}{{end}}`:                                                                       "more than 100000 times",
		`{{range $i := 1000000000}}x{{end}}`:                                                                "more than 100000 times",
		`{{$n := 1000000000}}{{range $n}}{{continue}}{{end}}`:                                               "more than 100000 times",
		`{{range 10000}}{{range 10000}}{{end}}{{end}}`:                                                      "more than 100000 times",
		`{{if true}}{{range 10000}}{{range 10000}}{{end}}{{end}}{{end}}`:                                    "more than 100000 times",
		`{{with 1}}{{else}}{{end}}{{range 0}}{{else}}{{range 1000000}}{{end}}{{end}}`:                       "more than 100000 times",
		`{{define "a"}}{{template "a"}}{{template "a"}}{{end}}{{template "a"}}`:                             "exceeded maximum template depth|more than 100000 times",
		`{{block "a" .}}{{template "b" .}}{{end}}{{define "b"}}{{template "a" .}}{{template "a" .}}{{end}}`: "exceeded maximum template depth|more than 100000 times",
		`{{range 90000}}{{$.Response}}{{$.Response}}{{end}}`:                                                "too much text", // 90,000 · 20 bytes of 1 MiB + 64 · 13
		`{{printf "%999999d%999999d" 1 2}}`:                                                                 "too much text",
		"{{printf `" + strings.Repeat("%999999d", 1e5) + "`}}":                                              "too much text",
		`{{$x := printf "%999999d" 1}}{{print` + strings.Repeat(" $x", 1e5) + `}}`:                          "too much text",
		`{{range 3}}{{printf "%*d" 999999 1}}{{end}}`:                                                       "too much text",
		strings.Replace(doubling, "FUNCTION", `print $x $x`, 1):                                             "too much text",
		strings.Replace(doubling, "FUNCTION", `printf "%s%s" $x $x`, 1):                                     "too much text",
		strings.Replace(doubling, "FUNCTION", `println $x $x`, 1):                                           "too much text",
		strings.Replace(doubling, "FUNCTION", `html $x $x`, 1):                                              "too much text",
		strings.Replace(doubling, "FUNCTION", `js $x $x`, 1):                                                "too much text",
		strings.Replace(doubling, "FUNCTION", `urlquery $x "&&&&&&&&&" $x`, 1):                              "too much text",
		strings.Repeat("{{if true}}", 100_000) + strings.Repeat("{{end}}", 100_000):                         "more than 100 deep",
		strings.Repeat("{{- range .Conversation -}}", 200) + strings.Repeat("{{end}}", 200):                 "more than 100 deep",
		`{{coeval_step}}{{coeval_none}}`:                                                                    "not defined",
	} {
		_, err := ParseTemplate(form, source)
		found := false
		for w := range strings.SplitSeq(want, "|") {
			found = found || err != nil && strings.Contains(err.Error(), w)
		}
		if !found {
			t.Errorf("%.80q: got %v, want one with %q", source, err, want)
		}
	}
}

// A bound applies to each execution separately, also to concurrent ones, and long texts fit in it.
func TestExecutionsHaveTheirOwnBounds(t *testing.T) {
	form := Form{Name: "judge", Samples: []Data{{"Response": "the answer"}}}
	made, err := ParseTemplate(form, `{{range 60000}}{{end}}{{print "" .Response}}`)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 5<<20) // more than maxOutput
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got, err := made.Render(Data{"Response": long}); err != nil || got[0].Content != long {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
}
