package inspect_test

import (
	"bytes"
	"strings"
	"testing"

	"coeval/runners/inspect"
	"coeval/runners/runs/runstest"
)

// No text of a run controls the terminal, and a text of 1 MB is cut at the requested length.
func TestHostileTexts(t *testing.T) {
	r := runstest.Hostile(t)
	for _, prompt := range []string{"1", "2"} {
		d, err := inspect.Read(t.Context(), r, prompt)
		if err != nil {
			t.Fatal(err)
		}
		for _, full := range []bool{false, true} {
			var b bytes.Buffer
			if err := d.Print(&b, 300, full); err != nil {
				t.Fatal(err)
			}
			for _, acts := range runstest.Acting {
				if bytes.Contains(b.Bytes(), []byte(acts)) {
					t.Errorf("prompt %s, full %v: the character %U is in it", prompt, full, []rune(acts)[0])
				}
			}
			if !strings.Contains(b.String(), "␛[31mred") {
				t.Errorf("prompt %s, full %v: the texts are not shown", prompt, full)
			}
			// A bad character takes up to 9 bytes; some 30 texts of 300 characters are shown.
			if whole := b.Len() > 1<<20; whole != full || !full && b.Len() > 30*9*300 {
				t.Errorf("prompt %s, full %v: %d bytes", prompt, full, b.Len())
			}
		}
	}
}
