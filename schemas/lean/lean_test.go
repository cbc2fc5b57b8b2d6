package lean

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Plain finds what a loop over the bytes finds, wherever it stands.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "plain", "12345678", "1234567\"", "Größe \x7f\x80\xff and \\", "\x1f\x20!\"#", "aaaaaaaa\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for from := range len(s) + 1 {
			want := from
			for want < len(s) && s[want] >= ' ' && s[want] != '"' && s[want] != '\\' {
				want++
			}
			if got := Plain(s, from); got != want {
				t.Fatalf("%q from %d: %d, want %d", s, from, got, want)
			}
		}
	})
}

// What is JSON to encoding/json is JSON here, and strings are the same.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-0.5e+3,true,false,null],"b":{"c":"d\\u00e9\\n\\ud83d\\ude00\\ud800"}}`, `"a`, `01`, `1.`, `[1,]`, `{"a":1,}`, ` [ ] `, `nul`, "\"\x01\"", `{} {}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.Count(s, "[")+strings.Count(s, "{") > maxDepth {
			return
		}
		p := New(s)
		_, err := p.Raw()
		if ok := err == nil && p.Done(); ok != json.Valid([]byte(s)) {
			t.Fatalf("%q is JSON: %t, %v", s, ok, err)
		}
		var want string
		if p = New(s); p.Peek() == '"' && json.Unmarshal([]byte(s), &want) == nil {
			if got, err := p.Copy(); err != nil || got != want {
				t.Errorf("%q: %q, %v, want %q", s, got, err, want)
			}
		}
	})
}

// A string is written as the library writes it.
func FuzzAppendQuoted(f *testing.F) {
	f.Add("plain")
	f.Add("\"\\\n\r\t\b\f\x00\x1f\x7f\u2028 Größe \U0001f600")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, s string) {
		want, err := jsontext.AppendQuote(nil, s)
		if err != nil {
			return
		}
		if got := AppendQuoted(nil, s); string(got) != string(want) {
			t.Errorf("%q became %s, want %s", s, got, want)
		}
	})
}

func TestDeepNesting(t *testing.T) {
	p := New(strings.Repeat("[", maxDepth+1))
	if err := p.Skip(); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("got %v", err)
	}
}
