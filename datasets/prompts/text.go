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
	isPrompt := func(line []byte) bool {
		_, _, failure := parse(line, o)
		return failure == nil
	}
	s, err := lines.Split(r, kind, o.MaxLineBytes, isPrompt)
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
