package runs

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"coeval/datasets/shards"
)

// A table gives the rows of a file prompt by prompt.
type table[C any] struct {
	path   string
	prompt func(*C) string
	next   func() (*C, error, bool)
	stop   func()
	// head is the row that was read last and not given yet; nil at the end and after err.
	head  *C
	err   error
	group []C
}

var errEnough = errors.New("enough rows")

func openTable[T shards.Row, C any](ctx context.Context, path string, prompt func(*C) string) *table[C] {
	t := &table[C]{path: path, prompt: prompt}
	t.next, t.stop = iter.Pull2(func(yield func(*C, error) bool) {
		err := shards.ReadColumns[T](ctx, path, func(row *C) error {
			if !yield(row, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(nil, err)
		}
	})
	t.advance()
	return t
}

func (t *table[C]) advance() {
	row, err, ok := t.next()
	t.head = nil
	switch {
	case err != nil:
		t.err = err
	case ok:
		t.head = row
	}
}

// of returns the rows of a prompt; prompts are asked for in the order of their IDs. The rows
// hold until the next call.
func (t *table[C]) of(promptID string) []C {
	t.group = t.group[:0]
	for t.head != nil && t.prompt(t.head) == promptID {
		t.group = append(t.group, *t.head)
		t.advance()
	}
	return t.group
}

// end returns what is wrong with the rest: rows that are left are of a prompt that is not there,
// or out of order.
func (t *table[C]) end() error {
	if t.err != nil {
		return t.err
	}
	if t.head != nil {
		return fmt.Errorf("%s has a row of prompt %s that is out of order or of a prompt that raw/prompts lacks; coeval verify tells more", t.path, t.prompt(t.head))
	}
	return nil
}
