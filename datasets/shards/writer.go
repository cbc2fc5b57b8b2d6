package shards

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// createdBy is the writer's name in the footer. It has no version, so that equal rows give equal bytes
// until the layout changes.
const createdBy = "coeval version 1 (build parquet-go)"

// The sizes of pages and row groups. A file's bytes depend on all four: a change to one changes every
// file.
const (
	batchRows  = 1000
	batchBytes = 4 << 20
	groupRows  = 10_000
	groupBytes = 32 << 20
)

// codec compresses every column. This is the fastest level: the next one makes files 8 % smaller and
// takes half as much CPU again (BenchmarkWriter).
var codec = &zstd.Codec{Level: zstd.SpeedFastest}

// Compressed returns the size of a page of text in a shard.
func Compressed(text []byte) (int, error) {
	b, err := codec.Encode(nil, text)
	if err != nil {
		return 0, fmt.Errorf("shards: %w", err)
	}
	return len(b), nil
}

// Info describes a finished file.
type Info struct {
	Rows  int64
	Bytes int64
	// SHA256 of the whole file, in hex.
	SHA256 string
}

// A Writer writes one shard. Use it from one goroutine. After an error it stays unusable, and Close
// returns that error again.
type Writer[T Row] struct {
	table Table
	keyed bool
	out   *digestWriter
	file  *parquet.GenericWriter[T]
	// batch are the rows that were not yet passed to file, last is the latest row.
	batch []T
	last  T
	// batchBytes is the size of the texts in batch, groupBytes in file's current row group.
	batchBytes, groupBytes int
	rows                   int64
	err                    error
}

// NewWriter returns a writer of one shard of a table, which must be a table of T's rows. The caller must
// close out after the writer, and publish it only if the writer's Close returned no error.
func NewWriter[T Row](out io.Writer, table Table) (*Writer[T], error) {
	l := layoutOf[T]()
	if !slices.Contains(l.tables, table) {
		return nil, fmt.Errorf("shards: table %s has no rows of type %T; that type belongs to %v", table, *new(T), l.tables)
	}
	digest := &digestWriter{out: out, hash: sha256.New()}
	return &Writer[T]{
		table: table,
		keyed: l.keyed,
		out:   digest,
		file:  parquet.NewGenericWriter[T](digest, l.options()...),
		batch: make([]T, 0, batchRows),
	}, nil
}

func (l layout) options() []parquet.WriterOption {
	sorting := make([]parquet.SortingColumn, len(l.sorted))
	for i, column := range l.sorted {
		sorting[i] = parquet.Ascending(column)
		if l.nullsFirst {
			sorting[i] = parquet.NullsFirst(sorting[i])
		}
	}
	options := []parquet.WriterOption{
		&parquet.WriterConfig{CreatedBy: createdBy},
		parquet.Compression(codec),
		parquet.MaxRowsPerRowGroup(groupRows),
		parquet.SortingWriterConfig(parquet.SortingColumns(sorting...)),
	}
	for _, path := range l.texts {
		options = append(options, parquet.SkipPageBounds(path...))
	}
	if l.keyed {
		const bitsPerID = 10 // one in a hundred look-ups of an unknown ID reads the file
		options = append(options, parquet.BloomFilters(parquet.SplitBlockFilter(bitsPerID, "id")))
	}
	return options
}

// Write adds a row, which must follow the previous row in Compare's order. The row's strings and lists
// are read until Close: the caller must not change them, but may change *row. It returns an error that
// names table and row if the row is out of order or has the ID of the previous row. A string that is
// not valid UTF-8 and an empty conversation are errors too.
func (w *Writer[T]) Write(row *T) error {
	if w.err != nil {
		return w.err
	}
	check := checkRow(row)
	if check.problem != "" {
		return w.fail(fmt.Errorf("shards: %s: row %s: %s", w.table, nameRow(row), check.problem))
	}
	if w.rows > 0 {
		if order := Compare(&w.last, row); order > 0 || order == 0 && w.keyed {
			return w.fail(fmt.Errorf("shards: %s: row %s is out of order: it was written after row %s", w.table, nameRow(row), nameRow(&w.last)))
		}
	}
	w.last = *row
	w.rows++
	w.batch = append(w.batch, *row)
	w.batchBytes += check.bytes
	if len(w.batch) == batchRows || w.batchBytes >= batchBytes {
		return w.flush()
	}
	return nil
}

// Close writes the remaining rows and the footer, and returns a description of the file.
func (w *Writer[T]) Close() (Info, error) {
	if w.err != nil {
		return Info{}, w.err
	}
	if err := w.flush(); err != nil {
		return Info{}, err
	}
	if err := w.file.Close(); err != nil {
		return Info{}, w.fail(fmt.Errorf("shards: %s: close: %w", w.table, err))
	}
	w.err = fmt.Errorf("shards: %s: the writer is closed", w.table)
	return Info{Rows: w.rows, Bytes: w.out.bytes, SHA256: hex.EncodeToString(w.out.hash.Sum(nil))}, nil
}

// flush passes the batch to the file, and ends the row group when it is large.
func (w *Writer[T]) flush() error {
	if len(w.batch) == 0 {
		return nil
	}
	if _, err := w.file.Write(w.batch); err != nil {
		return w.fail(fmt.Errorf("shards: %s: write: %w", w.table, err))
	}
	w.groupBytes += w.batchBytes
	clear(w.batch)
	w.batch, w.batchBytes = w.batch[:0], 0
	if w.groupBytes < groupBytes {
		return nil
	}
	w.groupBytes = 0
	if err := w.file.Flush(); err != nil {
		return w.fail(fmt.Errorf("shards: %s: write: %w", w.table, err))
	}
	return nil
}

func (w *Writer[T]) fail(err error) error {
	w.err = err
	return err
}

// A digestWriter hashes and counts the bytes that it passes on.
type digestWriter struct {
	out   io.Writer
	hash  hash.Hash
	bytes int64
}

func (d *digestWriter) Write(p []byte) (int, error) {
	n, err := d.out.Write(p)
	d.hash.Write(p[:n])
	d.bytes += int64(n)
	return n, err
}
