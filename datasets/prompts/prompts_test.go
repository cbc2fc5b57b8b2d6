package prompts

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"coeval/datasets/internal/lines"
	"coeval/schemas"
)

func user(content string) []schemas.Message {
	return []schemas.Message{{Role: "user", Content: content}}
}

// prompt is the expected result of parse; its ID follows.
func prompt(messages []schemas.Message, metadata string, ownIDs ...string) schemas.Prompt {
	return schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages, OwnIDs: ownIDs, Metadata: metadata}
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

// utf16Text returns a text in UTF-16 with a byte order mark.
func utf16Text(text string, order binary.AppendByteOrder) string {
	b := order.AppendUint16(nil, 0xfeff)
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
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
		{"utf16le.jsonl", utf16Text(a+"\r\n"+b, binary.LittleEndian), both},
		{"utf16be.jsonl", utf16Text(a+"\n"+b, binary.BigEndian), both},
		{"array.json", "[" + a + "," + b + "]", both},
		{"array.jsonl", "\ufeff \n[\r\n" + a + " ,\n\t" + b + "\n]\n\n", both},
		{"array-pretty.json", "[\n  {\n    \"prompt\": \"a\"\n  },\n  {\"x\": [1, {\"y\": \"]\\\"[\"}], \"prompt\": \"b\"}\n]", both},
		{"array-bad.json", `[` + a + `, 5, [3], {"prompt":}, , ` + b + `]`, []string{"1 a", "2 bad_json", "3 bad_json", "4 bad_json", "5 bad_json", "6 b"}},
		{"array-large.json", "[" + large + "," + a + "," + large + "]", []string{"1 too_large", "2 a", "3 too_large"}},
		{"array-texts.json", `["a", "b"]`, both},
		{"texts.jsonl", "\"a\"\n\"b\"\n", both},
		{"lists.jsonl", `[{"role":"user","content":"a"}]` + "\n" + `[{"role":"user","content":"b"}]` + "\n", both},
		{"array-lists.json", `[[{"role":"user","content":"a"}],[{"role":"user","content":"b"}]]`, both},
		{"one.json", a, []string{"1 a"}},
		{"pretty.json", "{\n  \"prompt\": \"a\"\n}\n", []string{"1 a"}},
		{"pretty-two.json", "{\n  \"prompt\": \"a\"\n}\n{\n  \"prompt\": \"b\"\n}\n", both},
		{"one-chat.json", "{\n\"messages\": [\n{\"role\": \"user\",\n\"content\": \"a\"}]}", []string{"1 a"}},
		{"ultrachat.json", `{"id":"0","data":["a","c"]}`, []string{"1 a"}},
		{"data.json", `{"version":"1","n":2,"data":[` + a + `,` + b + `],"errors":[]}`, both},
		{"data-pretty.json", "{\n \"data\": [\n  " + a + ",\n  " + b + "\n ]\n}\n", both},
		{"instances.json.gz", gzipped(t, `{"type":"text_only","instances":[{"text":"### Human: a### Assistant: c"},{"text":"### Human: b### Assistant: c"}]}`), both},
		{"rows.json", `{"features":[{"feature_idx":0,"name":"prompt"}],"rows":[{"row_idx":0,"row":` + a + `},{"row_idx":1,"row":` + b + `}],"num_rows_total":2}`, both},
		{"nested.json", `{"data":{"rows":[` + a + `,` + b + `]},"code":0}`, both},
		{"prompts.json", `{"prompts":["a","b"]}`, both},
		{"large-rows.json", `{"data":[` + a + `,` + b + `,` + strings.Repeat(large+",", 9) + a + `]}`, []string{"1 a", "2 b", "3 too_large", "4 too_large", "5 too_large", "6 too_large", "7 too_large", "8 too_large", "9 too_large", "10 too_large", "11 too_large", "12 a"}},
		{"no-rows.json", `{"data":[{"x":1}]}`, []string{"1 no_prompt"}},
		{"columns.json", `{"id":[1,2],"prompt":["a","b"]}`, both},
		{"pandas.json", `{"prompt":{"0":"a","1":"b"},"n":{"0":1,"1":2}}`, both},
		{"pandas-split.json", `{"columns":["id","prompt"],"index":[0,1],"data":[[1,"a"],[2,"b"]]}`, both},
		{"pandas-split-texts.json", `{"columns":["id","prompt"],"index":[0,1],"data":[["1","a"],["2","b"]]}`, both},
		{"pandas-table.json", `{"schema":{"fields":[{"name":"prompt","type":"string"}]},"data":[{"index":0,"prompt":"a"},{"index":1,"prompt":"b"}]}`, both},
		{"by-id.json", `{"q1":{"prompt":"a"},"q2":{"prompt":"b"}}`, both},
		{"uneven.json", `{"prompt":["a","b"],"id":[1]}`, []string{"1 no_prompt"}},
		{"plain.txt", "a\r\n\n  b  \n", []string{"1 a", "3 b"}},
		{"json-later.txt", "a\n" + a, []string{"1 a", "2 " + a}},
		{"latin1.txt", "a\n\xe9\nb", []string{"1 a", "2 invalid_utf8", "3 b"}},
		{"list.yaml", "- prompt: a\n- prompt: b\n", both},
		{"texts.yml", "- a\n- |-\n  b\n", both},
		// A text does not depend on its place in the file: a block keeps its last line end.
		{"blocks.yml", "- |\n  b\n- |+\n  c\n\n", []string{"1 b\n", "2 c\n\n"}},
		{"escapes.yml", "- \"a\\x85\\0\"\n", []string{"1 a\u0085\x00"}},
		{"numbers.yml", "- prompt: a\n  n: .nan\n- prompt: b\n  n: .inf\n", both},
		{"rows.yaml", "version: 1\nprompts:\n  - prompt: a\n  - prompt: b\n", both},
		{"documents.yaml", "prompt: a\n---\nprompt: b\n", both},
		{"array-empty.json", "[ ]", nil},
		{"array.json.gz", gzipped(t, "["+a+","+b+"]"), both},
		{"table.csv", "prompt,id\na,1\nb,2\n", both},
		{"bom.csv", "\ufeffprompt,id\r\na,1\r\nb,2", both},
		{"utf16.csv", utf16Text("prompt,id\r\na,1\r\nb,2\r\n", binary.LittleEndian), both},
		{"semicolons.csv", "id;prompt\n1;a\n2;b\n", both},
		{"quoted.csv", "id,prompt\n1,\"a\nb, \"\"c\"\"\"\n\n2,b\n", []string{"1 a\nb, \"c\"", "2 b"}},
		{"bad.csv", "id,prompt\n1\n2,a\"b\n3,\"a\"b\n4,c,d\n5,\xff\n6,\n7,g\n", []string{"1 bad_row", "2 bad_row", "3 bad_row", "4 bad_row", "5 invalid_utf8", "6 empty_prompt", "7 g"}},
		{"large.csv", "id,prompt\n1," + strings.Repeat("x", 150_000) + "\n2,b\n", []string{"1 too_large", "2 b"}},
		{"index.csv", ",prompt\n0,a\n1,b\n", both},
		{"chat.csv", "messages\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"a\"\"}]\"\n\"[{'role': 'user', 'content': 'b'}]\"\n", []string{"1 a", "2 no_prompt"}},
		{"table.tsv", "prompt\tid\na\t1\n\"b\"\t2\n", both},
		{"quotes.tsv", "prompt\tid\na \"b\" c\t1\n", []string{"1 a \"b\" c"}},
		{"table.csv.zst", zstandard(t, "prompt,id\na,1\nb,2\n"), both},
		{"header.csv", "prompt,id\n", nil},
		{"nothing.csv", "", nil},
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

// The limit applies to the line without its end, at any place in the reader's buffer.
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
		{"cut.json", "[\n{\"prompt\":\"a\"},\n", "after line 1: the JSON array has no end: the file is cut off"},
		{"cut-string.json", "[{\"prompt\":\"a]", "after line 0: the JSON array has no end: the file is cut off"},
		{"twice.json", "[] []", "after line 0: there is more behind the JSON array"},
		{"broken.json", "{\n  \"prompt\": \"a\"\n}\n{\n  \"prompt\"\n}", "the file is JSON over several lines, and broken after object 1; write an object a line, or one array of objects"},
		{"cut-rows.json", `{"data":[{"prompt":"a"},{"prompt":"b"}]`, "the JSON object around the rows has no end: the file is cut off"},
		{"two-lists.json", `{"train":[{"prompt":"a"}],"test":[{"prompt":"b"}]}`, `the file has two lists of prompts, "the first" and "test"; write each to a file of its own`},
		{"aliases.yaml", "- prompt: &a x\n- prompt: *a\n", "the file has YAML aliases, which are not read; write the values out, or use JSON lines"},
		{"deep.yaml", "- prompt: a\n  x: " + strings.Repeat("[", 20_000), "line 2 has more than 10000 levels or open brackets; write JSON lines"},
		{"broken.yaml", "- a\n b: [", "the file is not valid YAML: "},
		{"pointer.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "the file is a pointer of Git LFS without the data; fetch the data with git lfs pull"},
		{"pointer.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "pointer of Git LFS"},
		{"pointer.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "pointer of Git LFS"},
		{"lines.txt", text, "the file has JSON lines; rename it to .jsonl, since each line of a .txt file is a prompt as it is"},
		{"a.xlsx", "PK", "supported are .jsonl, .ndjson, .json, .csv, .tsv, .txt, .yaml, .yml, .parquet, and all but the last with .gz or .zst; save the sheet as .csv"},
		{"a.arrow", "ARROW1", "; write it with to_parquet or to_json(lines=True)"},
		{"a.md", "# a", "; write a prompt a line into a .txt file"},
		{"twice.csv", "prompt,id,prompt\na,b,c\n", "column prompt is there twice; rename one"},
		{"open.csv", "prompt\n\"" + strings.Repeat("some text\n", 300_000), "a row is larger than prompts.max_line_bytes; a quote may not be closed"},
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

// Columns may be longer than the part that the reader looks at to recognise them.
func TestLongColumns(t *testing.T) {
	path := write(t, "a.json", `{"prompt":["a",`+strings.Repeat(`"c",`, 17_000)+`"b"]}`)
	lines, err := read(t, File{Path: path}, Options{})
	if err != nil || len(lines) != 17_002 || lines[0] != "1 a" || lines[17_001] != "17002 b" {
		t.Errorf("%d lines, %v", len(lines), err)
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
	for _, name := range []string{"d/b.jsonl", "d/a.parquet", "d/README.md", "d/.hidden.jsonl", "d/sub/c.jsonl", "x.json.gz", "y.ndjson.zst", "notes.md", "empty/notes.md", "a.parquet.gz", "tables/a.csv", "tables/b.tsv.gz", "mixed/scores.csv", "mixed/x.jsonl", "mixed/part-0.snappy.parquet", "mixed/.part-0.snappy.parquet.crc", "mixed/_SUCCESS", "mixed/_metadata", "mixed/_common_metadata", "hub/state.json", "hub/dataset_info.json", "hub/LICENSE.txt", "hub/train.csv", "plain/b.txt", "plain/a.yaml", "[a].jsonl", "latin/of/\xe9.jsonl"} {
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
		{[]string{"*/*.jsonl"}, []string{"d/b.jsonl", "mixed/x.jsonl"}, ""},
		{[]string{"d/*"}, []string{"d/a.parquet", "d/b.jsonl"}, ""},
		{nil, nil, "prompts: no file is given"},
		{[]string{"d", "none.jsonl"}, nil, "prompts: none.jsonl: there is no such file, or no file in it"},
		{[]string{"none*"}, nil, "prompts: none*: there is no such file, or no file in it"},
		{[]string{"notes.md"}, nil, "prompts: notes.md: files of this kind can't be read; supported are .jsonl, .ndjson, .json, .csv, .tsv, .txt, .yaml, .yml, .parquet, and all but the last with .gz or .zst; write a prompt a line into a .txt file"},
		{[]string{"empty"}, nil, "prompts: empty: no file that can be read; supported are .jsonl, .ndjson, .json, .csv, .tsv, .txt, .yaml, .yml, .parquet, and all but the last with .gz or .zst"},
		{[]string{"a.parquet.gz"}, nil, "prompts: a.parquet.gz: files of this kind can't be read; supported are .jsonl, .ndjson, .json, .csv, .tsv, .txt, .yaml, .yml, .parquet, and all but the last with .gz or .zst; unpack it"},
		{[]string{"tables"}, []string{"tables/a.csv", "tables/b.tsv.gz"}, ""},
		{[]string{"mixed"}, []string{"mixed/part-0.snappy.parquet", "mixed/x.jsonl"}, ""},
		{[]string{"hub"}, []string{"hub/train.csv"}, ""},
		{[]string{"plain"}, []string{"plain/a.yaml", "plain/b.txt"}, ""},
		{[]string{"mixed/scores.csv"}, []string{"mixed/scores.csv"}, ""},
		{[]string{"[a].jsonl"}, []string{"[a].jsonl"}, ""},
		{[]string{"~/a.jsonl"}, nil, "prompts: ~/a.jsonl: there is no such file, or no file in it; ~ is not expanded here: write the whole path"},
		{[]string{"$HOME/a.jsonl"}, nil, "prompts: $HOME/a.jsonl: there is no such file, or no file in it; variables are not expanded here: write the whole path"},
		{[]string{"**/none.jsonl"}, nil, "prompts: **/none.jsonl: there is no such file, or no file in it; ** is not supported: name each folder, or write * for one level"},
		{[]string{"d/{a,b}.jsonl"}, nil, "prompts: d/{a,b}.jsonl: there is no such file, or no file in it; {a,b} is not supported: give each path"},
		{[]string{"latin/of"}, nil, `prompts: "latin/of/\xe9.jsonl": the name is not valid UTF-8, as tables need it; rename the file`},
		{[]string{"a\x1b2J\u202e"}, nil, "prompts: a␛2J⟨U+202E⟩: there is no such file, or no file in it"},
		{[]string{"ftp://b/a.jsonl"}, nil, "prompts: store: ftp://b/a.jsonl: no files can be reached by ftp://: give a local path, gs://BUCKET/NAME or s3://BUCKET/NAME"},
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

func FuzzReadFile(f *testing.F) {
	f.Add([]byte("{\"prompt\":\"a\"}\r\n\n{\"prompt\":\"b\"}"), ".jsonl", 40)
	f.Add([]byte("\x1f\x8b"), ".jsonl.gz", 40)
	f.Add([]byte("\x28\xb5\x2f\xfd"), ".json.zst", 40)
	f.Add([]byte(`[{"prompt":"a]\\"["}, 1,, {"prompt":"b"}]`), ".json", 40)
	f.Add([]byte("prompt,id\n\"a\n\"\"b\"\"\",1\nc\n"), ".csv", 40)
	f.Add([]byte("prompt\tid\na \"b\"\t1\n"), ".tsv", 40)
	f.Add([]byte("\xff\xfep\x00\n\x00a\x00"), ".csv", 40)
	f.Fuzz(func(t *testing.T, data []byte, ending string, limit int) {
		kind, compression, ok := kindOf(ending)
		if !ok || kind == parquetKind || limit < 1 || limit > 1<<20 {
			return
		}
		text, err := lines.Decompress(bytes.NewReader(data), compression)
		if err != nil {
			return
		}
		last := int64(0)
		err = readText(t.Context(), text, kind, File{Path: "fuzz.jsonl"}, Options{MaxLineBytes: limit}, func(line Line) error {
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
