package parquetfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// A forged file has one row group of one column.
type forged struct {
	column []format.SchemaElement
	codec  format.CompressionCodec
	rows   int64
	pages  []forgedPage
	// change is called with the footer before it is written.
	change func(meta *format.FileMetaData)
}

type forgedPage struct {
	header format.PageHeader
	data   []byte
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := thrift.Marshal(&thrift.CompactProtocol{}, v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func null[T any](v T) (n thrift.Null[T]) {
	n.V, n.Valid = v, true
	return n
}

func leaf(kind format.Type, repetition format.FieldRepetitionType) format.SchemaElement {
	return format.SchemaElement{Name: "a", Type: null(kind), RepetitionType: null(repetition)}
}

func text(repetition format.FieldRepetitionType) []format.SchemaElement {
	e := leaf(format.ByteArray, repetition)
	e.ConvertedType = null(deprecated.UTF8)
	return []format.SchemaElement{e}
}

func (f forged) bytes(tb testing.TB) []byte {
	tb.Helper()
	b := []byte("PAR1")
	for _, p := range f.pages {
		b = append(b, marshal(tb, &p.header)...)
		b = append(b, p.data...)
	}
	rows := f.rows
	if rows == 0 {
		rows = 1
	}
	meta := &format.FileMetaData{
		Version: 1, NumRows: rows,
		Schema: append([]format.SchemaElement{{Name: "root", NumChildren: null(int32(len(f.column)))}}, f.column...),
		RowGroups: []format.RowGroup{{NumRows: rows, Columns: []format.ColumnChunk{{MetaData: format.ColumnMetaData{
			Type: f.column[0].Type.V, PathInSchema: []string{f.column[0].Name}, Codec: f.codec, NumValues: rows,
			DataPageOffset: 4, TotalCompressedSize: int64(len(b) - 4), Encoding: []format.Encoding{format.Plain},
		}}}}},
	}
	if f.change != nil {
		f.change(meta)
	}
	footer := marshal(tb, meta)
	b = append(b, footer...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
	return append(b, "PAR1"...)
}

// v1 returns a data page.
func v1(values int32, encoding format.Encoding, uncompressed int, data []byte) forgedPage {
	return forgedPage{format.PageHeader{
		Type: format.DataPage, UncompressedPageSize: int32(uncompressed), CompressedPageSize: int32(len(data)),
		DataPageHeader: null(format.DataPageHeader{
			NumValues: values, Encoding: encoding, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
		}),
	}, data}
}

func v2(values int32, levels int, uncompressed int, data []byte) forgedPage {
	return forgedPage{format.PageHeader{
		Type: format.DataPageV2, UncompressedPageSize: int32(uncompressed), CompressedPageSize: int32(len(data)),
		DataPageHeaderV2: null(format.DataPageHeaderV2{
			NumValues: values, NumRows: values, Encoding: format.Plain, DefinitionLevelsByteLength: int32(levels), IsCompressed: null(true),
		}),
	}, data}
}

func dictionary(values int32, uncompressed int, data []byte) forgedPage {
	return forgedPage{format.PageHeader{
		Type: format.DictionaryPage, UncompressedPageSize: int32(uncompressed), CompressedPageSize: int32(len(data)),
		DictionaryPageHeader: null(format.DictionaryPageHeader{NumValues: values, Encoding: format.Plain}),
	}, data}
}

// prefixed puts the length before levels, as pages of the first version have it.
func prefixed(levels []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(levels))), levels...)
}

// run returns a run of one value of up to 8 bits.
func run(times uint64, value byte) []byte {
	return append(binary.AppendUvarint(nil, times<<1), value)
}

// zstdZeros returns a frame of blocks that each repeat one byte, 4 bytes of file for 128 KiB:
// https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1. It has 1,350 MiB.
func zstdZeros(sized bool) []byte {
	const size = 1_350 << 20
	const block = 128 << 10
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if sized {
		b = append(b, 0xa0) // the size in 4 bytes, one segment
		b = binary.LittleEndian.AppendUint32(b, uint32(size))
	} else {
		b = append(b, 0, 0x38) // no size; a window of 128 KiB
	}
	for left := size; left > 0; left -= block {
		head := uint32(block<<3 | 1<<1)
		if left == block {
			head |= 1
		}
		b = append(b, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return b
}

func gzipZeros(tb testing.TB, size int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	writeZeros(tb, w, size)
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func brotliZeros(tb testing.TB, size int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := brotli.NewWriterLevel(&b, 1)
	writeZeros(tb, w, size)
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func writeZeros(tb testing.TB, w io.Writer, size int) {
	tb.Helper()
	for some := make([]byte, 1<<20); size > 0; size -= len(some) {
		if _, err := w.Write(some); err != nil {
			tb.Fatal(err)
		}
	}
}

// readAll reads every row of a file.
func readAll(data []byte) (rows int64, err error) {
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return 0, err
	}
	r, err := NewRows(f)
	if err != nil {
		return 0, err
	}
	for {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return r.Given(), nil
		} else if err != nil {
			return r.Given(), err
		}
	}
}

// allocated returns the bytes that are allocated while read runs, whether freed by then or not.
func allocated(read func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// bombs are small files that state, or expand to, much more data than they have.
func bombs(tb testing.TB) map[string]struct {
	file []byte
	want string
} {
	tb.Helper()
	const large = 1_350 << 20
	const mib = 1 << 20
	optional, required, repeated := format.Optional, format.Required, format.Repeated
	one := []byte{1, 0, 0, 0, 'x'}
	deltas := func(total uint64) []byte { // 128 values a block, 4 parts, then the first value
		b := binary.AppendUvarint(nil, 128)
		b = binary.AppendUvarint(b, 4)
		b = binary.AppendUvarint(b, total)
		return binary.AppendVarint(b, 0)
	}
	type bomb = struct {
		file []byte
		want string
	}
	file := func(f forged) []byte { return f.bytes(tb) }
	page := func(column []format.SchemaElement, codec format.CompressionCodec, pages ...forgedPage) []byte {
		return file(forged{column: column, codec: codec, pages: pages})
	}
	claims := v1(1, format.Plain, 5, one)
	claims.header.CompressedPageSize = math.MaxInt32
	return map[string]bomb{
		"zstd that says its size": {
			page(text(required), format.Zstd, v1(1, format.Plain, large, zstdZeros(true))),
			"column a: a page has 1350 MiB, at most 128 MiB are read; write the file with smaller pages",
		},
		"zstd that says another size": {
			page(text(required), format.Zstd, v1(1, format.Plain, 100, zstdZeros(true))),
			"column a: the file is damaged: a page has more than the 100 bytes that its header states",
		},
		"zstd that says none":   {page(text(required), format.Zstd, v1(1, format.Plain, 100, zstdZeros(false))), "more than the 100 bytes"},
		"zstd of version 2":     {page(text(required), format.Zstd, v2(1, 0, 100, zstdZeros(false))), "more than the 100 bytes"},
		"zstd dictionary":       {page(text(required), format.Zstd, dictionary(1, 100, zstdZeros(true))), "more than the 100 bytes"},
		"large dictionary":      {page(text(required), format.Zstd, dictionary(1, large, zstdZeros(true))), "a page has 1350 MiB"},
		"gzip":                  {page(text(required), format.Gzip, v1(1, format.Plain, 100, gzipZeros(tb, 256*mib))), "more than the 100 bytes"},
		"brotli":                {page(text(required), format.Brotli, v1(1, format.Plain, 100, brotliZeros(tb, 256*mib))), "more than the 100 bytes"},
		"snappy":                {page(text(required), format.Snappy, v1(1, format.Plain, 100, snappy.Encode(nil, make([]byte, 64*mib)))), "more than the 100 bytes"},
		"snappy of no bytes":    {page(text(required), format.Snappy, v1(1, format.Plain, 100, binary.AppendUvarint(nil, math.MaxUint32))), "more than the 100 bytes"},
		"page beyond the file":  {page(text(required), format.Uncompressed, claims), "a page of 21474836"},
		"values of no bytes":    {page(text(optional), format.Uncompressed, v1(math.MaxInt32, format.Plain, 0, nil)), "a page has 2147483647 values, at most 26843545 are read"},
		"dictionary of no size": {page(text(required), format.Uncompressed, dictionary(math.MaxInt32, 0, nil)), "a page has 2147483647 values"},
		"definition levels": {
			page(text(optional), format.Uncompressed, v1(1, format.Plain, 13, append(prefixed(run(math.MaxInt32, 1)), one...))),
			"column a: the file is damaged: a page has more than the 1 values that its header states",
		},
		"definition levels of version 2": {
			page(text(optional), format.Uncompressed, v2(1, 6, 11, append(run(math.MaxInt32, 1), one...))), "more than the 1 values",
		},
		"repetition levels": {
			page(text(repeated), format.Uncompressed, v1(1, format.Plain, 13, append(prefixed(run(math.MaxInt32, 1)), prefixed(run(1, 1))...))), "more than the 1 values",
		},
		"a row of many nulls": {
			page(text(repeated), format.Uncompressed, v1(20_000_000, format.Plain, 20, append(prefixed(slices.Concat(run(1, 0), run(19_999_999, 1))), prefixed(run(20_000_000, 0))...))),
			"column a: the pages in use need more than 512 MiB; write the file with smaller pages",
		},
		"indexes": {
			page(text(required), format.Uncompressed, dictionary(1, 5, one), v1(1, format.RLEDictionary, 7, append([]byte{1}, run(math.MaxInt32, 0)...))), "more than the 1 values",
		},
		"booleans": {
			page([]format.SchemaElement{leaf(format.Boolean, required)}, format.Uncompressed, v1(1, format.RLE, 10, prefixed(run(math.MaxInt32, 1)))), "more than the 1 values",
		},
		"deltas": {
			page([]format.SchemaElement{leaf(format.Int64, required)}, format.Uncompressed, v1(1, format.DeltaBinaryPacked, 9, deltas(math.MaxInt32))), "more than the 1 values",
		},
		"lengths": {page(text(required), format.Uncompressed, v1(1, format.DeltaLengthByteArray, 9, deltas(math.MaxInt32))), "more than the 1 values"},
		"suffixes": {
			page(text(required), format.Uncompressed, v1(1, format.DeltaByteArray, 14, append(deltas(1), deltas(math.MaxInt32)...))), "more than the 1 values",
		},
		"shared beginnings": {page(text(required), format.Uncompressed, prefixBomb()), "a page has 1024 MiB, at most 128 MiB are read"},
		"values of fixed length": {
			file(forged{column: []format.SchemaElement{{Name: "a", Type: null(format.FixedLenByteArray), TypeLength: null(int32(math.MaxInt32)), RepetitionType: null(required)}}}),
			"column a has values of 2147483647 bytes, at most 1048576 are read",
		},
	}
}

// prefixBomb is a page of a text of 1 MiB and 1,023 texts that share all of it: 1,024 MiB. The
// lengths that are shared are 0, and 2^20 from the second on: the first difference is 2^20, the
// others 0, in blocks of 128 values in 4 parts.
func prefixBomb() forgedPage {
	const size, n = 1 << 20, 1024
	lengths := func(first, rest int64) []byte {
		b := binary.AppendUvarint(nil, 128)
		b = binary.AppendUvarint(b, 4)
		b = binary.AppendUvarint(b, n)
		b = binary.AppendVarint(b, first)
		for block := 0; block < n-1; block += 128 {
			if block > 0 {
				b = append(binary.AppendVarint(b, 0), 0, 0, 0, 0)
				continue
			}
			// Of the first 32 differences the first is rest − first above the least, 0 or less.
			least := min(0, rest-first)
			b = binary.AppendVarint(b, least)
			b = append(b, 32, 32, 32, 32)
			for i := range 128 {
				difference := -least
				if i == 0 {
					difference += rest - first
				}
				b = binary.LittleEndian.AppendUint32(b, uint32(difference))
			}
		}
		return b
	}
	data := append(lengths(0, size), lengths(size, 0)...)
	data = append(data, make([]byte, size)...)
	return v1(n, format.DeltaByteArray, len(data), data)
}

// Small files that expand to gigabytes are refused for a few megabytes of memory.
func TestBombs(t *testing.T) {
	for name, bomb := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			var err error
			used := allocated(func() { _, err = readAll(bomb.file) })
			if err == nil || !strings.Contains(err.Error(), bomb.want) {
				t.Errorf("error %v, want one with %q", err, bomb.want)
			}
			// The file itself is read, and snappy's and gzip's are megabytes.
			if most := uint64(16<<20 + 3*len(bomb.file)); used > most {
				t.Errorf("%d bytes are allocated for a file of %d, want at most %d", used, len(bomb.file), most)
			}
		})
	}
}

// Footers are counted before they are decoded.
func TestFooterBombs(t *testing.T) {
	required := format.Required
	whole := func(change func(meta *format.FileMetaData)) []byte {
		return forged{column: text(required), change: change}.bytes(t)
	}
	deep := func(levels int) func(meta *format.FileMetaData) {
		return func(meta *format.FileMetaData) {
			schema := []format.SchemaElement{{Name: "root", NumChildren: null(int32(1))}}
			for range levels {
				schema = append(schema, format.SchemaElement{Name: "g", NumChildren: null(int32(1)), RepetitionType: null(required)})
			}
			schema = append(schema, leaf(format.Int32, required))
			meta.Schema = schema
		}
	}
	tests := map[string]struct {
		file []byte
		want string
	}{
		"deep":  {whole(deep(100)), "its columns are nested more than 64 levels deep"},
		"abyss": {whole(deep(100_000)), "its columns are nested more than 64 levels deep"},
		"wide": {whole(func(meta *format.FileMetaData) {
			meta.Schema = make([]format.SchemaElement, 5001)
			for i := range meta.Schema {
				meta.Schema[i] = leaf(format.Int32, required)
			}
			meta.Schema[0] = format.SchemaElement{Name: "root", NumChildren: null(int32(5000))}
		}), "the file has 5000 columns, at most 4096 are read"},
		"fewer columns": {whole(func(meta *format.FileMetaData) { meta.Schema[0].NumChildren.V = 1 << 30 }), "its schema has fewer columns than it states"},
		"more columns":  {whole(func(meta *format.FileMetaData) { meta.Schema = append(meta.Schema, meta.Schema[1]) }), "its schema has more columns than it states"},
		"negative":      {whole(func(meta *format.FileMetaData) { meta.Schema[0].NumChildren.V = -1 }), "a column of -1 columns"},
		"no schema":     {whole(func(meta *format.FileMetaData) { meta.Schema = nil }), "it has no schema"},
		"chunks": {whole(func(meta *format.FileMetaData) {
			meta.RowGroups = slices.Repeat([]format.RowGroup{{Columns: make([]format.ColumnChunk, 3000)}}, 100)
		}), "the file has 300000 column chunks, at most 262144 are read"},
		"things": {whole(func(meta *format.FileMetaData) {
			meta.KeyValueMetadata = make([]format.KeyValue, 3_000_000)
		}), "the footer lists more than 2097152 things"},
		"rows": {whole(func(meta *format.FileMetaData) { meta.NumRows = 5 }), "its row groups have 1 rows, the footer states 5"},
		"rows below zero": {whole(func(meta *format.FileMetaData) {
			meta.RowGroups[0].NumRows, meta.NumRows = -1, -1
		}), "a row group of -1 rows"},
		"more rows than can be counted": {whole(func(meta *format.FileMetaData) {
			meta.RowGroups = append(meta.RowGroups, meta.RowGroups[0])
			meta.RowGroups[0].NumRows = math.MaxInt64
		}), "a row group of 1 rows"},
		"encrypted column": {whole(func(meta *format.FileMetaData) {
			meta.RowGroups[0].Columns[0].CryptoMetadata.Value = &format.EncryptionWithFooterKey{}
		}), "column a is encrypted; decrypt the file first"},
		"signed": {whole(func(meta *format.FileMetaData) {
			meta.EncryptionAlgorithm.Value = &format.AesGcmV1{}
		}), "the file is encrypted; decrypt it first"},
		"encrypted": {slices.Concat(whole(nil)[:len(whole(nil))-1], []byte("E")), "the file is encrypted; decrypt it first"},
		"lzo": {whole(func(meta *format.FileMetaData) {
			meta.RowGroups[0].Columns[0].MetaData.Codec = format.LZO
		}), "column a is compressed with LZO, which is not supported; write the file with zstd or snappy"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var err error
			used := allocated(func() { _, err = readAll(test.file) })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if most := uint64(2<<20 + 20*len(test.file)); used > most {
				t.Errorf("%d bytes are allocated for a file of %d, want at most %d", used, len(test.file), most)
			}
		})
	}
}

// A footer that states a length of gigabytes is not read, even if the file has them.
func TestLargeFooterIsNotRead(t *testing.T) {
	size := int64(3 << 30)
	tail := binary.LittleEndian.AppendUint32(nil, 2<<30)
	r := &spliced{head: zeroes{}, pages: size - tailBytes, tail: append(tail, "PAR1"...)}
	var err error
	used := allocated(func() { _, err = Open(r, size) })
	if err == nil || !strings.Contains(err.Error(), "the footer has 2147483648 bytes, at most 67108864 are read") || used > 1<<20 {
		t.Errorf("error %v and %d bytes allocated", err, used)
	}
}

type zeroes struct{}

func (zeroes) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// Row groups without rows are passed over, whether they have columns, pages, or nothing.
func TestEmptyRowGroups(t *testing.T) {
	file := forged{column: text(format.Required), pages: []forgedPage{v1(1, format.Plain, 5, []byte{1, 0, 0, 0, 'x'})}}
	for name, empty := range map[string]format.RowGroup{
		"nothing": {},
		"columns": {Columns: []format.ColumnChunk{{MetaData: format.ColumnMetaData{Type: format.ByteArray, PathInSchema: []string{"a"}}}}},
		"beyond the file": {Columns: []format.ColumnChunk{{MetaData: format.ColumnMetaData{
			Type: format.ByteArray, PathInSchema: []string{"a"}, DataPageOffset: 1 << 40,
		}}}},
	} {
		t.Run(name, func(t *testing.T) {
			file.change = func(meta *format.FileMetaData) {
				full := meta.RowGroups[0]
				meta.RowGroups = []format.RowGroup{empty, full, empty, full, empty}
				meta.NumRows = 2
			}
			if rows, err := readAll(file.bytes(t)); rows != 2 || err != nil {
				t.Errorf("%d rows, %v, want 2", rows, err)
			}
			file.change = func(meta *format.FileMetaData) { meta.RowGroups, meta.NumRows = []format.RowGroup{empty}, 0 }
			if rows, err := readAll(file.bytes(t)); rows != 0 || err != nil {
				t.Errorf("%d rows, %v, want none", rows, err)
			}
		})
	}
}

// Reading a column of any bytes needs a bounded amount of memory.
func FuzzPage(f *testing.F) {
	for _, bomb := range bombs(f) {
		if len(bomb.file) < 1000 {
			f.Add(bomb.file)
		}
	}
	f.Add(file(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		var err error
		used := allocated(func() { _, err = readAll(data) })
		if used > 4*maxPagesBytes {
			t.Errorf("%d bytes are allocated for a file of %d: %v", used, len(data), err)
		}
	})
}
