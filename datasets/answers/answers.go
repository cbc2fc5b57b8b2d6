// Package answers reads answers that another program got from a model. An arena compares them with other answers.
//
// Each line contains a prompt, in any form that package prompts reads, and an answer in output, answer,
// response, completion or generation. The model's name is optional: generator, model or model_id.
//
//	{"instruction": "…", "output": "…", "generator": "…"}     AlpacaEval
//	{"uid": "…", "prompt": "…", "answer": "…", "model": "…"}
//
// The package reads the prompt's fields as a run does, so that an answer has the ID of its prompt. It
// reports all problems of a file at once, each in one sentence with file and line, and then returns no
// answers.
package answers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"

	"coeval/datasets/prompts"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// An Answer is one answer to a prompt.
type Answer struct {
	Prompt schemas.Prompt
	// Text is trimmed, and not empty.
	Text string
	// Model is the name of the model in the file, or empty.
	Model string
}

var (
	textFields  = []string{"output", "answer", "response", "completion", "generation"}
	modelFields = []string{"generator", "model", "model_id"}
)

const (
	// maxAnswers bounds a file: an arena has a few thousand prompts.
	maxAnswers = 1_000_000
	// maxProblems is the largest number of problems to report.
	maxProblems = 20
)

// Read returns the answers of a file in its order, one for each prompt.
func Read(ctx context.Context, path string) ([]Answer, error) {
	r := reader{path: path, lines: map[string]int64{}}
	err := prompts.ReadFile(ctx, prompts.File{Path: path}, prompts.Options{}, r.add)
	if err != nil {
		return nil, err
	}
	if len(r.answers) == 0 && len(r.problems) == 0 {
		return nil, fmt.Errorf("answers: %s: the file has no answer", sanitize.Line(path))
	}
	if r.left > 0 {
		r.problems = append(r.problems, fmt.Errorf("answers: %s: %d more problems like these", sanitize.Line(path), r.left))
	}
	if len(r.problems) > 0 {
		return nil, errors.Join(r.problems...)
	}
	return r.answers, nil
}

type reader struct {
	path    string
	answers []Answer
	// lines has the line of each prompt with an answer.
	lines    map[string]int64
	problems []error
	left     int
}

func (r *reader) fail(line int64, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.left++
		return
	}
	r.problems = append(r.problems, fmt.Errorf("answers: %s:%d: %s", sanitize.Line(r.path), line, fmt.Sprintf(format, args...)))
}

// add adds one line.
func (r *reader) add(line prompts.Line) error {
	number := line.Number()
	if line.Bad != nil {
		r.fail(number, "%s", line.Bad.Message)
		return nil
	}
	if len(r.answers) == maxAnswers {
		return fmt.Errorf("answers: %s: the file has more than %d answers", sanitize.Line(r.path), maxAnswers)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(line.Prompt.Metadata), &fields); err != nil {
		r.fail(number, "the other fields can't be read: %v", err)
		return nil
	}
	text := strings.TrimSpace(first(fields, textFields))
	before, again := r.lines[line.Prompt.ID]
	switch {
	case text == "":
		r.fail(number, "there is no answer; give it in one of the fields %s", strings.Join(textFields, ", "))
	case again:
		r.fail(number, "the prompt has an answer in line %d already; give one answer a prompt", before)
	default:
		r.lines[line.Prompt.ID] = number
		r.answers = append(r.answers, Answer{Prompt: line.Prompt, Text: text, Model: first(fields, modelFields)})
	}
	return nil
}

// first returns the first string in the fields.
func first(fields map[string]any, names []string) string {
	for _, name := range names {
		if text, ok := fields[name].(string); ok && strings.TrimSpace(text) != "" {
			return text
		}
	}
	return ""
}
