package prompts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"

	"coeval/datasets/internal/conversation"
	"coeval/datasets/internal/parquetfile"
	"coeval/schemas"
)

// readParquet reads a row as the JSON object that it would be in a line of text.
func readParquet(ctx context.Context, r io.ReaderAt, size int64, f File, o Options, each func(line Line) error) error {
	file, err := parquetfile.Open(r, size)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
	}
	var root *column
	var rows *parquetfile.Rows
	var passed []string
	err = parquetfile.Guard(func() error {
		schema, large := withoutLarge(file, o)
		passed = large
		root = newRoot(schema, func(name string) bool { return isNeeded(name, o) })
		if len(large) == 0 {
			rows, err = parquetfile.NewRows(file)
		} else {
			rows, err = parquetfile.NewColumns(file, schema)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
	}
	e := encoder{limit: o.MaxLineBytes}
	for f.LastLine == 0 || rows.Given() < f.LastLine {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
		}
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("prompts: %s: after row %d: %w", show(f.Path), rows.Given(), err)
		}
		failure := e.row(root, row)
		if err := give(f, rows.Given(), e.b, failure, append(e.left, passed...), o, each); err != nil {
			return err
		}
	}
	return nil
}

// isNeeded reports whether a column may be part of the prompt or its ID.
func isNeeded(name string, o Options) bool {
	if o.Field != "" {
		head, _, _ := strings.Cut(strings.NewReplacer("[", ".").Replace(o.Field), ".")
		if name == o.Field || name == head || name == o.IDField {
			return true
		}
	}
	return name == o.IDField || conversation.IsKnown(name)
}

// largeBytes is the mean size from which on a column of bytes, such as of images, is not read.
const largeBytes = 16 << 10

// withoutLarge returns the schema without the columns whose values are bytes of no text, large
// ones, and that are not needed; and the names of those columns.
func withoutLarge(file *parquet.File, o Options) (*parquet.Schema, []string) {
	var large []string
	leaves := file.Schema().Columns()
	sizes := make([]int64, len(leaves))
	for _, group := range file.Metadata().RowGroups {
		for i := range leaves {
			sizes[i] += group.Columns[i].MetaData.TotalUncompressedSize
		}
	}
	left := parquet.Group{}
	for _, field := range file.Schema().Fields() {
		left[field.Name()] = field
	}
	for i, path := range leaves {
		leaf, ok := file.Schema().Lookup(path...)
		if !ok || isNeeded(path[0], o) || sizes[i]/max(file.NumRows(), 1) < largeBytes {
			continue
		}
		if typ := leaf.Node.Type(); typ.LogicalType() == nil && (typ.Kind() == parquet.ByteArray || typ.Kind() == parquet.FixedLenByteArray) {
			if _, there := left[path[0]]; there {
				delete(left, path[0])
				large = append(large, path[0])
			}
		}
	}
	if len(large) == 0 || len(left) == 0 {
		return file.Schema(), nil
	}
	return parquet.NewSchema(file.Schema().Name(), left), large
}

// row makes e.b the JSON of a row. Columns that are not needed are left out, and named in
// e.left, where the row would be too large with them.
func (e *encoder) row(root *column, row parquet.Row) *schemas.Failure {
	leaves := make(values, root.hi)
	for i, v := range row.Range {
		if i < len(leaves) {
			leaves[i] = v
		}
	}
	e.b, e.left = append(e.b[:0], '{'), e.left[:0]
	for _, needed := range []bool{true, false} {
		for _, child := range root.children {
			if child.needed != needed {
				continue
			}
			start := len(e.b)
			e.invalid, e.full = "", false
			if start > 1 {
				e.b = append(e.b, ',')
			}
			e.b = append(e.b, child.key...)
			e.value(child, leaves)
			e.full = e.full || len(e.b) >= e.limit
			switch {
			case e.invalid != "":
				return bad(InvalidUTF8, "column %s is not valid UTF-8", show(e.invalid))
			case e.full && needed:
				return tooLarge(e.limit)
			case e.full:
				e.b = e.b[:start]
				e.left = append(e.left, child.name)
			}
		}
	}
	e.b = append(e.b, '}')
	return nil
}
