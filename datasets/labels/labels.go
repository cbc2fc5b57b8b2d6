// Package labels reads people's labels: which of two responses to a prompt is better, or the score of a
// response.
//
// A file contains one label per line as a JSON object, or all labels in one JSON array. Its name ends in .jsonl,
// .ndjson or .json; .gz or .zst may follow. Package prompts defines the forms of the prompt. A label is one of
// two kinds, and a file has one kind only:
//
//	{"prompt": …, "response_1": "…", "response_2": "…", "label": 1}      1, 2 or "tie"
//	{"prompt": …, "response": "…", "score": 3.5}                         on the scale of the file
//
// LLMBar's form is a pair too: input is the prompt, output_1 and output_2 the responses. Other fields
// are ignored. Several labels on one response or pair count as several people's.
//
// Responses are trimmed as a run trims its actor's texts, so the judge sees the same texts as in a run.
//
// The package reports all problems of a file at once, each in one sentence with file and line, and then
// returns no labels.
package labels

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/datasets/prompts"
	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// Kind is a kind of label.
type Kind string

// The kinds of labels.
const (
	Pairs  Kind = "pairs"
	Scores Kind = "scores"
)

// A Set has the labels of a file.
type Set struct {
	// File is the file's name without its folder, SHA256 the digest of its bytes.
	File   string
	SHA256 string
	Kind   Kind
	// Pairs and Scores are in the order of the file; one of them is empty.
	Pairs  []Pair
	Scores []Score
	// Prompts has each distinct prompt once, by its ID.
	Prompts map[string]schemas.Prompt
}

// A Pair is two responses to a prompt and people's preference.
type Pair struct {
	Line     int64
	PromptID string
	// First and Second are in the order of the file.
	First, Second string
	// Preferred is [schemas.First], [schemas.Second], or [schemas.NoWins] for a tie.
	Preferred schemas.Winner
}

// A Score is people's score of a response.
type Score struct {
	Line     int64
	PromptID string
	Response string
	// Points are on the rubric's scale, 0 to 5: the file's scale is mapped to it linearly.
	Points float64
}

// A Scale is the lowest and the highest possible score.
type Scale struct{ Low, High float64 }

// RubricScale is the judge's own scale, and the default.
var RubricScale = Scale{Low: 0, High: 5}

// ParseScale parses a scale, for example 1:10.
func ParseScale(text string) (Scale, error) {
	low, high, ok := strings.Cut(text, ":")
	var s Scale
	var err error
	if ok {
		s.Low, err = strconv.ParseFloat(low, 64)
	}
	if ok && err == nil {
		s.High, err = strconv.ParseFloat(high, 64)
	}
	if !ok || err != nil || !(s.Low < s.High) || math.IsInf(s.Low, 0) || math.IsInf(s.High, 0) {
		return Scale{}, fmt.Errorf("scale is %q; allowed are two numbers as 1:10, the lower one first", text)
	}
	return s, nil
}

func (s Scale) String() string { return fmt.Sprintf("%g to %g", s.Low, s.High) }

func (s Scale) points(score float64) float64 {
	return (score - s.Low) / (s.High - s.Low) * RubricScale.High
}

const (
	// maxFileBytes bounds the decompressed size of a file.
	maxFileBytes = 128 << 20
	// maxProblems is the largest number of problems to report.
	maxProblems = 20
)

// Read returns the labels of a file. Its error joins up to 20 problems.
func Read(ctx context.Context, name string, scale Scale) (*Set, error) {
	info, err := store.Stat(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	if info.Size > maxFileBytes {
		return nil, tooLarge(name)
	}
	file, err := store.ReadFile(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	text, err := prompts.Text(bytes.NewReader(file), name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(text, maxFileBytes+1))
	if err := errors.Join(err, text.Close()); err != nil {
		return nil, fmt.Errorf("labels: %s: the file is damaged or cut off: %w", name, err)
	}
	if len(data) > maxFileBytes {
		return nil, tooLarge(name)
	}
	sum := sha256.Sum256(file)
	r := &reader{name: name, scale: scale, set: &Set{
		File: path.Base(name), SHA256: hex.EncodeToString(sum[:]), Prompts: map[string]schemas.Prompt{},
	}}
	return r.read(data)
}

func tooLarge(name string) error {
	return fmt.Errorf("labels: %s: the file has more than %d MiB; give some thousand labels", sanitize.Line(name), maxFileBytes>>20)
}

type reader struct {
	name     string
	scale    Scale
	set      *Set
	problems []error
	left     int
}

func (r *reader) fail(line int64, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.left++
		return
	}
	r.problems = append(r.problems, fmt.Errorf("%s:%d: %s", r.name, line, fmt.Sprintf(format, args...)))
}

func (r *reader) read(data []byte) (*Set, error) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if head := bytes.TrimLeft(data, blanks); len(head) > 0 && head[0] == '[' {
		r.readArray(data)
	} else {
		number := int64(0)
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			number++
			if line = bytes.Trim(line, blanks); len(line) > 0 {
				r.add(number, line)
			}
		}
	}
	if len(r.problems) == 0 && len(r.set.Pairs)+len(r.set.Scores) == 0 {
		r.problems = append(r.problems, fmt.Errorf("%s: the file has no label", r.name))
	}
	if r.left > 0 {
		r.problems = append(r.problems, fmt.Errorf("%s: %d more problems like these", r.name, r.left))
	}
	if len(r.problems) > 0 {
		return nil, errors.Join(r.problems...)
	}
	return r.set, nil
}

// blanks are the white space of JSON.
const blanks = " \t\r\n"

// readArray reads the entries of a JSON array, each with the number of its first line.
func (r *reader) readArray(data []byte) {
	d := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	line, at := int64(1), int64(0)
	lineAt := func(offset int64) int64 {
		line += int64(bytes.Count(data[at:offset], []byte("\n")))
		at = offset
		return line
	}
	damaged := func(err error) {
		offset := d.InputOffset()
		if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			offset = syntax.ByteOffset
		}
		r.fail(lineAt(min(max(offset, at), int64(len(data)))), "not a JSON array of objects: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	if _, err := d.ReadToken(); err != nil {
		damaged(err)
		return
	}
	for d.PeekKind() == '{' {
		value, err := d.ReadValue()
		if err != nil {
			damaged(err)
			return
		}
		r.add(lineAt(d.InputOffset()-int64(len(value))), value)
	}
	if end, err := d.ReadToken(); err != nil {
		damaged(err)
		return
	} else if end.Kind() != ']' {
		r.fail(lineAt(d.InputOffset()), "an entry of the array is not an object")
		return
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		r.fail(lineAt(d.InputOffset()), "the file continues after the array")
	}
}

// entry has the fields of a line besides its prompt. Fields of other types are ignored.
type entry struct {
	Input     jsontext.Value `json:"input"`
	Response1 jsontext.Value `json:"response_1"`
	Response2 jsontext.Value `json:"response_2"`
	Output1   jsontext.Value `json:"output_1"`
	Output2   jsontext.Value `json:"output_2"`
	Label     jsontext.Value `json:"label"`
	Response  jsontext.Value `json:"response"`
	Score     jsontext.Value `json:"score"`
}

// add adds one label.
func (r *reader) add(line int64, data []byte) {
	var e entry
	o := prompts.Options{DropLastAnswer: prompts.NeverDrop}
	if utf8.Valid(data) && json.Unmarshal(data, &e) == nil && e.Output1 != nil && e.Input.Kind() == '"' {
		o.Field = "input"
	}
	prompt, failure := prompts.Parse(data, o) // it also checks the line's form
	if failure != nil {
		r.fail(line, "%s", failure.Message)
		return
	}
	kind := Scores
	if e.Response1 != nil || e.Output1 != nil || e.Label != nil {
		kind = Pairs
	}
	if r.set.Kind == "" {
		r.set.Kind = kind
	}
	if r.set.Kind != kind {
		r.fail(line, "it is one of %s, the lines before it are of %s; a file has one kind only", kind, r.set.Kind)
		return
	}
	var problem error
	if kind == Pairs {
		problem = r.addPair(line, prompt.ID, &e)
	} else {
		problem = r.addScore(line, prompt.ID, &e)
	}
	if problem != nil {
		r.fail(line, "%s", problem)
		return
	}
	if _, known := r.set.Prompts[prompt.ID]; !known {
		prompt.File, prompt.Line = r.name, line
		r.set.Prompts[prompt.ID] = prompt
	}
}

func (r *reader) addPair(line int64, promptID string, e *entry) error {
	one, two := "response_1", "response_2"
	if e.Response1 == nil && e.Output1 != nil {
		one, two, e.Response1, e.Response2 = "output_1", "output_2", e.Output1, e.Output2
	}
	p := Pair{Line: line, PromptID: promptID}
	var err error
	if p.First, err = response(one, e.Response1); err != nil {
		return err
	}
	if p.Second, err = response(two, e.Response2); err != nil {
		return err
	}
	if p.First == p.Second {
		return fmt.Errorf("%s and %s are equal texts; a preference needs two different ones", one, two)
	}
	switch label := string(e.Label); label {
	case `1`, `"1"`:
		p.Preferred = schemas.First
	case `2`, `"2"`:
		p.Preferred = schemas.Second
	case `"tie"`:
		p.Preferred = schemas.NoWins
	case "":
		return errors.New("label is missing; allowed are 1, 2 and \"tie\"")
	default:
		return fmt.Errorf("label is %s; allowed are 1, 2 and \"tie\"", shorten(label))
	}
	r.set.Pairs = append(r.set.Pairs, p)
	return nil
}

func (r *reader) addScore(line int64, promptID string, e *entry) error {
	s := Score{Line: line, PromptID: promptID}
	var err error
	if s.Response, err = response("response", e.Response); err != nil {
		return err
	}
	if e.Score == nil {
		return fmt.Errorf("score is missing; allowed is %s", r.scale)
	}
	given, err := strconv.ParseFloat(string(e.Score), 64)
	if e.Score.Kind() != '0' || err != nil || !(given >= r.scale.Low && given <= r.scale.High) {
		return fmt.Errorf("score is %s; allowed is %s", shorten(string(e.Score)), r.scale)
	}
	s.Points = r.scale.points(given)
	r.set.Scores = append(r.set.Scores, s)
	return nil
}

// response returns the trimmed text of a field.
func response(name string, value jsontext.Value) (string, error) {
	switch {
	case value == nil:
		return "", fmt.Errorf("%s is missing; a pair has response_1, response_2 and label, a score response and score", name)
	case value.Kind() != '"':
		return "", fmt.Errorf("%s is %s; allowed is a text", name, shorten(string(value)))
	}
	b, err := jsontext.AppendUnquote(nil, value)
	text := strings.TrimSpace(string(b))
	if err != nil || text == "" {
		return "", fmt.Errorf("%s is blank; allowed is a text", name)
	}
	return text, nil
}

// shorten bounds the input's part of a message.
func shorten(s string) string {
	const maxLength = 60
	for i := range s {
		if i >= maxLength {
			return s[:i] + "…"
		}
	}
	return s
}

// Dossiers returns one dossier for each prompt with its distinct responses, all complete, in the order of
// their first labels. Prompts are in the order of their IDs.
func (s *Set) Dossiers() []schemas.Dossier {
	texts := map[string][]string{}
	add := func(promptID string, responses ...string) {
		for _, text := range responses {
			if !slices.Contains(texts[promptID], text) {
				texts[promptID] = append(texts[promptID], text)
			}
		}
	}
	for _, p := range s.Pairs {
		add(p.PromptID, p.First, p.Second)
	}
	for _, c := range s.Scores {
		add(c.PromptID, c.Response)
	}
	out := make([]schemas.Dossier, 0, len(s.Prompts))
	for id, prompt := range s.Prompts {
		d := schemas.Dossier{Prompt: prompt}
		for i, text := range texts[id] {
			d.Responses = append(d.Responses, schemas.Response{
				ID: schemas.ResponseID(id, "", text), Replicates: []int{i}, Text: text, Status: schemas.Complete,
			})
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b schemas.Dossier) int { return strings.Compare(a.Prompt.ID, b.Prompt.ID) })
	return out
}
