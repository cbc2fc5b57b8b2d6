// Package quote keeps what a text says apart from what it quotes.
//
// Into a prompt it puts the texts of others between tags that nothing quoted can close
// ([Text.Fence], [Template]). In an answer it finds the lines that report a result in the
// model's own words ([Label.Reports]): a line inside a quoted block never reports one.
package prompting

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"coeval/schemas"
)

// codeLen is the number of hex digits of a tag's code.
const codeLen = 12

// A Text is a text of others and the tags that it is put between, such as <user-5d41402abc4b>
// and </user-5d41402abc4b>. Their code is a hash of the text.
type Text struct {
	name, text string
	marks      func() marks // taken once, however many prompts quote the text
}

// marks are what of a text decides its tags and those of others.
type marks struct {
	// code is that of its tags on nearly all pages, and fenced the text between those.
	code, fenced string
	// digits are the runs of hexadecimal digits that are long enough to hold a code.
	digits []string
}

// New returns a text with the name of its tags, which is lower-case letters.
func New(name, text string) Text {
	return Text{name, text, sync.OnceValue(func() marks {
		c := code(text, 0)
		return marks{c, between(name, text, c), hexRuns(text)}
	})}
}

// Conversation returns the turns of a conversation, each named after its role, a system
// message as instructions.
func Conversation(messages []schemas.Message) []Text {
	turns := make([]Text, len(messages))
	for i, m := range messages {
		name := "user"
		switch m.Role {
		case "system":
			name = "instructions"
		case "assistant":
			name = "assistant"
		}
		turns[i] = New(name, m.Content)
	}
	return turns
}

// Fence returns the text between its tags. Nothing quoted in the same prompt, which is the
// page, can close them: should a text hold the code, the hash is taken again until none does.
func (t Text) Fence(page []Text) string {
	m := t.marks()
	c := m.code
	for try := 1; t.holds(c) || anyHolds(page, c); try++ {
		c = code(t.text, try)
	}
	if c == m.code {
		return m.fenced
	}
	return between(t.name, t.text, c)
}

func between(name, text, code string) string {
	tag := name + "-" + code
	return "<" + tag + ">\n" + text + "\n</" + tag + ">"
}

// Fences returns each of the texts between its tags.
func Fences(texts, page []Text) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = t.Fence(page)
	}
	return out
}

func (t Text) holds(code string) bool {
	return slices.ContainsFunc(t.marks().digits, func(run string) bool { return strings.Contains(run, code) })
}

func anyHolds(texts []Text, code string) bool {
	return slices.ContainsFunc(texts, func(t Text) bool { return t.holds(code) })
}

// hexRuns returns the runs of codeLen and more hexadecimal digits.
func hexRuns(text string) []string {
	var out []string
	from := 0
	for i := range len(text) + 1 {
		if i < len(text) && (text[i] >= '0' && text[i] <= '9' || text[i] >= 'a' && text[i] <= 'f') {
			continue
		}
		if i-from >= codeLen {
			out = append(out, text[from:i])
		}
		from = i + 1
	}
	return out
}

func code(text string, try int) string {
	return schemas.Digest(text, strconv.Itoa(try))[:codeLen]
}

// Tag matches an opening tag; its group is the tag's name with the code.
var Tag = regexp.MustCompile(`<((?:user|assistant|instructions|response|answer|judgment|tool|reference|question|metadata)-[0-9a-f]{4,12})>`)
