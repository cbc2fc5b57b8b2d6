package prompts

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"coeval/datasets/internal/parquetfile"
	"coeval/schemas"
)

// readRows is how many rows are decoded at once.
const readRows = 64

// readParquet reads a row as the JSON object that it would be in a line of text.
func readParquet(ctx context.Context, r io.ReaderAt, size int64, f File, o Options, each func(line Line) error) error {
	rows, err := openRows(r, size)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", f.Path, err)
	}
	var data []byte
	number := int64(0)
	for f.LastLine == 0 || number < f.LastLine {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("prompts: %s: %w", f.Path, err)
		}
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("prompts: %s: after row %d: %w", f.Path, number, err)
		}
		number++
		var failure *schemas.Failure
		data, failure = rows.root.encode(data[:0], row)
		if failure == nil && len(data) > o.MaxLineBytes {
			failure = tooLarge(o.MaxLineBytes)
		}
		if err := give(f, number, data, failure, o, each); err != nil {
			return err
		}
	}
	return nil
}

// A rowReader gives the rows of a Parquet file one by one.
type rowReader struct {
	file *parquet.File
	root *column
	// groups are left to be read, group is being read.
	groups []parquet.RowGroup
	group  parquet.Rows
	// batch[at:n] were read from group and not given.
	batch [readRows]parquet.Row
	at, n int
	given int64
}

func openRows(r io.ReaderAt, size int64) (*rowReader, error) {
	f, err := parquetfile.Open(r, size)
	if err != nil {
		return nil, err
	}
	rows := &rowReader{file: f, groups: f.RowGroups()}
	err = parquetfile.Guard(func() error {
		rows.root = newRoot(f.Schema())
		return nil
	})
	return rows, err
}

// next returns a row, good until the next call, or io.EOF after the last.
func (r *rowReader) next() (parquet.Row, error) {
	for r.at == r.n {
		if r.group == nil && len(r.groups) == 0 {
			return nil, r.complete()
		}
		if err := parquetfile.Guard(r.fill); err != nil {
			return nil, err
		}
	}
	r.at++
	r.given++
	return r.batch[r.at-1], nil
}

// fill reads rows, or goes on to the next row group.
func (r *rowReader) fill() error {
	if r.group == nil {
		r.group, r.groups = r.groups[0].Rows(), r.groups[1:]
	}
	n, err := r.group.ReadRows(r.batch[:])
	r.at, r.n = 0, n
	switch {
	case errors.Is(err, io.EOF):
		err = r.group.Close()
		r.group = nil
	case err == nil && n == 0:
		err = errors.New("the file is damaged: nothing can be read")
	}
	return err
}

// complete tells the end from a page that was cut off, which looks the same.
func (r *rowReader) complete() error {
	want := int64(0)
	for _, group := range r.file.RowGroups() {
		want += group.NumRows()
	}
	if r.given != want {
		return fmt.Errorf("the file is damaged: it should have %d rows", want)
	}
	return io.EOF
}
