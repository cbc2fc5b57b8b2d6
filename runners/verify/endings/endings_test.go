package endings

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"coeval/schemas"
)

func TestScore(t *testing.T) {
	scores := Scores(0, 5)
	for _, c := range []struct {
		name, text string
		recorded   *float64
		reason     string
		want       Finding
	}{
		{"plain", "Good.\n\nScore: 4", new(4.0), "", Confirmed},
		{"bold, of five", "**Final Score: 4.5/5**", new(4.5), "", Confirmed},
		{"full width", "得点\nScore：３", new(3.0), "", Confirmed},
		{"special token", "Score: 2</s>", new(2.0), "", Confirmed},
		{"JSON in a fence", "```json\n{\"score\": 4}\n```", new(4.0), "", Confirmed},
		{"sum", "Score: 1+1+1 = 3", new(3.0), "", Unconfirmed},
		{"remark", "Score: 4 (out of 5, clear)", new(4.0), "", Unconfirmed},
		{"a word", "Score: four", new(4.0), "", Unconfirmed},
		{"another label", "Puntuación: 4", new(4.0), "", Confirmed},
		{"earlier line", "Score: 2\nScore: n/a", new(2.0), "", Wrong},
		{"edited", "Good.\n\nScore: 4", new(3.0), "", Wrong},
		{"edited fraction", "Score: 4/5", new(5.0), "", Wrong},
		{"out of range", "Score: 7", nil, "out_of_range", Confirmed},
		{"out of range, recorded", "Score: 7", new(5.0), "", Wrong},
		{"no score", "I like it.", nil, "missing", Confirmed},
		{"no score, recorded", "I like it.", new(4.0), "", Wrong},
		{"removed score", "Good.\n\nScore: 4", nil, "missing", Wrong},
		{"criteria without a total", "Score: 1\nScore: 1\nScore: 0", nil, "ambiguous", Unconfirmed},
		{"cut off", "Good.\n\nScore: 4", nil, CutOff, Unconfirmed},
		{"neither", "Score: 4", nil, "", Wrong},
		{"both", "Score: 4", new(4.0), "missing", Wrong},
		{"empty", "", nil, "empty", Confirmed},
		{"empty, recorded", " \n", new(1.0), "", Wrong},
	} {
		if got, said := scores.Score(c.text, c.recorded, c.reason); got != c.want {
			t.Errorf("%s: %v (%s), want %v", c.name, got, said, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	verdicts := Verdicts()
	for _, c := range []struct {
		name, text string
		recorded   schemas.Winner
		reason     string
		want       Finding
	}{
		{"plain", "B misreads it.\n\nWinner: A", schemas.First, "", Confirmed},
		{"judgment", "**Winner: Judgment B**", schemas.Second, "", Confirmed},
		{"brackets", "[[A]]", schemas.First, "", Confirmed},
		{"remark that names both", "Winner: B (more accurate than A)", schemas.Second, "", Unconfirmed},
		{"edited", "Winner: A", schemas.Second, "", Wrong},
		{"removed", "Winner: A", schemas.NoWins, "tie", Wrong},
		{"tie", "Winner: tie", schemas.NoWins, "tie", Confirmed},
		{"no verdict", "They differ.", schemas.NoWins, "missing", Confirmed},
		{"no verdict, recorded", "They differ.", schemas.First, "", Wrong},
		{"two lines that disagree", "Winner: A\nWinner: B", schemas.NoWins, "ambiguous", Unconfirmed},
	} {
		if got, said := verdicts.Verdict(c.text, c.recorded, c.reason); got != c.want {
			t.Errorf("%s: %v (%s), want %v", c.name, got, said, c.want)
		}
	}
}

// Endings of judgments with the reading of a person: a right reading is never called wrong, and most are
// confirmed. A text without a reading may be a quotation, which this reader doesn't follow.
func TestEndings(t *testing.T) {
	tables, err := filepath.Glob("../../../transforms/answers/answerstest/testdata/*-endings.jsonl")
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	all, confirmed := 0, 0
	for _, table := range tables {
		n, c := checkEndings(t, table)
		all, confirmed = all+n, confirmed+c
	}
	// The tables have the rare endings in about equal numbers with the usual ones.
	if confirmed*10 < all*6 {
		t.Errorf("%d of %d readings are confirmed", confirmed, all)
	}
	t.Logf("%d of %d readings are confirmed", confirmed, all)
}

func checkEndings(t *testing.T, table string) (all, confirmed int) {
	t.Helper()
	data, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	scores, verdicts := Scores(0, 5), Verdicts()
	for line := range bytes.Lines(data) {
		var ending struct {
			Kind, Text string
			Expected   any
		}
		if err := json.Unmarshal(line, &ending); err != nil {
			t.Fatal(err)
		}
		var finding Finding
		var said string
		switch expected := ending.Expected.(type) {
		case float64:
			finding, said = scores.Score(ending.Text, new(expected/1000), "")
		case string:
			if ending.Kind != "meta" {
				continue
			}
			finding, said = verdicts.Verdict(ending.Text, map[string]schemas.Winner{"A": schemas.First, "B": schemas.Second}[expected], "")
		default:
			continue
		}
		all++
		switch finding {
		case Confirmed:
			confirmed++
		case Wrong:
			t.Errorf("%v of %q is called wrong, should be %s", ending.Expected, ending.Text, said)
		}
	}
	return all, confirmed
}

// FuzzRead finds no text that a reader panics on, and none that confirms two different values.
func FuzzRead(f *testing.F) {
	f.Add("Score: 4", 4.0)
	f.Add("{\"score\": \"4/5\"}", 0.5)
	f.Add("Winner: A\n```", 1.0)
	scores, verdicts := Scores(0, 5), Verdicts()
	f.Fuzz(func(t *testing.T, text string, x float64) {
		if !(x >= 0 && x <= 5) {
			x = 1
		}
		other := 2.0
		if x >= 1.5 {
			other = 0
		}
		a, _ := scores.Score(text, &x, "")
		b, _ := scores.Score(text, &other, "")
		if a == Confirmed && b == Confirmed {
			t.Errorf("%q confirms %v and %v", text, x, other)
		}
		a, _ = verdicts.Verdict(text, schemas.First, "")
		b, _ = verdicts.Verdict(text, schemas.Second, "")
		if a == Confirmed && b == Confirmed {
			t.Errorf("%q confirms A and B", text)
		}
	})
}
