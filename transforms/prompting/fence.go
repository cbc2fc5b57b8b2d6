// Package prompting renders prompts that quote untrusted texts.
//
// A [Page] puts each quoted text between tags that the text itself cannot close. A [Template] inserts the
// tagged texts. Package answers recognizes the tags in the model's text.
package prompting

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"coeval/schemas"
)

// Lengths of codes in hexadecimal digits.
const (
	shortCode = 4
	longCode  = 12
)

// maxShort bounds the short codes that are tried: a hostile text with all of them would need 300 kB.
// Long codes follow.
const maxShort = 16

// Tag matches an opening tag; its group is the tag's name with the code.
var Tag = regexp.MustCompile(`<((?:user|assistant|instructions|response|answer|judgment|tool|reference|question|metadata)-[0-9a-f]{4,12})>`)

// A Text is a text of others and the name of the tags around it, in lower-case letters.
type Text struct{ Name, Text string }

// A Conversation is the turns of a prompt with the code of the tags that quote them. It is
// safe for concurrent use, so that all calls on a prompt share one.
type Conversation struct {
	Turns []Text
	// Messages are the turns as they are.
	Messages []schemas.Message

	code   func() string
	fenced func() []string
}

// NewConversation returns the conversation of a prompt. Each turn's tags are named after its
// role; a system message is named instructions.
func NewConversation(messages []schemas.Message) *Conversation {
	c := &Conversation{Messages: messages, Turns: make([]Text, len(messages))}
	for i, m := range messages {
		name := "user"
		switch m.Role {
		case "system":
			name = "instructions"
		case "assistant", "tool":
			name = m.Role
		}
		c.Turns[i] = Text{name, m.Content}
	}
	c.code = sync.OnceValue(func() string { return c.freeCode(0, nil) })
	c.fenced = sync.OnceValue(func() []string { return fenceAll(c.Turns, c.code()) })
	return c
}

// Question returns the last turn of the user; empty if there is none.
func (c *Conversation) Question() Text {
	for _, t := range slices.Backward(c.Turns) {
		if t.Name == "user" {
			return Text{"question", t.Text}
		}
	}
	return Text{"question", ""}
}

// freeCode returns the first code from the given try on that no text of the page contains.
func (c *Conversation) freeCode(try int, others []Text) string {
	for ; ; try++ {
		if code := c.codeOf(try); !contains(c.Turns, code) && !contains(others, code) {
			return code
		}
	}
}

// codeOf returns a code that depends on the conversation alone: prompts about one conversation
// begin alike, so that a server's prefix cache serves them.
func (c *Conversation) codeOf(try int) string {
	parts := make([]string, 0, len(c.Turns)+1)
	for _, t := range c.Turns {
		parts = append(parts, t.Text)
	}
	n := shortCode
	if try >= maxShort {
		n = longCode
	}
	return schemas.Digest(append(parts, strconv.Itoa(try))...)[:n]
}

func contains(texts []Text, code string) bool {
	return slices.ContainsFunc(texts, func(t Text) bool { return strings.Contains(t.Text, "-"+code) })
}

// A Page is one prompt with everything that it quotes. All its tags have one code, which no
// quoted text contains.
type Page struct {
	conversation *Conversation
	code         string
	// perText is the fencing of the templates of November 2026, with a code for each text.
	perText []Text
}

// NewPage returns the page of a conversation and the other texts that a prompt quotes.
func NewPage(c *Conversation, others ...Text) *Page {
	code := c.code()
	if contains(others, code) {
		code = c.freeCode(1, others)
	}
	return &Page{conversation: c, code: code}
}

// Conversation returns the turns, each between its tags.
func (p *Page) Conversation() []string {
	switch {
	case p.perText != nil:
		out := make([]string, len(p.conversation.Turns))
		for i, t := range p.conversation.Turns {
			out[i] = p.Fence(t)
		}
		return out
	case p.code == p.conversation.code():
		return p.conversation.fenced()
	}
	return fenceAll(p.conversation.Turns, p.code)
}

// Fence returns a text of the page between its tags.
func (p *Page) Fence(t Text) string {
	if p.perText != nil {
		return fencePerText(t, p.perText)
	}
	return between(t, p.code)
}

func fenceAll(texts []Text, code string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = between(t, code)
	}
	return out
}

func between(t Text, code string) string {
	tag := t.Name + "-" + code
	return "<" + tag + ">\n" + t.Text + "\n</" + tag + ">"
}

// NewPagePerText returns a page whose texts have a code each, a hash of 12 digits: the form of
// the templates of November 2026, whose journals replay only if prompts have the same bytes.
func NewPagePerText(c *Conversation, others ...Text) *Page {
	return &Page{conversation: c, perText: append(slices.Clone(c.Turns), others...)}
}

// fencePerText takes the hash of a text again until no text of the page contains it.
func fencePerText(t Text, page []Text) string {
	for try := 0; ; try++ {
		code := schemas.Digest(t.Text, strconv.Itoa(try))[:longCode]
		holds := func(other Text) bool { return strings.Contains(other.Text, code) }
		if !holds(t) && !slices.ContainsFunc(page, holds) {
			if t.Name == "tool" {
				t.Name = "user" // as these templates named it
			}
			return between(t, code)
		}
	}
}
