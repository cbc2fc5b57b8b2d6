package prompts

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"coeval/schemas"
)

func parquetOf[R any](tb testing.TB, rows []R, options ...parquet.WriterOption) string {
	tb.Helper()
	var b bytes.Buffer
	if err := parquet.Write(&b, rows, options...); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// readPrompts returns the prompts of a file without bad lines.
func readPrompts(t *testing.T, path string, o Options) []schemas.Prompt {
	t.Helper()
	var prompts []schemas.Prompt
	err := ReadFile(t.Context(), File{Path: path}, o, func(line Line) error {
		if line.Bad != nil {
			t.Errorf("row %d: %s: %s", line.Bad.Line, line.Bad.Code, line.Bad.Message)
			return nil
		}
		if line.Prompt.File != path || line.Prompt.Line != int64(len(prompts)+1) {
			t.Errorf("prompt %d says that it is from %s:%d", len(prompts)+1, line.Prompt.File, line.Prompt.Line)
		}
		line.Prompt.File, line.Prompt.Line = "", 0
		prompts = append(prompts, line.Prompt)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return prompts
}

func TestParquetStrings(t *testing.T) {
	type row struct {
		Prompt string  `parquet:"prompt,dict,zstd"`
		ID     int64   `parquet:"id"`
		Source *string `parquet:"source"`
	}
	const n = 500
	source := "web"
	var rows []row
	var want []schemas.Prompt
	for i := range n {
		r := row{Prompt: fmt.Sprint("Grüße ", i), ID: int64(i)}
		metadata := `{"source":null}`
		if i%3 == 0 {
			r.Source, metadata = &source, `{"source":"web"}`
		}
		rows = append(rows, r)
		want = append(want, prompt(user(r.Prompt), metadata, strconv.Itoa(i)))
	}
	path := write(t, "a.parquet", parquetOf(t, rows, parquet.MaxRowsPerRowGroup(150), parquet.PageBufferSize(200)))
	if diff := cmp.Diff(want, readPrompts(t, path, Options{})); diff != "" {
		t.Errorf("prompts (-want +got):\n%s", diff)
	}
	for _, last := range []int64{1, 64, 150, 151, 499, n, n + 1} {
		lines, err := read(t, File{Path: path, LastLine: last}, Options{})
		if err != nil || int64(len(lines)) != min(last, n) {
			t.Errorf("up to row %d: %d rows, %v", last, len(lines), err)
		}
	}
}

func TestParquetMessages(t *testing.T) {
	type message struct {
		Content *string `parquet:"content"`
		Role    *string `parquet:"role"`
	}
	type row struct {
		Messages []message `parquet:"messages,list,optional"`
		UID      string    `parquet:"uid"`
	}
	chat := func(roles ...string) []message {
		var out []message
		for i, role := range roles {
			content := fmt.Sprint(role, " says ", i)
			out = append(out, message{&content, &role})
		}
		return out
	}
	messages := func(roles ...string) []schemas.Message {
		var out []schemas.Message
		for i, role := range roles {
			out = append(out, schemas.Message{Role: role, Content: fmt.Sprint(role, " says ", i)})
		}
		return out
	}
	path := write(t, "a.parquet", parquetOf(t, []row{{chat("user"), "a"}, {chat("system", "user", "assistant", "user"), "b"}, {chat("user"), "c"}}))
	want := []schemas.Prompt{
		prompt(messages("user"), "{}", "a"),
		prompt(messages("system", "user", "assistant", "user"), "{}", "b"),
		prompt(messages("user"), "{}", "c"),
	}
	if diff := cmp.Diff(want, readPrompts(t, path, Options{})); diff != "" {
		t.Errorf("prompts (-want +got):\n%s", diff)
	}
	bad := write(t, "b.parquet", parquetOf(t, []row{{nil, "a"}, {chat("user"), "b"}, {[]message{{}}, "c"}, {chat("user", "assistant"), "d"}}))
	lines, err := read(t, File{Path: bad}, Options{})
	if want := []string{"1 no_prompt", "2 user says 0", "3 no_prompt", "4 user says 0"}; err != nil || !cmp.Equal(want, lines) {
		t.Errorf("%v, %v, want %v", lines, err, want)
	}
}

// Every type that files in the field have becomes the JSON that is meant.
func TestParquetTypes(t *testing.T) {
	type point struct {
		X int32  `parquet:"x"`
		Y *int32 `parquet:"y"`
	}
	type list struct {
		Of []string `parquet:"of,list"`
	}
	type row struct {
		Prompt   string             `parquet:"prompt"`
		Bool     bool               `parquet:"bool"`
		Int      int64              `parquet:"int"`
		Unsigned uint64             `parquet:"unsigned"`
		Small    uint32             `parquet:"small"`
		Float    float32            `parquet:"float"`
		Double   float64            `parquet:"double"`
		NaN      float64            `parquet:"nan"`
		Date     int32              `parquet:"date,date"`
		Time     time.Time          `parquet:"time,timestamp(millisecond)"`
		Nano     time.Time          `parquet:"nano,timestamp(nanosecond)"`
		Decimal  int32              `parquet:"decimal,decimal(2:9)"`
		Cents    int64              `parquet:"cents,decimal(4:18)"`
		UUID     [16]byte           `parquet:"u,uuid"`
		JSON     string             `parquet:"json,json"`
		NoJSON   string             `parquet:"no_json,json"`
		Enum     string             `parquet:"enum,enum"`
		Text     []byte             `parquet:"text"`
		Bytes    []byte             `parquet:"bytes"`
		Fixed    [3]byte            `parquet:"fixed"`
		Point    point              `parquet:"point"`
		Null     *point             `parquet:"null"`
		List     []string           `parquet:"list,list"`
		Legacy   []int32            `parquet:"legacy"`
		Groups   []point            `parquet:"groups"`
		Nested   []list             `parquet:"nested,list"`
		Map      map[string]float64 `parquet:"map"`
	}
	at := time.Date(2024, 2, 29, 12, 30, 0, 5_000_000, time.UTC)
	one := int32(1)
	full := row{
		Prompt: "full", Bool: true, Int: math.MinInt64, Unsigned: math.MaxUint64, Small: math.MaxUint32, Float: 0.1, Double: 1e300, NaN: math.NaN(),
		Date: 19782, Time: at, Nano: at, Decimal: -5, Cents: 1234567,
		UUID: [16]byte{0x12, 15: 0xff}, JSON: `{"b":[1, 2],"a":null}`, NoJSON: "no \" json", Enum: "E", Text: []byte("tëxt"), Bytes: []byte{0xff, 0}, Fixed: [3]byte{1, 2, 3},
		Point: point{1, &one}, Null: &point{2, nil}, List: []string{"a", "", "c"}, Legacy: []int32{1, 2}, Groups: []point{{1, nil}, {2, &one}},
		Nested: []list{{[]string{"a", "b"}}, {}, {[]string{"c"}}}, Map: map[string]float64{"k": 0.5},
	}
	path := write(t, "a.parquet", parquetOf(t, []row{full, {Prompt: "empty", Date: -1, Time: at, Nano: at}}))
	got := readPrompts(t, path, Options{})
	if len(got) != 2 {
		t.Fatalf("%d prompts, want 2", len(got))
	}
	want := `{"bool":true,"bytes":"/wA=","cents":123.4567,"date":"2024-02-29","decimal":-0.05,"double":1e+300,"enum":"E","fixed":"AQID",` +
		`"float":0.1,"groups":[{"x":1,"y":null},{"x":2,"y":1}],"int":-9223372036854775808,"json":{"a":null,"b":[1,2]},"legacy":[1,2],` +
		`"list":["a","","c"],"map":[{"key":"k","value":0.5}],"nan":null,"nano":"2024-02-29T12:30:00.005Z",` +
		`"nested":[{"of":["a","b"]},{"of":[]},{"of":["c"]}],"no_json":"no \" json","null":{"x":2,"y":null},"point":{"x":1,"y":1},` +
		`"small":4294967295,"text":"tëxt","time":"2024-02-29T12:30:00.005Z","u":"12000000-0000-0000-0000-0000000000ff","unsigned":18446744073709551615}`
	if diff := cmp.Diff(want, got[0].Metadata); diff != "" {
		t.Errorf("full row (-want +got):\n%s", diff)
	}
	want = `{"bool":false,"bytes":"","cents":0.0000,"date":"1969-12-31","decimal":0.00,"double":0,"enum":"","fixed":"AAAA",` +
		`"float":0,"groups":[],"int":0,"json":"","legacy":[],"list":[],"map":[],"nan":0,"nano":"2024-02-29T12:30:00.005Z",` +
		`"nested":[],"no_json":"","null":null,"point":{"x":0,"y":null},` +
		`"small":0,"text":"","time":"2024-02-29T12:30:00.005Z","u":"00000000-0000-0000-0000-000000000000","unsigned":0}`
	if diff := cmp.Diff(want, got[1].Metadata); diff != "" {
		t.Errorf("empty row (-want +got):\n%s", diff)
	}
}

func TestParquetBadRows(t *testing.T) {
	type row struct {
		Prompt string `parquet:"prompt"`
		Other  string `parquet:"other"`
	}
	rows := []row{{"a", "x"}, {"b\xff", "x"}, {"c", "\xff"}, {"", ""}, {strings.Repeat("x", 500), ""}, {"d\x00", ""}}
	lines, err := read(t, File{Path: write(t, "a.parquet", parquetOf(t, rows))}, Options{MaxLineBytes: 400})
	if want := []string{"1 a", "2 invalid_utf8", "3 invalid_utf8", "4 empty_prompt", "5 too_large", "6 d\x00"}; err != nil || !cmp.Equal(want, lines) {
		t.Errorf("%v, %v, want %v", lines, err, want)
	}
	s, err := ScanFiles(t.Context(), []string{write(t, "b.parquet", parquetOf(t, rows))}, Options{Field: "text"}, Selection{})
	if err == nil || !strings.Contains(err.Error(), "no field text with a string or a list of messages; the line has other, prompt") {
		t.Errorf("an unknown field: %v, %v", s, err)
	}
}

func TestParquetWithoutRows(t *testing.T) {
	type row struct {
		Prompt string `parquet:"prompt"`
	}
	path := write(t, "a.parquet", parquetOf[row](t, nil))
	if _, err := ScanFiles(t.Context(), []string{path}, Options{}, Selection{}); err == nil || err.Error() != "prompts: no prompts in "+path+": there is no line in it" {
		t.Errorf("error %v", err)
	}
}

// Columns that no prompt needs never make a row too large: large ones of bytes are not read at
// all, others are left out of the rows in which they are too large.
func TestParquetUnneededColumns(t *testing.T) {
	type image struct {
		Bytes []byte `parquet:"bytes"`
		Path  string `parquet:"path"`
	}
	type row struct {
		Image    image             `parquet:"image"`
		Messages []schemas.Message `parquet:"messages,list"`
		Document string            `parquet:"document"`
		Small    []byte            `parquet:"small"`
		Source   string            `parquet:"source"`
	}
	large := row{image{bytes.Repeat([]byte{0xff}, 300_000), "a.png"}, user("Why?"), strings.Repeat("x", 5000), []byte{0xff}, "web"}
	short := large
	short.Document = "short"
	path := write(t, "a.parquet", parquetOf(t, []row{large, short}))
	var got []string
	err := ReadFile(t.Context(), File{Path: path}, Options{MaxLineBytes: 1000}, func(line Line) error {
		if line.Bad != nil {
			return errors.New(line.Bad.Message)
		}
		got = append(got, fmt.Sprint(line.Prompt.Metadata, line.Reading.Unused))
		return nil
	})
	want := []string{
		`{"small":"/w==","source":"web"}[document image]`,
		`{"document":"short","small":"/w==","source":"web"}[document image]`,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; rows (-want +got):\n%s", err, diff)
	}
	_, err = read(t, File{Path: path}, Options{MaxLineBytes: 1000, Field: "image.path"})
	if err != nil {
		t.Error(err)
	}
	lines, err := read(t, File{Path: path}, Options{MaxLineBytes: 1000, Field: "document"})
	if want := []string{"1 too_large", "2 short"}; err != nil || !cmp.Equal(want, lines) {
		t.Errorf("a column that is needed: %v, %v, want %v", lines, err, want)
	}
}

// A list that names one long text very often costs no more than the limit.
func TestParquetRepeatedText(t *testing.T) {
	type row struct {
		Prompt string   `parquet:"prompt"`
		Tags   []string `parquet:"tags,list,dict"`
	}
	tags := slices.Repeat([]string{strings.Repeat("x", 100_000)}, 10_000) // 1 GB of JSON
	path := write(t, "a.parquet", parquetOf(t, []row{{"a", tags}, {"b", nil}}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	lines, err := read(t, File{Path: path}, Options{})
	runtime.ReadMemStats(&after)
	if want := []string{"1 a", "2 b"}; err != nil || !cmp.Equal(want, lines) {
		t.Errorf("%v, %v, want %v", lines, err, want)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d bytes are allocated, want at most 64 MiB", used)
	}
}

func smallParquet(tb testing.TB) string {
	tb.Helper()
	type row struct {
		Prompt []schemas.Message `parquet:"prompt,list"`
		ID     int64             `parquet:"id"`
	}
	var rows []row
	for i := range 20 {
		rows = append(rows, row{user(fmt.Sprint("prompt ", i)), int64(i)})
	}
	return parquetOf(tb, rows, parquet.MaxRowsPerRowGroup(7))
}

func TestParquetDamage(t *testing.T) {
	whole := smallParquet(t)
	check := func(what, data string) {
		lines := 0
		err := readParquet(t.Context(), strings.NewReader(data), int64(len(data)), File{Path: "d.parquet"}, Options{MaxLineBytes: 1000}, func(Line) error {
			lines++
			return nil
		})
		if err == nil && lines != 20 {
			t.Errorf("%s: %d rows and no error", what, lines)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "prompts: d.parquet: ") {
			t.Errorf("%s: the error doesn't name the file: %v", what, err)
		}
	}
	const step = 3
	for size := 0; size < len(whole); size += step {
		check(fmt.Sprint("cut after ", size, " bytes"), whole[:size])
	}
	for i := 0; i < len(whole); i += step {
		data := []byte(whole)
		data[i] ^= 0x55
		check(fmt.Sprint("byte ", i, " changed"), string(data))
	}
	check("text", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n")
}

func TestParquetLZ4IsRefused(t *testing.T) {
	type row struct {
		Prompt string `parquet:"prompt"`
	}
	path := write(t, "a.parquet", parquetOf(t, []row{{"a"}}, parquet.Compression(&parquet.Lz4Raw)))
	want := "prompts: " + path + ": column prompt is compressed with LZ4_RAW, which is not supported; write the file with zstd or snappy"
	if _, err := read(t, File{Path: path}, Options{}); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func FuzzReadParquet(f *testing.F) {
	f.Add([]byte(smallParquet(f)))
	f.Add([]byte(parquetOf(f, []struct {
		Prompt string  `parquet:"prompt,dict"`
		X      []int32 `parquet:"x"`
	}{{"a", []int32{1}}})))
	f.Fuzz(func(t *testing.T, data []byte) {
		enough := errors.New("enough")
		lines := 0
		err := readParquet(t.Context(), bytes.NewReader(data), int64(len(data)), File{Path: "fuzz.parquet"}, Options{MaxLineBytes: 1000}, func(Line) error {
			if lines++; lines == 10_000 {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) && !strings.Contains(err.Error(), "fuzz.parquet") {
			t.Errorf("the error doesn't name the file: %v", err)
		}
	})
}

// The file in testdata is one of pyarrow 26's: nullable lists, a list of lists, a map, a column
// of the null type, and dictionaries.
func TestParquetOfAnotherWriter(t *testing.T) {
	var got []string
	err := ReadFile(t.Context(), File{Path: "testdata/pyarrow.parquet"}, Options{}, func(line Line) error {
		if line.Bad != nil {
			got = append(got, line.Bad.Code)
			return nil
		}
		got = append(got, fmt.Sprint(line.Prompt.OwnIDs, line.Prompt.Messages), line.Prompt.Metadata)
		return nil
	})
	want := []string{
		"[a] [{user Hi}]",
		`{"bytes":"/wA=","decimal":1.50,"map":[{"key":"k","value":[{"x":1}]},{"key":"l","value":[]}],` +
			`"nested":[["a"],[],null],"nothing":null,"time":"2024-01-02T03:04:05.000006","topic":"x"}`,
		"[b] [{system Be brief.} {user Grüße}]",
		`{"bytes":"text","decimal":-12345678901234567890.12,"map":[],"nested":[],"nothing":null,"time":null,"topic":"y"}`,
		NoPrompt,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; rows (-want +got):\n%s", err, diff)
	}
}
