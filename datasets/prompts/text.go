package prompts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"coeval/datasets/internal/lines"
)

// readText gives the lines of a text to each.
func readText(ctx context.Context, r io.Reader, kind string, f File, o Options, each func(line Line) error) error {
	s, plain, err := lines.Split(r, kind, o.MaxLineBytes)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
	}
	for f.LastLine == 0 || s.Number() < f.LastLine {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
		}
		data, failure, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readError(f, s.Number(), err)
		}
		data = bytes.Trim(data, lines.Blanks)
		if len(data) == 0 && failure == nil {
			continue
		}
		if plain && s.Number() == 1 && len(data) == 1 && data[0] == '{' {
			return fmt.Errorf("prompts: %s: the file is JSON over several lines; write an object a line, or one array of objects", show(f.Path))
		}
		if err := give(f, s.Number(), data, failure, nil, o, each); err != nil {
			return err
		}
	}
	return nil
}

// readError is the error of a text that ends too early.
func readError(f File, number int64, err error) error {
	why := ""
	if _, compression, _ := kindOf(f.Path); compression != "" && !errors.Is(err, context.Canceled) && !errors.Is(err, lines.ErrText) {
		why = "the file is damaged or cut off: "
	}
	return fmt.Errorf("prompts: %s: after line %d: %s%w", show(f.Path), number, why, err)
}
