package meta

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"coeval/schemas"
)

// tables are the endings of testdata: known ones, and four sets that were written
// before the grammar had read them.
var tables = []string{"verdict-endings.jsonl", "held-out-endings.jsonl", "second-endings.jsonl", "third-endings.jsonl", "fourth-endings.jsonl"}

// An ending is a text of the tables in testdata with the reading that a person gives it.
type ending struct {
	Kind     string  `json:"kind"`
	Text     string  `json:"text"`
	Expected *string `json:"-"`
}

func readEndings(t *testing.T, name string) []ending {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "judge", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out []ending
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e struct {
			ending
			Expected json.RawMessage `json:"expected"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != "meta" {
			continue
		}
		if err := json.Unmarshal(e.Expected, &e.ending.Expected); err != nil {
			t.Fatal(err)
		}
		out = append(out, e.ending)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Of the endings that a person can read, at least 95 % are read; none is read wrongly.
func TestParseVerdictReadsEndings(t *testing.T) {
	for _, name := range tables {
		readable, right := 0, 0
		for _, e := range readEndings(t, name) {
			winner, unparsed := ParseVerdict(e.Text, "stop")
			got := map[schemas.Winner]string{schemas.First: "A", schemas.Second: "B"}[winner]
			switch {
			case e.Expected == nil && unparsed == "":
				t.Errorf("%s: %q: read as %s, which nobody says", name, e.Text, got)
			case e.Expected == nil:
			case unparsed != "":
				readable++
				t.Logf("%s: %q: not read (%s), want %s", name, e.Text, unparsed, *e.Expected)
			case got != *e.Expected:
				readable++
				t.Errorf("%s: %q: read as %s, want %s", name, e.Text, got, *e.Expected)
			default:
				readable++
				right++
			}
		}
		t.Logf("%s: %d of %d readable endings read", name, right, readable)
		if 100*right < 95*readable {
			t.Errorf("%s: %d of %d readable endings read, want at least 95 %%", name, right, readable)
		}
	}
}
