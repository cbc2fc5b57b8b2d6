package lines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"coeval/datasets/internal/conversation"
	"coeval/schemas"
	"coeval/schemas/nesting"
)

// maxWhole bounds a file that is read at once: YAML, columns, and objects over several lines.
const maxWhole = 64 << 20

// maxLevels bounds the nesting of a YAML file, which its parser reads in 0.3 s.
const maxLevels = 10_000

// splitObjects returns the lines of a text that begins with an object. Most texts have an object in each
// line. Others are one object with the rows in a field, columns, or objects over several lines.
func splitObjects(text *bufio.Reader, limit int, isPrompt func([]byte) bool) Splitter {
	head, _ := text.Peek(bufferBytes)
	first, rest, ended := bytes.Cut(head, []byte("\n"))
	first = bytes.Trim(first, Blanks)
	plain := &lineReader{text: text, max: limit}
	switch {
	case !ended && len(head) == bufferBytes: // a long line
	case jsontext.Value(first).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)):
		if isPrompt(first) && tableRows(first, isPrompt) == nil || len(bytes.Trim(rest, Blanks)) > 0 {
			return plain
		}
	case !isOpen(first):
		return plain // no JSON
	}
	if at, ok := rowsIn(head, isPrompt); ok {
		_, _ = text.Discard(at) // it is in the buffer
		return &arrayReader{text: text, max: limit, begun: true, isPrompt: isPrompt}
	}
	if !ended && len(head) == bufferBytes && !beginsWithColumn(head) {
		return plain
	}
	return &wholeReader{text: text, max: limit, isPrompt: isPrompt}
}

// isOpen reports whether a line ends inside an object or a list, and not inside a string.
func isOpen(line []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(append(bytes.Clone(line), '\n')))
	for {
		if _, err := d.ReadToken(); err != nil {
			return errors.Is(err, io.ErrUnexpectedEOF) && d.StackDepth() > 0
		}
	}
}

// rowNames are the fields of an object that contains the rows of a file.
var rowNames = []string{
	"data", "rows", "instances", "examples", "samples", "prompts", "items", "records", "questions", "instructions", "queries", "train", "test", "validation",
	"dataset", "results", "requests", "tasks", "entries", "problems", "documents", "inputs",
}

// rowsIn returns the place after the bracket of the list of rows in an object, of which the head is given.
func rowsIn(head []byte, isPrompt func([]byte) bool) (at int, ok bool) {
	d := jsontext.NewDecoder(bytes.NewReader(head), jsontext.AllowInvalidUTF8(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return 0, false
	}
	for {
		t, err := d.ReadToken()
		if err != nil || t.Kind() != '"' {
			return 0, false
		}
		name := t.String()
		if d.PeekKind() == '{' && slices.Contains(rowNames, name) { // {"data":{"rows":[…]}}
			from := int(d.InputOffset())
			from += bytes.IndexByte(head[from:], '{')
			if inner, ok := rowsIn(head[from:], isPrompt); ok {
				return from + inner, true
			}
		}
		if d.PeekKind() == '[' {
			if name == "columns" { // of pandas, with the rows as lists of cells
				return 0, false
			}
			if _, err := d.ReadToken(); err != nil {
				return 0, false
			}
			at := int(d.InputOffset())
			if d.PeekKind() == ']' {
				_, _ = d.ReadToken()
				continue
			}
			entry, err := d.ReadValue()
			if err != nil {
				return 0, false
			}
			if isRow(name, entry, isPrompt) {
				return at, true
			}
			for d.PeekKind() != ']' {
				if d.SkipValue() != nil {
					return 0, false
				}
			}
			_, _ = d.ReadToken()
			continue
		}
		if d.SkipValue() != nil {
			return 0, false
		}
	}
}

// isRow reports whether the first entry of a list shows that the list contains the rows of a file: an object
// or a list of messages with a prompt, or in some fields a text.
func isRow(name string, entry []byte, isPrompt func([]byte) bool) bool {
	switch jsontext.Value(entry).Kind() {
	case '{':
		return isPrompt(entry)
	case '[':
		return slices.Contains(rowNames, name) && isPrompt(entry)
	case '"':
		return slices.Contains([]string{"prompts", "questions", "instructions", "queries", "instances", "rows"}, name)
	}
	return false
}

// beginsWithColumn reports whether the first field of an object is a column, as in {"prompt":["a","b"]}
// and {"prompt":{"0":"a"}}.
func beginsWithColumn(head []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(head), jsontext.AllowInvalidUTF8(true))
	for range 2 { // the bracket, and the name
		if _, err := d.ReadToken(); err != nil {
			return false
		}
	}
	open := d.PeekKind()
	if _, err := d.ReadToken(); err != nil {
		return false
	}
	switch next := d.PeekKind(); open {
	case '[':
		return next == '"' || next == '0'
	case '{':
		name, err := d.ReadToken()
		return err == nil && name.String() == "0"
	}
	return false
}

// A wholeReader returns the objects of a text that is read at once, or the rows of its only object.
type wholeReader struct {
	text     io.Reader
	yaml     bool
	max      int
	isPrompt func([]byte) bool
	read     bool
	rows     []jsontext.Value
	// broken is the error after the rows.
	broken error
	given  int64
}

// Number returns the number of the row that Next gave last.
func (w *wholeReader) Number() int64 { return w.given }

// Next returns a row.
func (w *wholeReader) Next() (line []byte, failure *schemas.Failure, err error) {
	if !w.read {
		w.read = true
		if err := w.readAll(); err != nil {
			return nil, nil, err
		}
	}
	if int(w.given) == len(w.rows) {
		if w.broken != nil {
			return nil, nil, w.broken
		}
		return nil, nil, io.EOF
	}
	row := w.rows[w.given]
	w.given++
	if len(row) > w.max {
		return nil, TooLong(w.max), nil
	}
	return row, nil, nil
}

func (w *wholeReader) readAll() error {
	all, err := io.ReadAll(io.LimitReader(w.text, maxWhole+1))
	switch {
	case err != nil:
		return err
	case len(all) > maxWhole:
		return textError("a file of this form may have %d MiB; write a JSON object a line, which may have any size", maxWhole>>20)
	case w.yaml:
		return w.readYAML(all)
	}
	d := jsontext.NewDecoder(bytes.NewReader(all), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		value, err := d.ReadValue()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.broken = textError("the file is JSON over several lines, and broken after object %d; write an object a line, or one array of objects", len(w.rows))
			break
		}
		w.rows = append(w.rows, bytes.Clone(value))
	}
	if len(w.rows) == 1 {
		w.rows, err = rowsOf(w.rows[0], w.isPrompt)
	}
	return err
}

// readYAML reads the documents of a YAML text, each a list of rows, an object with them, or a row.
func (w *wholeReader) readYAML(all []byte) error {
	if line, deep := nesting.TooDeep(string(all), maxLevels); deep {
		return textError("line %d has more than %d levels or open brackets; write JSON lines", line, maxLevels)
	}
	file, err := parser.ParseBytes(all, 0)
	if err != nil {
		return textError("the file is not valid YAML: %v", firstLine(err))
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if len(ast.Filter(ast.AliasType, doc.Body)) > 0 {
			return textError("the file has YAML aliases, which are not read; write the values out, or use JSON lines")
		}
		document, err := jsonOf(doc.Body)
		if err != nil {
			return textError("the file is not valid YAML: %v", firstLine(err))
		}
		var rows []jsontext.Value
		if document.Kind() == '[' {
			rows = valuesOf(document)
		} else if rows, err = rowsOf(document, w.isPrompt); err != nil {
			return err
		}
		w.rows = append(w.rows, rows...)
	}
	return nil
}

// jsonOf returns the values of a YAML document as JSON, in their order. NaN and infinities are null.
func jsonOf(document ast.Node) (jsontext.Value, error) {
	var value any
	if err := yaml.NodeToValue(document, &value, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return json.Marshal(value, jsonValues, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// jsonValues writes the values of a YAML document that JSON lacks.
var jsonValues = json.WithMarshalers(json.JoinMarshalers(
	json.MarshalToFunc(func(e *jsontext.Encoder, m yaml.MapSlice) error {
		if err := e.WriteToken(jsontext.BeginObject); err != nil {
			return err
		}
		for _, item := range m {
			if err := e.WriteToken(jsontext.String(fmt.Sprint(item.Key))); err != nil {
				return err
			}
			if err := json.MarshalEncode(e, item.Value); err != nil {
				return err
			}
		}
		return e.WriteToken(jsontext.EndObject)
	}),
	json.MarshalToFunc(func(e *jsontext.Encoder, f float64) error {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return e.WriteToken(jsontext.Null)
		}
		return errors.ErrUnsupported
	}),
))

func firstLine(err error) string {
	line, _, _ := bytes.Cut([]byte(err.Error()), []byte("\n"))
	return string(line)
}

// member is a field of an object, in the order of the text.
type member struct {
	name  string
	value jsontext.Value
}

func membersOf(object jsontext.Value) (members []member) {
	d := jsontext.NewDecoder(bytes.NewReader(object), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil
	}
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil
		}
		name := t.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil
		}
		members = append(members, member{name, bytes.Clone(value)})
	}
	return members
}

// rowsOf returns the rows of a file that is one object. They are the object itself if it is a prompt,
// or the entries of its list of rows, or its fields if each is a row, or the rows of its columns.
// Otherwise the object is the only row, whose failure names its fields.
func rowsOf(object jsontext.Value, isPrompt func([]byte) bool) ([]jsontext.Value, error) {
	if rows := tableRows(object, isPrompt); rows != nil {
		return rows, nil
	}
	if isPrompt(object) {
		return []jsontext.Value{object}, nil
	}
	members := membersOf(object)
	var rows []jsontext.Value
	from := ""
	for _, m := range members {
		entries := valuesOf(m.value)
		if len(entries) == 0 || m.value.Kind() != '[' || !isRow(m.name, entries[0], isPrompt) {
			continue
		}
		if rows != nil {
			return nil, twoLists(from, m.name)
		}
		rows, from = entries, m.name
	}
	if rows != nil {
		return rows, nil
	}
	if rows := keyed(members, isPrompt); rows != nil {
		return rows, nil
	}
	if rows := columns(members, isPrompt); rows != nil {
		return rows, nil
	}
	for _, m := range members { // {"data":{"rows":[…]}}
		if m.value.Kind() == '{' && slices.Contains(rowNames, m.name) {
			if inner, err := rowsOf(m.value, isPrompt); err != nil || len(inner) > 1 || isPrompt(inner[0]) {
				return inner, err
			}
		}
	}
	return []jsontext.Value{object}, nil
}

func twoLists(first, second string) error {
	return textError("the file has two lists of prompts, %.40q and %.40q; write each to a file of its own", first, second)
}

// valuesOf returns the entries of a list, or the values of an object.
func valuesOf(value jsontext.Value) (values []jsontext.Value) {
	switch value.Kind() {
	case '[':
		_ = json.Unmarshal(value, &values, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) // it is valid
	case '{':
		for _, m := range membersOf(value) {
			values = append(values, m.value)
		}
	}
	return values
}

// keyed returns the fields of an object whose fields are all rows, for example {"q1":{"prompt":"a"}}.
func keyed(members []member, isPrompt func([]byte) bool) (rows []jsontext.Value) {
	for _, m := range members {
		if m.value.Kind() != '{' || !isPrompt(m.value) {
			return nil
		}
		name, err := jsontext.AppendQuote(nil, m.name)
		if err != nil {
			return nil
		}
		row := m.value
		if !slices.ContainsFunc(membersOf(row), func(m member) bool { return m.name == "id" }) {
			row = slices.Concat([]byte(`{"id":`), name, []byte(","), row[1:])
		}
		rows = append(rows, row)
	}
	return rows
}

// tableRows returns the rows of an object in pandas's form with columns and data apart, nil for another object. A
// row of texts looks like a conversation.
func tableRows(object jsontext.Value, isPrompt func([]byte) bool) []jsontext.Value {
	members := membersOf(object)
	for _, name := range []string{"columns", "data"} {
		if !slices.ContainsFunc(members, func(m member) bool { return m.name == name && m.value.Kind() == '[' }) {
			return nil
		}
	}
	return columns(members, isPrompt)
}

// columns returns the rows of an object of columns of one length: lists, or objects with the row's number as
// pandas writes them. It also reads pandas's form with columns and data apart.
func columns(members []member, isPrompt func([]byte) bool) (rows []jsontext.Value) {
	var names []jsontext.Value
	var table [][]jsontext.Value // by row
	for _, m := range members {
		values := valuesOf(m.value)
		switch {
		case m.name == "columns" && len(values) > 0 && len(members) <= 3:
			names = values
			continue
		case m.name == "data" && names != nil:
			table = nil
			for _, row := range values {
				if table = append(table, valuesOf(row)); len(table[len(table)-1]) != len(names) {
					return nil
				}
			}
			return assemble(names, table, isPrompt)
		case m.name == "index" && names != nil:
			continue
		case len(values) == 0 || table != nil && len(values) != len(table):
			return nil
		}
		if table == nil {
			table = make([][]jsontext.Value, len(values))
		}
		for i, v := range values {
			table[i] = append(table[i], v)
		}
	}
	for _, m := range members {
		name, err := jsontext.AppendQuote(nil, m.name)
		if err != nil {
			return nil
		}
		names = append(names, name)
	}
	return assemble(names, table, isPrompt)
}

// assemble returns the rows of a table as objects, nil if the first is no prompt.
func assemble(names []jsontext.Value, table [][]jsontext.Value, isPrompt func([]byte) bool) (rows []jsontext.Value) {
	for _, cells := range table {
		row := jsontext.Value("{")
		for i, cell := range cells {
			if i > 0 {
				row = append(row, ',')
			}
			row = append(append(append(row, names[i]...), ':'), cell...)
		}
		row = append(row, '}')
		if len(rows) == 0 && !isPrompt(row) {
			return nil
		}
		rows = append(rows, row)
	}
	return rows
}

// checkRest reads the rest of an object after its list of rows. It returns io.EOF if no other list has
// prompts.
func checkRest(text io.Reader, isPrompt func([]byte) bool) error {
	rest, err := io.ReadAll(io.LimitReader(text, maxWhole))
	if err != nil {
		return err
	}
	if len(bytes.Trim(rest, Blanks)) == 0 {
		return textError("the JSON object around the rows has no end: the file is cut off")
	}
	for _, m := range membersOf(slices.Concat([]byte(`{"":0`), rest)) {
		if entries := valuesOf(m.value); m.value.Kind() == '[' && len(entries) > 0 && isRow(m.name, entries[0], isPrompt) {
			return twoLists("the first", m.name)
		}
	}
	return io.EOF
}

// A plainReader returns the lines of a plain text as JSON strings: each is a prompt.
type plainReader struct{ *lineReader }

// Next returns a line.
func (p plainReader) Next() (line []byte, failure *schemas.Failure, err error) {
	line, failure, err = p.lineReader.Next()
	line = bytes.TrimSpace(line)
	if failure != nil || err != nil || len(line) == 0 {
		return nil, failure, err
	}
	if p.given == 1 && line[0] == '{' && jsontext.Value(line).IsValid() {
		return nil, nil, textError("the file has JSON lines; rename it to .jsonl, since each line of a .txt file is a prompt as it is")
	}
	quoted, err := jsontext.AppendQuote(nil, line)
	if err != nil {
		return nil, bad(conversation.InvalidUTF8, "the line is not valid UTF-8"), nil //nolint:nilerr // the failure has it
	}
	return quoted, nil, nil
}

// hasListInEachLine reports whether a text that begins with a list has one in each line, instead of one array.
func hasListInEachLine(text *bufio.Reader) bool {
	head, _ := text.Peek(bufferBytes)
	first, rest, _ := bytes.Cut(bytes.TrimLeft(head, Blanks), []byte("\n"))
	rest = bytes.TrimLeft(rest, Blanks)
	return len(rest) > 0 && rest[0] == '[' && jsontext.Value(bytes.Trim(first, Blanks)).IsValid(jsontext.AllowDuplicateNames(true))
}
