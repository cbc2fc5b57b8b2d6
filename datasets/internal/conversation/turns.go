package conversation

import (
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
)

// roles are the names of speakers in lower case.
var roles = map[string]string{
	"user": "user", "human": "user", "prompter": "user",
	"assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "chatbot": "assistant",
	"model": "assistant", "ai": "assistant", "bard": "assistant", "bing": "assistant", "claude": "assistant",
	"function_call": "assistant", "tool_call": "assistant",
	"system": "system", "developer": "system",
	"tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool", "function_response": "tool",
}

func roleOf(name string) string { return roles[strings.ToLower(strings.TrimSpace(name))] }

// The names of the parts of a turn in known files, in the order of the search.
var (
	speakerKeys = []string{"role", "from", "speaker"}
	contentKeys = []string{"content", "value", "text", "parts"}
	// callKeys have the tool calls of a turn without a text.
	callKeys = []string{"tool_calls", "function_call"}
)

// exchanges are the names of a question and its answer in one object.
var exchanges = [][2]string{
	{"user", "assistant"},
	{"human", "assistant"},
	{"human", "gpt"},
	{"input", "output"},
	{"question", "answer"},
	{"query", "response"},
	{"prompt", "response"},
	{"instruction", "response"},
	{"instruction", "output"},
}

// A decoder reads the messages of one field.
type decoder struct {
	// field is the path of the field as messages show it, name its last part.
	field, name string
	// form is added to the field's name in a reading, as " as JSON".
	form string
	// plain reports whether the field was a single text, which may have companion fields.
	plain bool
	// unused are unused parts of the field.
	unused []string
}

// messages returns the messages of a value with the roles system, user and assistant.
func (d *decoder) messages(value jsontext.Value) ([]schemas.Message, *schemas.Failure) {
	switch value.Kind() {
	case '[':
		return d.list(value)
	case '{':
		object, _ := objectOf(value)
		if text, ok := contentOf(object); ok {
			return []schemas.Message{{Role: "user", Content: text}}, nil
		}
		return nil, bad(NoPrompt, "field %s is an object without a text", d.field)
	}
	text := unquote(value)
	isList := slices.Contains(chatFields, d.name) || d.name == "messages" || d.name == "conversations"
	if list := listInside(text); list != nil && (isList || isConversationOfObjects(list)) {
		d.form = " as JSON"
		return d.list(list)
	}
	if isList && looksLikeList(text) {
		return nil, bad(NoPrompt, "field %s is a string that begins like a list and is no JSON, as Python's str() makes it; write it with json.dumps", d.field)
	}
	if turns := transcript(text); turns != nil {
		d.form = " as a transcript"
		return turns, nil
	}
	d.plain = true
	return []schemas.Message{{Role: "user", Content: text}}, nil
}

// list reads a list of turns, of exchanges, or of texts.
func (d *decoder) list(list jsontext.Value) ([]schemas.Message, *schemas.Failure) {
	var items []jsontext.Value
	if err := json.Unmarshal(list, &items); err != nil {
		return nil, bad(NoPrompt, "field %s is no list: %s", d.field, jsonProblem(err))
	}
	var messages []schemas.Message
	for i, item := range items {
		var failure *schemas.Failure
		if messages, failure = d.item(messages, i, item); failure != nil {
			return nil, failure
		}
	}
	return d.firstQuestion(messages, items), nil
}

// item appends the messages of an item.
func (d *decoder) item(messages []schemas.Message, i int, item jsontext.Value) ([]schemas.Message, *schemas.Failure) {
	next := "user"
	if len(messages) > 0 && messages[len(messages)-1].Role == "user" && !d.onlyQuestions() {
		next = "assistant"
	}
	switch item.Kind() {
	case '"':
		if slices.Contains(promptFields, d.name) && d.name != "conversations" {
			break
		}
		return append(messages, schemas.Message{Role: next, Content: unquote(item)}), nil
	case '[': // a question and its answer
		var pair []*string
		if json.Unmarshal(item, &pair) == nil && len(pair) == 2 && pair[0] != nil {
			return appendExchange(messages, *pair[0], pair[1]), nil
		}
	case '{':
		object, _ := objectOf(item)
		if speaker, content, ok := turnOf(object); ok {
			return d.turn(messages, i, object, speaker, content)
		}
		for _, names := range exchanges {
			if object[names[0]].Kind() == '"' && (object[names[1]].Kind() == '"' || object[names[1]].Kind() == 'n') {
				answer := object.text(names[1])
				return appendExchange(messages, object.text(names[0]), &answer), nil
			}
		}
		if text, ok := contentOf(object); ok && d.name == "turns" {
			return append(messages, schemas.Message{Role: next, Content: text}), nil
		}
		return nil, bad(NoPrompt, "message %d of field %s has no role and content, nor from and value", i+1, d.field)
	case 'n':
		return nil, bad(NoPrompt, "message %d of field %s has no role and content, nor from and value", i+1, d.field)
	}
	return nil, bad(NoPrompt, "field %s is not a list of {role, content} or {from, value}: message %d is %s", d.field, i+1, kindName(item.Kind()))
}

// onlyQuestions reports whether a list without roles contains the user's turns alone, to be asked one
// after the other, as in MT-Bench.
func (d *decoder) onlyQuestions() bool { return d.name == "turns" }

// firstQuestion keeps the first of several questions.
func (d *decoder) firstQuestion(messages []schemas.Message, items []jsontext.Value) []schemas.Message {
	if !d.onlyQuestions() || len(messages) < 2 {
		return messages
	}
	for _, item := range items {
		if object, _ := objectOf(item); item.Kind() == '[' || object != nil && !isText(object) {
			return messages
		}
	}
	d.unused = append(d.unused, d.field+" after the first")
	return messages[:1]
}

// isText reports whether an object has content and no speaker.
func isText(object fields) bool {
	_, _, turn := turnOf(object)
	_, text := contentOf(object)
	return text && !turn
}

func appendExchange(messages []schemas.Message, question string, answer *string) []schemas.Message {
	messages = append(messages, schemas.Message{Role: "user", Content: question})
	if answer != nil && !blank(*answer) {
		messages = append(messages, schemas.Message{Role: "assistant", Content: *answer})
	}
	return messages
}

// turnOf returns the speaker and the content of a turn.
func turnOf(object fields) (speaker string, content jsontext.Value, ok bool) {
	for _, key := range speakerKeys {
		if object[key].Kind() != '"' {
			continue
		}
		for _, text := range contentKeys {
			if kind := object[text].Kind(); kind != 0 && kind != 'n' {
				return object.text(key), object[text], true
			}
		}
		for _, call := range callKeys {
			if object[call].Kind() == '[' || object[call].Kind() == '{' {
				return object.text(key), nil, true
			}
		}
		if roleOf(object.text(key)) == "assistant" && hasAny(object, contentKeys) {
			return object.text(key), nil, true // the answer is null
		}
	}
	return "", nil, false
}

func hasAny(object fields, keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, ok := object[key]; return ok })
}

// turn appends a turn. A tool's output is shown as from the user, since servers accept no other role
// without the call's ID. Several outputs in a row become one message.
func (d *decoder) turn(messages []schemas.Message, i int, object fields, speaker string, content jsontext.Value) ([]schemas.Message, *schemas.Failure) {
	text, part, ok := textOf(content)
	switch {
	case content == nil:
		for _, call := range callKeys {
			if !isEmpty(object[call]) {
				text = string(object[call])
				break
			}
		}
	case part != "":
		return nil, bad(NoPrompt, "message %d of field %s has a part of the type %s; only text can be asked", i+1, d.field, shorten(part))
	case !ok:
		return nil, bad(NoPrompt, "field %s is not a list of {role, content} or {from, value}: the content of message %d is %s", d.field, i+1, kindName(content.Kind()))
	}
	role := roleOf(speaker)
	switch role {
	case "":
		return nil, bad(BadRole, "message %d of field %s has the role %q; known are system, user, assistant and their usual other names", i+1, d.field, shorten(speaker))
	case "tool":
		const head = "Result of a tool:\n"
		if last := len(messages) - 1; last >= 0 && messages[last].Role == "user" && strings.HasPrefix(messages[last].Content, head) {
			messages[last].Content += "\n\n" + text
			return messages, nil
		}
		role, text = "user", head+text
	}
	return append(messages, schemas.Message{Role: role, Content: text}), nil
}

// contentOf returns the text of an object without a speaker.
func contentOf(object fields) (string, bool) {
	for _, key := range contentKeys {
		if text, part, ok := textOf(object[key]); ok && part == "" {
			return text, true
		}
	}
	return "", false
}

// textOf returns a text, or the texts of a list of parts, one a line. Part is the type of a part that is
// not text.
func textOf(value jsontext.Value) (text, part string, ok bool) {
	switch value.Kind() {
	case '"':
		return unquote(value), "", true
	case '{':
		object, _ := objectOf(value)
		text, ok = contentOf(object)
		return text, "", ok
	case '[':
		var parts []jsontext.Value
		if json.Unmarshal(value, &parts) != nil {
			return "", "", false
		}
		var texts []string
		for _, p := range parts {
			object, _ := objectOf(p)
			switch {
			case p.Kind() == '"':
				texts = append(texts, unquote(p))
			case object != nil && object["text"].Kind() == '"':
				texts = append(texts, object.text("text"))
			case object != nil && object["type"].Kind() == '"':
				return "", object.text("type"), true
			default:
				return "", "", false
			}
		}
		return strings.Join(texts, "\n"), "", true
	}
	return "", "", false
}

// listInside returns the JSON list in a text, or nil.
func listInside(text string) jsontext.Value {
	trimmed := strings.TrimSpace(text)
	if !strings.HasPrefix(trimmed, "[") {
		return nil
	}
	if value := jsontext.Value(trimmed); value.IsValid() {
		return value
	}
	return nil
}

// isConversationOfObjects reports whether a list contains a turn.
func isConversationOfObjects(list jsontext.Value) bool {
	var items []jsontext.Value
	if json.Unmarshal(list, &items) != nil || len(items) == 0 || items[0].Kind() != '{' {
		return false
	}
	return isConversation(list)
}

// looksLikeList reports whether a text begins like a list of turns from Python or NumPy.
func looksLikeList(text string) bool {
	return listStart.MatchString(text)
}

var (
	listStart = regexp.MustCompile(`^\s*\[\s*[{['"]`)
	// speakers begin the turns of a transcript: Anthropic's HH, and Guanaco's with ###.
	speakers = regexp.MustCompile(`(?:^|\n\n|\n?### )(Human|User|Assistant|System): ?`)
	starts   = regexp.MustCompile(`^\s*(?:### )?(?:Human|User|System): ?`)
	answers  = regexp.MustCompile(`\n\nAssistant:|\n?### Assistant:`)
)

// transcript returns the turns of a text such as "\n\nHuman: Hi\n\nAssistant: Yes?", or nil if it is not
// one: it must begin with the human or the system, and name the assistant.
func transcript(text string) []schemas.Message {
	if !starts.MatchString(text) || !answers.MatchString(text) {
		return nil
	}
	text = strings.TrimLeft(text, " \t\r\n")
	at := speakers.FindAllStringSubmatchIndex(text, -1)
	var turns []schemas.Message
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		content := strings.TrimSpace(text[m[1]:end])
		role := roleOf(text[m[2]:m[3]])
		if content == "" && i == len(at)-1 && role == "assistant" {
			break // where the answer goes
		}
		turns = append(turns, schemas.Message{Role: role, Content: content})
	}
	return turns
}
