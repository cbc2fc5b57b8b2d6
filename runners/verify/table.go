package verify

import (
	"context"

	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/runners/runs"
	"coeval/schemas"
)

// A table reads a shard of one table prompt by prompt, counts its rows and checks their order.
type table[T shards.Row] struct {
	// The reader is nil for a table without a file.
	*runs.Table[T]

	path     string
	problems *problems
	last     T
	rows     int64
	// torn: not all rows can be read in their order, so that the rows of a prompt are not known.
	torn bool
}

// openTable opens a table. One whose file can't be opened is torn.
func openTable[T shards.Row](ctx context.Context, r *run, path string, isThere bool, found *problems) *table[T] {
	t := &table[T]{path: path, problems: found, torn: !isThere}
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
		t.problems.add("%s can't be read: %v", t.path, err)
		t.torn = true
		return
	}
	t.rows++
	if t.rows > 1 && !t.torn {
		t.checkOrder(row)
	}
	t.last = *row
}

func (t *table[T]) checkOrder(row *T) {
	switch order := shards.Compare(&t.last, row); {
	case order > 0:
		t.problems.add("%s: %s is out of order: it follows %s", t.path, nameRow(row), nameRow(&t.last))
		t.torn = true
	case order == 0 && !isBadLine(row):
		t.problems.add("%s: %s occurs twice", t.path, nameRow(row))
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

// row returns the location of a row.
func (t *table[T]) row(problems *problems, row *T) location {
	return location{problems: problems, file: t.path, what: nameRow(row)}
}

// prompt returns the location of a prompt's rows.
func (t *table[T]) prompt(problems *problems, id string) location {
	return location{problems: problems, file: t.path, what: "prompt " + id}
}

func nameRow[T shards.Row](row *T) string {
	id := ""
	switch r := any(row).(type) {
	case *schemas.Pair:
		id = r.ID
	case *schemas.PromptRow:
		id = r.ID
	case *schemas.ResponseRow:
		id = r.ID
	case *schemas.JudgmentRow:
		id = r.ID
	case *schemas.ComparisonRow:
		id = r.ID
	case *schemas.ReadRow:
		id = r.ID
	case *schemas.FailureRow:
		return nameFailure(r)
	}
	return "row " + id
}

// text returns the empty string for null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// nullable returns null for the empty string.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
