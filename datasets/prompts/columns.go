package prompts

import (
	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"coeval/schemas"
)

// A column is a field of a Parquet schema as JSON has it: a leaf, an object, or a list of
// either. What only Parquet knows becomes what JSON has: a date, a time stamp and a UUID
// their usual text; a decimal a number; bytes that are not text base64; NaN and infinities null.
type column struct {
	name string
	key  []byte // name as JSON, with the colon
	// optional says that it may be null, below definition level def; repeated that it is a
	// list, which is empty below def, with items that begin at repetition level rep.
	optional, repeated bool
	rep, def           int
	// wrapped says that the value is that of the only child, as in the groups of a LIST.
	wrapped  bool
	children []*column
	// leaf is set for a column with values; its leaves, or those below it, are the columns
	// from lo to hi of a row.
	leaf   func(b []byte, v parquet.Value) ([]byte, bool)
	lo, hi int
}

// values are those of a row's leaves, in the columns' order.
type values [][]parquet.Value

func newRoot(schema *parquet.Schema) *column {
	root := &column{}
	for _, field := range schema.Fields() {
		root.add(field)
	}
	return root
}

// add adds a field with all below it.
func (c *column) add(field parquet.Field) {
	key, _ := jsontext.AppendQuote(nil, field.Name()) // what is not UTF-8 becomes the replacement character
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

// encode returns a row as a JSON object.
func (c *column) encode(b []byte, row parquet.Row) ([]byte, *schemas.Failure) {
	leaves := make(values, c.hi)
	for i, v := range row.Range {
		if i < len(leaves) {
			leaves[i] = v
		}
	}
	b, badColumn := c.appendObject(b, leaves)
	if badColumn != "" {
		return b, bad(InvalidUTF8, "column %s is not valid UTF-8", shorten(badColumn))
	}
	return b, nil
}

// The append functions append the JSON of what leaves hold of the column, and return the
// name of the first column that is not valid UTF-8, if any.

func (c *column) append(b []byte, leaves values) ([]byte, string) {
	switch defined := c.defined(leaves); {
	case c.repeated && !defined:
		return append(b, "[]"...), ""
	case c.repeated:
		return c.appendItems(b, leaves)
	case !defined:
		return append(b, "null"...), ""
	}
	return c.appendOne(b, leaves)
}

// defined says whether the column, and all that it is in, has a value.
func (c *column) defined(leaves values) bool {
	if c.lo >= c.hi || len(leaves[c.lo]) == 0 {
		return false
	}
	return leaves[c.lo][0].DefinitionLevel() >= c.def
}

func (c *column) appendItems(b []byte, leaves values) ([]byte, string) {
	item := make(values, len(leaves))
	rest := append(values(nil), leaves...)
	b = append(b, '[')
	for i := 0; len(rest[c.lo]) > 0; i++ {
		if i > 0 {
			b = append(b, ',')
		}
		for at := c.lo; at < c.hi; at++ {
			end := min(1, len(rest[at]))
			for end < len(rest[at]) && rest[at][end].RepetitionLevel() > c.rep {
				end++
			}
			item[at], rest[at] = rest[at][:end], rest[at][end:]
		}
		var badColumn string
		if b, badColumn = c.appendOne(b, item); badColumn != "" {
			return b, badColumn
		}
	}
	return append(b, ']'), ""
}

func (c *column) appendOne(b []byte, leaves values) ([]byte, string) {
	switch {
	case c.wrapped:
		return c.children[0].append(b, leaves)
	case c.leaf == nil:
		return c.appendObject(b, leaves)
	}
	b, ok := c.leaf(b, leaves[c.lo][0])
	if !ok {
		return b, c.name
	}
	return b, ""
}

func (c *column) appendObject(b []byte, leaves values) ([]byte, string) {
	b = append(b, '{')
	for i, child := range c.children {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, child.key...)
		var badColumn string
		if b, badColumn = child.append(b, leaves); badColumn != "" {
			return b, badColumn
		}
	}
	return append(b, '}'), ""
}
