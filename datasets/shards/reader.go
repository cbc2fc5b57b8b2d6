package shards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"coeval/datasets/internal/parquetfile"
	"coeval/datasets/store"
)

// ReadTable calls each with every row of a shard, in the file's order, and uses memory for a few pages.
// The function may keep the row. Its error ends the reading and is returned unchanged.
//
// The file must have exactly the columns of T, with their types, in their order. A damaged file is an
// error, as far as Parquet itself detects damage; rows before the damage have been passed to each.
func ReadTable[T Row](ctx context.Context, path string, each func(row *T) error) (err error) {
	r, err := store.Open(ctx, path)
	if err != nil {
		return fmt.Errorf("shards: %w", err)
	}
	defer func() {
		if closeErr := r.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	return readTable(ctx, r, r.Size(), path, each)
}

// ReadColumns is ReadTable for some of the columns: C is a struct of fields of T, with their tags, in
// their order. It reads no page of other columns. It returns an error if C has a column that T lacks.
func ReadColumns[T Row, C any](ctx context.Context, path string, each func(row *C) error) (err error) {
	r, err := store.Open(ctx, path)
	if err != nil {
		return fmt.Errorf("shards: %w", err)
	}
	defer func() {
		if closeErr := r.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	f, _, err := openTable[T](r, r.Size(), path)
	if err != nil {
		return err
	}
	schema, table := parquet.SchemaOf(new(C)), parquet.SchemaOf(new(T))
	for _, column := range schema.Columns() {
		wanted := describeColumn(schema, column)
		if _, ok := table.Lookup(column...); !ok || describeColumn(table, column) != wanted {
			return fmt.Errorf("shards: %s: column %s (%s) is not one of this table", path, strings.Join(column, "."), wanted)
		}
	}
	var rows *parquetfile.Rows
	err = parquetfile.Guard(func() error {
		rows, err = parquetfile.NewColumns(f, schema)
		return err
	})
	if err != nil {
		return fmt.Errorf("shards: %s: %w", path, err)
	}
	return eachRow(ctx, rows, schema, path, each)
}

// openTable opens a file that has exactly the columns of T. A file of an earlier version may lack
// nullable columns; lacks reports that.
func openTable[T any](r io.ReaderAt, size int64, path string) (f *parquet.File, lacks bool, err error) {
	if f, err = parquetfile.Open(r, size); err != nil {
		return nil, false, fmt.Errorf("shards: %s: %w", path, err)
	}
	if lacks, err = sameColumns(f.Schema(), parquet.SchemaOf(new(T))); err != nil {
		return nil, false, fmt.Errorf("shards: %s: %w", path, err)
	}
	return f, lacks, nil
}

func readTable[T any](ctx context.Context, r io.ReaderAt, size int64, path string, each func(row *T) error) error {
	f, lacks, err := openTable[T](r, size, path)
	if err != nil {
		return err
	}
	schema := parquet.SchemaOf(new(T))
	var rows *parquetfile.Rows
	err = parquetfile.Guard(func() error {
		if lacks {
			rows, err = parquetfile.NewColumns(f, schema) // null for a missing column
		} else {
			rows, err = parquetfile.NewRows(f)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("shards: %s: %w", path, err)
	}
	return eachRow(ctx, rows, schema, path, each)
}

func eachRow[C any](ctx context.Context, rows *parquetfile.Rows, schema *parquet.Schema, path string, each func(row *C) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("shards: %s: %w", path, err)
		}
		values, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var row C
		if err == nil {
			err = checkSize(values)
		}
		if err == nil {
			err = parquetfile.Guard(func() error { return schema.Reconstruct(&row, values) })
		}
		if err != nil {
			return fmt.Errorf("shards: %s: after row %d: %w", path, rows.Given(), err)
		}
		if err := each(&row); err != nil {
			return err
		}
	}
}

// maxRowBytes bounds the texts of a row, because a list can repeat a text that the file contains once.
const maxRowBytes = 512 << 20

func checkSize(row parquet.Row) error {
	size := 0
	for _, v := range row {
		if kind := v.Kind(); kind == parquet.ByteArray || kind == parquet.FixedLenByteArray {
			size += len(v.ByteArray())
		}
		if size > maxRowBytes {
			return fmt.Errorf("a row has more than %d MiB of text", maxRowBytes>>20)
		}
	}
	return nil
}

// sameColumns returns an error that names the first difference between two schemas. Nullable columns may
// be missing, since a later version may add them; all others must be present.
func sameColumns(got, want *parquet.Schema) (lacks bool, err error) {
	columns := got.Columns()
	at := 0
	for _, path := range want.Columns() {
		name := strings.Join(path, ".")
		wanted := describeColumn(want, path)
		if _, ok := got.Lookup(path...); !ok && len(path) == 1 && strings.HasPrefix(wanted, "optional ") {
			lacks = true
			continue
		}
		switch {
		case at >= len(columns):
			return false, fmt.Errorf("column %s (%s) is missing", name, wanted)
		case !slices.Equal(columns[at], path):
			return false, fmt.Errorf("column %d is %s where %s (%s) is wanted", at+1, strings.Join(columns[at], "."), name, wanted)
		}
		if found := describeColumn(got, path); found != wanted {
			return false, fmt.Errorf("column %s is %s where %s is wanted", name, found, wanted)
		}
		at++
	}
	if len(columns) > at {
		return false, fmt.Errorf("column %s is not known", strings.Join(columns[at], "."))
	}
	return lacks, nil
}

// describeColumn returns the type of a column and the levels that may be null or repeat.
func describeColumn(schema *parquet.Schema, path []string) string {
	var levels []string
	node := parquet.Node(schema)
	for _, name := range path {
		for _, field := range node.Fields() {
			if field.Name() == name {
				node = field
				break
			}
		}
		switch {
		case node.Optional():
			levels = append(levels, "optional")
		case node.Repeated():
			levels = append(levels, "repeated")
		default:
			levels = append(levels, "required")
		}
	}
	return strings.Join(levels, " ") + " " + node.Type().String()
}
