package lenient

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each field has the value that a known server means, and a value of another type spoils no other field.
func TestUnmarshal(t *testing.T) {
	type fields struct {
		Text  Text   `json:"text"`
		Parts Parts  `json:"parts"`
		Count Number `json:"count"`
	}
	for body, want := range map[string]fields{
		"\xef\xbb\xbf" + `{"text":"a","count":NaN}`:                   {Text: "a"},
		`{"text":"a NaN","count":"7","other":-Infinity}`:              {Text: "a NaN", Count: Number{7, true}},
		`{"text":{"text":"a"},"count":1e999}`:                         {Text: "a"},
		`{"text":["a",{"content":"b"}],"count":[1]}`:                  {Text: "ab"},
		`{"text":7,"parts":"a","count":0}`:                            {Parts: Parts{Text: "a"}, Count: Number{0, true}},
		`{"parts":[{"type":"reasoning","text":"t"},{"content":"a"}]}`: {Parts: Parts{Text: "a", Thoughts: "t"}},
		"{\"text\":\"a\xff\",\"text\":\"b\xff\"}":                     {Text: "b\uFFFD"},
	} {
		var got fields
		if err := Unmarshal([]byte(body), &got); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	if err := Unmarshal([]byte(`{"text":`), &fields{}); err == nil {
		t.Error("half an object is accepted")
	}
}
