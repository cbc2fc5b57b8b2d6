package shards

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"coeval/datasets/store"
)

// WriteRows writes a complete file of rows outside the run's tables, for example of an arena's games.
// The rows' strings must be valid UTF-8. The bytes depend on the rows alone.
func WriteRows[T any](out io.Writer, rows []T) (Info, error) {
	digest := &digestWriter{out: out, hash: sha256.New()}
	file := parquet.NewGenericWriter[T](digest,
		&parquet.WriterConfig{CreatedBy: createdBy}, parquet.Compression(codec), parquet.MaxRowsPerRowGroup(groupRows))
	for from := 0; from < len(rows); from += batchRows {
		if _, err := file.Write(rows[from:min(from+batchRows, len(rows))]); err != nil {
			return Info{}, fmt.Errorf("shards: write: %w", err)
		}
	}
	if err := file.Close(); err != nil {
		return Info{}, fmt.Errorf("shards: close: %w", err)
	}
	return Info{Rows: int64(len(rows)), Bytes: digest.bytes, SHA256: hex.EncodeToString(digest.hash.Sum(nil))}, nil
}

// ReadRows calls each with every row of a file that WriteRows wrote, within the bounds of [ReadTable].
func ReadRows[T any](ctx context.Context, path string, each func(row *T) error) (err error) {
	r, err := store.Open(ctx, path)
	if err != nil {
		return fmt.Errorf("shards: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return readTable(ctx, r, r.Size(), path, each)
}
