package sanitize_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"coeval/schemas/sanitize"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ name, text, want, line string }{
		{"nothing to do", "Straße, 日本語, עברית", "Straße, 日本語, עברית", "Straße, 日本語, עברית"},
		{"lines and tabs", "a\n\tb\r\nc", "a\n\tb\nc", "a␊␉b␍␊c"},
		{"a terminal escape", "\x1b[31mred\x1b[0m\x07", "␛[31mred␛[0m␇", "␛[31mred␛[0m␇"},
		{"the one-byte escape", "\u009b31m", "⟨U+009B⟩31m", "⟨U+009B⟩31m"},
		{"a carriage return that overwrites", "pass\rfail", "pass␍fail", "pass␍fail"},
		{"marks of direction", "a\u202eb\u2066c\u200f", "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200F⟩", "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200F⟩"},
		{"line separators", "a\u2028b", "a⟨U+2028⟩b", "a⟨U+2028⟩b"},
		{"tags", "a\U000e0041", "a⟨U+E0041⟩", "a⟨U+E0041⟩"},
		{"joiners stay", "\U0001f469\u200d\U0001f467", "\U0001f469\u200d\U0001f467", "\U0001f469\u200d\U0001f467"},
		{"no UTF-8", "a\xffb", "a\ufffdb", "a\ufffdb"},
	} {
		if got := sanitize.Text(c.text); got != c.want {
			t.Errorf("%s: Text gives %q, want %q", c.name, got, c.want)
		}
		if got := sanitize.Line(c.text); got != c.line {
			t.Errorf("%s: Line gives %q, want %q", c.name, got, c.line)
		}
	}
}

// Displayed JSON has the same values, and no character that acts.
func TestJSON(t *testing.T) {
	type value struct{ S string }
	for _, text := range []string{"plain Straße 日本語", "\x1b[31m\x07", "\u009b31m\x7f", "\u202e\u2066\u200f\ufeff", "a\U000e0041b", "a\n\tb"} {
		for _, indent := range []string{"", "\t"} {
			b, err := json.MarshalIndent(value{text}, "", indent)
			if err != nil {
				t.Fatal(err)
			}
			shown := sanitize.JSON(b)
			if got := string(shown); got != sanitize.Text(got) {
				t.Errorf("%q has a character that acts", got)
			}
			var v value
			if err := json.Unmarshal(shown, &v); err != nil || v.S != text {
				t.Errorf("%q becomes %q, %v", text, v.S, err)
			}
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		chars int
		head  string
		left  int
	}{{"äöü", 2, "äö", 1}, {"äöü", 3, "äöü", 0}, {"", 5, "", 0}, {"a", 0, "", 1}} {
		if head, left := sanitize.Cut(c.text, c.chars); head != c.head || left != c.left {
			t.Errorf("Cut(%q, %d) = %q, %d; want %q, %d", c.text, c.chars, head, left, c.head, c.left)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b]0;title\x07\u202e\xff\n")
	f.Fuzz(func(t *testing.T, s string) {
		text, line := sanitize.Text(s), sanitize.Line(s)
		for _, got := range []string{text, line} {
			if !utf8.ValidString(got) {
				t.Errorf("%q is no UTF-8", got)
			}
			if i := strings.IndexFunc(got, func(r rune) bool {
				return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e
			}); i >= 0 {
				t.Errorf("%q has a character that acts at %d", got, i)
			}
		}
		if strings.ContainsAny(line, "\n\t") {
			t.Errorf("%q is more than a line", line)
		}
		if sanitize.Text(text) != text {
			t.Errorf("%q is not clean", text)
		}
	})
}

// A writer makes the characters of each Write visible, and reports the length that it was given.
func TestWriter(t *testing.T) {
	var b strings.Builder
	w := sanitize.Writer(&b)
	for _, s := range []string{"out\x1b[31m\n", "", "a\tb\u202e"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write(%q) = %d, %v", s, n, err)
		}
	}
	if got, want := b.String(), "out␛[31m\na\tb⟨U+202E⟩"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
