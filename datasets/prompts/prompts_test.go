package prompts

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"coeval/schemas"
)

func user(content string) []schemas.Message {
	return []schemas.Message{{Role: "user", Content: content}}
}

// prompt is what parse should make of these; their ID follows.
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
		got, failure := parse([]byte(test.line), test.options)
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
		{`hello`, Options{}, BadJSON, "the line is no JSON, not a JSON object"},
		{`["a"]`, Options{}, BadJSON, "the line is a list, not a JSON object"},
		{`"a"`, Options{}, BadJSON, "the line is a string, not a JSON object"},
		{`null`, Options{}, BadJSON, "the line is null, not a JSON object"},
		{`{"prompt":"Hi"`, Options{}, BadJSON, "the line is not a JSON object: unexpected EOF"},
		{`{"prompt":"Hi"} {}`, Options{}, BadJSON, "the line is not a JSON object: invalid character '{' after top-level value"},
		{`{"prompt":"a","prompt":"b"}`, Options{}, BadJSON, `the line is not a JSON object: duplicate object member name "prompt"`},
		{"{\"prompt\":\"a\x00\"}", Options{}, BadJSON, `the line is not a JSON object: invalid character '\x00' in string`},
		{"\x00\x00\x00", Options{}, BadJSON, "the line is no JSON, not a JSON object"},
		{"{\"prompt\":\"a\xff\"}", Options{}, InvalidUTF8, "the line is not valid UTF-8"},
		{"{\"prompt\":\"a\",\"x\":\"\xc3\"}", Options{}, InvalidUTF8, "the line is not valid UTF-8"},
		{`{"prompt":"\ud800"}`, Options{}, InvalidUTF8, "the line has half of a surrogate pair"},
		{`{"prompt":"a","x":{"y":"\udc00"}}`, Options{}, InvalidUTF8, "the line has half of a surrogate pair"},
		{`{}`, Options{}, NoPrompt, "none of the fields prompt, messages, instruction, question, conversations holds a string or a list of messages; the line has no field"},
		{`{"text":"Hi","prompt":5}`, Options{}, NoPrompt, "none of the fields prompt, messages, instruction, question, conversations holds a string or a list of messages; the line has prompt, text"},
		{`{"prompt":"Hi","b":1}`, Options{Field: "text"}, NoPrompt, "no field text that holds a string or a list of messages; the line has b, prompt"},
		{`{"messages":[{"role":"user","content":5}]}`, Options{}, NoPrompt, "field messages is not a list of {role, content} or {from, value}: messages/0/content is a number"},
		{`{"messages":["Hi"]}`, Options{}, NoPrompt, "field messages is not a list of {role, content} or {from, value}: messages/0 is a string"},
		{`{"messages":[{"role":"user"}]}`, Options{}, NoPrompt, "message 1 of field messages has no role and content, nor from and value"},
		{`{"messages":[null]}`, Options{}, NoPrompt, "message 1 of field messages has no role and content, nor from and value"},
		{`{"messages":[{"role":"user","content":null}]}`, Options{}, NoPrompt, "message 1 of field messages has no role and content, nor from and value"},
		{`{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"x"}]}`, Options{}, BadRole, `message 2 of field messages has the role "tool"; allowed are system, user and assistant`},
		{`{"messages":[{"role":"human","content":"a"}]}`, Options{}, BadRole, `message 1 of field messages has the role "human"; allowed are system, user and assistant`},
		{`{"prompt":""}`, Options{}, EmptyPrompt, "message 1 of field prompt is blank"},
		{`{"prompt":" \n\t\u00a0"}`, Options{}, EmptyPrompt, "message 1 of field prompt is blank"},
		{`{"messages":[]}`, Options{}, EmptyPrompt, "field messages has no message"},
		{`{"messages":[{"role":"system","content":""},{"role":"user","content":"a"}]}`, Options{}, EmptyPrompt, "message 1 of field messages is blank"},
		{`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, Options{}, LastNotUser, "the last message of field messages is from the assistant; a prompt ends with the user"},
		{`{"messages":[{"role":"system","content":"a"}]}`, Options{}, LastNotUser, "the last message of field messages is from the system; a prompt ends with the user"},
	}
	for _, test := range tests {
		_, failure := parse([]byte(test.line), test.options)
		if failure == nil {
			t.Errorf("%s: no failure, want %s", test.line, test.code)
			continue
		}
		if failure.Stage != schemas.StagePrompts || failure.Code != test.code || !strings.HasPrefix(failure.Message, test.message) {
			t.Errorf("%s:\ngot  %s %s: %s\nwant prompts %s: %s", test.line, failure.Stage, failure.Code, failure.Message, test.code, test.message)
		}
	}
}

// read returns the lines of a file as short texts: "N content" or "N code".
func read(t *testing.T, f File, o Options) ([]string, error) {
	t.Helper()
	var lines []string
	err := ReadFile(t.Context(), f, o, func(line Line) error {
		file := line.Prompt.File
		var what string
		if line.Bad != nil {
			file, what = line.Bad.File, line.Bad.Code
		} else {
			what = line.Prompt.Messages[len(line.Prompt.Messages)-1].Content
		}
		if file != f.Path {
			t.Errorf("line %d says that it is from %q", line.Number(), file)
		}
		lines = append(lines, fmt.Sprint(line.Number(), " ", what))
		return nil
	})
	return lines, err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, parts ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, part := range parts {
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func zstandard(t *testing.T, parts ...string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, part := range parts {
		b = w.EncodeAll([]byte(part), b)
	}
	return string(b)
}

func TestReadFileOfLines(t *testing.T) {
	const a, b = `{"prompt":"a"}`, `{"prompt":"b"}`
	large := `{"prompt":"` + strings.Repeat("x", 300_000) + `"}`
	both := []string{"1 a", "2 b"}
	tests := []struct {
		name, text string
		want       []string
	}{
		{"plain.jsonl", a + "\n" + b + "\n", both},
		{"plain.ndjson", a + "\n" + b + "\n", both},
		{"plain.json", a + "\n" + b + "\n", both},
		{"UPPER.JSONL", a + "\n" + b + "\n", both},
		{"no-end.jsonl", a + "\n" + b, both},
		{"crlf.jsonl", a + "\r\n" + b + "\r\n", both},
		{"bom.jsonl", "\ufeff" + a + "\n" + b, both},
		{"bom-blank.jsonl", "\ufeff\n" + a + "\n" + b, []string{"2 a", "3 b"}},
		{"blank.jsonl", "\n" + a + "\n \t\n\r\n" + b + "\n\n", []string{"2 a", "5 b"}},
		{"spaces.jsonl", "  " + a + " \t\n", []string{"1 a"}},
		{"twice.jsonl", a + "\n" + a, []string{"1 a", "2 a"}},
		{"bad.jsonl", a + "\nno\n{\"prompt\":\"\xff\"}\n" + b, []string{"1 a", "2 bad_json", "3 invalid_utf8", "4 b"}},
		{"nul.jsonl", a + "\n\x00\x00\x00\n" + b, []string{"1 a", "2 bad_json", "3 b"}},
		{"large.jsonl", a + "\n" + large + "\n" + b, []string{"1 a", "2 too_large", "3 b"}},
		{"large-last.jsonl", a + "\n" + large, []string{"1 a", "2 too_large"}},
		{"large-first.jsonl", large + "\r\n" + a, []string{"1 too_large", "2 a"}},
		{"empty.jsonl", "", nil},
		{"one.jsonl.gz", gzipped(t, a+"\n"+b), both},
		{"two.jsonl.gz", gzipped(t, a+"\n", b), both},
		{"inside.json.gz", gzipped(t, a[:5], a[5:]+"\n", "", b), both},
		{"one.jsonl.zst", zstandard(t, a+"\n"+b), both},
		{"two.ndjson.zst", zstandard(t, a+"\n", b), both},
		{"inside.jsonl.zst", zstandard(t, a[:5], a[5:]+"\n", "", b), both},
	}
	for _, test := range tests {
		got, err := read(t, File{Path: write(t, test.name, test.text)}, Options{MaxLineBytes: 100_000})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// The limit is on the line without its end, whatever buffer it straddles.
func TestLineLimit(t *testing.T) {
	for _, limit := range []int{50, 64 << 10, 64<<10 + 1, 200_000} {
		fits := `{"prompt":"` + strings.Repeat("x", limit-13) + `"}`
		over := `{"prompt":"` + strings.Repeat("x", limit-12) + `"}`
		path := write(t, "a.jsonl", fits+"\r\n"+over+"\r\n"+fits+"\n"+over+"\n"+fits)
		var got []string
		err := ReadFile(t.Context(), File{Path: path}, Options{MaxLineBytes: limit}, func(line Line) error {
			if line.Bad != nil {
				got = append(got, line.Bad.Code)
			} else {
				got = append(got, "ok")
			}
			return nil
		})
		if want := []string{"ok", TooLarge, "ok", TooLarge, "ok"}; err != nil || !cmp.Equal(want, got) {
			t.Errorf("limit %d: %v, %v, want %v", limit, got, err, want)
		}
	}
}

// An endless line costs no more memory than the limit.
func TestHugeLineIsNotHeld(t *testing.T) {
	const limit = 1 << 20
	text := &zeros{left: 1 << 30}
	lines := newLineReader(text, limit)
	if _, large, err := lines.next(); !large || err != nil {
		t.Errorf("a line of 1 GiB: large %v, %v", large, err)
	}
	if held := cap(lines.buf); held > 4*limit {
		t.Errorf("%d bytes are held, want at most 4 times the limit", held)
	}
}

type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.left)
	z.left -= n
	p[0] = 'x'
	if z.left == 0 && n > 0 {
		p[n-1] = '\n'
	}
	return n, nil
}

func TestLastLine(t *testing.T) {
	path := write(t, "a.jsonl", "{\"prompt\":\"a\"}\n\n{\"prompt\":\"b\"}\n{\"prompt\":\"c\"}\n")
	for last, want := range map[int64][]string{0: {"1 a", "3 b", "4 c"}, 1: {"1 a"}, 2: {"1 a"}, 3: {"1 a", "3 b"}, 9: {"1 a", "3 b", "4 c"}} {
		got, err := read(t, File{Path: path, LastLine: last}, Options{})
		if err != nil || !cmp.Equal(want, got) {
			t.Errorf("up to line %d: %v, %v, want %v", last, got, err, want)
		}
	}
}

func TestReadFileErrors(t *testing.T) {
	text := strings.Repeat("{\"prompt\":\"some text that is in a file\"}\n", 10_000)
	gz, zst := gzipped(t, text), zstandard(t, text)
	flip := func(s string) string {
		b := []byte(s)
		b[len(b)/2] ^= 0xff
		return string(b)
	}
	tests := []struct{ name, text, want string }{
		{"cut.jsonl.gz", gz[:len(gz)/2], "the file is damaged or cut off: unexpected EOF"},
		{"cut.jsonl.zst", zst[:len(zst)/2], "the file is damaged or cut off: unexpected EOF"},
		{"flip.jsonl.gz", flip(gz), "the file is damaged or cut off: "},
		{"flip.jsonl.zst", flip(zst), "the file is damaged or cut off: "},
		{"sum.jsonl.gz", gz[:len(gz)-8] + "12345678", "the file is damaged or cut off: gzip: invalid checksum"},
		{"more.jsonl.gz", gz + "more than that", "the file is damaged or cut off: gzip: invalid header"},
		{"plain.jsonl.gz", text, "not a gzip file: gzip: invalid header"},
		{"empty.jsonl.gz", "", "not a gzip file: unexpected EOF"},
		{"plain.jsonl.zst", text, "after line 0: the file is damaged or cut off: invalid input: magic number mismatch"},
		{"array.json", "\ufeff [\n{\"prompt\":\"a\"}\n]", "the file is one JSON array, not an object a line; `jq -c '.[]'` makes it so"},
		{"a.txt", text, "files of this kind can't be read; supported are .jsonl, .ndjson, .json, .parquet, and all but the last with .gz or .zst"},
		{"a.parquet.gz", gz, "files of this kind can't be read"},
	}
	for _, test := range tests {
		path := write(t, test.name, test.text)
		_, err := read(t, File{Path: path}, Options{})
		if err == nil || !strings.HasPrefix(err.Error(), "prompts: "+path+": ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
}

func TestReadFileStops(t *testing.T) {
	path := write(t, "a.jsonl", strings.Repeat("{\"prompt\":\"a\"}\n", 10))
	enough := errors.New("enough")
	lines := 0
	err := ReadFile(t.Context(), File{Path: path}, Options{}, func(Line) error {
		if lines++; lines == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || err.Error() != "enough" || lines != 3 {
		t.Errorf("stopped after %d lines with %v, want 3 and the error as it is", lines, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = ReadFile(ctx, File{Path: path}, Options{}, func(Line) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestExpand(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	for _, name := range []string{"d/b.jsonl", "d/a.parquet", "d/README.md", "d/.hidden.jsonl", "d/sub/c.jsonl", "x.json.gz", "y.ndjson.zst", "notes.txt", "empty/notes.txt", "a.parquet.gz"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		paths []string
		want  []string
		err   string
	}{
		{[]string{"d"}, []string{"d/a.parquet", "d/b.jsonl"}, ""},
		{[]string{"y.ndjson.zst", "d/", "x.json.gz"}, []string{"d/a.parquet", "d/b.jsonl", "x.json.gz", "y.ndjson.zst"}, ""},
		{[]string{"d/b.jsonl", "./d/b.jsonl", "d/*.jsonl", "d"}, []string{"d/a.parquet", "d/b.jsonl"}, ""},
		{[]string{"*/*.jsonl"}, []string{"d/b.jsonl"}, ""},
		{[]string{"d/*"}, []string{"d/a.parquet", "d/b.jsonl"}, ""},
		{nil, nil, "prompts: no file is given"},
		{[]string{"d", "none.jsonl"}, nil, "prompts: none.jsonl: there is no such file, or no file in it"},
		{[]string{"none*"}, nil, "prompts: none*: there is no such file, or no file in it"},
		{[]string{"notes.txt"}, nil, "prompts: notes.txt: no file that can be read; supported are .jsonl, .ndjson, .json, .parquet, and all but the last with .gz or .zst"},
		{[]string{"empty"}, nil, "prompts: empty: no file that can be read; supported are .jsonl, .ndjson, .json, .parquet, and all but the last with .gz or .zst"},
		{[]string{"a.parquet.gz"}, nil, "prompts: a.parquet.gz: no file that can be read; supported are .jsonl, .ndjson, .json, .parquet, and all but the last with .gz or .zst"},
		{[]string{"ftp://b/a.jsonl"}, nil, "prompts: store: ftp://b/a.jsonl: no files can be reached by ftp://; give a local path, gs:// or s3://"},
	}
	for _, test := range tests {
		got, err := Expand(t.Context(), test.paths)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Expand(%v) (-want +got):\n%s", test.paths, diff)
		}
		if message := fmt.Sprint(err); (err != nil || test.err != "") && message != test.err {
			t.Errorf("Expand(%v): error %v, want %q", test.paths, err, test.err)
		}
	}
}

func TestArenaHard(t *testing.T) {
	lines := 0
	err := ReadFile(t.Context(), File{Path: "../arena-hard/arena-hard-v0.1.jsonl"}, Options{}, func(line Line) error {
		lines++
		if line.Bad != nil {
			t.Errorf("line %d: %s", line.Bad.Line, line.Bad.Message)
			return nil
		}
		p := line.Prompt
		if len(p.OwnIDs) != 1 || len(p.OwnIDs[0]) != 32 || !strings.HasPrefix(p.Metadata, `{"category":"arena-hard-v0.1","cluster":"`) {
			t.Errorf("line %d has own IDs %v and metadata %s", p.Line, p.OwnIDs, p.Metadata)
		}
		return nil
	})
	if err != nil || lines != 499 {
		t.Errorf("%d lines, %v, want 499", lines, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"prompt":"Hi","id":1,"x":{"b":1,"a":"\u00e9"}}`), "", "")
	f.Add([]byte(`{"messages":[{"role":"system","content":"a"},{"from":"human","value":"b"}]}`), "", "x")
	f.Add([]byte(`{"instruction":"a","input":"b"}`), "instruction", "input")
	f.Add([]byte("{\"prompt\":\"\\ud800\xff\"}"), "prompt", "")
	f.Fuzz(func(t *testing.T, data []byte, field, idField string) {
		checkLine(t, data, Options{Field: field, IDField: idField})
	})
}

// checkLine holds what parse promises of any line.
func checkLine(t *testing.T, data []byte, o Options) {
	p, failure := parse(data, o)
	if failure != nil {
		if failure.Code == "" || failure.Message == "" || failure.Stage != schemas.StagePrompts {
			t.Errorf("%q: incomplete failure %+v", data, failure)
		}
		return
	}
	if len(p.Messages) == 0 || p.Messages[len(p.Messages)-1].Role != "user" || p.ID != schemas.PromptID(p.Messages) {
		t.Errorf("%q gave %+v", data, p)
	}
	again, failure := parse([]byte(p.Metadata), Options{Field: "no such field"})
	if failure == nil || failure.Code != NoPrompt {
		t.Errorf("%q: metadata %q is not an object: %+v, %+v", data, p.Metadata, again, failure)
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add([]byte("{\"prompt\":\"a\"}\r\n\n{\"prompt\":\"b\"}"), ".jsonl", 40)
	f.Add([]byte("\x1f\x8b"), ".jsonl.gz", 40)
	f.Add([]byte("\x28\xb5\x2f\xfd"), ".json.zst", 40)
	f.Fuzz(func(t *testing.T, data []byte, ending string, limit int) {
		_, compression, ok := kindOf(ending)
		if !ok || limit < 1 {
			return
		}
		text, err := decompress(bytes.NewReader(data), compression)
		if err != nil {
			return
		}
		last := int64(0)
		err = readJSONL(t.Context(), text, File{Path: "fuzz.jsonl"}, Options{MaxLineBytes: limit}, func(line Line) error {
			if line.Number() <= last {
				t.Errorf("line %d after line %d", line.Number(), last)
			}
			last = line.Number()
			return nil
		})
		if err != nil && !strings.Contains(err.Error(), "fuzz.jsonl") {
			t.Errorf("the error doesn't name the file: %v", err)
		}
	})
}
