package shards

import (
	"context"
	"io"
)

// Codec is the writer's, so that a test can use it for something else in between.
var Codec = codec

// ReadFrom reads a table that is no file of a store.
func ReadFrom[T Row](ctx context.Context, r io.ReaderAt, size int64, path string, each func(row *T) error) error {
	return readTable(ctx, r, size, path, each)
}
