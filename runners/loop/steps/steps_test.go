package steps_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"coeval/runners/loop/steps"
)

// A state that a crash cut off in its last line is whole without it; damage before is an error.
func TestStateDamage(t *testing.T) {
	dir := t.TempDir()
	s, err := steps.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps.Every[:2] {
		if err := s.Append(steps.Record{Iteration: 1, Step: step, Output: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, steps.StateFile)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, whole[:len(whole)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = steps.Open(dir); err != nil || len(s.Records()) != 1 {
		t.Errorf("a torn line: %d records, %v", len(s.Records()), err)
	}
	if err := os.WriteFile(name, append([]byte("x"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = steps.Open(dir); err == nil || !strings.Contains(err.Error(), steps.StateFile+":1") {
		t.Errorf("damage: %v", err)
	}
}

// A state whose lines were edited, removed or put into another order names the first line that can't be right.
func TestStateIsEdited(t *testing.T) {
	line := func(iteration int, step steps.Step) string {
		return fmt.Sprintf(`{"iteration":%d,"step":%q,"input":"x","output":{}}`, iteration, step)
	}
	var whole []string
	for t := 1; t <= 2; t++ {
		for _, step := range append(slices.Clip(steps.Every), steps.Decide) { // decided twice
			whole = append(whole, line(t, step))
		}
	}
	both := []string{line(1, steps.PhaseOne), line(1, steps.FutureSet), line(1, steps.TrainFuture), line(1, steps.SwapFuture), line(1, steps.Produce)}
	for name, tt := range map[string]struct {
		lines []string
		want  string
	}{
		"whole":             {whole, ""},
		"both phases":       {both, ""},
		"CRLF":              {[]string{whole[0] + "\r", whole[1] + "\r"}, ""},
		"null":              {[]string{whole[0], "null"}, ":2 is damaged"},
		"empty line":        {[]string{whole[0], ""}, ":2 is damaged"},
		"a byte order mark": {[]string{"\ufeff" + whole[0]}, ":1 is damaged"},
		"a missing line":    {slices.Delete(slices.Clone(whole), 2, 3), ":3 is damaged: iteration 1, swap, can't follow iteration 1, set"},
		"a missing phase":   {slices.Delete(slices.Clone(both), 3, 4), ":4 is damaged"},
		"another order":     {[]string{whole[1], whole[0]}, ":1 is damaged"},
		"a line twice":      {[]string{whole[0], whole[0]}, ":2 is damaged"},
		"a far iteration":   {append(slices.Clone(whole[:7]), line(1_000_000_000, steps.Produce)), ":8 is damaged"},
		"a negative one":    {[]string{line(-1, steps.Produce)}, ":1 is damaged"},
		"another step":      {[]string{line(1, "sleep")}, `:1 is damaged: step is "sleep"; allowed is one of [phase-1`},
		"a text":            {[]string{`"produce"`}, ":1 is damaged"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, steps.StateFile), []byte(strings.Join(tt.lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := steps.Read(dir)
		switch {
		case tt.want == "" && (err != nil || len(s.Records()) != len(tt.lines)):
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "Restore the file")):
			t.Errorf("%s: error is %v; want %s", name, err, tt.want)
		}
	}
}

// A record whose output was edited is found by its sum.
func TestRecordIsEdited(t *testing.T) {
	dir := t.TempDir()
	s, err := steps.Open(dir)
	if err == nil {
		err = s.Append(steps.Record{Iteration: 1, Step: steps.Produce, Input: "a", Output: json.RawMessage(`{"sha256":"b"}`)})
	}
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, steps.StateFile)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{`"sha256":"b"`: `"sha256":"c"`, `"input":"a"`: `"input":"b"`} {
		if err := os.WriteFile(name, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := steps.Read(dir); err == nil || !strings.Contains(err.Error(), "state.jsonl:1 is damaged: the record of iteration 1, produce, was changed") {
			t.Errorf("with %s: %v", to, err)
		}
	}
}

// A folder or a named pipe in the place of the state is refused, and not waited for.
func TestStateIsNoFile(t *testing.T) {
	for _, plant := range []func(string) error{
		func(name string) error { return os.Mkdir(name, 0o700) },
		func(name string) error { return syscall.Mkfifo(name, 0o600) },
	} {
		dir := t.TempDir()
		if err := plant(filepath.Join(dir, steps.StateFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := steps.Read(dir); err == nil || !strings.Contains(err.Error(), "state.jsonl is no regular file") {
			t.Errorf("error is %v", err)
		}
	}
}
