// Package prompts reads the prompts of a run from files.
//
// A file holds one prompt a line as a JSON object (.jsonl, .ndjson or .json, each also with
// .gz or .zst), or one a row in Parquet (.parquet, with any compression but LZ4). [ReadFile]
// gives each line as a prompt or as the failure that says why it is none; a bad line never
// ends the reading. [ScanFiles] reads everything once before a run: it counts, finds the lines
// that a limit leaves, and decides which prompts a sample holds.
//
// A prompt is one field: a string, which becomes one user message; or a list of messages,
// each {role, content} with the roles system, user and assistant, or {from, value} with
// human or user, gpt or assistant, and system. The first of the fields prompt, messages,
// instruction, question and conversations that holds a string or a list is taken, line by
// line. An instruction is followed by the field input, after a blank line, if that is a
// string with something in it. The last message must be the user's, and none may be blank.
//
// The first of the fields id, uid, uuid, prompt_id and question_id that holds a number or a
// string is the prompt's own ID. All other fields are its metadata: a JSON object, compact,
// with sorted keys, no part of any ID.
//
// A line is numbered from 1, in Parquet a row. Blank lines have a number but are not counted.
// All text is valid UTF-8; a line in which some is not is bad.
//
// The package promises that a file gives the same lines however often and wherever it is
// read. It does not merge equal prompts: it gives the same ID to both.
package prompts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"coeval/datasets/store"
	"coeval/schemas"
)

// The codes of a bad line.
const (
	// BadJSON is a line that is not a JSON object, or names a field twice.
	BadJSON = "bad_json"
	// InvalidUTF8 is a line with bytes that are not UTF-8, or half of a surrogate pair.
	InvalidUTF8 = "invalid_utf8"
	// TooLarge is a line above the limit.
	TooLarge = "too_large"
	// NoPrompt is a line without a field that holds a prompt.
	NoPrompt = "no_prompt"
	// BadRole is a message whose role is not known.
	BadRole = "bad_role"
	// EmptyPrompt is a prompt without messages, or with a blank one.
	EmptyPrompt = "empty_prompt"
	// LastNotUser is a conversation that does not end with the user.
	LastNotUser = "last_not_user"
)

// DefaultMaxLineBytes is the size above which a line is bad: 1 MiB.
const DefaultMaxLineBytes = 1 << 20

// Options say how a line is read.
type Options struct {
	// Field holds the prompt. Empty means that it is found by itself.
	Field string `json:"field,omitempty"`
	// IDField holds the prompt's own ID. Empty means that it is found by itself.
	IDField string `json:"id_field,omitempty"`
	// MaxLineBytes is the largest line that is read, in Parquet the largest row as JSON. A
	// larger one is passed over without being held in memory. Zero means DefaultMaxLineBytes.
	MaxLineBytes int `json:"max_line_bytes,omitempty"`
}

// A File is a file of prompts, or the first lines of one.
type File struct {
	Path string `json:"path"`
	// LastLine is the number of the last line that is read. Zero means all.
	LastLine int64 `json:"last_line,omitempty"`
}

// A Line is what a line of a file holds.
type Line struct {
	// Prompt is set unless Bad is.
	Prompt schemas.Prompt
	// Bad says why there is no prompt; its stage is prompts.
	Bad *schemas.Failure
}

// Number returns the line's number in its file.
func (l *Line) Number() int64 {
	if l.Bad != nil {
		return l.Bad.Line
	}
	return l.Prompt.Line
}

// kinds are the endings of the files that can be read.
var kinds = []string{".jsonl", ".ndjson", ".json", ".parquet"}

// Expand returns the files that are meant by paths, each a file, a folder or a pattern,
// sorted and each once. A folder or pattern stands for those of its files that can be read,
// without subfolders. A path that stands for nothing that can be read is an error.
func Expand(ctx context.Context, paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("prompts: no file is given")
	}
	var all []string
	for _, path := range paths {
		found, err := store.Find(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("prompts: %w", err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("prompts: %s: there is no such file, or no file in it", path)
		}
		before := len(all)
		for _, f := range found {
			if _, _, ok := kindOf(f.Path); ok {
				all = append(all, store.Join(f.Path))
			}
		}
		if len(all) == before {
			return nil, fmt.Errorf("prompts: %s: no file that can be read; supported are %s, and all but the last with .gz or .zst",
				path, strings.Join(kinds, ", "))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// kindOf splits a path's ending into one of kinds and how the file is compressed.
func kindOf(path string) (kind, compression string, ok bool) {
	path = strings.ToLower(path)
	for _, ending := range []string{".gz", ".zst"} {
		if before, ok0 := strings.CutSuffix(path, ending); ok0 {
			path, compression = before, ending
			break
		}
	}
	for _, kind := range kinds {
		if strings.HasSuffix(path, kind) && (kind != ".parquet" || compression == "") {
			return kind, compression, true
		}
	}
	return "", "", false
}

// ReadFile gives every line of a file that is not blank to each, in order. An error of each
// ends the reading and is returned as it is. A file that is damaged, cut off inside a
// compressed part, or of another kind than its name says is an error that names file and place.
func ReadFile(ctx context.Context, f File, o Options, each func(line Line) error) (err error) {
	kind, compression, ok := kindOf(f.Path)
	if !ok {
		return fmt.Errorf("prompts: %s: files of this kind can't be read; supported are %s, and all but the last with .gz or .zst",
			f.Path, strings.Join(kinds, ", "))
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
	if kind == ".parquet" {
		return readParquet(ctx, r, r.Size(), f, o, each)
	}
	text, err := decompress(r.Stream(0), compression)
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", f.Path, err)
	}
	defer func() {
		if closeErr := text.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	return readJSONL(ctx, text, f, o, each)
}

// Text returns the text of a file of lines whose ending says how it is compressed. A file of
// another kind is an error.
func Text(r io.Reader, path string) (io.ReadCloser, error) {
	kind, compression, ok := kindOf(path)
	if !ok || kind == ".parquet" {
		return nil, fmt.Errorf("prompts: %s: files of this kind can't be read; supported are %s, each also with .gz or .zst",
			path, strings.Join(kinds[:len(kinds)-1], ", "))
	}
	text, err := decompress(r, compression)
	if err != nil {
		return nil, fmt.Errorf("prompts: %s: %w", path, err)
	}
	return text, nil
}

// Parse makes a prompt, without its place, of a line with a JSON object, or says why it is none.
// Fields that are not its own are in its metadata.
func Parse(line []byte, o Options) (schemas.Prompt, *schemas.Failure) { return parse(line, o) }

// bad is the failure of a line.
func bad(code, format string, args ...any) *schemas.Failure {
	return &schemas.Failure{Stage: schemas.StagePrompts, Code: code, Message: fmt.Sprintf(format, args...)}
}

// tooLarge is the failure of a line above the limit.
func tooLarge(limit int) *schemas.Failure {
	return bad(TooLarge, "the line is larger than %d bytes", limit)
}

// give parses a line and hands it on with its place. A line that is bad before it can be
// parsed comes as its failure.
func give(f File, number int64, data []byte, failure *schemas.Failure, o Options, each func(line Line) error) error {
	var line Line
	if failure == nil {
		line.Prompt, failure = parse(data, o)
	}
	if failure != nil {
		failure.File, failure.Line = f.Path, number
		return each(Line{Bad: failure})
	}
	line.Prompt.File, line.Prompt.Line = f.Path, number
	return each(line)
}
