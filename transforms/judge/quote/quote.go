// Package quote keeps what a text says apart from what it quotes.
//
// Into a prompt it puts the texts of others between tags that nothing quoted can close
// ([Fence], [Conversation]). In an answer it finds the lines that report a result in the
// model's own words ([Label.Reports]): a line inside a quoted block never reports one.
package quote

import (
	"regexp"
	"strconv"
	"strings"

	"coeval/schemas"
)

// codeLen is the number of hex digits of a tag's code.
const codeLen = 12

// Fence returns text between a pair of tags such as <user-5d41402abc4b> and
// </user-5d41402abc4b>. The name is lower-case letters. The code is a hash of the text, so
// that what stands inside can't close the fence; should text or another text on the page hold
// the code all the same, the hash is taken again until none does.
func Fence(name, text string, page ...string) string {
	tag := name + "-" + code(text, page)
	return "<" + tag + ">\n" + text + "\n</" + tag + ">"
}

// Room returns about how many bytes a prompt takes that quotes the texts of a page.
func Room(page []string) int {
	n := 4096
	for _, text := range page {
		n += len(text) + 64
	}
	return n
}

func code(text string, page []string) string {
	for try := 0; ; try++ {
		c := schemas.Digest(text, strconv.Itoa(try))[:codeLen]
		if !strings.Contains(text, c) && !anyContains(page, c) {
			return c
		}
	}
}

func anyContains(texts []string, s string) bool {
	for _, text := range texts {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// Conversation returns the turns of a conversation, each fenced with its role. A system
// message is fenced as instructions. Page holds what else is quoted in the same prompt.
func Conversation(messages []schemas.Message, page ...string) []string {
	for _, m := range messages {
		page = append(page, m.Content)
	}
	turns := make([]string, len(messages))
	for i, m := range messages {
		name := "user"
		switch m.Role {
		case "system":
			name = "instructions"
		case "assistant":
			name = "assistant"
		}
		turns[i] = Fence(name, m.Content, page...)
	}
	return turns
}

var tag = regexp.MustCompile(`<([a-z]+-[0-9a-f]{12})>`)

// quoted says of every line whether a part of it is quoted: it stands between the tags of
// [Fence], in a block that Markdown fences with ``` or ~~~, or behind Markdown's >. A block
// that nothing closes goes on to the end; a tag in the middle of a line that nothing closes
// is only spoken of.
func quoted(lines []string) []bool {
	out := make([]bool, len(lines))
	endTag, fence := "", ""
	for i, line := range lines {
		switch {
		case endTag != "":
			out[i] = true
			if strings.Contains(line, endTag) {
				endTag = ""
			}
		case fence != "":
			out[i] = true
			if closesFence(line, fence) {
				fence = ""
			}
		default:
			if fence = opensFence(line); fence != "" {
				out[i] = true
				continue
			}
			out[i], endTag = opensTag(lines[i:])
			out[i] = out[i] || strings.HasPrefix(strings.TrimSpace(line), ">")
		}
	}
	return out
}

// opensFence returns the three or more marks with which a line opens a code block.
func opensFence(line string) string {
	line = strings.TrimSpace(line)
	for _, mark := range []string{"`", "~"} {
		rest := strings.TrimLeft(line, mark)
		if n := len(line) - len(rest); n >= 3 && !strings.Contains(rest, "`") {
			return line[:n]
		}
	}
	return ""
}

func closesFence(line, fence string) bool {
	line = strings.TrimSpace(line)
	return len(line) >= len(fence) && strings.Trim(line, fence[:1]) == ""
}

// opensTag says whether the first line holds quoted text, and which tag ends it when that
// is on a later line.
func opensTag(lines []string) (is bool, endTag string) {
	line := lines[0]
	if strings.IndexByte(line, '<') < 0 {
		return false, ""
	}
	for _, m := range tag.FindAllStringSubmatchIndex(line, -1) {
		end := "</" + line[m[2]:m[3]] + ">"
		switch {
		case strings.Contains(line[m[1]:], end):
			is = true
		case strings.TrimSpace(line) == line[m[0]:m[1]] || anyContains(lines[1:], end):
			return true, end
		}
	}
	return is, ""
}
