// Package parquetfile opens Parquet files that may be damaged or come from strangers.
//
// parquet-go trusts a file's own numbers in some places: it panics, takes any amount of
// memory for a footer or a list in it that can't be there, puts the values of one column into
// the next when pages are missing, and never ends on LZ4 pages that are not LZ4. This package
// makes errors of the first three and refuses LZ4. A page that lies about its size can still
// cost as much memory as it claims.
package parquetfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// edge is the length of what stands before a file's pages ("PAR1") and after its footer (the
// footer's length and "PAR1").
const edge = 4 + 8

// Open reads the footer of a file. Its errors don't name the file.
func Open(r io.ReaderAt, size int64) (f *parquet.File, err error) {
	err = Guard(func() error {
		if err := checkFooter(r, size); err != nil {
			return err
		}
		f, err = parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
		if err != nil {
			return err
		}
		return checkColumns(f)
	})
	return f, err
}

// Guard runs read, which uses parquet-go, and returns its panic as an error.
func Guard(read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	return read()
}

// checkFooter refuses a footer that parquet-go would choke on.
func checkFooter(r io.ReaderAt, size int64) error {
	if size < edge {
		return fmt.Errorf("no Parquet file has %d bytes", size)
	}
	var end [8]byte
	if err := readAt(r, end[:], size-int64(len(end))); err != nil {
		return err
	}
	if magic := string(end[4:]); magic != "PAR1" {
		return fmt.Errorf("it ends in %q instead of PAR1: it is cut off, or no Parquet file", magic)
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	if length > size-edge {
		return fmt.Errorf("the file is damaged: a footer of %d bytes in a file of %d", length, size)
	}
	footer := thrift(make([]byte, length))
	if err := readAt(r, footer, size-int64(len(end))-length); err != nil {
		return err
	}
	if !footer.skip(thriftStruct, 0) {
		return errors.New("the file is damaged: its footer can't be read")
	}
	return nil
}

func readAt(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	return err
}

// checkColumns holds what row groups say of their columns against the schema and the file's size.
func checkColumns(f *parquet.File) error {
	leaves, kinds := f.Schema().Columns(), leafKinds(f.Metadata().Schema)
	if len(leaves) != len(kinds) {
		return errors.New("the file is damaged: its schema has groups without columns")
	}
	for _, group := range f.Metadata().RowGroups {
		if len(group.Columns) != len(leaves) {
			return fmt.Errorf("the file is damaged: a row group of %d columns, the schema has %d", len(group.Columns), len(leaves))
		}
		for i, path := range leaves {
			column := &group.Columns[i].MetaData
			start, size := column.DataPageOffset, column.TotalCompressedSize
			if column.DictionaryPageOffset != 0 {
				start = column.DictionaryPageOffset
			}
			switch {
			case column.Codec == format.Lz4Raw:
				return fmt.Errorf("column %s is compressed with %s, which is not supported; write the file with zstd or snappy", name(path), column.Codec)
			case !slices.Equal(column.PathInSchema, path), column.Type != kinds[i]:
				return fmt.Errorf("the file is damaged: column %s is not what the schema says", name(path))
			case start < 0 || size < 0 || start > f.Size()-size:
				return fmt.Errorf("the file is damaged: column %s lies outside of it", name(path))
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

func name(path []string) string { return strings.Join(path, ".") }
