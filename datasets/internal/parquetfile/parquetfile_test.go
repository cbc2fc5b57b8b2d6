package parquetfile

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

type row struct {
	A []string `parquet:"a,list"`
	B *int64   `parquet:"b"`
}

func file(tb testing.TB, options ...parquet.WriterOption) []byte {
	tb.Helper()
	var b bytes.Buffer
	one := int64(1)
	if err := parquet.Write(&b, []row{{[]string{"x", "y"}, &one}, {}}, options...); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestOpen(t *testing.T) {
	whole := file(t, parquet.KeyValueMetadata("key", "value"))
	f, err := Open(bytes.NewReader(whole), int64(len(whole)))
	if err != nil || f.NumRows() != 2 {
		t.Fatalf("%v, want a file of 2 rows", err)
	}
	length := binary.LittleEndian.Uint32(whole[len(whole)-8:])
	footer := func(change func(b []byte)) []byte {
		b := bytes.Clone(whole)
		change(b[len(b)-8-int(length):])
		return b
	}
	tests := map[string]struct {
		data []byte
		want string
	}{
		"empty":  {nil, "no Parquet file has 0 bytes"},
		"short":  {[]byte("PAR1PAR1"), "no Parquet file has 8 bytes"},
		"text":   {[]byte("not a Parquet file at all"), `it ends in " all" instead of PAR1`},
		"cut":    {whole[:len(whole)-1], "instead of PAR1: it is cut off"},
		"length": {footer(func(b []byte) { b[len(b)-5] = 0x7f }), "the file is damaged: a footer of"},
		// The second field of a footer is the list of columns, whose size is made 2^31.
		"list": {
			footer(func(b []byte) { copy(b[2:], []byte{0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07}) }),
			"the file is damaged: its footer can't be read",
		},
		"lz4": {file(t, parquet.Compression(&parquet.Lz4Raw)), "column a.list.element is compressed with LZ4_RAW, which is not supported"},
	}
	for name, test := range tests {
		_, err := Open(bytes.NewReader(test.data), int64(len(test.data)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}

func TestGuard(t *testing.T) {
	err := Guard(func() error { panic("index out of range") })
	if err == nil || err.Error() != "the file is damaged: index out of range" {
		t.Errorf("error %v", err)
	}
}

// A footer that skip accepts promises no more values than it has bytes.
func FuzzSkip(f *testing.F) {
	f.Add([]byte{0x15, 2, 0x19, 0x2c, 0x18, 1, 'a', 0, 0, 0})
	f.Add([]byte{0x1b, 2, 0x85, 1, 'k', 2, 1, 'l', 4, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		t2 := compact{rest: data, items: maxItems}
		if t2.skip(thriftStruct, 0) && len(t2.rest) >= len(data) {
			t.Errorf("%x: a struct of no bytes", data)
		}
	})
}
