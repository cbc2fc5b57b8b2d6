// Package parquetjson converts a row of a Parquet file to the JSON object that a .jsonl file would contain for it.
//
// Dates, timestamps and UUIDs become their usual text, decimals become numbers, and binary data becomes
// base64. NaN and infinities become null.
package parquetjson

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"coeval/schemas/sanitize"
)

// A column is a field of a Parquet schema as JSON has it: a leaf, an object, or a list of
// either.
type column struct {
	name string
	key  []byte // name as JSON, with the colon
	// An optional column is null below definition level def. A repeated column is a list: it is empty
	// below def, and its items begin at repetition level rep.
	optional, repeated bool
	rep, def           int
	// wrapped is true if the value is the value of the only child, as in the groups of a LIST.
	wrapped  bool
	children []*column
	// leaf is set for a column with values; its leaves, or those below it, are the columns
	// from lo to hi of a row.
	leaf   func(b []byte, v parquet.Value) ([]byte, bool)
	lo, hi int
	// needed reports whether the column, of those at the top, may be part of the prompt.
	needed bool
}

// values are the values of a row's leaves, in the columns' order.
type values [][]parquet.Value

// newRoot returns the columns of a schema.
func newRoot(schema *parquet.Schema, isNeeded func(name string) bool) *column {
	root := &column{}
	for _, field := range schema.Fields() {
		root.add(field)
	}
	for _, child := range root.children {
		child.needed = isNeeded(child.name)
	}
	return root
}

// add adds a field with all below it.
func (c *column) add(field parquet.Field) {
	key, _ := jsontext.AppendQuote(nil, field.Name()) // bytes that are not UTF-8 become the replacement character
	child := &column{
		name: field.Name(), key: append(key, ':'),
		optional: field.Optional(), repeated: field.Repeated(),
		rep: c.rep, def: c.def, lo: c.hi, hi: c.hi,
	}
	if child.optional || child.repeated {
		child.def++
	}
	if child.repeated {
		child.rep++
	}
	c.children = append(c.children, child)
	if field.Leaf() {
		child.leaf = newLeaf(field.Type())
		child.hi++
	} else {
		for _, below := range field.Fields() {
			child.add(below)
		}
		child.unwrap(field)
	}
	c.hi = child.hi
}

// unwrap makes of a LIST, which Parquet has as a group of a repeated group of an item, the
// list that is meant, and of a MAP the list of its keys and values. Old writers leave out a
// LIST's inner group: then the repeated column is the item.
func (c *column) unwrap(field parquet.Field) {
	logical := field.Type().LogicalType()
	if logical == nil || len(c.children) != 1 || !c.children[0].repeated {
		return
	}
	items := c.children[0]
	switch logical.Value.(type) {
	case *format.ListType:
		c.wrapped = true
		items.wrapped = items.leaf == nil && len(items.children) == 1
	case *format.MapType:
		c.wrapped = true
	}
}

// An Encoder writes rows of one schema as JSON up to a limit.
type Encoder struct {
	root  *column
	b     []byte
	limit int
	// full reports whether the limit was reached, which ends the encoding of a column.
	full bool
	// invalid is the first column that is not valid UTF-8, if any.
	invalid string
	// left are the columns that were left out of the row.
	left []string
}

// NewEncoder returns an encoder of rows that are at most limit bytes of JSON. Needed reports whether a
// column must not be left out.
func NewEncoder(schema *parquet.Schema, needed func(name string) bool, limit int) *Encoder {
	return &Encoder{root: newRoot(schema, needed), limit: limit}
}

// value appends the JSON of the values that leaves have of a column.
func (e *Encoder) value(c *column, leaves values) {
	switch defined := c.defined(leaves); {
	case c.repeated && !defined:
		e.b = append(e.b, "[]"...)
	case c.repeated:
		e.items(c, leaves)
	case !defined:
		e.b = append(e.b, "null"...)
	default:
		e.one(c, leaves)
	}
}

// defined reports whether the column, and all that it is in, has a value.
func (c *column) defined(leaves values) bool {
	if c.lo >= c.hi || len(leaves[c.lo]) == 0 {
		return false
	}
	return leaves[c.lo][0].DefinitionLevel() >= c.def
}

func (e *Encoder) items(c *column, leaves values) {
	item := make(values, len(leaves))
	rest := append(values(nil), leaves...)
	e.b = append(e.b, '[')
	for i := 0; len(rest[c.lo]) > 0 && e.invalid == ""; i++ {
		if e.full = e.full || len(e.b) > e.limit; e.full {
			return
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		for at := c.lo; at < c.hi; at++ {
			end := min(1, len(rest[at]))
			for end < len(rest[at]) && rest[at][end].RepetitionLevel() > c.rep {
				end++
			}
			item[at], rest[at] = rest[at][:end], rest[at][end:]
		}
		e.one(c, item)
	}
	e.b = append(e.b, ']')
}

func (e *Encoder) one(c *column, leaves values) {
	switch {
	case c.wrapped:
		e.value(c.children[0], leaves)
	case c.leaf == nil:
		e.object(c, leaves)
	default:
		v := leaves[c.lo][0]
		if kind := v.Kind(); (kind == parquet.ByteArray || kind == parquet.FixedLenByteArray) && len(e.b)+len(v.ByteArray()) > e.limit {
			e.full = true
			return
		}
		var ok bool
		if e.b, ok = c.leaf(e.b, v); !ok && e.invalid == "" {
			e.invalid = c.name
		}
	}
}

func (e *Encoder) object(c *column, leaves values) {
	e.b = append(e.b, '{')
	for i, child := range c.children {
		if e.full || e.invalid != "" {
			return
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = append(e.b, child.key...)
		e.value(child, leaves)
	}
	e.b = append(e.b, '}')
}

// ErrTooLarge reports a row that is too large even without the columns that are not needed.
var ErrTooLarge = errors.New("the row is too large")

// Row returns the JSON of a row, good until the next call. Columns that are not needed are left out, and
// named in left, where the row would be too large with them. The error is [ErrTooLarge], or names a column
// that is not valid UTF-8.
func (e *Encoder) Row(row parquet.Row) (line []byte, left []string, err error) {
	leaves := make(values, e.root.hi)
	for i, v := range row.Range {
		if i < len(leaves) {
			leaves[i] = v
		}
	}
	e.b, e.left = append(e.b[:0], '{'), e.left[:0]
	for _, needed := range []bool{true, false} {
		for _, child := range e.root.children {
			if child.needed != needed {
				continue
			}
			start := len(e.b)
			e.invalid, e.full = "", false
			if start > 1 {
				e.b = append(e.b, ',')
			}
			e.b = append(e.b, child.key...)
			e.value(child, leaves)
			e.full = e.full || len(e.b) >= e.limit
			switch {
			case e.invalid != "":
				return nil, nil, fmt.Errorf("column %s is not valid UTF-8", sanitize.Line(e.invalid))
			case e.full && needed:
				return nil, nil, ErrTooLarge
			case e.full:
				e.b = e.b[:start]
				e.left = append(e.left, child.name)
			}
		}
	}
	e.b = append(e.b, '}')
	return e.b, e.left, nil
}
