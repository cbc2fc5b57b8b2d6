package settings

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

type DecodedRole struct {
	Model string `yaml:"model"`
}

type decoded struct {
	Dir   string         `yaml:"dir"`
	Any   map[string]any `yaml:"any"`
	Judge struct {
		DecodedRole `yaml:",inline"`

		Verdict string `yaml:"verdict"`
	} `yaml:"judge"`
	Sides []struct {
		DecodedRole `yaml:",inline"`
	} `yaml:"sides"`
	Ready time.Duration `yaml:"ready"`
	Games *int          `yaml:"games"`
	Known []string      `yaml:"known"`
}

// Keys may be quoted: JSON is YAML.
func TestDecodeQuoted(t *testing.T) {
	for _, text := range []string{`{"judge": {"model": "m", "verdict": "two"}, "dir": "d"}`, "'judge':\n  \"model\": m\n'dir': d\n"} {
		var c decoded
		if err := Decode("f.yaml", []byte(text), &c); err != nil || c.Judge.Model != "m" || c.Dir != "d" {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
	err := Decode("f.yaml", []byte(`{"judge": {"modell": "m"}}`), new(decoded))
	if err == nil || !strings.Contains(err.Error(), "judge.modell is no key of this file; did you mean judge.model?") {
		t.Errorf("error is %v", err)
	}
}

// Settings that are written and read again are the same, with any characters in their texts.
func TestEncode(t *testing.T) {
	alphabet := []string{"\n", "\t", "\r", " ", "a", ":", "#", "\"", "'", "-", "|", "{", "\\", "\u2028", "1", "\u007f", "\x00", "é", "😀", "\u0085", "<", "?", "!", "&", "*", "%", "@", "`"}
	for _, a := range alphabet {
		for _, b := range alphabet {
			for _, text := range []string{a, a + b, a + "x" + b} {
				encoded, err := Encode(map[string]any{"any": map[string]any{"list": []any{text, 1}, text + "k": text}})
				if err != nil {
					t.Fatal(err)
				}
				var c decoded
				if err := Decode("f.yaml", encoded, &c); err != nil {
					t.Fatalf("%q: %v\n%s", text, err, encoded)
				}
				list, _ := c.Any["list"].([]any)
				if len(list) != 2 || list[0] != text || c.Any[text+"k"] != text {
					t.Fatalf("%q is read as %q", text, c.Any)
				}
			}
		}
	}
}

// All unknown keys are reported at once, each with its line and with keys that may have been meant.
func TestDecode(t *testing.T) {
	c := decoded{Dir: "default"}
	good := "judge: {model: m, verdict: two}\nany: {what: {ever: 1}}\nsides:\n  - model: a\n  - {model: b}\nready: 2m\n"
	if err := Decode("f.yaml", []byte(good), &c); err != nil {
		t.Fatal(err)
	}
	if c.Dir != "default" || c.Judge.Model != "m" || len(c.Sides) != 2 || c.Sides[1].Model != "b" || c.Ready != 2*time.Minute {
		t.Errorf("%+v", c)
	}
	if err := Decode("f.yaml", nil, &c); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	one := decoded{}
	if err := Decode("f.yaml", []byte("sides: {model: a}\nknown: 5\n"), &one); err != nil || len(one.Sides) != 1 || one.Sides[0].Model != "a" || !slices.Equal(one.Known, []string{"5"}) {
		t.Errorf("lists of one are %+v, %v", one, err)
	}
	cut := Decode("f.yaml", []byte("games: 7.5\nsides: m\njudge: m\ndir: [a]\n"), &c)
	bad := "judge:\n  verdicct: two\nsides:\n  - modell: a\nverdict: five\nnothing_like_it: 1\nready: soon\n"
	err := errors.Join(Decode("f.yaml", []byte(bad), &c), cut)
	if cut == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"f.yaml:2: judge.verdicct is no key of this file; did you mean judge.verdict?",
		"f.yaml:4: sides[0].modell is no key of this file; did you mean sides.model?",
		"f.yaml:5: verdict is no key of this file; did you mean judge.verdict?",
		"f.yaml:6: nothing_like_it is no key of this file; known are any, dir, games, judge, known, ready, sides",
		"f.yaml:1: games is 7.5; allowed is a whole number",
		"f.yaml:2: sides[0] is m; allowed is a mapping of keys",
		"f.yaml:3: judge is m; allowed is a mapping of keys",
		"f.yaml:4: dir is a list; allowed is a text",
		"soon",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}
