package settings

import (
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
	bad := "judge:\n  verdicct: two\nsides:\n  - modell: a\nverdict: five\nnothing_like_it: 1\nready: soon\n"
	err := Decode("f.yaml", []byte(bad), &c)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"f.yaml:2: judge.verdicct is no key of this file; did you mean judge.verdict?",
		"f.yaml:4: sides[0].modell is no key of this file; did you mean sides.model?",
		"f.yaml:5: verdict is no key of this file; did you mean judge.verdict?",
		"f.yaml:6: nothing_like_it is no key of this file; known are any, dir, judge, ready, sides",
		"soon",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}
