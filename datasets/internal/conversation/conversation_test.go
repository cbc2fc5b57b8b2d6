package conversation

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

func user(content string) []schemas.Message {
	return []schemas.Message{{Role: "user", Content: content}}
}

// prompt is the expected result of Parse; its ID follows.
func prompt(messages []schemas.Message, metadata string, ownIDs ...string) schemas.Prompt {
	return schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages, OwnIDs: ownIDs, Metadata: metadata}
}

func TestParse(t *testing.T) {
	chat := []schemas.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Hi"}, {Role: "assistant", Content: "Yes?"}, {Role: "user", Content: "Bye"}}
	tests := []struct {
		name, line string
		options    Options
		want       schemas.Prompt
	}{
		{"string", `{"prompt":"Hi"}`, Options{}, prompt(user("Hi"), "{}")},
		{"white space is kept", `{"prompt":" Hi\n"}`, Options{}, prompt(user(" Hi\n"), "{}")},
		{"escapes", `{"prompt":"\u00fc \ud83d\ude00 \u0000"}`, Options{}, prompt(user("ü 😀 \x00"), "{}")},
		{"uid", `{"uid":"a1","prompt":"Hi"}`, Options{}, prompt(user("Hi"), "{}", "a1")},
		{"number as id", `{"id":12345678901234567890,"prompt":"Hi"}`, Options{}, prompt(user("Hi"), "{}", "12345678901234567890")},
		{"first id", `{"prompt_id":"b","id":"","uid":7,"prompt":"Hi"}`, Options{}, prompt(user("Hi"), `{"id":"","prompt_id":"b"}`, "7")},
		{"own id field", `{"key":"k","id":"i","prompt":"Hi"}`, Options{IDField: "key"}, prompt(user("Hi"), `{"id":"i"}`, "k")},
		{"own id field that is not there", `{"id":"i","prompt":"Hi"}`, Options{IDField: "key"}, prompt(user("Hi"), `{"id":"i"}`)},
		{
			"metadata", ` {"z":{"b":1.50,"a":[true, null]}, "prompt":"Hi" ,"a":"\u00e9", "n":12345678901234567890}`,
			Options{},
			prompt(user("Hi"), `{"a":"é","n":12345678901234567890,"z":{"a":[true,null],"b":1.50}}`),
		},
		{
			"messages",
			`{"messages":[{"role":"system","content":"Be brief."},{"content":"Hi","role":"user"},{"role":"assistant","content":"Yes?","weight":0},{"role":"user","content":"Bye"}]}`,
			Options{},
			prompt(chat, "{}"),
		},
		{
			"conversations",
			`{"conversations":[{"from":"system","value":"Be brief."},{"from":"human","value":"Hi"},{"from":"gpt","value":"Yes?"},{"from":"user","value":"Bye"}]}`,
			Options{},
			prompt(chat, "{}"),
		},
		{"prompt as messages", `{"prompt":[{"role":"user","content":"Hi"}]}`, Options{}, prompt(user("Hi"), "{}")},
		{"prompt before messages", `{"messages":[],"prompt":"Hi"}`, Options{}, prompt(user("Hi"), `{"messages":[]}`)},
		{"null is not there", `{"prompt":null,"question":"Why?"}`, Options{}, prompt(user("Why?"), `{"prompt":null}`)},
		{"own field", `{"prompt":"no","text":"Hi"}`, Options{Field: "text"}, prompt(user("Hi"), `{"prompt":"no"}`)},
		{"alpaca", `{"instruction":"Add.","input":"1 2","output":"3"}`, Options{}, prompt(user("Add.\n\n1 2"), `{"output":"3"}`)},
		{"alpaca without input", `{"instruction":"Sing.","input":" ","output":"la"}`, Options{}, prompt(user("Sing."), `{"output":"la"}`)},
		{"alpaca with other input", `{"instruction":"Sing.","input":[1]}`, Options{}, prompt(user("Sing."), `{"input":[1]}`)},
		{"input of a prompt", `{"prompt":"Sing.","input":"x"}`, Options{}, prompt(user("Sing."), `{"input":"x"}`)},
	}
	for _, test := range tests {
		got, _, failure := Parse([]byte(test.line), test.options)
		if failure != nil {
			t.Errorf("%s: %s: %s", test.name, failure.Code, failure.Message)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestParseBadLines(t *testing.T) {
	tests := []struct {
		line    string
		options Options
		code    string
		message string
	}{
		{`hello`, Options{}, BadJSON, "the line is not JSON; each line must be a JSON object"},
		{`[1]`, Options{}, BadJSON, "the line is a list; each line must be a JSON object"},
		{`"a`, Options{}, BadJSON, "the line is a string; each line must be a JSON object"},
		{`null`, Options{}, BadJSON, "the line is null; each line must be a JSON object"},
		{`{"prompt":"Hi"`, Options{}, BadJSON, "the line is not a JSON object: unexpected EOF"},
		{`{"prompt":"Hi"} {}`, Options{}, BadJSON, "the line is not a JSON object: invalid character '{' after top-level value"},
		{`{"prompt":"a","prompt":"b"}`, Options{}, BadJSON, `the line is not a JSON object: duplicate object member name "prompt"`},
		{"{\"prompt\":\"a\x00\"}", Options{}, BadJSON, `the line is not a JSON object: invalid character '\x00' in string`},
		{"\x00\x00\x00", Options{}, BadJSON, "the line is not JSON; each line must be a JSON object"},
		{"{\"prompt\":\"a\xff\"}", Options{}, InvalidUTF8, "the line is not valid UTF-8"},
		{"{\"prompt\":\"a\",\"x\":\"\xc3\"}", Options{}, InvalidUTF8, "the line is not valid UTF-8"},
		{`{"prompt":"\ud800"}`, Options{}, InvalidUTF8, "the line has half of a surrogate pair"},
		{`{"prompt":"a","x":{"y":"\udc00"}}`, Options{}, InvalidUTF8, "the line has half of a surrogate pair"},
		{`{}`, Options{}, NoPrompt, "no field with a prompt was found; the line has no field; name the field in prompts.field"},
		{`{"text":"Hi","prompt":5}`, Options{}, NoPrompt, "no field with a prompt was found; the line has prompt, text; name the field in prompts.field"},
		{`{"prompt":"Hi","b":1}`, Options{Field: "text"}, NoPrompt, "no field text with a string or a list of messages; the line has b, prompt"},
		{`{"messages":[{"role":"user","content":5}]}`, Options{}, NoPrompt, "field messages is not a list of {role, content} or {from, value}: the content of message 1 is a number"},
		{`{"messages":["Hi"]}`, Options{}, NoPrompt, "field messages is not a list of {role, content} or {from, value}: message 1 is a string"},
		{`{"messages":[{"role":"user"}]}`, Options{}, NoPrompt, "message 1 of field messages has no role and content, nor from and value"},
		{`{"messages":[null]}`, Options{}, NoPrompt, "message 1 of field messages has no role and content, nor from and value"},
		{`{"messages":[{"role":"user","content":null}]}`, Options{}, NoPrompt, "message 1 of field messages has no role and content, nor from and value"},
		{`{"messages":[{"role":"user","content":"a"},{"role":"narrator","content":"x"}]}`, Options{}, BadRole, `message 2 of field messages has the role "narrator"; known are system, user, assistant and their usual other names: rename it in the file`},
		{`{"prompt":""}`, Options{}, EmptyPrompt, "message 1 of field prompt is blank"},
		{`{"prompt":" \n\t\u00a0"}`, Options{}, EmptyPrompt, "message 1 of field prompt is blank"},
		{`{"messages":[]}`, Options{}, EmptyPrompt, "field messages has no message"},
		{`{"messages":[{"role":"system","content":""}]}`, Options{}, EmptyPrompt, "field messages has no message"},
		{`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, Options{KeepAnswer: true}, LastNotUser, "the last message of field messages is from the assistant; a prompt ends with the user"},
		{`{"messages":[{"role":"system","content":"a"}]}`, Options{}, LastNotUser, "the last message of field messages is from the system; a prompt ends with the user"},
	}
	for _, test := range tests {
		_, _, failure := Parse([]byte(test.line), test.options)
		if failure == nil {
			t.Errorf("%s: no failure, want %s", test.line, test.code)
			continue
		}
		if failure.Stage != schemas.StagePrompts || failure.Code != test.code || !strings.HasPrefix(failure.Message, test.message) {
			t.Errorf("%s:\ngot  %s %s: %s\nwant prompts %s: %s", test.line, failure.Stage, failure.Code, failure.Message, test.code, test.message)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, test := range formats {
		f.Add([]byte(test.line), "", "")
	}
	f.Add([]byte(`{"a":{"b":["x"]}}`), "a.b[0]", "")
	f.Add([]byte(`{"prompt":"Hi","id":1,"x":{"b":1,"a":"\u00e9"}}`), "", "")
	f.Add([]byte(`{"messages":[{"role":"system","content":"a"},{"from":"human","value":"b"}]}`), "", "x")
	f.Add([]byte(`{"instruction":"a","input":"b"}`), "instruction", "input")
	f.Add([]byte("{\"prompt\":\"\\ud800\xff\"}"), "prompt", "")
	f.Fuzz(func(t *testing.T, data []byte, field, idField string) {
		checkLine(t, data, Options{Field: field, IDField: idField})
	})
}

// checkLine checks the promises of parse for any line.
func checkLine(t *testing.T, data []byte, o Options) {
	p, reading, failure := Parse(data, o)
	if failure != nil {
		if failure.Code == "" || failure.Message == "" || failure.Stage != schemas.StagePrompts {
			t.Errorf("%q: incomplete failure %+v", data, failure)
		}
		return
	}
	if len(p.Messages) == 0 || p.Messages[len(p.Messages)-1].Role != "user" || reading.Form == "" || p.ID != schemas.PromptID(p.Messages) {
		t.Errorf("%q gave %+v", data, p)
	}
	again, _, failure := Parse([]byte(p.Metadata), Options{Field: "no such field"})
	if failure == nil || failure.Code != NoPrompt {
		t.Errorf("%q: metadata %q is not an object: %+v, %+v", data, p.Metadata, again, failure)
	}
}
