package prompts

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

// numbered are lines with the prompts "prompt first" to "prompt last".
func numbered(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "{\"id\":%d,\"prompt\":\"prompt %d\"}\n", i, i)
	}
	return b.String()
}

func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// keep reads the files of a scan and returns the IDs of the prompts that it keeps.
func keep(t *testing.T, s *Scan) map[string]int {
	t.Helper()
	kept := map[string]int{}
	for _, f := range s.Files {
		err := ReadFile(t.Context(), f, Options{}, func(line Line) error {
			if line.Bad == nil && s.Sample.Keep(line.Prompt.ID) {
				kept[line.Prompt.ID]++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return kept
}

func TestScan(t *testing.T) {
	folder := folderOf(t, map[string]string{
		"a.jsonl":  numbered(1, 5) + "\nbad\n" + numbered(4, 7) + "{\"prompt\":\"äöü\"}\n",
		"b.ndjson": "{\"prompt\":\"\"}\n" + numbered(1, 2),
	})
	s, err := ScanFiles(t.Context(), []string{folder}, Options{}, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(folder, "a.jsonl"), filepath.Join(folder, "b.ndjson")
	want := &Scan{
		Files: []File{{Path: a}, {Path: b}},
		// 5 + 1 + 4 + 1 lines of a, and 1 + 2 of b, of which 7 and the last of a are distinct.
		Lines: 14, Bad: 2, Merged: 4, Distinct: 8, Prompts: 8,
		Chars:     7*int64(len("prompt 1")) + 3,
		Forms:     map[string]int64{"prompt": 12},
		Unused:    map[string]int64{},
		BadByCode: map[string]int64{BadJSON: 1, EmptyPrompt: 1},
		FirstBad: []schemas.Failure{
			{Stage: "prompts", Code: BadJSON, Message: "the line is not JSON; each line must be a JSON object", File: a, Line: 7},
			{Stage: "prompts", Code: EmptyPrompt, Message: "message 1 of field prompt is blank", File: b, Line: 1},
		},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("scan (-want +got):\n%s", diff)
	}
	if kept := keep(t, s); len(kept) != 8 {
		t.Errorf("the run keeps %d prompts, want all 8", len(kept))
	}
	if err := s.CheckBad(0.15); err != nil {
		t.Errorf("2 bad of 14 with 0.15 allowed: %v", err)
	}
	wantErr := "prompts: 2 of 14 lines are bad (1 bad_json, 1 empty_prompt), which is 14 % and more than the 1 % of max_bad_prompts: " +
		a + ":7: the line is not JSON; each line must be a JSON object; " + b + ":1: message 1 of field prompt is blank"
	if err := s.CheckBad(0.01); err == nil || err.Error() != wantErr {
		t.Errorf("CheckBad(0.01):\ngot  %v\nwant %s", err, wantErr)
	}
}

func TestScanLimit(t *testing.T) {
	folder := folderOf(t, map[string]string{
		"a.jsonl": numbered(1, 3) + "bad\n" + numbered(1, 5),
		"b.jsonl": numbered(4, 9),
	})
	a, b := filepath.Join(folder, "a.jsonl"), filepath.Join(folder, "b.jsonl")
	tests := []struct {
		limit         int64
		files         []File
		prompts, read int64
	}{
		{1, []File{{a, 1}}, 1, 1},
		{3, []File{{a, 3}}, 3, 3},
		{4, []File{{a, 8}}, 4, 8},
		{5, []File{{a, 9}}, 5, 9},
		{6, []File{{a, 0}, {b, 3}}, 6, 12},
		{9, []File{{a, 0}, {b, 6}}, 9, 15},
		{99, []File{{a, 0}, {b, 0}}, 9, 15},
	}
	for _, test := range tests {
		s, err := ScanFiles(t.Context(), []string{folder}, Options{}, Selection{Limit: test.limit})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.files, s.Files); diff != "" || s.Prompts != test.prompts || s.Lines != test.read {
			t.Errorf("limit %d: %d prompts of %d lines, want %d of %d; files (-want +got):\n%s", test.limit, s.Prompts, s.Lines, test.prompts, test.read, diff)
		}
		if kept := keep(t, s); int64(len(kept)) != test.prompts {
			t.Errorf("limit %d: the run reads %d prompts, want %d", test.limit, len(kept), test.prompts)
		}
	}
}

func TestScanSample(t *testing.T) {
	const all, drawn = 2000, 500
	text := numbered(1, all)
	lines := strings.SplitAfter(strings.TrimSpace(text), "\n")
	var backwards strings.Builder
	for i := range lines {
		fmt.Fprintln(&backwards, strings.TrimSpace(lines[len(lines)-1-i]))
	}
	sample := func(text string, s Selection) map[string]int {
		scan, err := ScanFiles(t.Context(), []string{write(t, "a.jsonl", text)}, Options{}, s)
		if err != nil {
			t.Fatal(err)
		}
		kept := keep(t, scan)
		if int64(len(kept)) != scan.Prompts {
			t.Errorf("the scan says %d prompts, the run keeps %d", scan.Prompts, len(kept))
		}
		return kept
	}
	one := sample(text, Selection{Sample: drawn, SampleSeed: 1})
	if len(one) != drawn {
		t.Errorf("%d prompts drawn, want %d", len(one), drawn)
	}
	if other := sample(backwards.String(), Selection{Sample: drawn, SampleSeed: 1}); !cmp.Equal(one, other) {
		t.Error("the order of the lines changed the sample")
	}
	twice := sample(text+text, Selection{Sample: drawn, SampleSeed: 1})
	for id := range one {
		if twice[id] != 2 {
			t.Errorf("prompt %s is kept %d times of 2", id, twice[id])
		}
	}
	if len(twice) != drawn {
		t.Errorf("with every line twice %d prompts are drawn, want %d", len(twice), drawn)
	}
	if all := sample(text, Selection{Sample: all}); len(all) != 2000 {
		t.Errorf("a sample as large as the input has %d prompts, want all", len(all))
	}
	const tooLarge = "prompts: sample is 2001 and there are 2000 distinct prompts; give at most that, or 0 for all"
	if _, err := ScanFiles(t.Context(), []string{write(t, "a.jsonl", text)}, Options{}, Selection{Sample: all + 1}); err == nil || err.Error() != tooLarge {
		t.Errorf("a sample larger than the input: %v, want %q", err, tooLarge)
	}
	limited := sample(text, Selection{Limit: 600, Sample: drawn, SampleSeed: 1})
	first := sample(numbered(1, 600), Selection{Sample: drawn, SampleSeed: 1})
	if !cmp.Equal(limited, first) {
		t.Error("the limit does not come before the sample")
	}
	other := sample(text, Selection{Sample: drawn, SampleSeed: 2})
	both := 0
	for id := range one {
		both += other[id]
	}
	// Each of 500 is in another sample of 500 of 2,000 with probability 1/4: hypergeometric with
	// mean 125 and deviation sqrt(500·1/4·3/4·1500/1999) = 8.4.
	if math.Abs(float64(both)-125) > 5*8.4 {
		t.Errorf("two seeds have %d of 500 prompts in common, want about 125", both)
	}
}

// A sample of the mean size takes a smaller slice whole and cuts a larger one: with a quarter of the prompts for each
// of four iterations no iteration fails. A larger sample is an error.
func checkMeanSample(t *testing.T, text string, sliced func(string, Selection) map[string]int) {
	t.Helper()
	const all, parts = 2000, 4
	smaller := 0
	for index := range int64(parts) {
		slice := Slice{Index: index + 1, Count: parts}
		whole := sliced(text, Selection{Slice: slice})
		if drawn := sliced(text, Selection{Slice: slice, Sample: all / parts}); len(drawn) != min(len(whole), all/parts) {
			t.Errorf("of %d prompts of slice %s a sample of %d has %d", len(whole), slice, all/parts, len(drawn))
		}
		if len(whole) < all/parts {
			smaller++
		}
		tooMany := int64(max(len(whole), all/parts)) + 1
		_, err := ScanFiles(t.Context(), []string{write(t, "a.jsonl", text)}, Options{}, Selection{Slice: slice, Sample: tooMany})
		want := fmt.Sprintf("prompts: sample is %d and slice %s has %d of the 2000 distinct prompts; give at most %d, 0 for the whole slice, or fewer slices", tooMany, slice, len(whole), tooMany-1)
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if smaller == 0 {
		t.Error("no slice is smaller than the mean")
	}
}

// The slices of one count and seed are a partition, in any order of the lines. A sample is drawn within
// one slice.
func TestScanSlices(t *testing.T) {
	const all, parts = 2000, 4
	text := numbered(1, all)
	lines := strings.SplitAfter(text, "\n")
	slices.Reverse(lines)
	backwards := strings.Join(lines, "")
	sliced := func(text string, s Selection) map[string]int {
		scan, err := ScanFiles(t.Context(), []string{write(t, "a.jsonl", text)}, Options{}, s)
		if err != nil {
			t.Fatal(err)
		}
		kept := keep(t, scan)
		if int64(len(kept)) != scan.Prompts {
			t.Errorf("the scan says %d prompts, the run keeps %d", scan.Prompts, len(kept))
		}
		return kept
	}
	slice := func(index int64) Slice { return Slice{Index: index, Count: parts} }
	union := map[string]int{}
	for index := range int64(parts) {
		part := sliced(text, Selection{Slice: slice(index + 1)})
		for id := range part {
			union[id]++
		}
		// Binomial: 500 of 2,000 with deviation sqrt(2000·1/4·3/4) = 19.4.
		if math.Abs(float64(len(part))-500) > 5*19.4 {
			t.Errorf("slice %d has %d prompts, want about 500", index+1, len(part))
		}
		if !cmp.Equal(part, sliced(backwards, Selection{Slice: slice(index + 1)})) {
			t.Errorf("the order of the lines changed slice %d", index+1)
		}
		sample := sliced(text, Selection{Slice: slice(index + 1), Sample: 50, SampleSeed: index})
		for id := range sample {
			if part[id] == 0 {
				t.Errorf("the sample of slice %d has a prompt that is not in the slice", index+1)
			}
		}
		if len(sample) != 50 {
			t.Errorf("a sample of 50 has %d prompts", len(sample))
		}
		if grown := sliced(text+numbered(all+1, all+100), Selection{Slice: slice(index + 1)}); !contains(grown, part) {
			t.Errorf("more lines took prompts out of slice %d", index+1)
		}
	}
	checkMeanSample(t, text, sliced)
	for id, n := range union {
		if n != 1 {
			t.Errorf("prompt %s is in %d slices", id, n)
		}
	}
	if len(union) != all {
		t.Errorf("all slices have %d prompts, want %d", len(union), all)
	}
	if cmp.Equal(sliced(text, Selection{Slice: Slice{1, parts, 0}}), sliced(text, Selection{Slice: Slice{1, parts, 1}})) {
		t.Error("another seed makes the same slices")
	}
}

func contains(all, some map[string]int) bool {
	for id := range some {
		if all[id] == 0 {
			return false
		}
	}
	return true
}

func TestParseSlice(t *testing.T) {
	for text, want := range map[string]Slice{"": {}, "1/1": {1, 1, 7}, "4/4": {4, 4, 7}} {
		if got, err := ParseSlice(text, 7); got != want || err != nil {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"0/4", "5/4", "1", "1/0", "/", "1/4/4", "-1/4", "1/-4", "a/b", "1/2000000", "1/99999999999999999999"} {
		if _, err := ParseSlice(text, 0); err == nil || !strings.Contains(err.Error(), "allowed is INDEX/COUNT, for example 1/4 for the first of four parts") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

// One line describes the recognised form, and counts the dropped answers and the unused fields.
func TestDescribe(t *testing.T) {
	text := `{"question":"a","system_prompt":"s"}
{"question":"b","system_prompt":""}
{"messages":[{"role":"system","content":"x"},{"role":"user","content":"c"},{"role":"assistant","content":"d"}],"system_prompt":"s"}
{"prompt":"e","system":5,"input":"x"}
{"prompt":"e","input":"y"}
{"prompt":""}
`
	s, err := ScanFiles(t.Context(), []string{write(t, "a.jsonl", text)}, Options{}, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	path := s.Files[0].Path
	const want = "4 prompts of 6 lines in 1 file, read from prompt (2), messages (1), question (1), question + system_prompt (1)" +
		"; 1 conversation ended with an answer, which is left out; not used: input (2 lines), system_prompt (1 line)" +
		"; 1 repeated line merged; 1 bad line (1 empty_prompt), the first at "
	if got := s.Describe(Options{}); got != want+path+":6: message 1 of field prompt is blank" {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s, err = ScanFiles(t.Context(), []string{path}, Options{DropLastAnswer: NeverDrop}, Selection{})
	if err != nil || s.BadByCode[LastNotUser] != 1 || s.AnswersDropped != 0 {
		t.Errorf("never: %+v, %v", s, err)
	}
	s, err = ScanFiles(t.Context(), []string{path}, Options{DropLastAnswer: AlwaysDrop}, Selection{})
	if err != nil || s.AnswersDropped != 1 || strings.Contains(s.Describe(Options{DropLastAnswer: AlwaysDrop}), "left out") {
		t.Errorf("always: %+v, %v", s, err)
	}
}

func TestScanErrors(t *testing.T) {
	folder := folderOf(t, map[string]string{"a.jsonl": "", "b.jsonl": "\n\n", "c.jsonl": "", "d.jsonl": "", "e.jsonl": ""})
	path := func(name string) string { return filepath.Join(folder, name) }
	bad := write(t, "bad.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\nx\n")
	tests := []struct {
		paths     []string
		selection Selection
		want      string
	}{
		{[]string{path("a.jsonl")}, Selection{}, "prompts: no prompts in " + path("a.jsonl") + ": there is no line in it"},
		{
			[]string{folder},
			Selection{},
			"prompts: no prompts in " + path("a.jsonl") + ", " + path("b.jsonl") + ", " + path("c.jsonl") + ", 2 more: there is no line in it",
		},
		{
			[]string{bad},
			Selection{},
			"prompts: no prompts in " + bad + ": all 3 lines are bad (2 no_prompt, 1 bad_json): " +
				bad + ":1: no field prompt with a string or a list of messages; the line has text; " +
				bad + ":2: no field prompt with a string or a list of messages; the line has text; " +
				bad + ":3: the line is not JSON; each line must be a JSON object",
		},
		{[]string{bad}, Selection{Limit: -1, Sample: -2}, "prompts: limit is -1; allowed is 0 for all, or more\nprompts: sample is -2; allowed is 0 for all, or more"},
		{[]string{"none.jsonl"}, Selection{}, "prompts: none.jsonl: there is no such file, or no file in it"},
	}
	for _, test := range tests {
		_, err := ScanFiles(t.Context(), test.paths, Options{Field: "prompt"}, test.selection)
		if err == nil || err.Error() != test.want {
			t.Errorf("ScanFiles(%v):\ngot  %v\nwant %s", test.paths, err, test.want)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "{\"id\":%d,\"prompt\":%q,\"category\":\"some\"}\n", i, strings.Repeat(fmt.Sprint(i, " words of a prompt "), 25))
	}
	path := filepath.Join(b.TempDir(), "a.jsonl")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()) / 20_000)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += 20_000 {
		if _, err := ScanFiles(b.Context(), []string{path}, Options{}, Selection{Sample: 1000}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
