// Package conversation extracts the prompt from a JSON object in the format of any common corpus.
//
// It reads these forms, and objects with the same structure under other common field names:
//
//	{"prompt": "…"}, {"instruction", "input", "history"} (Alpaca), {"instruction", "context"} (Dolly)
//	{"system_prompt", "question"} (OpenOrca), and the other names of a system message
//	{"messages": [{role, content}]}, also as JSON in a string; {"conversations": [{from, value}], "system"} (ShareGPT)
//	{"conversation": […]} (WildChat, LMSYS), {"data": ["question", "answer", …]} (UltraChat)
//	{"turns": ["…"]} (MT-Bench, Arena-Hard), {"chosen": "\n\nHuman: … Assistant: …"} (HH)
//	"…", [{role, content}] (the line itself), {"conversations": {"from": […], "value": […]}} (Hugging Face)
//	{"context": [{role, content}]} (HelpSteer3), {"input": [{role, content}], "instructions"} (Responses API)
//	{"text": "<|im_start|>user\n…"} and the chat templates of other models
//	{"body": {"messages": […]}} (batch files of OpenAI and others), {"prompt": {"text", "role"}} (OpenAssistant)
//
// A conversation ends with the user. By default an answer after the user's last message is left out. With
// Options.KeepAnswer a line with such an answer is bad. A field that is neither part of the prompt nor its ID
// becomes metadata. A line with two possible prompts is bad. Its error message names both fields, and the
// config key prompts.field, which selects one.
//
// The package promises that equal lines give equal prompts, and that a [Reading] names the unused fields
// that look like part of a prompt.
package conversation

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// The codes of a line without a prompt.
const (
	// BadJSON is a line that is not a JSON object, or names a field twice.
	BadJSON = "bad_json"
	// InvalidUTF8 is a line with bytes that are not UTF-8, or half of a surrogate pair.
	InvalidUTF8 = "invalid_utf8"
	// NoPrompt is a line without a field that has a prompt, or with several candidates.
	NoPrompt = "no_prompt"
	// BadRole is a message with an unknown role.
	BadRole = "bad_role"
	// EmptyPrompt is a prompt without messages, or with a blank one.
	EmptyPrompt = "empty_prompt"
	// LastNotUser is a conversation that does not end with the user.
	LastNotUser = "last_not_user"
)

// Options decide how a line is read.
type Options struct {
	// Field is the path of the prompt's field, for example text or body.messages. Empty means that the
	// package finds the field.
	Field string
	// IDField is the field of the prompt's own ID. Empty means that the package finds the field.
	IDField string
	// KeepAnswer makes a conversation that ends with an answer bad. False omits the answer.
	KeepAnswer bool
}

// A Reading describes how a line was read.
type Reading struct {
	// Form names the fields of the prompt, for example "question + system_prompt".
	Form string
	// AnswerDropped reports whether a final answer was left out.
	AnswerDropped bool
	// Unused are the fields that look like part of a prompt and became metadata.
	Unused []string
}

// idFields are the fields to look for a prompt's own ID, in this order.
var idFields = []string{
	"id", "uid", "uuid", "prompt_id", "question_id", "custom_id", "conversation_id", "conversation_hash", "message_id", "_id", "record_id", "request_id",
	"instance_id", "example_id", "sample_id", "problem_id", "task_id", "row_id", "doc_id", "post_id", "qid", "key", "index", "idx",
}

// Fields are the members of an object. The parser removes the ones that it uses.
type fields map[string]jsontext.Value

// Parse extracts the prompt of a line, without its source, or returns the reason why there is none.
func Parse(data []byte, o Options) (schemas.Prompt, Reading, *schemas.Failure) {
	f, failure := decode(data)
	if failure != nil {
		return schemas.Prompt{}, Reading{}, failure
	}
	p := parser{options: o}
	p.normalize(f)
	messages, failure := p.find(f)
	if failure != nil {
		return schemas.Prompt{}, p.reading, failure
	}
	prompt := schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages}
	if id := f.takeID(o.IDField); id != "" {
		prompt.OwnIDs = []string{id}
	}
	for name, original := range p.originals {
		if value, left := f[name]; left {
			delete(f, name)
			f[original] = value
		}
	}
	prompt.Metadata, failure = f.encode()
	return prompt, p.reading, failure
}

// decode reads an object. NaN and infinities, which Python writes, are null.
func decode(data []byte) (fields, *schemas.Failure) {
	if !utf8.Valid(data) {
		return nil, bad(InvalidUTF8, "the line is not valid UTF-8")
	}
	switch kind := jsontext.Value(data).Kind(); {
	case kind == '"' && jsontext.Value(data).IsValid():
		return fields{"prompt": data}, nil
	case kind == '[' && (isConversation(data) || isEmpty(data)):
		return fields{"conversations": data}, nil
	case kind != '{':
		return nil, bad(BadJSON, "the line is %s; each line must be a JSON object", kindName(kind))
	}
	var f fields
	err := json.Unmarshal(data, &f)
	if err == nil {
		return f, nil
	}
	if mended, ok := nullNumbers(data); ok {
		f = nil
		if json.Unmarshal(mended, &f) == nil {
			return f, nil
		}
	}
	if jsontext.Value(data).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return nil, bad(InvalidUTF8, "the line has half of a surrogate pair: %s", jsonProblem(err))
	}
	return nil, bad(BadJSON, "the line is not a JSON object: %s", jsonProblem(err))
}

// nullNumbers replaces NaN, Infinity and -Infinity outside of strings by null, and reports
// whether there was one.
func nullNumbers(data []byte) (mended []byte, found bool) {
	quoted := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case quoted && c == '\\':
			mended = append(mended, c)
			if i++; i < len(data) {
				mended = append(mended, data[i])
			}
			continue
		case c == '"':
			quoted = !quoted
		case !quoted && (c == 'N' || c == 'I' || c == '-'):
			rest := string(data[i:min(i+len("-Infinity"), len(data))])
			word := ""
			for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
				if strings.HasPrefix(rest, w) {
					word = w
				}
			}
			if word != "" {
				mended, found = append(mended, "null"...), true
				i += len(word) - 1
				continue
			}
		}
		mended = append(mended, c)
	}
	return mended, found
}

// takeID removes and returns the prompt's own ID from the named field, or from the first that has one.
func (f fields) takeID(name string) string {
	names := idFields
	if name != "" {
		names = []string{name}
	}
	for _, name := range names {
		value, id := f[name], ""
		switch value.Kind() {
		case '"':
			id = unquote(value)
		case '0':
			id = string(value)
		}
		if id != "" {
			delete(f, name)
			return id
		}
	}
	return ""
}

// encode returns the remaining fields of a line as a JSON object with sorted keys.
func (f fields) encode() (string, *schemas.Failure) {
	if len(f) == 0 {
		return "{}", nil
	}
	object, err := json.Marshal(f)
	if err == nil {
		err = (*jsontext.Value)(&object).Format(jsontext.ReorderRawObjects(true))
	}
	if err != nil {
		return "", bad(BadJSON, "the other fields can't be kept: %s", jsonProblem(err))
	}
	return string(object), nil
}

// text returns the text of a string field, "" for any other field.
func (f fields) text(name string) string {
	if value := f[name]; value.Kind() == '"' {
		return unquote(value)
	}
	return ""
}

// describe names the fields of a line.
func (f fields) describe() string {
	if len(f) == 0 {
		return "no field"
	}
	const maxNames = 20
	var names []string
	for name := range f {
		names = append(names, shorten(name))
	}
	slices.Sort(names)
	if len(names) > maxNames {
		names = append(names[:maxNames], "…")
	}
	return strings.Join(names, ", ")
}

// bad returns the failure of a line.
func bad(code, format string, args ...any) *schemas.Failure {
	return &schemas.Failure{Stage: schemas.StagePrompts, Code: code, Message: fmt.Sprintf(format, args...)}
}

// jsonProblem is the text of a JSON error, without its package.
func jsonProblem(err error) string {
	return shorten(strings.TrimPrefix(err.Error(), "jsontext: "))
}

// kindName names the kind of a JSON value.
func kindName(kind jsontext.Kind) string {
	switch kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	default:
		return "not JSON"
	}
}

// unquote returns the text of a valid JSON string.
func unquote(value jsontext.Value) string {
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return ""
	}
	return string(text)
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// shorten bounds the input's part of a message.
func shorten(s string) string {
	const maxLength = 120
	head, left := sanitize.Cut(s, maxLength)
	head = sanitize.Line(head)
	if left > 0 {
		return head + "…"
	}
	return head
}
