// Package shardstest writes tables for tests, including rows that no run produces.
//
// Nothing but tests may import it.
package shardstest

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"coeval/datasets/shards"
)

// Write writes rows of a table and returns the writer's description of the file.
func Write[T shards.Row](tb testing.TB, out io.Writer, table shards.Table, rows []T) shards.Info {
	tb.Helper()
	w, err := shards.NewWriter[T](out, table)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range rows {
		row := rows[i]
		if err := w.Write(&row); err != nil {
			tb.Fatal(err)
		}
		row = *new(T) // the caller's row is its own again
	}
	info, err := w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	return info
}

// WriteFile writes the one shard that a table has in a run's folder on the disk.
func WriteFile[T shards.Row](tb testing.TB, dir string, table shards.Table, rows ...T) {
	tb.Helper()
	name := filepath.Join(dir, shards.Path(table, 0, 1))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	Write(tb, f, table, rows)
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}
