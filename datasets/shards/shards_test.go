package shards_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/parquet-go/parquet-go"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/datasets/store"
	"coeval/schemas"
)

func TestRoundTrip(t *testing.T) {
	t.Run("pairs", func(t *testing.T) { roundTrip(t, shards.Judge, examplePairs()) })
	t.Run("prompts", func(t *testing.T) { roundTrip(t, shards.Prompts, examplePrompts()) })
	t.Run("responses", func(t *testing.T) { roundTrip(t, shards.Responses, exampleResponses()) })
	t.Run("judgments", func(t *testing.T) { roundTrip(t, shards.Judgments, exampleJudgments()) })
	t.Run("comparisons", func(t *testing.T) { roundTrip(t, shards.Comparisons, exampleComparisons()) })
	t.Run("reads", func(t *testing.T) { roundTrip(t, shards.Reads, exampleReads()) })
	t.Run("failures", func(t *testing.T) { roundTrip(t, shards.Failures, exampleFailures()) })
}

// roundTrip writes rows to a file, and reads them with this package and with parquet-go alone. It
// compares the writer's description with the file.
func roundTrip[T shards.Row](t *testing.T, table shards.Table, rows []T) {
	path := filepath.Join(t.TempDir(), shards.Path(table, 0, 1))
	out, err := store.Create(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	info := shardstest.Write(t, out, table, rows)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	want := shards.Info{Rows: int64(len(rows)), Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("Info (-want +got):\n%s", diff)
	}
	var got []T
	err = shards.ReadTable(t.Context(), path, func(row *T) error {
		got = append(got, *row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("ReadTable (-want +got):\n%s", diff)
	}
	other, err := parquet.ReadFile[T](path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, other, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("parquet.ReadFile (-want +got):\n%s", diff)
	}
}

// Same rows, same bytes: after the codec was used for something else, with nil for an empty
// list, with other cores.
func TestSameRowsSameBytes(t *testing.T) {
	pairs := manyPairs(2500)
	want := encode(t, shards.Actor, pairs)
	encode(t, shards.Judgments, exampleJudgments())
	for i := range pairs {
		if len(pairs[i].OwnID) == 0 {
			pairs[i].OwnID = []string{}
		}
	}
	for _, cores := range []int{1, 2, 5} {
		before := runtime.GOMAXPROCS(cores)
		got := encode(t, shards.Actor, pairs)
		runtime.GOMAXPROCS(before)
		if !bytes.Equal(got, want) {
			t.Errorf("with %d cores the file differs", cores)
		}
	}
	if bytes.Equal(encode(t, shards.Actor, pairs[1:]), want) {
		t.Error("other rows gave the same file")
	}
}

func TestLayout(t *testing.T) {
	f := open(t, encode(t, shards.Actor, manyPairs(25_000)))
	var groups []int64
	for _, g := range f.RowGroups() {
		groups = append(groups, g.NumRows())
	}
	if want := []int64{10_000, 10_000, 5_000}; !slices.Equal(groups, want) {
		t.Errorf("row groups %v, want %v", groups, want)
	}
	if got := f.Metadata().CreatedBy; got != "coeval version 1 (build parquet-go)" {
		t.Errorf("created_by = %q", got)
	}
	group := f.RowGroups()[1]
	var sorted []string
	for _, column := range group.SortingColumns() {
		sorted = append(sorted, strings.Join(column.Path(), "."))
	}
	if want := []string{"prompt_id", "id"}; !slices.Equal(sorted, want) {
		t.Errorf("declared as sorted by %v, want %v", sorted, want)
	}
	for i, chunk := range group.ColumnChunks() {
		name := strings.Join(f.Schema().Columns()[i], ".")
		index, err := chunk.OffsetIndex()
		if err != nil || index.NumPages() == 0 {
			t.Errorf("column %s has no page index: %v", name, err)
		}
	}
	id := group.ColumnChunks()[0]
	if filter := id.BloomFilter(); filter == nil {
		t.Error("the IDs have no bloom filter")
	} else if found, err := filter.Check(parquet.ValueOf("10012345")); err != nil || !found {
		t.Errorf("the bloom filter doesn't know an ID of its row group: %v", err)
	}
	if lo, hi, ok := id.(*parquet.FileColumnChunk).Bounds(); !ok || lo.String() != "10010000" || hi.String() != "10019999" {
		t.Errorf("bounds of the IDs: %v to %v, want those of the second row group", lo, hi)
	}
}

// A batch ends at 4 MiB of text, here 4 rows, and a row group at 32 MiB, here 8 batches.
func TestLongTextsEndRowGroups(t *testing.T) {
	rows := exampleResponses()[:1]
	text := strings.Repeat("x", 1<<20)
	for i := range 40 {
		row := rows[0]
		row.ID, row.PromptID, row.Text = strconv.Itoa(1000+i), "p", text
		rows = append(rows, row)
	}
	var groups []int64
	for _, g := range open(t, encode(t, shards.Responses, rows[1:])).RowGroups() {
		groups = append(groups, g.NumRows())
	}
	if want := []int64{32, 8}; !slices.Equal(groups, want) {
		t.Errorf("row groups %v, want %v", groups, want)
	}
}

// With minimum and maximum of every text the footer of these rows would be 40 times as large.
func TestFooterStaysSmall(t *testing.T) {
	pairs := manyPairs(200)
	for i := range pairs {
		for _, m := range [][]schemas.Message{pairs[i].Prompt, pairs[i].Chosen, pairs[i].Rejected} {
			m[0].Content = strings.Repeat(fmt.Sprint(i, " "), 5000)
		}
	}
	data := encode(t, shards.Judge, pairs)
	footer := int(data[len(data)-8]) | int(data[len(data)-7])<<8 | int(data[len(data)-6])<<16
	if limit := 10_000; footer > limit {
		t.Errorf("the footer has %d bytes, want at most %d", footer, limit)
	}
}

func TestEmptyTable(t *testing.T) {
	f := open(t, encode[schemas.FailureRow](t, shards.Failures, nil))
	if f.NumRows() != 0 {
		t.Errorf("%d rows, want none", f.NumRows())
	}
	path := filepath.Join(t.TempDir(), "empty.parquet")
	if err := os.WriteFile(path, encode[schemas.Pair](t, shards.Actor, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := shards.ReadTable(t.Context(), path, func(*schemas.Pair) error { return errors.New("a row") }); err != nil {
		t.Error(err)
	}
}

func TestWriterRefuses(t *testing.T) {
	bad := "a\xffb"
	judgment := func(change func(*schemas.JudgmentRow)) schemas.JudgmentRow {
		row := exampleJudgments()[1]
		change(&row)
		return row
	}
	first := exampleJudgments()[0]
	tests := []struct {
		name string
		row  schemas.JudgmentRow
		want string
	}{
		{"text", judgment(func(r *schemas.JudgmentRow) { r.Text = bad }), "shards: raw/judgments: row j2: column text is not valid UTF-8"},
		{"nullable", judgment(func(r *schemas.JudgmentRow) { r.Reasoning = &bad }), "shards: raw/judgments: row j2: column reasoning is not valid UTF-8"},
		{"id again", first, "shards: raw/judgments: row j1 is out of order: it was written after row j1"},
		{"order", judgment(func(r *schemas.JudgmentRow) { r.ID = "j0" }), "shards: raw/judgments: row j0 is out of order: it was written after row j1"},
	}
	for _, test := range tests {
		w, err := shards.NewWriter[schemas.JudgmentRow](&bytes.Buffer{}, shards.Judgments)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&first); err != nil {
			t.Fatal(err)
		}
		err = w.Write(&test.row)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
		if _, closeErr := w.Close(); !errors.Is(closeErr, err) {
			t.Errorf("%s: Close gave %v, want the same error", test.name, closeErr)
		}
	}
}

func TestWriterRefusesAnEmptyConversation(t *testing.T) {
	w, err := shards.NewWriter[schemas.Pair](&bytes.Buffer{}, shards.Actor)
	if err != nil {
		t.Fatal(err)
	}
	pair := examplePairs()[0]
	pair.Prompt = nil
	want := "shards: actor: row " + pair.ID + ": column prompt has no message"
	if err := w.Write(&pair); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestWriterRefusesAnotherTable(t *testing.T) {
	_, err := shards.NewWriter[schemas.Pair](&bytes.Buffer{}, shards.Judgments)
	want := "shards: table raw/judgments has no rows of type schemas.Pair; that type belongs to [actor judge]"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

// Every string column is checked, also those that are added to a row later.
func TestEveryStringIsChecked(t *testing.T) {
	bad := "\xff"
	everyString(t, shards.Actor, examplePairs()[0], bad)
	everyString(t, shards.Prompts, examplePrompts()[0], bad)
	everyString(t, shards.Responses, exampleResponses()[0], bad)
	everyString(t, shards.Judgments, exampleJudgments()[0], bad)
	everyString(t, shards.Comparisons, exampleComparisons()[0], bad)
	everyString(t, shards.Reads, exampleReads()[1], bad)
	everyString(t, shards.Failures, exampleFailures()[0], bad)
}

func TestWriteErrorsAreKept(t *testing.T) {
	full := errors.New("no space left")
	w, err := shards.NewWriter[schemas.Pair](failingWriter{full}, shards.Actor)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range examplePairs() {
		if err := w.Write(&pair); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close: %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCompareIsAnOrder(t *testing.T) {
	rows := exampleFailures()
	want := slices.Clone(rows)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		slices.SortFunc(rows, func(a, b schemas.FailureRow) int { return shards.Compare(&a, &b) })
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Fatalf("sorted failures (-want +got):\n%s", diff)
		}
	}
}

func TestReadTableRefusesOtherColumns(t *testing.T) {
	type failure struct {
		Stage    string  `parquet:"stage,dict"`
		Code     string  `parquet:"code,dict"`
		PromptID *string `parquet:"prompt_id"`
	}
	type number struct {
		Stage string `parquet:"stage,dict"`
		Code  int64  `parquet:"code"`
	}
	type nullable struct {
		Stage *string `parquet:"stage,dict"`
	}
	type more struct {
		schemas.FailureRow
		More bool `parquet:"more"`
	}
	tests := map[string]struct {
		data []byte
		want string
	}{
		"fewer":    {plainParquet[failure](t), "column 3 is prompt_id where message (required STRING) is wanted"},
		"type":     {plainParquet[number](t), "column code is required INT(64,true) where required STRING is wanted"},
		"nullable": {plainParquet[nullable](t), "column stage is optional STRING where required STRING is wanted"},
		"more":     {plainParquet[more](t), "column more is not known"},
		"other":    {encode(t, shards.Actor, examplePairs()), "column 1 is id where stage (required STRING) is wanted"},
	}
	for name, test := range tests {
		path := filepath.Join(t.TempDir(), "f.parquet")
		if err := os.WriteFile(path, test.data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := shards.ReadTable(t.Context(), path, func(*schemas.FailureRow) error { return nil })
		if want := "shards: " + path + ": " + test.want; err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
}

// A file of an earlier version lacks columns that may be null, and is read with null in them.
func TestReadTableOfAnEarlierVersion(t *testing.T) {
	type failure struct {
		Stage    string  `parquet:"stage,dict"`
		Code     string  `parquet:"code,dict"`
		Message  string  `parquet:"message"`
		PromptID *string `parquet:"prompt_id"`
	}
	path := filepath.Join(t.TempDir(), "f.parquet")
	var b bytes.Buffer
	w := parquet.NewGenericWriter[failure](&b)
	if _, err := w.Write([]failure{{"judge", "timeout", "m", new("p")}, {"meta", "timeout", "n", nil}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	want := []schemas.FailureRow{{Stage: "judge", Code: "timeout", Message: "m", PromptID: new("p")}, {Stage: "meta", Code: "timeout", Message: "n"}}
	var got []schemas.FailureRow
	if err := shards.ReadTable(t.Context(), path, func(r *schemas.FailureRow) error { got = append(got, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	type some struct {
		Message   string `parquet:"message"`
		Replicate *int32 `parquet:"replicate"`
	}
	var part []some
	if err := shards.ReadColumns[schemas.FailureRow](t.Context(), path, func(r *some) error { part = append(part, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]some{{Message: "m"}, {Message: "n"}}, part); diff != "" {
		t.Error(diff)
	}
}

func TestReadTableStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.parquet")
	if err := os.WriteFile(path, encode(t, shards.Actor, manyPairs(2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	rows := 0
	err := shards.ReadTable(t.Context(), path, func(*schemas.Pair) error {
		if rows++; rows == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || err.Error() != "enough" || rows != 3 {
		t.Errorf("stopped after %d rows with %v, want 3 and the error as it is", rows, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = shards.ReadTable(ctx, path, func(*schemas.Pair) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// A cut and a changed byte give the rows of a small file or an error, wherever they are.
func TestDamagedFiles(t *testing.T) {
	whole := encode(t, shards.Judgments, exampleJudgments())
	read := func(data []byte) (rows int, err error) {
		err = shards.ReadFrom(t.Context(), bytes.NewReader(data), int64(len(data)), "d.parquet", func(*schemas.JudgmentRow) error {
			rows++
			return nil
		})
		return rows, err
	}
	const step = 3
	for size := 0; size < len(whole); size += step {
		if rows, err := read(whole[:size]); err == nil {
			t.Fatalf("cut after %d of %d bytes: no error, %d rows", size, len(whole), rows)
		}
	}
	for i := 0; i < len(whole); i += step {
		data := bytes.Clone(whole)
		data[i] ^= 0x55
		if rows, err := read(data); err == nil && rows != len(exampleJudgments()) {
			t.Errorf("byte %d changed: %d rows and no error", i, rows)
		} else if err != nil && !strings.Contains(err.Error(), "d.parquet") {
			t.Errorf("byte %d changed: the error doesn't name the file: %v", i, err)
		}
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add(encode(f, shards.Judgments, exampleJudgments()))
	f.Add(encode(f, shards.Actor, examplePairs()))
	f.Add([]byte("PAR1\x00\x00\x00\x00PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzRead[schemas.JudgmentRow](t, data)
		fuzzRead[schemas.Pair](t, data)
	})
}

// fuzzRead reads until the end or an error. A footer can promise any number of rows of
// nothing, so it stops after some.
func fuzzRead[T shards.Row](t *testing.T, data []byte) {
	rows := 0
	enough := errors.New("enough")
	err := shards.ReadFrom(t.Context(), bytes.NewReader(data), int64(len(data)), "fuzz.parquet", func(*T) error {
		if rows++; rows == 10_000 {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) && !strings.Contains(err.Error(), "fuzz.parquet") {
		t.Errorf("the error doesn't name the file: %v", err)
	}
}

func TestPath(t *testing.T) {
	tests := map[string]string{
		shards.Path(shards.Actor, 0, 4):          "actor/train-00000-of-00004.parquet",
		shards.Path(shards.Judge, 3, 4):          "judge/train-00003-of-00004.parquet",
		shards.Path(shards.Comparisons, 12, 128): "raw/comparisons/part-00012-of-00128.parquet",
		shards.Path(shards.Failures, 0, 1):       "failures/part-00000-of-00001.parquet",
	}
	for got, want := range tests {
		if got != want {
			t.Errorf("Path = %s, want %s", got, want)
		}
	}
}

// Some columns of a table are those of the whole rows; a column that the table lacks, or has with
// another type, is an error.
func TestReadColumns(t *testing.T) {
	type some struct {
		PromptID      string   `parquet:"prompt_id"`
		Replicates    []int32  `parquet:"replicates,list"`
		Status        string   `parquet:"status,dict"`
		ScoreVariance *float64 `parquet:"score_variance"`
	}
	variance := 0.25
	var rows []schemas.ResponseRow
	for i := range 1500 { // more than a page of some columns
		row := schemas.ResponseRow{ID: fmt.Sprintf("%06d", i), PromptID: "p", Replicates: make([]int32, i%4), Status: "complete", Text: strings.Repeat("x", i)}
		if i%3 == 0 {
			row.ScoreVariance = &variance
		}
		rows = append(rows, row)
	}
	path := filepath.Join(t.TempDir(), "part.parquet")
	var b bytes.Buffer
	w, err := shards.NewWriter[schemas.ResponseRow](&b, shards.Responses)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := w.Write(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	at := 0
	err = shards.ReadColumns[schemas.ResponseRow](t.Context(), path, func(got *some) error {
		want := some{PromptID: "p", Replicates: rows[at].Replicates, Status: "complete", ScoreVariance: rows[at].ScoreVariance}
		if diff := cmp.Diff(&want, got); diff != "" {
			return fmt.Errorf("row %d: %s", at, diff)
		}
		at++
		return nil
	})
	if err != nil || at != len(rows) {
		t.Errorf("%d rows of %d, %v", at, len(rows), err)
	}

	type lacking struct {
		ID    string `parquet:"id"`
		Score string `parquet:"score"`
	}
	err = shards.ReadColumns[schemas.ResponseRow](t.Context(), path, func(*lacking) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "column score (required STRING) is not one of this table") {
		t.Errorf("an unknown column gives %v", err)
	}
	type wrong struct {
		Chars string `parquet:"chars"`
	}
	err = shards.ReadColumns[schemas.ResponseRow](t.Context(), path, func(*wrong) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "column chars (required STRING) is not one of this table") {
		t.Errorf("a column of another type gives %v", err)
	}
	err = shards.ReadColumns[schemas.JudgmentRow](t.Context(), path, func(*some) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "is wanted") {
		t.Errorf("another table gives %v", err)
	}
}
