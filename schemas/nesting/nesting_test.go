package nesting

import (
	"strings"
	"testing"
)

func TestTooDeep(t *testing.T) {
	for text, want := range map[string]int{
		"":                          0,
		"a: [[b]]":                  0, // an indentation and two brackets
		"a: [[[b]]]":                1, // and three
		"a:\n b:\n  c:\n   d: 1\n":  4, // four indentations
		"a:\n b: 1\nc:\n d: 1\n":    0, // an indentation less ends a level
		"- - - a":                   1, // an indentation and three list marks
		"a: [b,\n[c,\n[d":           3, // brackets of other lines are open
		"[[[a]":                     1, // and need no end
		"a: \"[[\"\nb: \"[\"":       2, // also in quoted texts
		strings.Repeat("a: 1\n", 9): 0,
	} {
		line, deep := TooDeep(text, 3)
		if deep != (want > 0) || deep && line != want {
			t.Errorf("%q: line %d, %t, want line %d", text, line, deep, want)
		}
	}
}
