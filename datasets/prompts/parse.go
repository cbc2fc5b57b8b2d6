package prompts

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
)

// The fields in which prompts and their own IDs are looked for, in this order.
var (
	promptFields = []string{"prompt", "messages", "instruction", "question", "conversations"}
	idFields     = []string{"id", "uid", "uuid", "prompt_id", "question_id"}
)

// fields are those of a line. What is used of a line is taken out.
type fields map[string]jsontext.Value

// parse makes a prompt of a line, or says why it is none.
func parse(data []byte, o Options) (schemas.Prompt, *schemas.Failure) {
	f, failure := decode(data)
	if failure != nil {
		return schemas.Prompt{}, failure
	}
	messages, failure := f.takeMessages(o.Field)
	if failure != nil {
		return schemas.Prompt{}, failure
	}
	prompt := schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages}
	if id := f.takeID(o.IDField); id != "" {
		prompt.OwnIDs = []string{id}
	}
	prompt.Metadata, failure = f.encode()
	return prompt, failure
}

func decode(data []byte) (fields, *schemas.Failure) {
	if !utf8.Valid(data) {
		return nil, bad(InvalidUTF8, "the line is not valid UTF-8")
	}
	if kind := jsontext.Value(data).Kind(); kind != '{' {
		return nil, bad(BadJSON, "the line is %s, not a JSON object", kindName(kind))
	}
	var f fields
	err := json.Unmarshal(data, &f)
	if err == nil {
		return f, nil
	}
	if jsontext.Value(data).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return nil, bad(InvalidUTF8, "the line has half of a surrogate pair: %s", jsonProblem(err))
	}
	return nil, bad(BadJSON, "the line is not a JSON object: %s", jsonProblem(err))
}

// jsonProblem is what a JSON error says, without its package.
func jsonProblem(err error) string {
	return shorten(strings.TrimPrefix(err.Error(), "jsontext: "))
}

// kindName says what a JSON value is.
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
		return "no JSON"
	}
}

// takeMessages takes the prompt out of the field of that name, or of the first that holds one.
func (f fields) takeMessages(name string) ([]schemas.Message, *schemas.Failure) {
	names := promptFields
	if name != "" {
		names = []string{name}
	}
	for _, name := range names {
		value, ok := f[name]
		if !ok || value.Kind() != '"' && value.Kind() != '[' {
			continue
		}
		delete(f, name)
		messages, failure := decodeMessages(name, value)
		if failure != nil {
			return nil, failure
		}
		if name == "instruction" && value.Kind() == '"' {
			f.appendInput(messages)
		}
		return messages, checkMessages(name, messages)
	}
	wanted := "none of the fields " + strings.Join(names, ", ") + " holds"
	if name != "" {
		wanted = "no field " + shorten(name) + " that holds"
	}
	return nil, bad(NoPrompt, "%s a string or a list of messages; the line has %s", wanted, f.describe())
}

// appendInput adds Alpaca's second field to the instruction.
func (f fields) appendInput(messages []schemas.Message) {
	value := f["input"]
	if value.Kind() != '"' {
		return
	}
	delete(f, "input")
	if input := unquote(value); strings.TrimSpace(input) != "" {
		messages[0].Content += "\n\n" + input
	}
}

// A turn is a message as files have it.
type turn struct {
	Role    *string `json:"role"`
	Content *string `json:"content"`
	From    *string `json:"from"`
	Value   *string `json:"value"`
}

func decodeMessages(name string, value jsontext.Value) ([]schemas.Message, *schemas.Failure) {
	if value.Kind() == '"' {
		return []schemas.Message{{Role: "user", Content: unquote(value)}}, nil
	}
	var turns []turn
	if err := json.Unmarshal(value, &turns); err != nil {
		found := shorten(err.Error())
		if mismatch := (*json.SemanticError)(nil); errors.As(err, &mismatch) {
			found = name + string(mismatch.JSONPointer) + " is " + kindName(mismatch.JSONKind)
		}
		return nil, bad(NoPrompt, "field %s is not a list of {role, content} or {from, value}: %s", name, found)
	}
	messages := make([]schemas.Message, len(turns))
	for i, t := range turns {
		m := &messages[i]
		switch {
		case t.Role != nil && t.Content != nil:
			m.Role, m.Content = *t.Role, *t.Content
		case t.From != nil && t.Value != nil:
			m.Role, m.Content = speaker(*t.From), *t.Value
		default:
			return nil, bad(NoPrompt, "message %d of field %s has no role and content, nor from and value", i+1, name)
		}
	}
	return messages, nil
}

// speaker returns the role that a ShareGPT file means.
func speaker(from string) string {
	switch from {
	case "human":
		return "user"
	case "gpt":
		return "assistant"
	}
	return from
}

func checkMessages(name string, messages []schemas.Message) *schemas.Failure {
	if len(messages) == 0 {
		return bad(EmptyPrompt, "field %s has no message", name)
	}
	for i, m := range messages {
		switch m.Role {
		case "system", "user", "assistant":
		default:
			return bad(BadRole, "message %d of field %s has the role %q; allowed are system, user and assistant", i+1, name, shorten(m.Role))
		}
		if strings.TrimSpace(m.Content) == "" {
			return bad(EmptyPrompt, "message %d of field %s is blank", i+1, name)
		}
	}
	if last := messages[len(messages)-1].Role; last != "user" {
		return bad(LastNotUser, "the last message of field %s is from the %s; a prompt ends with the user", name, last)
	}
	return nil
}

// takeID takes the prompt's own ID out of the field of that name, or of the first that holds one.
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

// encode returns what is left of a line as a JSON object with sorted keys.
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

// describe names the fields of a line.
func (f fields) describe() string {
	if len(f) == 0 {
		return "no field"
	}
	const most = 20
	var names []string
	for name := range f {
		names = append(names, shorten(name))
	}
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// unquote returns the text of a JSON string that was read before.
func unquote(value jsontext.Value) string {
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return ""
	}
	return string(text)
}

// shorten keeps a message readable whatever stands in the input.
func shorten(s string) string {
	const most = 120
	for i := range s {
		if i >= most {
			return s[:i] + "…"
		}
	}
	return s
}
