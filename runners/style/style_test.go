package style

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Code is no style: the lists and headers in fences don't count.
func TestOf(t *testing.T) {
	text := "# Title\n\n1. one\n2. two\n- three\n**bold** and __bold__\n```sh\n# comment\n- flag\n**x**\n```\n## End\n~~~\n# open fence\n"
	if diff := cmp.Diff(Style{Headers: 2, Lists: 3, Bold: 2}, Of(text)); diff != "" {
		t.Errorf("style (-want +got):\n%s", diff)
	}
}

func FuzzOf(f *testing.F) {
	f.Add("# a\n```\n# b\n```")
	f.Fuzz(func(t *testing.T, text string) {
		if s := Of(text); s.Headers < 0 || s.Lists < 0 || s.Bold < 0 {
			t.Errorf("style of %q is %+v", text, s)
		}
	})
}
