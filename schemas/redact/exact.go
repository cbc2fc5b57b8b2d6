package redact

import (
	"regexp"
	"strings"
)

// exactKey matches whole keys: a provider's prefix and as many random characters as its keys have.
var exactKey = regexp.MustCompile(`(?:^|[^A-Za-z0-9])(?:` + strings.Join([]string{
	`hf_[A-Za-z0-9]{30,}`, `gsk_[A-Za-z0-9]{40,}`, `xai-[A-Za-z0-9]{40,}`, `pplx-[A-Za-z0-9]{40,}`, `nvapi-[A-Za-z0-9_\-]{60,}`,
	`r8_[A-Za-z0-9]{30,}`, `[srp]k_(?:live|test)_[A-Za-z0-9]{20,}`, `AIza[A-Za-z0-9_\-]{35}`,
	`gh[pousr]_[A-Za-z0-9]{36,}`, `github_pat_[A-Za-z0-9_]{36,}`, `glpat-[A-Za-z0-9_\-]{20,}`, `(?:AKIA|ASIA)[A-Z0-9]{16}`,
	`xox[abprs]-[0-9]+-[A-Za-z0-9\-]{20,}`, `dapi[0-9a-f]{32}`, `lsv2_[a-z]{2}_[0-9a-f]{32}[A-Za-z0-9_]*`,
	`eyJ[A-Za-z0-9_\-]{16,}\.eyJ[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}`,
}, "|") + `)`)

// skKey matches words with the prefix of OpenAI, Anthropic, OpenRouter and LiteLLM, which other names have, too.
var skKey = regexp.MustCompile(`(?:^|[^A-Za-z0-9])sk-([A-Za-z0-9_\-]{20,})`)

// authorization matches a header with a literal value, and password a literal password in a URL: a shell takes
// $PASSWORD from a variable, and the output of a command stands in backquotes.
var (
	authorization = regexp.MustCompile(`(?i)\bauthorization["']?\s*[:=]\s*["']?(?:bearer|basic|token)\s+[A-Za-z0-9._~+/=\-]{16,}`)
	password      = regexp.MustCompile("[A-Za-z][A-Za-z0-9+.\\-]*://[^/\\s\"'<>@:]*:[^$`{/\\s\"'<>@][^/\\s\"'<>@]*@")
)

// Exact reports whether a command line contains a value that is almost certainly a key, for refusals. [Value] matches
// short words and parts of names, too.
func Exact(text string) bool {
	for _, m := range skKey.FindAllStringSubmatch(text, -1) {
		if isRandom(m[1]) {
			return true
		}
	}
	return exactKey.MatchString(text) || authorization.MatchString(text) || password.MatchString(text)
}

// isRandom reports whether a word has lower-case and upper-case letters and digits, or a run of 32 characters with a digit.
func isRandom(word string) bool {
	const digits, run = "0123456789", 32
	if strings.ContainsAny(word, digits) && strings.ToLower(word) != word && strings.ToUpper(word) != word {
		return true
	}
	for part := range strings.FieldsFuncSeq(word, func(c rune) bool { return c == '-' || c == '_' }) {
		if len(part) >= run && strings.ContainsAny(part, digits) {
			return true
		}
	}
	return false
}
