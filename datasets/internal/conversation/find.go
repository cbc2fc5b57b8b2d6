package conversation

import (
	"regexp"
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
	chatFields   = []string{
		"conversation", "turns", "data", "dialogue", "dialog", "contents", "chosen", "conversation_a", "text", "transcript", "chat", "dialogs", "msgs", "items",
		"prompt_messages", "chat_messages", "thread", "exchanges", "conversation_input", "chat_log", "utterances", "input", "inputs", "context",
	}
	textFields = []string{"query", "problem", "input", "inputs"}
	// rareFields are read where no other field is the prompt. A line may have only one of them too.
	rareFields = []string{
		"user_prompt", "user_message", "user_input", "user_query", "user_question", "prompt_text", "raw_prompt", "original_prompt", "input_text", "question_text",
		"query_text", "problem_statement", "goal", "behavior", "inputs_pretokenized", "forbidden_prompt", "message", "history", "post",
	}
)

// turnsOnly are the fields of chatFields that are conversations only as lists of turns with roles.
var turnsOnly = []string{"text", "items", "thread", "exchanges", "utterances", "input", "inputs", "context", "history", "chat_history", "conversation_history"}

// histories are the fields with the turns before a text.
var histories = []string{"history", "chat_history", "conversation_history"}

// systemFields are the fields to look for the system message of a conversation without one.
var systemFields = []string{"system", "system_prompt", "system_message", "system_instruction", "systemInstruction", "sys_prompt", "preamble"}

// containers are objects around the prompt's fields: in batch files and annotation tools.
var containers = []string{
	"body", "params", "request", "fields", "record", "input", "inputs", "modelInput", "model_input", "vars", "item", "example", "sample", "instance", "payload", "row", "doc", "data",
	"prompt", "conversation", "dialogue", "chat", "task", "content", "json", "attributes",
}

// noted are further fields that look like part of a prompt.
var noted = []string{
	"instructions", "context", "contexts", "history", "story", "article", "paragraph", "paragraphs", "premise", "hypothesis", "evidence", "knowledge", "facts", "persona",
	"definition", "task_definition", "task_description", "context_string", "selftext", "meta_instruction", "custom_instruction", "custom_instructions",
	"chat_template_kwargs", "schema", "sql_context", "table", "code", "starter_code", "hint", "hints", "choices", "options", "passage", "document", "documents", "background", "tools", "functions", "image", "images", "audio", "video",
}

// IsKnown reports whether a field of that name may be part of a prompt, or its ID.
func IsKnown(name string) bool {
	name = normalName(name)
	for _, list := range [][]string{promptFields, chatFields, textFields, rareFields, histories, systemFields, containers, idFields, {"instructions", "user", "human", "input", "context", "history", "role", "parent_id"}} {
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
	// originals are the original names of renamed fields, for example Prompt for prompt.
	originals map[string]string
}

var (
	// wordStart finds the beginning of a word in a name like systemPrompt.
	wordStart = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	wordBreak = strings.NewReplacer(" ", "_", "-", "_")
)

// normalName returns a field's name as the lists write it: System Prompt and systemPrompt as system_prompt.
func normalName(name string) string {
	if isNormal(name) || slices.Contains(systemFields, name) || slices.Contains(containers, name) {
		return name
	}
	name = wordStart.ReplaceAllString(strings.TrimSpace(name), "${1}_${2}")
	return strings.ToLower(wordBreak.Replace(name))
}

// isNormal reports whether normalName leaves a name as it is because of its characters, as it does most.
func isNormal(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

// normalize gives the known fields of a line their usual names, except the fields that the options
// name.
func (p *parser) normalize(line fields) {
	var unusual []string
	for name := range line {
		if !isNormal(name) {
			unusual = append(unusual, name)
		}
	}
	if len(unusual) == 0 {
		return
	}
	slices.Sort(unusual)
	head, _, _ := strings.Cut(normalPath(p.options.Field), ".")
	for _, name := range unusual {
		usual := normalName(name)
		if _, taken := line[usual]; taken || name == p.options.Field || name == head || name == p.options.IDField || !IsKnown(usual) {
			continue
		}
		line[usual] = line[name]
		delete(line, name)
		if p.originals == nil {
			p.originals = map[string]string{}
		}
		p.originals[usual] = name
	}
}

// original returns a field's name in the line.
func (p *parser) original(path, name string) string {
	if original := p.originals[name]; path == "" && original != "" {
		return original
	}
	return name
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
	for _, name := range slices.Concat(promptFields, chatFields) {
		if list := transposed(f[name]); list != nil {
			f[name] = list
		}
	}
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
	if messages, found, failure = p.takeOnly(f, path, textFields); found {
		return messages, found, failure
	}
	if messages, found, failure = p.searchInside(f, path); found {
		return messages, found, failure
	}
	for _, names := range [][2]string{{"user", "assistant"}, {"human", "assistant"}, {"human", "gpt"}, {"human", "bot"}} {
		if f[names[0]].Kind() == '"' && f[names[1]].Kind() == '"' {
			messages, failure = p.take(f, path, names[0])
			return messages, true, failure
		}
	}
	if messages, found, failure = p.takeOnly(f, path, rareFields); found {
		return messages, found, failure
	}
	for _, name := range histories {
		if isChat(name, f[name]) {
			messages, failure = p.take(f, path, name)
			return messages, true, failure
		}
	}
	return nil, false, nil
}

// takeOnly removes and returns the prompt of the only field of a list with a text. Two of them are an error.
func (p *parser) takeOnly(f fields, path string, list []string) (messages []schemas.Message, found bool, failure *schemas.Failure) {
	var texts []string
	for _, name := range list {
		if !blank(f.text(name)) {
			texts = append(texts, name)
		}
	}
	switch {
	case len(texts) > 1:
		for i, name := range texts {
			texts[i] = p.original(path, name)
		}
		return nil, true, bad(NoPrompt, "%s may each be the prompt; name the one in prompts.field", joined(path, texts))
	case len(texts) == 1:
		messages, failure = p.take(f, path, texts[0])
		return messages, true, failure
	}
	return nil, false, nil
}

// transposed returns the list of turns that an object of lists stands for, as Hugging Face writes a sequence
// of turns: {"from":["human","gpt"],"value":["a","b"]}. It returns nil for anything else.
func transposed(value jsontext.Value) jsontext.Value {
	if value.Kind() != '{' {
		return nil
	}
	object, _ := objectOf(value)
	var turns []fields
	for name, column := range object {
		var cells []jsontext.Value
		if column.Kind() != '[' || json.Unmarshal(column, &cells) != nil || turns != nil && len(cells) != len(turns) {
			return nil
		}
		if turns == nil {
			turns = make([]fields, len(cells))
			for i := range turns {
				turns[i] = fields{}
			}
		}
		for i, cell := range cells {
			turns[i][name] = cell
		}
	}
	list, err := json.Marshal(turns, json.Deterministic(true))
	if err != nil || !isConversationOfObjects(list) {
		return nil
	}
	return list
}

// searchInside searches the objects inside an object.
func (p *parser) searchInside(f fields, path string) (messages []schemas.Message, found bool, failure *schemas.Failure) {
	const maxDepth = 3
	if strings.Count(path, ".") == maxDepth {
		return nil, false, nil
	}
	var inside fields
	for _, name := range []string{"prompt", "question", "instruction", "query", "input"} {
		inside = nil
		if f[name].Kind() == '{' && json.Unmarshal(f[name], &inside) == nil {
			if _, ok := contentOf(inside); ok {
				messages, failure = p.take(f, path, name)
				return messages, true, failure
			}
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
		if slices.Contains(turnsOnly, name) {
			return isConversationOfObjects(value)
		}
		return name != "data" || isConversation(value)
	case '"':
		text := unquote(value)
		if transcript(text) != nil {
			return true
		}
		if list := listInside(text); slices.Contains(turnsOnly, name) || name == "transcript" {
			return list != nil && isConversationOfObjects(list)
		}
		return listInside(text) != nil || name != "chosen" && looksLikeList(text)
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
	shown := shorten(path + p.original(path, name))
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
	messages = p.addSystem(f, name, messages)
	if messages, failure = p.cutAnswer(shown, messages); failure != nil {
		return nil, failure
	}
	p.reading.Unused = append(p.reading.Unused, d.unused...)
	p.note(f, path)
	return messages, checkMessages(shown, messages)
}

// addTexts adds the fields that belong to a text: Alpaca's input and history, Dolly's context.
func (p *parser) addTexts(f fields, name string, messages []schemas.Message) []schemas.Message {
	var added []string
	switch name {
	case "instruction":
		added = []string{"input", "context"}
	case "question":
		added = []string{"context"}
	}
	for _, extra := range added {
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
	for _, history := range histories {
		if f[history].Kind() != '[' {
			continue
		}
		d := decoder{field: history, name: history}
		earlier, failure := d.messages(f[history])
		if failure != nil || len(earlier) == 0 || earlier[len(earlier)-1].Role != "assistant" { // reported as unused
			continue
		}
		delete(f, history)
		p.reading.Form += " + " + history
		return append(earlier, messages...)
	}
	return messages
}

// addSystem prepends the text of a system field to a conversation without a system message.
func (p *parser) addSystem(f fields, prompt string, messages []schemas.Message) []schemas.Message {
	if len(messages) == 0 {
		return messages
	}
	names := systemFields
	if prompt == "input" { // of the Responses API
		names = append(slices.Clone(names), "instructions")
	}
	for _, name := range names {
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
	for name, value := range f {
		usual := normalName(name)
		known := slices.ContainsFunc([][]string{promptFields, chatFields, textFields, systemFields, noted}, func(list []string) bool {
			return slices.Contains(list, usual)
		})
		if !known || usual == "chosen" || usual == "data" || usual == "text" || isEmpty(value) {
			continue
		}
		p.reading.Unused = append(p.reading.Unused, path+p.original(path, name))
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
