// Package prompts reads the prompts of a run from files.
//
// It reads the kinds of files below. In this package a line is one entry of a file. It is a line of text, an element
// of an array, or a row of a table.
//
//	.jsonl .ndjson .json    one JSON object, string or list of messages per line, or one array of them.
//	                        A file may also be one object: with a list of rows, {"data":[…]}; with
//	                        columns, {"prompt":["a","b"]}; or with one field for each row,
//	                        {"1":{"prompt":"a"}}. An object may span several lines of text, up to 64 MiB
//	.csv .tsv               a table with a header
//	.txt                    one prompt per line, unchanged
//	.yaml .yml              a list of objects or strings, or one object as in JSON; at most 64 MiB
//	.parquet                rows, with any compression except LZ4 and LZO
//
// All names except those of Parquet files may also end in .gz or .zst. A text in UTF-16 needs a byte order
// mark.
//
// [ReadFile] returns a prompt for each line, or a failure with the reason. A bad line never ends the
// reading. [ScanFiles] reads all files once before a run. It counts lines, reports how they were read,
// and decides which prompts a limit, a sample and a slice contain.
//
// Package conversation decides which fields make a prompt. All other fields are the prompt's
// metadata: a compact JSON object with sorted keys, which is not part of any ID.
//
// Lines are numbered from 1. Blank lines are numbered but do not count as prompts. A line with text that is
// not valid UTF-8 is bad.
//
// The package promises that a file always gives the same lines, and that reading takes a bounded
// amount of memory. It does not merge equal prompts: both get the same ID.
package prompts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"coeval/datasets/internal/conversation"
	"coeval/datasets/internal/lines"
	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// The codes of a bad line.
const (
	// BadJSON is a line that is not a JSON object, or names a field twice.
	BadJSON = conversation.BadJSON
	// InvalidUTF8 is a line with bytes that are not UTF-8, or half of a surrogate pair.
	InvalidUTF8 = conversation.InvalidUTF8
	// TooLarge is a line above the limit.
	TooLarge = lines.TooLarge
	// BadRow is a row of a table that has not as many cells as the header, or a stray quote.
	BadRow = lines.BadRow
	// NoPrompt is a line without a field that has a prompt, or with several candidates.
	NoPrompt = conversation.NoPrompt
	// BadRole is a message whose role is not known.
	BadRole = conversation.BadRole
	// EmptyPrompt is a prompt without messages, or with a blank one.
	EmptyPrompt = conversation.EmptyPrompt
	// LastNotUser is a conversation that does not end with the user.
	LastNotUser = conversation.LastNotUser
)

// DefaultMaxLineBytes is the size above which a line is bad: 1 MiB.
const DefaultMaxLineBytes = 1 << 20

// Options configure the reading of a line.
type Options struct {
	// Field is the path of the prompt, for example text or body.messages. Empty means that the reader
	// finds it.
	Field string `json:"field,omitempty"`
	// IDField has the prompt's own ID. Empty means that it is found by itself.
	IDField string `json:"id_field,omitempty"`
	// DropLastAnswer is one of AutoDrop, AlwaysDrop and NeverDrop. Empty means AutoDrop.
	DropLastAnswer string `json:"drop_last_answer,omitempty"`
	// MaxLineBytes is the largest line that is read, in Parquet the largest row as JSON. A
	// larger one is passed over without being kept in memory. Zero means DefaultMaxLineBytes.
	MaxLineBytes int `json:"max_line_bytes,omitempty"`
}

// The treatment of an answer at the end of a conversation.
const (
	// AutoDrop leaves it out, and a scan reports how often.
	AutoDrop = "auto"
	// AlwaysDrop leaves it out.
	AlwaysDrop = "always"
	// NeverDrop makes the line bad.
	NeverDrop = "never"
)

// DropModes are the values of Options.DropLastAnswer.
func DropModes() []string { return []string{AutoDrop, AlwaysDrop, NeverDrop} }

// A File is a file of prompts, or the first lines of one.
type File struct {
	Path string `json:"path"`
	// LastLine is the number of the last line that is read. Zero means all.
	LastLine int64 `json:"last_line,omitempty"`
}

// A Reading reports how a line was read.
type Reading = conversation.Reading

// A Line is the content of a line of a file.
type Line struct {
	// Prompt is set unless Bad is.
	Prompt schemas.Prompt
	// Reading reports how Prompt was read.
	Reading Reading
	// Bad is the reason why there is no prompt; its stage is prompts.
	Bad *schemas.Failure
}

// Number returns the line's number in its file.
func (l *Line) Number() int64 {
	if l.Bad != nil {
		return l.Bad.Line
	}
	return l.Prompt.Line
}

// ReadFile gives every line of a file that is not blank to each, in order. An error of each ends the
// reading and is returned as it is. A file is an error if it is damaged, cut off inside a compressed
// part, or of another kind than its ending. The error names file and place.
func ReadFile(ctx context.Context, f File, o Options, each func(line Line) error) (err error) {
	kind, compression, ok := kindOf(f.Path)
	if !ok {
		return refused(f.Path)
	}
	o.MaxLineBytes = cmp.Or(o.MaxLineBytes, DefaultMaxLineBytes)
	r, err := store.Open(ctx, f.Path)
	if err != nil {
		return fmt.Errorf("prompts: %w", err)
	}
	defer func() {
		if closeErr := r.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	if isPointer(r, r.Size()) {
		return fmt.Errorf("prompts: %s: the file is a pointer of Git LFS without the data; fetch the data with git lfs pull", show(f.Path))
	}
	if kind == parquetKind {
		return readParquet(ctx, r, r.Size(), f, o, each)
	}
	text, err := lines.Decompress(r.Stream(0), compression)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", show(f.Path), err)
	}
	defer func() {
		if closeErr := text.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	return readText(ctx, text, kind, f, o, each)
}

// isPointer reports whether a file is what Git LFS leaves in place of a file that it has not fetched.
func isPointer(r io.ReaderAt, size int64) bool {
	const (
		beginning = "version https://git-lfs.github.com/spec/"
		largest   = 1024 // by the specification
	)
	if size < int64(len(beginning)) || size >= largest {
		return false
	}
	head := make([]byte, len(beginning))
	_, err := r.ReadAt(head, 0)
	return err == nil && string(head) == beginning
}

// Text returns the text of a file of lines. The file's ending names the compression. A file of another
// kind is an error.
func Text(r io.Reader, path string) (io.ReadCloser, error) {
	kind, compression, ok := kindOf(path)
	if !ok || kind == parquetKind || rank(kind) > 0 {
		return nil, fmt.Errorf("prompts: %s: files of this kind can't be read; supported are .jsonl, .ndjson, .json, each also with .gz or .zst", show(path))
	}
	text, err := lines.Decompress(r, compression)
	if err != nil {
		return nil, fmt.Errorf("prompts: %s: %w", show(path), err)
	}
	return text, nil
}

// Parse makes a prompt, without its place, of a line with a JSON object, or returns the reason
// why it is none. Fields that are not its own are in its metadata.
func Parse(line []byte, o Options) (schemas.Prompt, *schemas.Failure) {
	prompt, _, failure := parse(line, o)
	return prompt, failure
}

func parse(line []byte, o Options) (schemas.Prompt, Reading, *schemas.Failure) {
	return conversation.Parse(line, conversation.Options{Field: o.Field, IDField: o.IDField, KeepAnswer: o.DropLastAnswer == NeverDrop})
}

// show makes a path harmless in a message.
func show(path string) string { return sanitize.Line(path) }

// give parses a line and hands it on with its place. A line that is bad before it can be
// parsed comes as its failure; unused are fields that were left out before.
func give(f File, number int64, data []byte, failure *schemas.Failure, unused []string, o Options, each func(line Line) error) error {
	var line Line
	if failure == nil {
		line.Prompt, line.Reading, failure = parse(data, o)
	}
	if failure != nil {
		failure.File, failure.Line = f.Path, number
		return each(Line{Bad: failure})
	}
	line.Reading.Unused = append(line.Reading.Unused, unused...)
	line.Prompt.File, line.Prompt.Line = f.Path, number
	return each(line)
}
