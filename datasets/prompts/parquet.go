package prompts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"

	"coeval/datasets/internal/conversation"
	"coeval/datasets/internal/lines"
	"coeval/datasets/internal/parquetfile"
	"coeval/datasets/internal/parquetjson"
	"coeval/schemas"
)

// readParquet reads a row as the JSON object that it would be in a line of text.
func readParquet(ctx context.Context, r io.ReaderAt, size int64, f File, o Options, each func(line Line) error) error {
	file, err := parquetfile.Open(r, size)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
	}
	var e *parquetjson.Encoder
	var rows *parquetfile.Rows
	var passed []string
	err = parquetfile.Guard(func() error {
		schema, large := withoutLarge(file, o)
		passed = large
		e = parquetjson.NewEncoder(schema, func(name string) bool { return isNeeded(name, o) }, o.MaxLineBytes)
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
		data, left, err := e.Row(row)
		if err := give(f, rows.Given(), data, failureOf(err, o.MaxLineBytes), append(left, passed...), o, each); err != nil {
			return err
		}
	}
	return nil
}

// failureOf returns the failure of a row that has no JSON.
func failureOf(err error, limit int) *schemas.Failure {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, parquetjson.ErrTooLarge):
		return lines.TooLong(limit)
	}
	return &schemas.Failure{Stage: schemas.StagePrompts, Code: InvalidUTF8, Message: err.Error()}
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

// largeBytes is the mean size from which on a column of bytes, for example of images, is not read.
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
