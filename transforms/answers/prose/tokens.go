package prose

import (
	"regexp"
	"strings"
)

// specialToken matches the tokens with which chat formats begin and end a turn, as servers
// leave them in texts. The general forms are <|name|> and its full-width variant of DeepSeek.
var specialToken = regexp.MustCompile(`<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,60}｜>|</?s>|<(?:eos|bos|pad|EOS|BOS|PAD|unk|end_of_turn|start_of_turn|end_of_text|endoftext|im_end|eot_id|end|END)>|\[/?(?:INST|EOS|BOS|PAD|SEP|CLS|END|DONE|AVAILABLE_TOOLS)\]`)

// atEnd matches special tokens at the end of a text.
var atEnd = regexp.MustCompile(`(?:\s*(?:` + specialToken.String() + `))+\s*$`)

// TrimSpecialTokens returns the text without the special tokens at its end, and the last of
// those tokens. The token is empty if the text ends with none, and the text is then unchanged.
func TrimSpecialTokens(text string) (trimmed, token string) {
	if !endsLikeToken(text) {
		return text, ""
	}
	at := atEnd.FindStringIndex(text)
	if at == nil {
		return text, ""
	}
	all := specialToken.FindAllString(text[at[0]:], -1)
	return strings.TrimRight(text[:at[0]], " \t\r\n"), all[len(all)-1]
}

func endsLikeToken(text string) bool {
	text = strings.TrimRight(text, " \t\r\n")
	return strings.HasSuffix(text, ">") || strings.HasSuffix(text, "]")
}

// endToken matches the tokens that no text ends with on purpose, unlike </s>, [END] and <end>.
var endToken = regexp.MustCompile(`(?:\s*(?:<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,60}｜>|</s>|<(?:eos|bos|pad|end_of_turn|start_of_turn|end_of_text|endoftext|im_end|eot_id)>|\[(?:EOS|BOS|PAD)\]|\[/INST\]))+\s*$`)

// TrimEndTokens is [TrimSpecialTokens] for stored texts. It keeps tokens that may be part of a text,
// such as [END], and the </s> of HTML.
func TrimEndTokens(text string) (trimmed, token string) {
	if !endsLikeToken(text) {
		return text, ""
	}
	at := endToken.FindStringIndex(text)
	if at == nil || strings.Contains(text[:at[0]], "<s>") && strings.Contains(text[at[0]:], "</s>") {
		return text, ""
	}
	all := specialToken.FindAllString(text[at[0]:], -1)
	return strings.TrimRight(text[:at[0]], " \t\r\n"), all[len(all)-1]
}

// SplitTokens takes the special tokens out of a text. A token in the middle of the text ends a
// turn: it becomes a line break, and turns has the number of the line after it.
func SplitTokens(text string) (plain string, turns []int) {
	text, _ = TrimSpecialTokens(text)
	if !strings.ContainsAny(text, "<[") {
		return text, nil
	}
	var b strings.Builder
	at := 0
	for _, m := range specialToken.FindAllStringIndex(text, -1) {
		b.WriteString(text[at:m[0]])
		at = m[1]
		if strings.TrimSpace(b.String()) == "" {
			continue // it opens the text
		}
		b.WriteByte('\n')
		turns = append(turns, strings.Count(b.String(), "\n"))
	}
	if at == 0 {
		return text, nil
	}
	b.WriteString(text[at:])
	return b.String(), turns
}
