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

// readRows is how many rows are decoded at once.
const readRows = 128

// ReadTable gives every row of a shard to each, in the file's order, with memory for some
// pages of it. Each may keep what the row points to, but not the row. An error of each ends
// the reading and is returned as it is.
//
// The file must have exactly the columns of T, with their types, in their order. A damaged
// file is an error, as far as Parquet itself can tell; rows before the damage were given to each.
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

func readTable[T Row](ctx context.Context, r io.ReaderAt, size int64, path string, each func(row *T) error) (err error) {
	rows, err := openRows[T](r, size, path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := rows.close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	batch := make([]T, readRows)
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("shards: read %s: %w", path, err)
		}
		clear(batch) // what the last rows point to may have been kept
		n, err := rows.read(batch)
		for i := range batch[:n] {
			if err := each(&batch[i]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return rows.complete()
		case err != nil:
			return err
		}
	}
}

// A rowReader reads rows and counts them.
type rowReader[T Row] struct {
	path string
	file *parquet.GenericReader[T]
	// rows were read; want is what the footer promises.
	rows, want int64
}

func openRows[T Row](r io.ReaderAt, size int64, path string) (*rowReader[T], error) {
	f, err := parquetfile.Open(r, size)
	if err != nil {
		return nil, fmt.Errorf("shards: %s: %w", path, err)
	}
	if err := sameColumns(f.Schema(), parquet.SchemaOf(new(T))); err != nil {
		return nil, fmt.Errorf("shards: %s: %w", path, err)
	}
	rows := &rowReader[T]{path: path, want: f.NumRows()}
	err = parquetfile.Guard(func() error {
		rows.file = parquet.NewGenericReader[T](f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("shards: %s: %w", path, err)
	}
	return rows, nil
}

// read fills batch as far as it can. At the end it returns io.EOF.
func (r *rowReader[T]) read(batch []T) (n int, err error) {
	err = parquetfile.Guard(func() error {
		n, err = r.file.Read(batch)
		return err
	})
	r.rows += int64(n)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("shards: %s: after row %d: %w", r.path, r.rows, err)
	case err == nil && n == 0:
		return 0, fmt.Errorf("shards: %s: after row %d nothing can be read", r.path, r.rows)
	}
	return n, err
}

// complete says whether all rows were there: a page that is cut off can look like the end.
func (r *rowReader[T]) complete() error {
	if r.rows != r.want {
		return fmt.Errorf("shards: %s: the file is damaged: it ends after row %d of %d", r.path, r.rows, r.want)
	}
	return nil
}

func (r *rowReader[T]) close() error {
	if err := parquetfile.Guard(r.file.Close); err != nil {
		return fmt.Errorf("shards: close %s: %w", r.path, err)
	}
	return nil
}

// sameColumns returns an error that names the first column in which two schemas differ.
func sameColumns(got, want *parquet.Schema) error {
	columns := got.Columns()
	for i, path := range want.Columns() {
		name := strings.Join(path, ".")
		wanted := describeColumn(want, path)
		switch {
		case i >= len(columns):
			return fmt.Errorf("column %s (%s) is missing", name, wanted)
		case !slices.Equal(columns[i], path):
			return fmt.Errorf("column %d is %s where %s (%s) is wanted", i+1, strings.Join(columns[i], "."), name, wanted)
		}
		if found := describeColumn(got, path); found != wanted {
			return fmt.Errorf("column %s is %s where %s is wanted", name, found, wanted)
		}
	}
	if more := len(want.Columns()); len(columns) > more {
		return fmt.Errorf("column %s is not known", strings.Join(columns[more], "."))
	}
	return nil
}

// describeColumn tells the type of a column and which of its levels may be null or repeat.
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
