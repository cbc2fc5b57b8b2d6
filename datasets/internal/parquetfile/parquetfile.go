// Package parquetfile reads Parquet files that may be damaged, or made to do harm.
//
// parquet-go trusts the numbers in a file. This package checks them first, so that a file
// costs a bounded amount of memory whatever it says:
//
//   - [Open] bounds the footer: its bytes, its lists, the schema's columns and depth, the
//     column chunks.
//   - [Rows] shows parquet-go a page only after the page was checked: its header, the size that
//     it decompresses to, the values that its levels, indexes and lengths expand to.
//   - The pages that are in use at one time, of all columns together, need at most 512 MiB.
//
// A panic of parquet-go becomes an error. Missing pages are an error, never shifted columns.
// Encrypted files, and the codecs LZ4 and LZO, are refused with a sentence. No error names
// the file: the caller does.
package parquetfile

import (
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Open checks and reads the footer of a file. Row groups without rows are left out.
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

// Guard runs read, which uses parquet-go, and returns its panic as an error.
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
