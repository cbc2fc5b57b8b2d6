package objects

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Objects are found with their lines and the texts around them, and blanks take their place.
func TestFind(t *testing.T) {
	type found struct {
		Score          string
		Line, EndLine  int
		Listed         bool
		Prefix, Suffix string
	}
	for _, tt := range []struct {
		text, rest string
		want       []found
	}{
		{"no object", "no object", nil},
		{"{not one} {}", "{not one} {}", nil},
		{"So: {\"score\":\n4} to 5\nend", "So:          \n   to 5\nend", []found{{"4", 0, 1, false, "So:", "to 5"}}},
		{"[{\"score\":1}, {\"score\":2}]", "[           ,            ]", []found{{"1", 0, 0, true, "[", ", {\"score\":2}]"}, {"2", 0, 0, true, "[           ,", "]"}}},
		{"{'score': 3, 'fine': True,}", "                           ", []found{{"3", 0, 0, false, "", ""}}},
	} {
		objects, rest := Find(tt.text)
		var got []found
		for _, o := range objects {
			got = append(got, found{Scalar(o.Fields["score"]), o.Line, o.EndLine, o.Listed, o.Prefix, o.Suffix})
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || rest != tt.rest {
			t.Errorf("%q: the rest is %q, want %q; %s", tt.text, rest, tt.rest, diff)
		}
	}
}
