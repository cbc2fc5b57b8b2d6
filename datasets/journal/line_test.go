package journal

import (
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"coeval/schemas"
)

// The quick way knows every field of a record, so that none is left out when one is added.
func TestFieldsAreAllOfARecord(t *testing.T) {
	typ := reflect.TypeFor[Record]()
	var names []string
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	var known []string
	for i := range fields {
		known = append(known, fields[i].name)
	}
	if known = append(known, "prompt"); !reflect.DeepEqual(names, known) {
		t.Errorf("fields are %v, a record has %v", known, names)
	}
}

func TestPromptsAreLeftToTheLibrary(t *testing.T) {
	r := Record{Key: "k", PromptID: "p", Prompt: &schemas.Prompt{ID: "p"}}
	if _, ok := appendQuick(nil, &r); ok {
		t.Error("its prompt is left out")
	}
	line, err := encodeLines(nil, []Record{r})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := readQuick(string(line)); ok {
		t.Error("its prompt is not read")
	}
}

// What the quick way writes the library writes too, and both read the same.
func FuzzAppendQuick(f *testing.F) {
	f.Add("key", 3, "p", "judge", "Score: 4\n\"\\\t\x00 ü", "", "stop", 12, 345, "", "")
	f.Add("key", 0, "p", "", "", "", "", 0, -1, "timeout", "no whole answer within 10s")
	f.Add("", 0, "", "", "\xff", "\u2028", "", 0, 0, "", "")
	f.Fuzz(func(t *testing.T, key string, replicate int, prompt, role, text, reasoning, finish string, read, written int, code, message string) {
		r := Record{
			Key: key, Replicate: replicate, PromptID: prompt, Role: role, Text: text, Reasoning: reasoning, FinishReason: finish,
			PromptTokens: read, CompletionTokens: written, Code: code, Message: message,
		}
		line, ok := appendQuick([]byte("before"), &r)
		want, err := json.Marshal(&r)
		if ok != (err == nil) {
			t.Fatalf("%+v: quick %t, library %v", r, ok, err)
		}
		if !ok {
			if string(line) != "before" {
				t.Errorf("%q was left", line)
			}
			return
		}
		if string(line) != "before"+string(want) {
			t.Fatalf("got %s, want %s", line, want)
		}
		if got, ok := readQuick(string(want)); !ok || *got != r {
			t.Errorf("%s is read as %+v, %t", want, got, ok)
		}
	})
}

// What the quick way reads the library reads as the same.
func FuzzReadQuick(f *testing.F) {
	for _, s := range []string{
		`{"key":"k","replicate":1,"prompt_id":"p","text":"a\nb"}`, `{"replicate":1,"key":"k"}`, `{"key":"k","key":"l"}`, `{"key":null}`,
		`{"key":"k","replicate":1.0}`, `{"key":"k","replicate":-0}`, `{"replicate":01}`, `{"key":"\ud800"}`, `{"key":"k"} x`, `{"text":"\u0041"}`, `{"other":1}`, ` { } `,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, ok := readQuick(line)
		if !ok {
			return
		}
		var want Record
		if err := json.Unmarshal([]byte(line), &want); err != nil || *got != want {
			t.Errorf("%q is read as %+v, by the library as %+v, %v", line, got, want, err)
		}
	})
}

// BenchmarkLines compares the quick way of one record with the library's.
func BenchmarkLines(b *testing.B) {
	records := benchmarkRecords(1000)
	lines := make([][]byte, len(records))
	for i := range records {
		var err error
		if lines[i], err = json.Marshal(&records[i]); err != nil {
			b.Fatal(err)
		}
	}
	each := func(name string, work func(i int) bool) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !work(i % len(records)) {
					b.Fatal("it fails")
				}
			}
		})
	}
	var buffer []byte
	each("write/quick", func(i int) (ok bool) { buffer, ok = appendQuick(buffer[:0], &records[i]); return ok })
	each("write/library", func(i int) bool { _, err := json.Marshal(&records[i]); return err == nil })
	each("read/quick", func(i int) bool { _, ok := readQuick(string(lines[i])); return ok })
	each("read/library", func(i int) bool { return json.Unmarshal(lines[i], new(Record)) == nil })
}
