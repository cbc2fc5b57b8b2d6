package conversation

import (
	"regexp"
	"strings"

	"coeval/schemas"
)

// A template is a form of chat as one text. The group of each mark names the speaker of the text after
// the mark.
type template struct {
	mark *regexp.Regexp
	// ends are the tokens at the ends of turns.
	ends []string
	// opening matches a text before the first mark, which is dropped. Nil allows none.
	opening *regexp.Regexp
	// before is the role of a text before the first mark. Empty allows none.
	before string
	// words reports whether the marks are words, which other texts have too: then an answer must follow.
	words bool
}

// templates are the forms of known models and corpora.
var templates = []template{
	{mark: regexp.MustCompile(`<\|im_start\|>\s*(\w+)[ \t]*(?:\n|$)`), ends: []string{"<|im_end|>", "<|endoftext|>"}},                          // ChatML, Qwen
	{mark: regexp.MustCompile(`<\|start_header_id\|>(\w+)<\|end_header_id\|>`), ends: []string{"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}}, // Llama 3
	{mark: regexp.MustCompile(`<\|header_start\|>(\w+)<\|header_end\|>`), ends: []string{"<|eot|>"}},                                           // Llama 4
	{mark: regexp.MustCompile(`<start_of_turn>(\w+)[ \t]*(?:\n|$)`), ends: []string{"<end_of_turn>", "<eos>"}},                                 // Gemma
	{mark: regexp.MustCompile(`<\|start_of_role\|>(\w+)<\|end_of_role\|>`), ends: []string{"<|end_of_text|>"}},                                 // Granite
	{mark: regexp.MustCompile(`<\|(system|user|assistant|prompter)\|>`), ends: []string{"<|end|>", "</s>", "<|endoftext|>"}},                   // Zephyr, Phi, OpenAssistant
	{mark: regexp.MustCompile(`<｜(User|Assistant)｜>`), ends: []string{"<｜end▁of▁sentence｜>"}, before: "system"},                                // DeepSeek
	{mark: regexp.MustCompile(`<extra_id_[01]>(System|User|Assistant)\n`)},                                                                     // Nemotron
	{mark: regexp.MustCompile(`\n<extra_id_1>(User|Assistant)\n`), before: "user"},                                                             // HelpSteer
	{mark: regexp.MustCompile(`<\|im_start\|>(\w+)<\|im_sep\|>`), ends: []string{"<|im_end|>"}},                                                // Phi-4
	{mark: regexp.MustCompile(`<\|im_(?:system|user|assistant)\|>(\w+)<\|im_middle\|>`), ends: []string{"<|im_end|>"}},                         // Kimi
	{mark: regexp.MustCompile(`<\|START_OF_TURN_TOKEN\|><\|(SYSTEM|USER|CHATBOT)_TOKEN\|>`), ends: []string{"<|END_OF_TURN_TOKEN|>"}},          // Command R
	{ // gpt-oss
		mark: regexp.MustCompile(`<\|start\|>(\w+)(?:<\|channel\|>(\w+))?(?:<\|message\|>|$)`),
		ends: []string{"<|end|>", "<|return|>", "<|call|>"},
	},
	{mark: regexp.MustCompile(`(?:^|\s|<\|end_of_turn\|>)GPT4 (?:Correct )?(User|Assistant): ?`), ends: []string{"<|end_of_turn|>"}, words: true}, // OpenChat
	{mark: regexp.MustCompile(`\[\|(Human|AI)\|\] ?`), opening: regexp.MustCompile(`^The conversation between`)},                                  // Baize
	{mark: regexp.MustCompile(`\[(/?INST|/?SYSTEM_PROMPT)\]`), ends: []string{"</s>", "<s>"}},                                                     // Llama 2, Mistral
	{ // Alpaca
		mark:    regexp.MustCompile(`(?:^|\n)###\s*(Instruction|Input|Response|Output|System)\s*:`),
		opening: regexp.MustCompile(`^Below is an instruction`), words: true,
	},
	{mark: regexp.MustCompile(`(?:^|\s)(USER|ASSISTANT|SYSTEM):`), ends: []string{"</s>", "<|endoftext|>"}, opening: regexp.MustCompile(`^A chat between`), words: true}, // Vicuna
	{mark: regexp.MustCompile(`(?:^|\n|\n?### )(Human|User|Assistant|System): ?`), words: true},                                                                          // Anthropic's HH, Guanaco
}

var (
	beginnings   = regexp.MustCompile(`^(?:\s|<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>|<\|endoftext\|>|<BOS_TOKEN>|\[gMASK\]|<sop>|<\|startoftext\|>)+`)
	systemInside = regexp.MustCompile(`(?s)^\s*<<SYS>>(.*?)<</SYS>>(.*)$`)
)

// transcript returns the turns of a transcript, for example of "\n\nHuman: Hi\n\nAssistant: Yes?". A
// transcript begins with a mark of the user or the system. Nil means another text.
func transcript(text string) []schemas.Message {
	beginning := beginnings.FindString(text)
	text = text[len(beginning):]
	for i := range templates {
		t := &templates[i]
		if t.before == "system" && blank(beginning) && !t.beginsWith(text) {
			continue // a text about tokens
		}
		if turns := t.turns(text); turns != nil {
			return turns
		}
	}
	return nil
}

// beginsWith reports whether a text begins with a mark.
func (t *template) beginsWith(text string) bool {
	at := t.mark.FindStringIndex(text)
	return at != nil && at[0] == 0
}

// turns returns the turns of a text, nil if it is not of this form.
func (t *template) turns(text string) (turns []schemas.Message) {
	at := t.mark.FindAllStringSubmatchIndex(text, -1)
	if len(at) == 0 {
		return nil
	}
	if first := at[0]; first[0] > 0 {
		switch {
		case t.before == "user" && roleOf(text[first[2]:first[3]]) == "assistant", t.before == "system":
			turns = append(turns, schemas.Message{Role: t.before, Content: strings.TrimSpace(text[:first[0]])})
		case t.opening == nil || !t.opening.MatchString(text):
			return nil
		}
	}
	answered := false
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		content := text[m[1]:end]
		for _, token := range t.ends {
			content = strings.ReplaceAll(content, token, "")
		}
		name := text[m[2]:m[3]]
		role := markedRole(name)
		if s := systemInside.FindStringSubmatch(content); s != nil && name == "INST" {
			turns = append(turns, schemas.Message{Role: "system", Content: strings.TrimSpace(s[1])})
			content = s[2]
		}
		content = strings.TrimSpace(content)
		last := len(turns) - 1
		switch {
		case role == "", last < 0 && (role == "assistant" || role == "tool"):
			return nil
		case len(m) > 4 && m[4] >= 0 && text[m[4]:m[5]] == "analysis": // a thought
			continue
		case content == "" && (role != "user" || i == len(at)-1 && last >= 0 && turns[last].Role == "assistant"):
			answered = answered || role == "assistant" // where the answer goes, or no system message, or the next question
			continue
		case role == "tool":
			role, content = "user", toolHead+content
		case name == "Input" && last >= 0 && turns[last].Role == "user":
			turns[last].Content += "\n\n" + content
			continue
		}
		answered = answered || role == "assistant"
		turns = append(turns, schemas.Message{Role: role, Content: content})
	}
	if t.words && !answered {
		return nil
	}
	return turns
}

// markedRole returns the role that a mark names, empty for an unknown one.
func markedRole(name string) string {
	switch name {
	case "INST":
		return "user"
	case "/INST":
		return "assistant"
	case "SYSTEM_PROMPT", "/SYSTEM_PROMPT":
		return "system"
	}
	return roleOf(name)
}
