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

// createdBy is what the footer names as the file's maker. It has no version in it: the same
// rows are the same bytes until the layout changes.
const createdBy = "coeval version 1 (build parquet-go)"

// How rows are cut into pages and row groups. A file's bytes depend on all four: changing
// one changes every file.
const (
	batchRows  = 1000
	batchBytes = 4 << 20
	groupRows  = 10_000
	groupBytes = 32 << 20
)

// codec compresses every column. This is the fastest level: the next one makes files 8 %
// smaller for half as much CPU again (BenchmarkWriter).
var codec = &zstd.Codec{Level: zstd.SpeedFastest}

// Compressed returns how many bytes a page of text takes in a shard.
func Compressed(text []byte) (int, error) {
	b, err := codec.Encode(nil, text)
	if err != nil {
		return 0, fmt.Errorf("shards: %w", err)
	}
	return len(b), nil
}

// Info is what is known of a file once it is written.
type Info struct {
	Rows  int64
	Bytes int64
	// SHA256 of the whole file, in hex.
	SHA256 string
}

// A Writer writes one shard. It belongs to one goroutine. After an error it stays unusable,
// and Close gives that error again.
type Writer[T Row] struct {
	table Table
	keyed bool
	out   *digestWriter
	file  *parquet.GenericWriter[T]
	// batch are the rows that have not been given to file, last the one that was added last.
	batch []T
	last  T
	// bytes of text in batch, and in the row group that file is at.
	batchBytes, groupBytes int
	rows                   int64
	err                    error
}

// NewWriter returns a writer of one shard of a table, which must be a table of T's rows. The
// caller closes out after the writer, and publishes it only if the writer's Close gave no error.
func NewWriter[T Row](out io.Writer, table Table) (*Writer[T], error) {
	l := layoutOf[T]()
	if !slices.Contains(l.tables, table) {
		return nil, fmt.Errorf("shards: table %s doesn't hold rows of type %T, which belong to %v", table, *new(T), l.tables)
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
		const bitsPerID = 10 // about one in a hundred look-ups of an ID that isn't there reads the file
		options = append(options, parquet.BloomFilters(parquet.SplitBlockFilter(bitsPerID, "id")))
	}
	return options
}

// Write adds a row, which must come after the row before in Compare's order. The row's
// strings and lists are read until Close: the caller must not change them, but may change
// *row. It returns an error that names table and row if the row is out of order, has the ID
// of the row before, holds a string that is not valid UTF-8, or has an empty conversation.
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

// Close writes what is left and the footer, and tells what the file is.
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

// flush gives the batch to the file, and ends the row group when it is large.
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

// A digestWriter hashes and counts what passes through.
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
