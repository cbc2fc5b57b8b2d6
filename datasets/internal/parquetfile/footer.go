package parquetfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// The bounds on a footer. The largest accepted footer needs some 400 MB when decoded, most of it for
// column chunks of 560 bytes.
const (
	maxFooterBytes = 64 << 20
	// maxItems bounds the items of all lists together.
	maxItems = 2 << 20
	// maxColumnChunks bounds row groups times columns.
	maxColumnChunks = 256 << 10
	// maxColumns bounds the columns with values, of which each needs a buffer of 8 KiB.
	maxColumns = 4096
	// maxSchemaDepth bounds the groups inside of groups.
	maxSchemaDepth = 64
	// maxTypeLength bounds a value of a column of fixed length.
	maxTypeLength = 1 << 20
)

const (
	headBytes = 4 // "PAR1"
	tailBytes = 8 // the footer's length, and "PAR1"
)

// readFooter returns the decoded footer and its bytes.
func readFooter(r io.ReaderAt, size int64) (*format.FileMetaData, []byte, error) {
	if size < headBytes+tailBytes {
		return nil, nil, fmt.Errorf("no Parquet file has %d bytes", size)
	}
	var tail [tailBytes]byte
	if err := readAt(r, tail[:], size-tailBytes); err != nil {
		return nil, nil, err
	}
	switch magic := string(tail[4:]); magic {
	case "PAR1":
	case "PARE":
		return nil, nil, errors.New("the file is encrypted; decrypt it first")
	default:
		return nil, nil, fmt.Errorf("it ends in %q instead of PAR1: it is cut off, or no Parquet file", magic)
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	switch {
	case length > size-headBytes-tailBytes:
		return nil, nil, damaged("a footer of %d bytes in a file of %d", length, size)
	case length > maxFooterBytes:
		return nil, nil, fmt.Errorf("the footer has %d bytes, at most %d are read; write the file with fewer row groups and columns", length, maxFooterBytes)
	}
	footer := make([]byte, length)
	if err := readAt(r, footer, size-tailBytes-length); err != nil {
		return nil, nil, err
	}
	end, err := checkFooter(footer)
	if err != nil {
		return nil, nil, err
	}
	meta := &format.FileMetaData{}
	if err := thrift.Unmarshal(&thrift.CompactProtocol{}, footer[:end], meta); err != nil {
		return nil, nil, damaged("its footer can't be read: %w", err)
	}
	return meta, footer, nil
}

// checkFooter counts the lists of a footer before decoding, and returns its length without a signature.
func checkFooter(footer []byte) (end int, err error) {
	t := compact{rest: footer, items: maxItems}
	if !t.skip(thriftStruct, 0) {
		if t.items < 0 {
			return 0, fmt.Errorf("the footer lists more than %d things; write the file with fewer row groups and columns", maxItems)
		}
		return 0, damaged("its footer can't be read")
	}
	end = len(footer) - len(t.rest)
	if chunks := countColumnChunks(footer); chunks > maxColumnChunks {
		return 0, fmt.Errorf("the file has %d column chunks, at most %d are read; write it with larger row groups", chunks, maxColumnChunks)
	}
	return end, nil
}

// The fields of a footer's structs that countColumnChunks reads.
const (
	fileRowGroups   = 4
	rowGroupColumns = 1
)

// countColumnChunks counts the column chunks of all row groups in a footer that skip has accepted.
func countColumnChunks(footer []byte) int {
	chunks := 0
	t := compact{rest: footer, items: maxItems}
	t.eachField(0, func(id int64, kind byte) bool {
		if id != fileRowGroups || kind != thriftList {
			return t.skip(kind, 1)
		}
		groups, item, ok := t.listHead()
		for range groups {
			ok = ok && item == thriftStruct && t.eachField(1, func(id int64, kind byte) bool {
				if id == rowGroupColumns && kind == thriftList {
					ahead := t
					n, _, _ := ahead.listHead()
					chunks += int(min(n, maxItems))
				}
				return t.skip(kind, 2)
			})
		}
		return ok
	})
	return chunks
}

func readAt(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	return err
}

// checkMeta checks a footer's schema and counts.
func checkMeta(meta *format.FileMetaData) error {
	if meta.EncryptionAlgorithm.Value != nil {
		return errors.New("the file is encrypted; decrypt it first")
	}
	if err := checkSchema(meta.Schema); err != nil {
		return err
	}
	var rows int64
	for i := range meta.RowGroups {
		n := meta.RowGroups[i].NumRows
		if n < 0 || n > math.MaxInt64-rows {
			return damaged("a row group of %d rows", n)
		}
		rows += n
	}
	if rows != meta.NumRows {
		return damaged("its row groups have %d rows, the footer states %d", rows, meta.NumRows)
	}
	return nil
}

// checkSchema walks the schema, a tree stored as a list, without recursion.
func checkSchema(schema []format.SchemaElement) error {
	if len(schema) == 0 {
		return damaged("it has no schema")
	}
	leaves := 0
	var open []int32 // the number of missing children of each open group
	for i := range schema {
		element := &schema[i]
		if i > 0 && len(open) == 0 {
			return damaged("its schema has more columns than it states")
		}
		if i > 0 {
			open[len(open)-1]--
		}
		switch children := element.NumChildren.V; {
		case children < 0:
			return damaged("a column of %d columns", children)
		case children > 0 && len(open) == maxSchemaDepth:
			return fmt.Errorf("its columns are nested more than %d levels deep; write the file with flatter columns", maxSchemaDepth)
		case children > 0:
			open = append(open, children)
		default:
			leaves++
		}
		if element.TypeLength.V < 0 || element.TypeLength.V > maxTypeLength {
			return fmt.Errorf("column %s has values of %d bytes, at most %d are read", element.Name, element.TypeLength.V, maxTypeLength)
		}
		for len(open) > 0 && open[len(open)-1] == 0 {
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return damaged("its schema has fewer columns than it states")
	}
	if leaves > maxColumns {
		return fmt.Errorf("the file has %d columns, at most %d are read; write it with the columns that are needed", leaves, maxColumns)
	}
	return nil
}

// dropEmptyGroups removes row groups without rows, and reports whether there were any. Some writers leave
// an empty group without columns, or with columns without pages.
func dropEmptyGroups(meta *format.FileMetaData) bool {
	before := len(meta.RowGroups)
	meta.RowGroups = slices.DeleteFunc(meta.RowGroups, func(g format.RowGroup) bool { return g.NumRows == 0 })
	for i := range meta.RowGroups {
		meta.RowGroups[i].Ordinal = int16(min(i, math.MaxInt16))
	}
	return len(meta.RowGroups) < before
}

// replaceFooter returns the first bytes of r followed by a new footer.
func replaceFooter(r io.ReaderAt, pages int64, meta *format.FileMetaData) (io.ReaderAt, int64, error) {
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, meta)
	if err != nil {
		return nil, 0, fmt.Errorf("write the footer without empty row groups: %w", err)
	}
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	footer = append(footer, "PAR1"...)
	s := &spliced{head: r, pages: pages, tail: footer}
	return s, pages + int64(len(footer)), nil
}

// spliced is a file whose last bytes are in memory.
type spliced struct {
	head  io.ReaderAt
	pages int64 // bytes of head
	tail  []byte
}

// ReadAt reads from both parts; see [io.ReaderAt].
func (s *spliced) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	if offset < s.pages {
		part := p[:min(int64(len(p)), s.pages-offset)]
		got, err := s.head.ReadAt(part, offset)
		n += got
		if got < len(part) {
			return n, err
		}
	}
	if n == len(p) {
		return n, nil
	}
	got, err := bytes.NewReader(s.tail).ReadAt(p[n:], offset+int64(n)-s.pages)
	return n + got, err
}

// codecs are the supported compressions.
var codecs = []format.CompressionCodec{format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd}

// checkColumns compares the row groups' columns with the schema and the file's size.
func checkColumns(f *parquet.File) error {
	leaves, kinds := f.Schema().Columns(), leafKinds(f.Metadata().Schema)
	if len(leaves) != len(kinds) {
		return damaged("its schema has groups without columns")
	}
	for _, group := range f.Metadata().RowGroups {
		if len(group.Columns) != len(leaves) {
			return damaged("a row group of %d columns, the schema has %d", len(group.Columns), len(leaves))
		}
		for i, path := range leaves {
			column := &group.Columns[i].MetaData
			start, size := column.DataPageOffset, column.TotalCompressedSize
			if column.DictionaryPageOffset != 0 {
				start = column.DictionaryPageOffset
			}
			switch {
			case group.Columns[i].CryptoMetadata.Value != nil:
				return fmt.Errorf("column %s is encrypted; decrypt the file first", columnName(path))
			case !slices.Contains(codecs, column.Codec):
				return fmt.Errorf("column %s is compressed with %s, which is not supported; write the file with zstd or snappy", columnName(path), column.Codec)
			case !slices.Equal(column.PathInSchema, path), column.Type != kinds[i]:
				return damaged("column %s does not match the schema", columnName(path))
			case start < 0 || size < 0 || start > f.Size()-size:
				return damaged("column %s lies outside of it", columnName(path))
			}
		}
	}
	return nil
}

// leafKinds returns the physical types of a schema's columns.
func leafKinds(schema []format.SchemaElement) []format.Type {
	var kinds []format.Type
	for _, element := range schema {
		if element.Type.Valid {
			kinds = append(kinds, element.Type.V)
		}
	}
	return kinds
}
