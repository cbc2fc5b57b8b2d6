package runs

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"coeval/datasets/shards"
	"coeval/schemas"
)

// A Table reads one file in its order and returns the rows of one prompt at a time. C is the type of
// its rows, or a struct of some of their columns.
type Table[C any] struct {
	path    string
	prompt  func(*C) string
	observe func(*C, error)
	next    func() (*C, error, bool)
	stop    func()
	// head is the row that was read last and not returned yet; nil at the end and after err.
	head  *C
	err   error
	group []C
	// bytes returns the size of a row's texts. It is nil if the columns have none.
	bytes func(*C) int
}

var errStopped = errors.New("the reader stopped")

// OpenTable opens a file of a table for all of its columns and reads the first row. Observe, if not nil,
// is called with every row as it is read, and with the error that ends the reading. The caller must
// call Close.
func OpenTable[T shards.Row](ctx context.Context, path string, observe func(*T, error)) *Table[T] {
	t := newTable(path, PromptOf[T], func(each func(*T) error) error { return shards.ReadTable(ctx, path, each) })
	t.observe, t.bytes = observe, shards.TextBytes[T]
	t.Advance()
	return t
}

// openColumns is OpenTable for some columns.
func openColumns[T shards.Row, C any](ctx context.Context, path string, prompt func(*C) string) *Table[C] {
	t := newTable(path, prompt, func(each func(*C) error) error { return shards.ReadColumns[T](ctx, path, each) })
	t.Advance()
	return t
}

func newTable[C any](path string, prompt func(*C) string, read func(each func(*C) error) error) *Table[C] {
	t := &Table[C]{path: path, prompt: prompt}
	t.next, t.stop = iter.Pull2(func(yield func(*C, error) bool) {
		err := read(func(row *C) error {
			if !yield(row, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	})
	return t
}

// Head returns the next row without reading past it, nil at the end and after an error.
func (t *Table[C]) Head() *C { return t.head }

// Err returns the error that ended the reading, nil if the file could be read so far.
func (t *Table[C]) Err() error { return t.err }

// Close ends the reading.
func (t *Table[C]) Close() { t.stop() }

// Advance reads the next row. After an error it ends the table.
func (t *Table[C]) Advance() {
	if t.err != nil {
		return
	}
	row, err, ok := t.next()
	t.head = nil
	switch {
	case err != nil:
		t.err = err
	case ok:
		t.head = row
	}
	if t.observe != nil && (t.err != nil || t.head != nil) {
		t.observe(t.head, t.err)
	}
}

// Of returns the rows of a prompt. The caller must pass prompts in the order of their IDs, and may use
// the rows until the next call.
func (t *Table[C]) Of(promptID string) []C {
	clear(t.group)
	t.group = t.group[:0]
	size := 0
	for t.head != nil && t.prompt(t.head) == promptID {
		if t.bytes != nil {
			size += t.bytes(t.head)
		}
		if err := checkGroup(t.path, promptID, len(t.group)+1, size); err != nil {
			t.fail(err)
			break
		}
		t.group = append(t.group, *t.head)
		t.Advance()
	}
	return t.group
}

// maxPromptRows bounds the rows of one prompt in one file. A run asks for at most 256·256 judgments and
// fewer comparisons. Bad lines of the input belong to no prompt: a shard may have more of them.
const maxPromptRows = 1 << 18

// maxPromptBytes bounds the texts of these rows: 65,536 comparisons of 4 KiB. A file can repeat a text that it
// contains once.
const maxPromptBytes = 256 << 20

func checkGroup(path, promptID string, rows, size int) error {
	if promptID != "" && rows > maxPromptRows {
		return fmt.Errorf("%s has more than %d rows of prompt %q, which no run writes", path, maxPromptRows, promptID)
	}
	if promptID != "" && size > maxPromptBytes {
		return fmt.Errorf("%s has more than %d MiB of texts of prompt %q, which no run writes", path, maxPromptBytes>>20, promptID)
	}
	return nil
}

// fail ends the reading with an error.
func (t *Table[C]) fail(err error) {
	t.head, t.err = nil, err
	if t.observe != nil {
		t.observe(nil, err)
	}
}

// end returns an error if rows are left: they are out of order, or belong to a prompt that raw/prompts
// lacks.
func (t *Table[C]) end() error {
	if t.err != nil {
		return t.err
	}
	if t.head != nil {
		return fmt.Errorf("%s has a row of prompt %s that is out of order, or whose prompt raw/prompts lacks; run coeval verify for the details", t.path, t.prompt(t.head))
	}
	return nil
}

// EachRow passes some columns of every row of a table to each, shard by shard.
func EachRow[T shards.Row, C any](ctx context.Context, r *Run, table shards.Table, each func(*C) error) error {
	for shard := range r.Shards {
		if err := EachShardRow[T](ctx, r, table, shard, each); err != nil {
			return err
		}
	}
	return nil
}

// EachShardRow is [EachRow] for one shard.
func EachShardRow[T shards.Row, C any](ctx context.Context, r *Run, table shards.Table, shard int, each func(*C) error) error {
	return shards.ReadColumns[T](ctx, r.Path(table, shard), each)
}

// PromptRows returns the rows of a table that belong to a prompt.
func PromptRows[T shards.Row](ctx context.Context, r *Run, table shards.Table, promptID string) ([]T, error) {
	var rows []T
	size := 0
	path := r.Path(table, schemas.Shard(promptID, r.Shards))
	err := shards.ReadTable(ctx, path, func(row *T) error {
		if PromptOf(row) != promptID {
			return nil
		}
		size += shards.TextBytes(row)
		if err := checkGroup(path, promptID, len(rows)+1, size); err != nil {
			return err
		}
		rows = append(rows, *row)
		return nil
	})
	return rows, err
}

// PromptOf returns the ID of the prompt that a row belongs to, empty for a bad line of the input.
func PromptOf[T shards.Row](row *T) string {
	switch r := any(row).(type) {
	case *schemas.Pair:
		return r.PromptID
	case *schemas.PromptRow:
		return r.ID
	case *schemas.ResponseRow:
		return r.PromptID
	case *schemas.JudgmentRow:
		return r.PromptID
	case *schemas.ComparisonRow:
		return r.PromptID
	case *schemas.ReadRow:
		return r.PromptID
	case *schemas.FailureRow:
		if r.PromptID != nil {
			return *r.PromptID
		}
	}
	return ""
}
