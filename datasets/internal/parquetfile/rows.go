package parquetfile

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// maxBatchRows is the largest number of rows in a batch.
const maxBatchRows = 64

// Rows reads the rows of a file one by one, in the file's order.
type Rows struct {
	// kinds are the kinds of the schema's columns.
	kinds []parquet.Kind
	// groups are the remaining row groups, group is the current one.
	groups []parquet.RowGroup
	group  parquet.Rows
	// batch[at:n] were read from group and not yet returned. With repeated columns the batch is one row,
	// since a row can be as large as memory allows.
	batch  []parquet.Row
	at, n  int
	memory *memory
	// given is the number of rows so far, want the number that the row groups promise.
	given, want int64
}

// NewRows returns the rows of a file that [Open] opened.
func NewRows(f *parquet.File) (*Rows, error) { return newRows(f, f.Schema(), nil) }

// NewColumns returns the rows of a file with the columns of a schema. The file must have these columns
// with equal types. It reads no page of other columns.
func NewColumns(f *parquet.File, columns *parquet.Schema) (*Rows, error) {
	conversion, err := parquet.Convert(columns, f.Schema())
	if err != nil {
		return nil, err
	}
	return newRows(f, columns, conversion)
}

func newRows(f *parquet.File, columns *parquet.Schema, conversion parquet.Conversion) (*Rows, error) {
	rows := &Rows{batch: make([]parquet.Row, maxBatchRows), memory: &memory{limit: maxPagesBytes}}
	for _, path := range columns.Columns() {
		leaf, ok := columns.Lookup(path...)
		if !ok {
			return nil, fmt.Errorf("column %s is not in its own schema", columnName(path))
		}
		rows.kinds = append(rows.kinds, leaf.Node.Type().Kind())
		if leaf.MaxRepetitionLevel > 0 {
			rows.batch = rows.batch[:1]
		}
	}
	for i, group := range f.RowGroups() {
		guarded, err := guardGroup(f, i, rows.memory)
		if err != nil {
			return nil, err
		}
		var g parquet.RowGroup = guarded
		if conversion != nil {
			g = parquet.ConvertRowGroup(g, conversion)
		}
		rows.groups = append(rows.groups, g)
		rows.want += group.NumRows()
	}
	return rows, nil
}

// Given returns the number of rows that Next has returned.
func (r *Rows) Given() int64 { return r.given }

// Next returns a row, valid until the next call, or io.EOF after the last. The row has a value for every
// column of the schema, null or of the column's kind.
func (r *Rows) Next() (parquet.Row, error) {
	for r.at == r.n {
		if r.group == nil && len(r.groups) == 0 {
			return nil, r.complete()
		}
		if err := Guard(r.fill); err != nil {
			return nil, err
		}
	}
	row := r.batch[r.at]
	if err := r.check(row); err != nil {
		return nil, err
	}
	r.at++
	r.given++
	return row, nil
}

// fill reads rows, or moves to the next row group.
func (r *Rows) fill() error {
	if r.group == nil {
		r.memory.used = 0 // the pages of the earlier group are no longer in use
		r.group, r.groups = r.groups[0].Rows(), r.groups[1:]
	}
	n, err := r.group.ReadRows(r.batch)
	r.at, r.n = 0, n
	switch {
	case errors.Is(err, io.EOF):
		err = r.group.Close()
		r.group = nil
	case err == nil && n == 0:
		err = damaged("nothing can be read")
	}
	return err
}

// check refuses a row in which a column has run out of pages.
func (r *Rows) check(row parquet.Row) error {
	next := 0
	for _, v := range row {
		column := v.Column()
		if column == next {
			next++
		}
		if column != next-1 || !v.IsNull() && v.Kind() != r.kinds[column] {
			return damaged("a column is missing or of another kind than in the schema")
		}
	}
	if next != len(r.kinds) {
		return damaged("a row of %d columns, the schema has %d", next, len(r.kinds))
	}
	return nil
}

// complete distinguishes the end from a truncated page, which looks the same.
func (r *Rows) complete() error {
	if r.given != r.want {
		return damaged("it should have %d rows", r.want)
	}
	return io.EOF
}
