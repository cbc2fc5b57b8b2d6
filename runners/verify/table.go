package verify

import (
	"context"
	"errors"
	"iter"

	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/schemas"
)

// A table reads a shard of one table, prompt by prompt.
type table[T shards.Row] struct {
	path  string
	notes *notes
	next  func() (*T, error, bool)
	stop  func()
	// head is the row that was read last and not yet given out; nil at the end.
	head *T
	last T
	rows int64
	// torn says that not all rows can be read in their order: what a prompt has is not known.
	torn  bool
	group []T
}

// openTable reads the first row. A table whose file could not be opened before is torn.
func openTable[T shards.Row](ctx context.Context, r *run, path string, there bool, found *notes) *table[T] {
	t := &table[T]{path: path, notes: found, torn: !there, stop: func() {}}
	if there {
		t.next, t.stop = iter.Pull2(rowsOf[T](ctx, store.Join(r.dir, path)))
		t.advance()
	}
	return t
}

var errEnough = errors.New("enough rows")

// rowsOf gives the rows of a file, and after them the error that ended the reading. A row
// holds until the next one.
func rowsOf[T shards.Row](ctx context.Context, name string) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		err := shards.ReadTable(ctx, name, func(row *T) error {
			if !yield(row, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(nil, err)
		}
	}
}

// advance reads the next row into head.
func (t *table[T]) advance() {
	row, err, ok := t.next()
	if err != nil {
		t.notes.add("%s can't be read: %v", t.path, err)
		t.torn = true
	}
	t.head = row
	if !ok || row == nil {
		return
	}
	t.rows++
	if t.rows > 1 && !t.torn {
		t.checkOrder()
	}
	t.last = *row
}

func (t *table[T]) checkOrder() {
	switch order := shards.Compare(&t.last, t.head); {
	case order > 0:
		t.notes.add("%s: %s is out of order: it stands after %s", t.path, nameRow(t.head), nameRow(&t.last))
		t.torn = true
	case order == 0 && !isBadLine(t.head):
		t.notes.add("%s: %s is there twice", t.path, nameRow(t.head))
	}
}

// isBadLine says whether a row is a bad line of the input, of which nothing says that it is one of its kind.
func isBadLine[T shards.Row](row *T) bool {
	f, ok := any(row).(*schemas.FailureRow)
	return ok && f.Stage == schemas.StagePrompts
}

// of returns the rows of a prompt. Prompts are asked for in the order of their IDs. The rows
// hold until the next call.
func (t *table[T]) of(promptID string) []T {
	clear(t.group)
	t.group = t.group[:0]
	for t.head != nil && promptOf(t.head) == promptID {
		t.group = append(t.group, *t.head)
		t.advance()
	}
	return t.group
}

// drain reads all rows that are left, so that they are counted, and closes the file.
func (t *table[T]) drain() {
	for t.head != nil {
		t.advance()
	}
	t.stop()
}

// row is the spot of a row.
func (t *table[T]) row(notes *notes, row *T) spot {
	return spot{notes: notes, file: t.path, what: nameRow(row)}
}

// prompt is the spot of what the table holds of a prompt.
func (t *table[T]) prompt(notes *notes, id string) spot {
	return spot{notes: notes, file: t.path, what: "prompt " + id}
}

// promptOf returns the ID of the prompt that a row belongs to, empty for a bad line.
func promptOf[T shards.Row](row *T) string {
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
	case *schemas.FailureRow:
		return text(r.PromptID)
	}
	return ""
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
