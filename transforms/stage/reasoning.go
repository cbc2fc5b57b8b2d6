package stage

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"coeval/schemas"
	"coeval/transforms/answers/prose"
)

// thoughtNames are the names of the tags around reasoning, in lower case.
const thoughtNames = `think|thinking|thinks|thought|thoughts|inner_thoughts?|inner_monologue|internal_monologue|internal_thoughts?|scratchpad|begin_of_thought|end_of_thought|` +
	`thinking_process|thought_process|chain_of_thought|cot|reasoning_content|antthinking|` +
	`思考|思考过程|思维|思維|推理|推理过程|考え|생각|사고|мысли|мысль|размышление|размышления|gedanken|gedankengang|pensée|pensées|réflexion|pensamiento|pensamientos|pensamento|pensamentos|pensiero|pensieri|تفكير|विचार|düşünce`

// thoughtTag matches a tag around reasoning: <think>, </THINKING>, [THINK], <|begin_of_thought|>,
// <|START_THINKING|>, <|thought_end|>, ◁think▷, 【思考】, <ant:think>. The groups are the slash of
// a closing tag, the word before the name, the name, and the word after it. <unused94> and
// <|inner_prefix|> are tokens of MedGemma and Apertus.
var thoughtTag = regexp.MustCompile(`(?i)[<\[{＜〈《【◁⟨（]\s?[|｜]?(/?)\s?(?:([a-z]{2,12})[:_-])?(` + thoughtNames + `)(?:[_-](start|begin|end|close))?[|｜]?\s?[>\]}＞〉》】▷⟩）]` +
	`|<unused94>|<unused95>|<\|inner_prefix\|>|<\|inner_suffix\|>`)

// closes reports whether the groups of a thoughtTag's match belong to a closing tag.
func closes(m []string) bool {
	switch strings.ToLower(m[2]) {
	case "end", "close", "stop":
		return true
	}
	switch strings.ToLower(m[4]) {
	case "end", "close":
		return true
	}
	return m[1] == "/" || strings.EqualFold(m[3], "end_of_thought") || m[0] == "<unused95>" || strings.EqualFold(m[0], "<|inner_suffix|>")
}

// classic matches the tags that are never anything else in a text, so that one which nothing
// closes means that the text was cut off.
var classic = regexp.MustCompile(`^</?think(?:ing)?>$`)

// A thoughtForm is the set of tags around reasoning: the known ones and those of a role.
type thoughtForm struct {
	tag *regexp.Regexp
	// closing has the closing tags of the role.
	closing, opening map[string]bool
}

var (
	formsMu sync.Mutex
	forms   = map[string]*thoughtForm{"": {tag: thoughtTag}}
)

// formOf returns the form for a role's tags. A tag is an opening one, whose closing tag has a
// slash after the bracket, or an opening and a closing tag with a space between them.
func formOf(tags []string) *thoughtForm {
	key := strings.Join(tags, "\x00")
	formsMu.Lock()
	defer formsMu.Unlock()
	if f, ok := forms[key]; ok {
		return f
	}
	f := &thoughtForm{closing: map[string]bool{}, opening: map[string]bool{}}
	parts := []string{thoughtTag.String()}
	for _, t := range tags {
		open, closing, err := splitTag(t)
		if err != nil {
			continue // validated before
		}
		f.opening[open], f.closing[closing] = true, true
		parts = append(parts, regexp.QuoteMeta(open), regexp.QuoteMeta(closing))
	}
	f.tag = regexp.MustCompile(strings.Join(parts, "|"))
	forms[key] = f
	return f
}

// splitTag returns the opening and the closing tag that a setting names.
func splitTag(s string) (open, closing string, err error) {
	switch parts := strings.Fields(s); {
	case len(parts) == 2 && parts[0] != parts[1]:
		return parts[0], parts[1], nil
	case len(parts) == 1 && len([]rune(s)) >= 3:
		r := []rune(parts[0])
		return parts[0], string(r[0]) + "/" + string(r[1:]), nil
	}
	return "", "", fmt.Errorf("stage: reasoning tag %q; write an opening tag such as <analysis>, or an opening and a closing tag with a space between them", s)
}

// ValidateReasoningTags returns an error that names the first tag with another form.
func ValidateReasoningTags(tags []string) error {
	for _, t := range tags {
		if _, _, err := splitTag(t); err != nil {
			return err
		}
	}
	return nil
}

// StripReasoning removes the reasoning of a model from a generation. It returns the rest of
// the text, trimmed, and the reasoning: first the server's separate field, then the text between tags
// such as <think> and </think>, in order. Tags are the tags of a role.
//
// A closing tag with none open ends reasoning that the chat template opened, so that all text before it
// is reasoning. An opening tag without a closing one means that the text was cut off while the model
// still reasoned: cut is true, and the text after the tag is reasoning. In the middle of a text this
// applies to <think> and <thinking> only, because [thinking] may be a stage direction. Thoughts don't
// nest: the first closing tag ends them.
//
// The channels of harmony are reasoning, except the last one named final. A text without that
// channel was cut off.
//
// The returned text has no reasoning left: to strip it again changes nothing.
func StripReasoning(g schemas.Generation, tags ...string) (text, reasoning string, cut bool) {
	var thoughts []string
	think := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			thoughts = append(thoughts, s)
		}
	}
	think(g.Reasoning)
	text = g.Text
	form := formOf(tags)
	// The texts on both sides of a thought can form a new tag; therefore the loop. Each pass that
	// changes the text removes at least one tag.
	for len(tags) > 0 || hasBracket(text) || strings.HasPrefix(text, "analysis") {
		before := text
		text, cut = finalChannel(text, think, cut)
		text, cut = fencedThoughts(text, think, cut)
		var open bool
		text, open = form.cutThoughts(text, think)
		cut = cut || open
		if text == before {
			break
		}
	}
	return strings.TrimSpace(text), strings.Join(thoughts, "\n\n"), cut
}

// brackets are the beginnings of all known tags and fences around reasoning. The tags of a role may begin otherwise.
var brackets = strings.Fields("< [ { ＜ 〈 《 【 ◁ ⟨ （ ``` ~~~")

func hasBracket(s string) bool {
	return slices.ContainsFunc(brackets, func(b string) bool { return strings.Contains(s, b) })
}

var (
	channel = regexp.MustCompile(`(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*([a-z]+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>`)
	// bareChannels is harmony whose tokens the server took out.
	bareChannels = regexp.MustCompile(`(?s)^analysis(.*?)assistantfinal(.*)$`)
	endOfMessage = regexp.MustCompile(`<\|(?:end|return|call)\|>`)
)

// finalChannel returns the last final channel of a text in harmony's form, and hands the
// other channels to think. Any other text is returned as it is.
func finalChannel(s string, think func(string), cut bool) (text string, isCut bool) {
	if m := bareChannels.FindStringSubmatch(s); m != nil {
		think(m[1])
		return m[2], cut
	}
	if !strings.Contains(s, "<|channel|>") { // spares most texts the expression
		return s, cut
	}
	all := channel.FindAllStringSubmatchIndex(s, -1)
	if len(all) == 0 {
		return s, cut
	}
	text, final := s[:all[0][0]], false
	for i, m := range all {
		end := len(s)
		if i+1 < len(all) {
			end = all[i+1][0]
		}
		body := endOfMessage.ReplaceAllString(s[m[1]:end], "")
		if s[m[2]:m[3]] == "final" {
			text, final = text+body, true
		} else {
			think(body)
		}
	}
	return text, cut || !final
}

// thoughtFence matches the line that opens a text with a code block of reasoning.
var thoughtFence = regexp.MustCompile("^\\s*(`{3,}|~{3,})[ \\t]*(?i:" + thoughtNames + ")[ \\t]*(?:\\n|$)")

// fencedThoughts removes a code block of reasoning from the beginning of a text. Without its end the text was
// cut off.
func fencedThoughts(s string, think func(string), cut bool) (text string, isCut bool) {
	m := thoughtFence.FindStringSubmatchIndex(s)
	if m == nil {
		return s, cut
	}
	fence, rest := s[m[2]:m[3]], s[m[1]:]
	for at := 0; at <= len(rest); {
		line, _, more := strings.Cut(rest[at:], "\n")
		if strings.TrimSpace(line) == fence {
			think(rest[:at])
			return rest[min(at+len(line)+1, len(rest)):], cut
		}
		if !more {
			break
		}
		at += len(line) + 1
	}
	think(rest)
	return "", true
}

// kind reports whether a tag closes reasoning, and whether it counts anywhere in a text.
func (f *thoughtForm) kind(tag string) (closing, anywhere bool) {
	if f.opening[tag] || f.closing[tag] {
		return f.closing[tag], true
	}
	m := thoughtTag.FindStringSubmatch(tag)
	return m != nil && closes(m), classic.MatchString(strings.ToLower(tag))
}

// cutThoughts makes one pass over s and hands each thought to think. Open reports whether the
// last one never ended.
func (f *thoughtForm) cutThoughts(s string, think func(string)) (text string, open bool) {
	var kept strings.Builder
	at, thoughtAt := 0, 0
	tags := f.tag.FindAllStringIndex(s, -1)
	for i, tag := range tags {
		closing, anywhere := f.kind(s[tag[0]:tag[1]])
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
		case !anywhere && strings.TrimSpace(kept.String()+s[at:tag[0]]) != "" && !f.isClosed(s, tags[i+1:]):
			// in the middle of the text, and nothing closes it
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

func (f *thoughtForm) isClosed(s string, later [][]int) bool {
	return slices.ContainsFunc(later, func(tag []int) bool {
		closing, _ := f.kind(s[tag[0]:tag[1]])
		return closing
	})
}

// ReadText returns what a stage reads of a generation: its text, trimmed, without special
// tokens at its end, and without its reasoning when strip is set. Tags are more tags around
// reasoning. Cut reports whether the text is incomplete.
func ReadText(g schemas.Generation, strip bool, tags ...string) (text, reasoning string, cut bool) {
	cut = FinishOf(g.FinishReason) != FinishComplete
	if !strip {
		return withoutTokens(g.Text), g.Reasoning, cut
	}
	text, reasoning, open := StripReasoning(g, tags...)
	return withoutTokens(text), reasoning, cut || open
}

// ReadText is the function ReadText for a generation of the role. Where the server constrains the last line to a
// verdict, it is never part of a thought: the constraint may end a thought before its closing tag.
func (r *Role) ReadText(g schemas.Generation, strip bool) (text, reasoning string, cut bool) {
	text, reasoning, cut = ReadText(g, strip, r.ReasoningTags...)
	if !cut || !strip || r.Verdict == nil || FinishOf(g.FinishReason) != FinishComplete {
		return text, reasoning, cut
	}
	whole := withoutTokens(g.Text)
	at := strings.LastIndexByte(whole, '\n') + 1
	if !r.Verdict.isLine(whole[at:]) {
		return text, reasoning, cut
	}
	g.Text = whole[:at]
	before, reasoning, _ := ReadText(g, strip, r.ReasoningTags...)
	return strings.TrimSpace(before + "\n" + strings.TrimSpace(whole[at:])), reasoning, false
}

// withoutTokens returns a text without the special tokens that a server left at its beginning and at
// its end: a model that is trained on them writes them.
func withoutTokens(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "<") {
		text = strings.TrimSpace(text[len(openTokens.FindString(text)):])
	}
	trimmed, _ := prose.TrimEndTokens(text)
	return trimmed
}

// openTokens matches the tokens that open a turn, or the answer after reasoning: <|assistant|>.
var openTokens = regexp.MustCompile(`(?i)^(?:\s*(?:<\|(?:start_header_id|im_start)\|>\s*assistant\b|<\|(?:(?:start|begin)[a-z_]*|im_start|assistant|response|answer|solution|chatbot_token|end_header_id|bos|message)\|>|<｜(?:begin▁of▁sentence|assistant)｜>))+`)

// unknownTag matches a tag at the beginning of a text.
var unknownTag = regexp.MustCompile(`^\s*([<\[＜〈《【◁⟨])([|｜]?)([\pL][\pL\d_ :-]{1,30})([|｜]?)([>\]＞〉》】▷⟩])`)

// UnknownThoughts returns the tag with which a text begins if its closing tag and more text
// follow, and none of the known tags or of the given ones is meant: it may be around reasoning.
func UnknownThoughts(text string, tags ...string) (tag string, ok bool) {
	m := unknownTag.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	tag = strings.TrimSpace(m[0])
	if form := formOf(tags); form.tag.MatchString(tag) {
		return "", false
	}
	closing := m[1] + m[2] + "/" + m[3] + m[4] + m[5]
	at := strings.Index(text, closing)
	return tag, at >= 0 && strings.TrimSpace(text[at+len(closing):]) != ""
}

// BeginsThoughts reports whether a text begins with a tag around reasoning.
func BeginsThoughts(text string, tags ...string) bool {
	text = strings.TrimSpace(text)
	at := formOf(tags).tag.FindStringIndex(text)
	return at != nil && at[0] == 0 || strings.HasPrefix(text, "<|channel|")
}
