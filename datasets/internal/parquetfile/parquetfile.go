// Package parquetfile reads Parquet files that may be damaged or malicious.
//
// parquet-go does not check the sizes and counts in a file. This package checks them first, so that any file
// needs a bounded amount of memory:
//
//   - [Open] bounds the footer: its bytes, its lists, the schema's columns and depth, and the column
//     chunks.
//   - [Rows] checks each page before parquet-go reads it: its header and its decompressed size. It also
//     checks that the levels, indexes and lengths in the page give the declared number of values.
//   - The pages in use at one time, of all columns together, need at most 512 MiB.
//
// A panic of parquet-go becomes an error. A missing page is an error too: the values of later pages never
// move to other rows. The package refuses encrypted files, and the codecs LZ4 and LZO. Errors do not name
// the file; the caller must.
package parquetfile

import (
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Open checks and reads the footer of a file. It omits row groups without rows.
func Open(r io.ReaderAt, size int64) (f *parquet.File, err error) {
	err = Guard(func() error {
		meta, raw, err := readFooter(r, size)
		if err != nil {
			return err
		}
		if err := checkMeta(meta); err != nil {
			return err
		}
		if dropEmptyGroups(meta) {
			if r, size, err = replaceFooter(r, size-int64(len(raw))-tailBytes, meta); err != nil {
				return err
			}
		}
		f, err = parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
		if err != nil {
			return err
		}
		return checkColumns(f)
	})
	return f, err
}

// Guard runs read, which uses parquet-go, and turns a panic into an error.
func Guard(read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	return read()
}

// damaged returns the error of a file that contradicts itself.
func damaged(format string, args ...any) error {
	return fmt.Errorf("the file is damaged: "+format, args...)
}

func columnName(path []string) string { return strings.Join(path, ".") }
