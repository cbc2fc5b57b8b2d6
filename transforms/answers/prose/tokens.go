package prose

import (
	"strings"

	"coeval/transforms/answers/patterns"
)

// specialToken matches the tokens with which chat formats begin and end a turn, as servers
// leave them in texts. The general forms are <|name|> and its full-width variant of DeepSeek.
var specialToken = patterns.New(`<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,60}｜>|</?s>|<(?:eos|bos|pad|EOS|BOS|PAD|unk|end_of_turn|start_of_turn|end_of_text|endoftext|im_end|eot_id|eot|end|END)>|\[/?(?:INST|EOS|BOS|PAD|SEP|CLS|END|DONE|AVAILABLE_TOOLS)\]`)

// lastToken matches a special token at the end of a text.
var lastToken = patterns.New(`(?:` + specialToken.String() + `)$`)

// maxToken is the length of the longest special token: 60 characters of up to four bytes in brackets.
const maxToken = 256

// TrimSpecialTokens returns the text without the special tokens at its end, and the last of
// those tokens. The token is empty if the text ends with none, and the text is then unchanged.
func TrimSpecialTokens(text string) (trimmed, token string) { return trimTokens(text, lastToken) }

// trimTokens is TrimSpecialTokens for the tokens that an expression matches at the end of a text.
func trimTokens(text string, last *patterns.Pattern) (trimmed, token string) {
	if !endsLikeToken(text) {
		return text, ""
	}
	trimmed = text
	for {
		rest := strings.TrimRight(trimmed, " \t\n\f\r")
		from := max(0, len(rest)-maxToken)
		at := last.FindStringIndex(rest[from:])
		if at == nil {
			break
		}
		if token == "" {
			token = rest[from+at[0]:]
		}
		trimmed = rest[:from+at[0]]
	}
	if token == "" {
		return text, ""
	}
	return strings.TrimRight(trimmed, " \t\r\n"), token
}

func endsLikeToken(text string) bool {
	text = strings.TrimRight(text, " \t\r\n")
	return strings.HasSuffix(text, ">") || strings.HasSuffix(text, "]")
}

// endToken matches a token at the end of a text that no text ends with on purpose, unlike </s>, [END] and <end>.
var endToken = patterns.New(`(?:<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,60}｜>|</s>|<(?:eos|bos|pad|end_of_turn|start_of_turn|end_of_text|endoftext|im_end|eot_id)>|\[(?:EOS|BOS|PAD)\]|\[/INST\])$`)

// TrimEndTokens is [TrimSpecialTokens] for stored texts. It keeps tokens that may be part of a text,
// such as [END], and the </s> of HTML.
func TrimEndTokens(text string) (trimmed, token string) {
	trimmed, token = trimTokens(text, endToken)
	if strings.Contains(trimmed, "<s>") && strings.Contains(text[len(trimmed):], "</s>") {
		return text, ""
	}
	return trimmed, token
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
