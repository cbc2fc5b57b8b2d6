package conversation

import (
	"maps"
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
	"system": "system", "developer": "system", "customer": "user", "client": "user", "instruction": "user", "input": "user",
	"question": "user", "q": "user", "student": "user", "usr": "user", "用户": "user",
	"answer": "assistant", "a": "assistant", "teacher": "assistant", "tutor": "assistant", "asst": "assistant", "助手": "assistant",
	"agent": "assistant", "llm": "assistant", "gemini": "assistant", "copilot": "assistant", "response": "assistant", "output": "assistant",
	"tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool", "function_response": "tool",
	"environment": "tool", "tool_result": "tool",
}

func roleOf(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if strings.HasPrefix(name, "gpt") {
		return "assistant"
	}
	return roles[name]
}

// The names of the parts of a turn in known files, in the order of the search.
var (
	speakerKeys = []string{"role", "from", "speaker", "author", "sender"}
	contentKeys = []string{"content", "value", "text", "parts", "message", "utterance", "full_text"}
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
	// spoken reports whether turns name a speaker instead of a role: then the system is the one that answers.
	spoken bool
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
	isList := slices.Contains(chatFields, d.name) && !slices.Contains(turnsOnly, d.name) || d.name == "messages" || d.name == "conversations"
	if list := listInside(text); list != nil && (isList || isConversationOfObjects(list) || d.name == "prompt" && isTexts(list)) {
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
	if token := leadingToken.FindString(text); token != "" { // of a template that is not known
		d.form = " beginning with " + token
	}
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
		if messages, failure = d.item(messages, i, item, len(items) == 1); failure != nil {
			return nil, failure
		}
	}
	return d.firstQuestion(d.answersOfSystem(messages), items), nil
}

// answersOfSystem gives the system's turns the role of the assistant in a dialog between a user and a system,
// as MultiWOZ and similar corpora name the two speakers.
func (d *decoder) answersOfSystem(messages []schemas.Message) []schemas.Message {
	answers := func(m schemas.Message) bool { return m.Role == "assistant" }
	if !d.spoken || len(messages) == 0 || messages[0].Role != "user" || slices.ContainsFunc(messages, answers) {
		return messages
	}
	for i := range messages {
		if messages[i].Role == "system" {
			messages[i].Role = "assistant"
		}
	}
	return messages
}

// item appends the messages of an item, which may be the only one.
func (d *decoder) item(messages []schemas.Message, i int, item jsontext.Value, only bool) ([]schemas.Message, *schemas.Failure) {
	next := "user"
	if len(messages) > 0 && messages[len(messages)-1].Role == "user" && !d.onlyQuestions() {
		next = "assistant"
	}
	switch item.Kind() {
	case '"':
		if slices.Contains(promptFields, d.name) && d.name != "conversations" && d.form == "" && (!only || d.name != "prompt") {
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
// after the other. MT-Bench has such lists; Chatbot Arena's prompts have them as JSON in a string.
func (d *decoder) onlyQuestions() bool { return d.name == "turns" || d.name == "prompt" }

// firstQuestion keeps the first of several questions.
func (d *decoder) firstQuestion(messages []schemas.Message, items []jsontext.Value) []schemas.Message {
	if !d.onlyQuestions() || len(messages) < 2 {
		return messages
	}
	for _, item := range items {
		if object, isList := objectOf(item); isList || object != nil && !isText(object) {
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
		if inside, isList := objectOf(object[key]); inside != nil && !isList && inside["role"].Kind() == '"' { // of ChatGPT's export
			object = maps.Clone(object)
			object[key] = inside["role"]
		}
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
	// LangChain's messages have the role as their type, and the content in an object.
	if kind := object.text("type"); slices.Contains([]string{"human", "user", "ai", "assistant", "system", "tool"}, kind) {
		for _, text := range []string{"content", "data"} {
			if k := object[text].Kind(); k == '"' || k == '[' || k == '{' {
				return kind, object[text], true
			}
		}
	}
	return "", nil, false
}

func hasAny(object fields, keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, ok := object[key]; return ok })
}

// toolHead begins the output of a tool.
const toolHead = "Result of a tool:\n"

// turn appends a turn. A tool's output is shown as from the user, since servers accept no other role
// without the call's ID. Several outputs in a row become one message.
func (d *decoder) turn(messages []schemas.Message, i int, object fields, speaker string, content jsontext.Value) ([]schemas.Message, *schemas.Failure) {
	text, part, ok := textOf(content)
	d.spoken = d.spoken || object["speaker"].Kind() == '"'
	switch {
	case content == nil:
		for _, call := range callKeys {
			if !isEmpty(object[call]) {
				text = string(object[call])
				break
			}
		}
	case part != "":
		return nil, bad(NoPrompt, "message %d of field %s has a part of the type %s; only text is supported", i+1, d.field, shorten(part))
	case !ok:
		return nil, bad(NoPrompt, "field %s is not a list of {role, content} or {from, value}: the content of message %d is %s", d.field, i+1, kindName(content.Kind()))
	}
	role := roleOf(speaker)
	switch role {
	case "":
		return nil, bad(BadRole, "message %d of field %s has the role %q; known are system, user, assistant and their usual other names: rename it in the file", i+1, d.field, shorten(speaker))
	case "system":
		if blank(text) { // as many files have it for none
			return messages, nil
		}
	case "tool":
		if last := len(messages) - 1; last >= 0 && messages[last].Role == "user" && strings.HasPrefix(messages[last].Content, toolHead) {
			messages[last].Content += "\n\n" + text
			return messages, nil
		}
		role, text = "user", toolHead+text
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
				text, known := partOf(p, object)
				if !known {
					return "", object.text("type"), true
				}
				if text != "" {
					texts = append(texts, text)
				}
			default:
				return "", "", false
			}
		}
		return strings.Join(texts, "\n"), "", true
	}
	return "", "", false
}

// partOf returns the text of a part that is not of the type text. A thought has none.
func partOf(part jsontext.Value, object fields) (text string, known bool) {
	switch object.text("type") {
	case "thinking", "redacted_thinking", "reasoning":
		return "", true
	case "refusal":
		return object.text("refusal"), true
	case "tool_use":
		return string(part), true
	case "tool_result":
		text, _, known = textOf(object["content"])
		return toolHead + text, known
	}
	return "", false
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

// isTexts reports whether a list contains nothing but texts, and at least one.
func isTexts(list jsontext.Value) bool {
	var texts []*string
	return json.Unmarshal(list, &texts) == nil && len(texts) > 0 && !slices.Contains(texts, nil)
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

// leadingToken matches a special token of a chat template at the beginning of a text.
var leadingToken = regexp.MustCompile(`^(?:<[|｜][\w▁]{1,40}[|｜]>|<(?:start_of_turn|extra_id_\d|BOS_TOKEN|bos|s)>|\[(?:INST|SYSTEM_PROMPT|gMASK)\])`)

var listStart = regexp.MustCompile(`^\s*\[\s*[{['"]`)
