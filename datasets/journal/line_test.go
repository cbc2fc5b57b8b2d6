package journal

import (
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"

	"coeval/schemas"
)

// The quick way knows every field of a record, so that none is left out when one is added.
func TestFieldsAreAllOfARecord(t *testing.T) {
	var r Record
	v := reflect.ValueOf(&r).Elem()
	for f := range v.Type().Fields() {
		switch of := v.FieldByIndex(f.Index); of.Interface().(type) {
		case string:
			of.SetString("of " + f.Name)
		case int:
			of.SetInt(int64(1 + f.Index[0]))
		case *schemas.Prompt: // the library's
		default:
			t.Fatalf("the quick way doesn't write a %s as %s is", f.Type, f.Name)
		}
	}
	want, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	if line, ok := appendQuick(nil, &r); !ok || string(line) != string(want) {
		t.Errorf("got %s, want %s", line, want)
	}
}

func TestPromptsAreLeftToTheLibrary(t *testing.T) {
	r := Record{Key: "k", PromptID: "p", Prompt: &schemas.Prompt{ID: "p"}}
	if _, ok := appendQuick(nil, &r); ok {
		t.Error("its prompt is left out")
	}
}

// What the quick way writes the library writes too.
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
	})
}

// BenchmarkLines compares the quick way of one record with the library's.
func BenchmarkLines(b *testing.B) {
	records := benchmarkRecords(1000)
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
	each("quick", func(i int) (ok bool) { buffer, ok = appendQuick(buffer[:0], &records[i]); return ok })
	each("library", func(i int) bool { _, err := json.Marshal(&records[i]); return err == nil })
}
