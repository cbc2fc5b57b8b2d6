package stage

import (
	"regexp"
	"strings"

	"coeval/schemas"
)

var thinkTag = regexp.MustCompile(`</?think(?:ing)?>`)

// StripReasoning takes the thoughts of a reasoning model out of a generation. It returns
// the text that is left, trimmed, and the thoughts: what the server kept apart, then what
// stood between <think> and </think> or <thinking> and </thinking>, in their order.
//
// A closing tag with none open ends thoughts that the chat template opened, so all that
// stands before it is reasoning. An opening tag that nothing closes means that the text was
// cut off while the model still thought: cut is true, and what follows the tag is reasoning.
// Thoughts don't nest: the first closing tag ends them.
//
// The text that it returns has no tag left: to strip it again changes nothing.
func StripReasoning(g schemas.Generation) (text, reasoning string, cut bool) {
	var thoughts []string
	think := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			thoughts = append(thoughts, s)
		}
	}
	think(g.Reasoning)
	text = g.Text
	// What was on both sides of a thought can make a new tag, hence the loop. Each pass
	// removes at least one tag.
	for strings.Contains(text, "think") && thinkTag.MatchString(text) {
		var open bool
		text, open = cutThoughts(text, think)
		cut = cut || open
	}
	return strings.TrimSpace(text), strings.Join(thoughts, "\n\n"), cut
}

// cutThoughts makes one pass over s and hands each thought to think. Open says that the
// last one never ended.
func cutThoughts(s string, think func(string)) (text string, open bool) {
	var kept strings.Builder
	at, thoughtAt := 0, 0
	for _, tag := range thinkTag.FindAllStringIndex(s, -1) {
		closing := s[tag[0]+1] == '/'
		switch {
		case open && closing:
			think(s[thoughtAt:tag[0]])
			at, open = tag[1], false
		case open: // a thought about the tag itself
		case closing:
			kept.WriteString(s[at:tag[0]])
			think(kept.String())
			kept.Reset()
			at = tag[1]
		default:
			kept.WriteString(s[at:tag[0]])
			thoughtAt, open = tag[1], true
		}
	}
	if open {
		think(s[thoughtAt:])
		return kept.String(), true
	}
	kept.WriteString(s[at:])
	return kept.String(), false
}

// ReadText returns what a stage reads of a generation: its text, trimmed, without its
// thoughts when strip is set. Cut says that the text is not all of what the model meant to
// say.
func ReadText(g schemas.Generation, strip bool) (text, reasoning string, cut bool) {
	if !strip {
		return strings.TrimSpace(g.Text), g.Reasoning, FinishOf(g.FinishReason) != FinishComplete
	}
	text, reasoning, cut = StripReasoning(g)
	return text, reasoning, cut || FinishOf(g.FinishReason) != FinishComplete
}
