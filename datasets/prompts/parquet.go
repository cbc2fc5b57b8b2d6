package prompts

import (
	"context"
	"errors"
	"fmt"
	"io"

	"coeval/datasets/internal/parquetfile"
	"coeval/schemas"
)

// readParquet reads a row as the JSON object that it would be in a line of text.
func readParquet(ctx context.Context, r io.ReaderAt, size int64, f File, o Options, each func(line Line) error) error {
	file, err := parquetfile.Open(r, size)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", f.Path, err)
	}
	var root *column
	err = parquetfile.Guard(func() error {
		root = newRoot(file.Schema())
		return nil
	})
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", f.Path, err)
	}
	rows, err := parquetfile.NewRows(file)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", f.Path, err)
	}
	var data []byte
	for f.LastLine == 0 || rows.Given() < f.LastLine {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("prompts: %s: %w", f.Path, err)
		}
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("prompts: %s: after row %d: %w", f.Path, rows.Given(), err)
		}
		var failure *schemas.Failure
		data, failure = root.encode(data[:0], row)
		if failure == nil && len(data) > o.MaxLineBytes {
			failure = tooLarge(o.MaxLineBytes)
		}
		if err := give(f, rows.Given(), data, failure, o, each); err != nil {
			return err
		}
	}
	return nil
}
