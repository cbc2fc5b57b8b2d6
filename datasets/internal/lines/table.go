package lines

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"coeval/datasets/internal/conversation"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// A table splits CSV or TSV into rows, each as the JSON object that it would be in a line.
type table struct {
	rows   *csv.Reader
	input  *meter
	header []string
	max    int
	given  int64
	buf    []byte
}

// newTable reads the header of a table.
func newTable(text *bufio.Reader, kind string, limit int) (*table, error) {
	t := &table{max: limit, input: &meter{text: text}}
	t.rows = csv.NewReader(t.input)
	t.rows.ReuseRecord = true
	t.rows.FieldsPerRecord = -1 // Next reports rows of another length
	if t.rows.Comma = ','; kind == ".tsv" {
		t.rows.Comma = '\t'
		t.rows.LazyQuotes = true // in most TSV a quote is a plain character
	} else if semicolons(text) {
		t.rows.Comma = ';'
	}
	t.allow()
	header, err := t.rows.Read()
	if errors.Is(err, io.EOF) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("its header can't be read: %w", err)
	}
	seen := map[string]bool{}
	for _, name := range header {
		name = strings.TrimSpace(name)
		if seen[name] && name != "" {
			return nil, fmt.Errorf("column %s is there twice; rename one", sanitize.Line(name))
		}
		seen[name] = true
		t.header = append(t.header, name)
	}
	return t, nil
}

// semicolons reports whether a header has semicolons between its names, as spreadsheets
// write it where the comma is in numbers.
func semicolons(text *bufio.Reader) bool {
	const enough = 4 << 10
	head, _ := text.Peek(enough)
	head, _, _ = bytes.Cut(head, []byte("\n"))
	return bytes.ContainsRune(head, ';') && !bytes.ContainsRune(head, ',')
}

// Number returns the number of the line that Next gave last.
func (t *table) Number() int64 { return t.given }

// Next returns a row as a JSON object. Columns without a name, and cells beyond the limit, are
// left out of it.
func (t *table) Next() (line []byte, failure *schemas.Failure, err error) {
	t.allow()
	row, err := t.rows.Read()
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil, err
	case errors.As(err, &parse) && !errors.Is(err, ErrText):
		t.given++
		return nil, bad(BadRow, "the row from line %d on has a quote where none may be: %v", parse.StartLine, parse.Err), nil
	case err != nil:
		return nil, nil, err
	}
	t.given++
	if len(row) != len(t.header) {
		if len(row) == 1 && strings.TrimSpace(row[0]) == "" {
			return nil, nil, nil
		}
		return nil, bad(BadRow, "the row has %d cells, the header %d", len(row), len(t.header)), nil
	}
	t.buf = append(t.buf[:0], '{')
	for i, cell := range row {
		if t.header[i] == "" {
			continue
		}
		if len(t.buf) > 1 {
			t.buf = append(t.buf, ',')
		}
		if !t.appendField(t.header[i], cell) {
			return nil, bad(conversation.InvalidUTF8, "column %s is not valid UTF-8", sanitize.Line(t.header[i])), nil
		}
		if len(t.buf) > t.max {
			return nil, TooLong(t.max), nil
		}
	}
	t.buf = append(t.buf, '}')
	return t.buf, nil, nil
}

// appendField adds "name":"value" to the row's object. It reports false if either is not valid UTF-8.
func (t *table) appendField(name, value string) bool {
	var err error
	if t.buf, err = jsontext.AppendQuote(t.buf, name); err != nil {
		return false
	}
	t.buf, err = jsontext.AppendQuote(append(t.buf, ':'), value)
	return err == nil
}

// allow lets the next row have twice the limit, since each quote in a cell is doubled, and the bytes
// that the reader has read ahead.
func (t *table) allow() { t.input.left = 2*t.max + 2*bufferBytes }

// A meter ends a row that is too large, for example after a quote that nothing closes.
type meter struct {
	text io.Reader
	left int
}

// Read reads on within the row's limit.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, textError("a row is larger than prompts.max_line_bytes; a quote may not be closed")
	}
	n, err := m.text.Read(p)
	m.left -= n
	return n, err
}
