package conversation

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
)

// The fields to look for a prompt, in the order of these lists. A field of the first list is the prompt
// with any string or list; a field of the second only with a conversation. The line may have only one
// field of the third.
var (
	promptFields = []string{"prompt", "messages", "instruction", "question", "conversations"}
	chatFields   = []string{"conversation", "turns", "data", "dialogue", "dialog", "contents", "chosen", "conversation_a", "text"}
	textFields   = []string{"query", "problem", "input", "inputs"}
)

// systemFields are the fields to look for the system message of a conversation without one.
var systemFields = []string{"system", "system_prompt", "system_message", "system_instruction", "systemInstruction"}

// containers are objects around the prompt's fields: in batch files and annotation tools.
var containers = []string{"body", "params", "request", "fields", "record"}

// noted are further fields that look like part of a prompt.
var noted = []string{"instructions", "context", "history", "choices", "options", "passage", "document", "documents", "background", "tools", "functions", "image", "images", "audio", "video"}

// IsKnown reports whether a field of that name may be part of a prompt, or its ID.
func IsKnown(name string) bool {
	for _, list := range [][]string{promptFields, chatFields, textFields, systemFields, containers, idFields, {"input", "context", "history", "role", "parent_id"}} {
		if slices.Contains(list, name) {
			return true
		}
	}
	return false
}

// A parser reads one line.
type parser struct {
	options Options
	reading Reading
}

// find removes and returns the prompt of a line.
func (p *parser) find(line fields) ([]schemas.Message, *schemas.Failure) {
	if p.options.Field != "" {
		return p.findField(line)
	}
	messages, found, failure := p.search(line, "")
	if failure != nil || found {
		return messages, failure
	}
	if isTreeMessage(line) {
		return nil, bad(NoPrompt, "the line is one message of a tree (role %s) and no first question; write a conversation a line, as a list of messages", shorten(line.text("role")))
	}
	return nil, bad(NoPrompt, "no field with a prompt was found; the line has %s; name the field in prompts.field", line.describe())
}

// search removes and returns the prompt of an object. The path ends in a dot unless the object is the line.
func (p *parser) search(f fields, path string) (messages []schemas.Message, found bool, failure *schemas.Failure) {
	for _, name := range promptFields {
		if kind := f[name].Kind(); kind == '"' || kind == '[' {
			messages, failure = p.take(f, path, name)
			return messages, true, failure
		}
	}
	for _, name := range chatFields {
		if isChat(name, f[name]) {
			messages, failure = p.take(f, path, name)
			return messages, true, failure
		}
	}
	if isTreeMessage(f) {
		if roleOf(f.text("role")) != "user" || f["parent_id"].Kind() == '"' && f.text("parent_id") != "" {
			return nil, false, nil
		}
		messages, failure = p.take(f, path, "text")
		return messages, true, failure
	}
	var texts []string
	for _, name := range textFields {
		if !blank(f.text(name)) {
			texts = append(texts, name)
		}
	}
	switch {
	case len(texts) > 1:
		return nil, true, bad(NoPrompt, "%s may each be the prompt; name the one in prompts.field", joined(path, texts))
	case len(texts) == 1:
		messages, failure = p.take(f, path, texts[0])
		return messages, true, failure
	}
	return p.searchInside(f, path)
}

// searchInside searches the objects inside an object.
func (p *parser) searchInside(f fields, path string) (messages []schemas.Message, found bool, failure *schemas.Failure) {
	const maxDepth = 3
	if strings.Count(path, ".") == maxDepth {
		return nil, false, nil
	}
	var inside fields
	if f["prompt"].Kind() == '{' && json.Unmarshal(f["prompt"], &inside) == nil {
		if _, ok := contentOf(inside); ok {
			messages, failure = p.take(f, path, "prompt")
			return messages, true, failure
		}
	}
	for _, name := range containers {
		inside = nil
		if f[name].Kind() != '{' || json.Unmarshal(f[name], &inside) != nil {
			continue
		}
		messages, found, failure = p.search(inside, path+name+".")
		if found && failure == nil {
			f.put(name, inside)
		}
		if found {
			return messages, true, failure
		}
	}
	return nil, false, nil
}

// put stores an object back after a removal. An empty object is dropped.
func (f fields) put(name string, object fields) {
	if len(object) == 0 {
		delete(f, name)
		return
	}
	if b, err := json.Marshal(object); err == nil {
		f[name] = b
	}
}

// findField removes and returns the prompt from the field in the options: a field of exactly that name, or
// a path of names and list indexes between dots.
func (p *parser) findField(line fields) ([]schemas.Message, *schemas.Failure) {
	field := p.options.Field
	missing := func() *schemas.Failure {
		return bad(NoPrompt, "no field %s with a string or a list of messages; the line has %s", shorten(field), line.describe())
	}
	if isPrompt(line[field]) {
		return p.take(line, "", field)
	}
	head, rest, nested := strings.Cut(normalPath(field), ".")
	if !nested {
		return nil, missing()
	}
	var descend func(f fields, path, name, rest string) ([]schemas.Message, *schemas.Failure)
	descend = func(f fields, path, name, rest string) ([]schemas.Message, *schemas.Failure) {
		if rest == "" {
			if !isPrompt(f[name]) {
				return nil, missing()
			}
			return p.take(f, path, name)
		}
		head, tail, _ := strings.Cut(rest, ".")
		inside, isList := objectOf(f[name])
		if inside == nil {
			return nil, missing()
		}
		messages, failure := descend(inside, path+name+".", head, tail)
		if failure == nil && !isList { // a list stays complete
			f.put(name, inside)
		}
		return messages, failure
	}
	return descend(line, "", head, rest)
}

// normalPath writes turns[0].content as turns.0.content.
func normalPath(field string) string {
	return strings.NewReplacer("[", ".", "]", "").Replace(field)
}

// objectOf returns the members of an object, or of a list by their indexes.
func objectOf(value jsontext.Value) (members fields, isList bool) {
	switch value.Kind() {
	case '{':
		if json.Unmarshal(value, &members) != nil {
			return nil, false
		}
	case '[':
		var items []jsontext.Value
		if json.Unmarshal(value, &items) != nil {
			return nil, true
		}
		members = fields{}
		for i, item := range items {
			members[strconv.Itoa(i)] = item
		}
		return members, true
	}
	return members, false
}

// isPrompt reports whether a value at the path in the options may be a prompt.
func isPrompt(value jsontext.Value) bool {
	switch value.Kind() {
	case '"', '[':
		return true
	case '{':
		object, _ := objectOf(value)
		_, ok := contentOf(object)
		return ok
	}
	return false
}

// isChat reports whether a field of chatFields contains a conversation. A string does if it is a
// transcript or a list in JSON; any other string is another text, for example an answer.
func isChat(name string, value jsontext.Value) bool {
	switch value.Kind() {
	case '[':
		return name != "text" && name != "data" || isConversation(value)
	case '"':
		text := unquote(value)
		if transcript(text) != nil {
			return true
		}
		return listInside(text) != nil || name != "text" && name != "chosen" && looksLikeList(text)
	}
	return false
}

// isConversation reports whether a list contains turns or texts.
func isConversation(list jsontext.Value) bool {
	var items []jsontext.Value
	if json.Unmarshal(list, &items) != nil || len(items) == 0 {
		return false
	}
	kind := items[0].Kind()
	if kind == '{' {
		object, _ := objectOf(items[0])
		_, _, ok := turnOf(object)
		return ok
	}
	return kind == '"' || kind == '['
}

// isTreeMessage reports whether a line is one message of OpenAssistant's trees.
func isTreeMessage(f fields) bool {
	_, tree := f["parent_id"]
	return tree && f["role"].Kind() == '"' && f["text"].Kind() == '"'
}

func joined(path string, names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = path + name
	}
	return strings.Join(all, " and ")
}

// take removes and returns the prompt of a field, with the other fields that belong to it.
func (p *parser) take(f fields, path, name string) ([]schemas.Message, *schemas.Failure) {
	value := f[name]
	shown := shorten(path + name)
	d := decoder{field: shown, name: name}
	messages, failure := d.messages(value)
	if failure != nil {
		return nil, failure
	}
	delete(f, name)
	p.reading.Form = shown + d.form
	if d.plain && len(messages) > 0 {
		messages = p.addTexts(f, name, messages)
	}
	messages = p.addSystem(f, messages)
	if messages, failure = p.cutAnswer(shown, messages); failure != nil {
		return nil, failure
	}
	p.reading.Unused = append(p.reading.Unused, d.unused...)
	p.note(f, path)
	return messages, checkMessages(shown, messages)
}

// addTexts adds the fields that belong to a text: Alpaca's input and history, Dolly's context.
func (p *parser) addTexts(f fields, name string, messages []schemas.Message) []schemas.Message {
	if name != "instruction" && name != "question" {
		return messages
	}
	var added []string
	if name == "instruction" {
		added = append(added, "input")
	}
	for _, extra := range append(added, "context") {
		if f[extra].Kind() != '"' {
			continue
		}
		text := f.text(extra)
		if extra == "input" || !blank(text) {
			delete(f, extra)
		}
		if !blank(text) {
			messages[0].Content += "\n\n" + text
			p.reading.Form += " + " + extra
		}
	}
	if f["history"].Kind() != '[' {
		return messages
	}
	d := decoder{field: "history", name: "history"}
	earlier, failure := d.messages(f["history"])
	if failure != nil || len(earlier) == 0 { // unreadable fields are listed as unused
		return messages
	}
	delete(f, "history")
	p.reading.Form += " + history"
	return append(earlier, messages...)
}

// addSystem prepends the text of a system field to a conversation without a system message.
func (p *parser) addSystem(f fields, messages []schemas.Message) []schemas.Message {
	if len(messages) == 0 {
		return messages
	}
	for _, name := range systemFields {
		text, _, ok := textOf(f[name])
		if !ok {
			var object fields
			if object, _ = objectOf(f[name]); object != nil {
				text, ok = contentOf(object)
			}
		}
		switch {
		case !ok || blank(text):
			continue
		case messages[0].Role != "system":
			delete(f, name)
			p.reading.Form += " + " + name
			return append([]schemas.Message{{Role: "system", Content: text}}, messages...)
		case strings.TrimSpace(messages[0].Content) == strings.TrimSpace(text):
			delete(f, name) // a repetition of the message
		}
	}
	return messages
}

// cutAnswer omits the answer after the user's last message.
func (p *parser) cutAnswer(field string, messages []schemas.Message) ([]schemas.Message, *schemas.Failure) {
	end := len(messages)
	for end > 0 && messages[end-1].Role == "assistant" {
		end--
	}
	switch {
	case end == len(messages):
		return messages, nil
	case end == 0:
		return nil, bad(LastNotUser, "field %s has no message from the user; a prompt ends with the user", field)
	case p.options.KeepAnswer:
		return nil, bad(LastNotUser, "the last message of field %s is from the assistant; a prompt ends with the user; set prompts.drop_last_answer to auto to leave answers out", field)
	}
	p.reading.AnswerDropped = true
	return messages[:end], nil
}

// note lists the remaining fields that look like part of a prompt.
func (p *parser) note(f fields, path string) {
	for _, list := range [][]string{promptFields, chatFields, textFields, systemFields, noted} {
		for _, name := range list {
			if name == "chosen" || name == "data" || name == "text" || isEmpty(f[name]) {
				continue
			}
			p.reading.Unused = append(p.reading.Unused, path+name)
		}
	}
	slices.Sort(p.reading.Unused)
	p.reading.Unused = slices.Compact(p.reading.Unused)
}

// isEmpty reports whether a value has no content.
func isEmpty(value jsontext.Value) bool {
	switch value.Kind() {
	case '"':
		return blank(unquote(value))
	case '[', '{':
		object, _ := objectOf(value)
		return len(object) == 0
	}
	return true // numbers and booleans are not part of a prompt
}

func checkMessages(field string, messages []schemas.Message) *schemas.Failure {
	if len(messages) == 0 {
		return bad(EmptyPrompt, "field %s has no message", field)
	}
	for i, m := range messages {
		if blank(m.Content) {
			return bad(EmptyPrompt, "message %d of field %s is blank", i+1, field)
		}
	}
	if last := messages[len(messages)-1].Role; last != "user" {
		return bad(LastNotUser, "the last message of field %s is from the %s; a prompt ends with the user", field, last)
	}
	return nil
}
