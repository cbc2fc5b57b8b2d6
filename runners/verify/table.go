package verify

import (
	"context"

	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/runners/runs"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/rows"
	"coeval/schemas"
)

// A table reads a shard of one table prompt by prompt, counts its rows and checks their order.
type table[T shards.Row] struct {
	// The reader is nil for a table without a file.
	*runs.Table[T]

	path     string
	problems *problems.List
	last     T
	count    int64
	// unreadable reports that not all rows can be read in order. Then the rows of a prompt are not known.
	unreadable bool
}

// openTable opens a table. One whose file can't be opened is unreadable.
func openTable[T shards.Row](ctx context.Context, r *run, path string, isThere bool, found *problems.List) *table[T] {
	t := &table[T]{path: path, problems: found, unreadable: !isThere}
	if isThere {
		t.Table = runs.OpenTable(ctx, store.Join(r.Dir, path), t.observe)
	}
	return t
}

// Head returns the next row, nil at the end.
func (t *table[T]) Head() *T {
	if t.Table == nil {
		return nil
	}
	return t.Table.Head()
}

// observe sees every row before a prompt gets it, and the error that ended the reading.
func (t *table[T]) observe(row *T, err error) {
	if err != nil {
		t.problems.Add("%s can't be read: %v", t.path, err)
		t.unreadable = true
		return
	}
	t.count++
	if t.count > 1 && !t.unreadable {
		t.checkOrder(row)
	}
	t.last = *row
}

func (t *table[T]) checkOrder(row *T) {
	switch order := shards.Compare(&t.last, row); {
	case order > 0:
		t.problems.Add("%s: %s is out of order: it follows %s", t.path, rows.Name(row), rows.Name(&t.last))
		t.unreadable = true
	case order == 0 && !isBadLine(row):
		t.problems.Add("%s: %s occurs twice", t.path, rows.Name(row))
	}
}

// isBadLine reports whether a row is about a bad line of the input. Two bad lines may be alike.
func isBadLine[T shards.Row](row *T) bool {
	f, ok := any(row).(*schemas.FailureRow)
	return ok && f.Stage == schemas.StagePrompts
}

// of returns the rows of a prompt. The caller asks for prompts in the order of their IDs, and may use
// the rows until the next call.
func (t *table[T]) of(promptID string) []T {
	if t.Table == nil {
		return nil
	}
	return t.Of(promptID)
}

// drain reads the rest, so that all rows are counted, and closes the file.
func (t *table[T]) drain() {
	if t.Table == nil {
		return
	}
	for t.Head() != nil {
		t.Advance()
	}
	t.Close()
}
