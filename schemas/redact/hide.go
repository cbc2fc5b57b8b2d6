package redact

import (
	"regexp"
	"slices"
	"strings"
)

// Hidden replaces values that may be secrets.
const Hidden = "(not shown: it looks like a secret)"

// keyShape matches keys by their providers' prefixes, and the values of an Authorization header after the
// scheme. The first group stays.
var keyShape = regexp.MustCompile(`(?:\b|_)(?:` + strings.Join([]string{
	`sk-[A-Za-z0-9_\-]{6,}`, // OpenAI, Anthropic, OpenRouter, LiteLLM
	`[srp]k_(?:live|test)_[A-Za-z0-9]{6,}`,
	`hf_[A-Za-z0-9]{8,}`, `gsk_[A-Za-z0-9]{8,}`, `xai-[A-Za-z0-9]{8,}`, `nvapi-[A-Za-z0-9_\-]{8,}`,
	`pplx-[A-Za-z0-9]{8,}`, `fw_[A-Za-z0-9]{16,}`, `csk-[A-Za-z0-9]{8,}`, `r8_[A-Za-z0-9]{16,}`, `tgp_v1_[A-Za-z0-9_\-]{8,}`,
	`AIza[A-Za-z0-9_\-]{20,}`, `ya29\.[A-Za-z0-9_\-]{8,}`,
	`gh[pousr]_[A-Za-z0-9]{16,}`, `github_pat_[A-Za-z0-9_]{16,}`, `glpat-[A-Za-z0-9_\-]{8,}`,
	`(?:AKIA|ASIA)[A-Z0-9]{12,}`, `dapi[0-9a-f]{16,}`, `xox[abprs]-[A-Za-z0-9\-]{8,}`, `lsv2_[A-Za-z0-9_]{8,}`,
	`eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?`,
}, "|") + `)`)

// slashed matches a user and a password with a slash, as in secret keys of AWS. A port has digits only.
const slashed = `[^/\s@"'<>:\[]*:[^/\s"'<>]*[^0-9/\s"'<>][^/\s"'<>]*/[^\s"'<>]*@`

// scheme matches the value of an Authorization header, userinfo a URL's user and password. The first group stays.
var (
	scheme   = regexp.MustCompile(`(?i)\b(bearer|basic)[ +]+[A-Za-z0-9._~+/=\-]{6,}`)
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.\-]*://)(?:[^/\s"'<>]*@|` + slashed + `)`)
)

// Hide replaces values that look like secrets in a text about settings: keys with a known prefix, the
// values of Authorization headers, the user and password of URLs, and values beside a name for which
// [Name] is true, as in api_key=abc or "password": "abc".
func Hide(text string) string {
	text = keyShape.ReplaceAllString(text, Hidden)
	text = scheme.ReplaceAllString(text, "$1 "+Hidden)
	text = userinfo.ReplaceAllString(text, "$1"+Hidden+"@")
	return hideNamed(text)
}

// named matches a name, the first group, with the mark before its value. value matches the value.
var (
	named = regexp.MustCompile(`([A-Za-z][A-Za-z0-9_.\-]*)"?'?\s*[:=]\s*`)
	value = regexp.MustCompile(`^(?:"[^"\n]*"|'[^'\n]*'|[^\s,;&}\])"'/][^\s,;&}\])"']*)`)
)

// hideNamed replaces values beside names of secrets. The value of another name may itself begin with a
// name, as in "prompts: api_key=abc".
func hideNamed(text string) string {
	var out strings.Builder
	done := 0
	for _, at := range named.FindAllStringSubmatchIndex(text, -1) {
		if at[0] < done || !Name(text[at[2]:at[3]]) || strings.HasPrefix(text[at[1]:], Hidden[:1]) {
			continue
		}
		if secret := value.FindString(text[at[1]:]); secret != "" {
			out.WriteString(text[done:at[1]] + Hidden)
			done = at[1] + len(secret)
		}
	}
	return out.String() + text[done:]
}

// Value reports whether a text contains a value that looks like a key; see [Hide].
func Value(text string) bool {
	return keyShape.MatchString(text) || scheme.MatchString(text) || userinfo.MatchString(text)
}

// secretWords are parts of names of secrets, without the marks between words.
var secretWords = []string{
	"apikey", "accesskey", "secret", "password", "passwd", "passphrase", "credential", "authorization", "privatekey",
	"subscriptionkey", "signingkey", "bearer", "apitoken", "accesstoken", "authtoken", "sessiontoken", "refreshtoken",
	"idtoken", "hftoken", "usertoken", "jwt", "cookie", "signature",
}

// secretNames are names of secrets that are also parts of other names.
var secretNames = []string{"token", "xtoken", "auth", "xauth", "keys", "pw", "pwd", "pass", "sig", "sas"}

// plainKeys are names with the word "key" that are not secret.
var plainKeys = []string{"cachekey", "routingkey", "sortkey", "partitionkey", "primarykey", "foreignkey", "publickey", "unknownkey"}

// Name reports whether a field, header or parameter of this name usually contains a secret, for example
// api_key, X-Auth-Token or password. Names of variables and files with a secret, such as api_key_env, do
// not count.
func Name(name string) bool {
	name = name[strings.LastIndexByte(name, '.')+1:]
	plain := strings.ToLower(strings.Map(func(c rune) rune {
		if c == '_' || c == '-' || c == ' ' {
			return -1
		}
		return c
	}, name))
	for _, suffix := range []string{"env", "file", "tokenid", "tokenids"} {
		if strings.HasSuffix(plain, suffix) {
			return false
		}
	}
	for _, word := range secretWords {
		if strings.Contains(plain, word) {
			return true
		}
	}
	if slices.Contains(secretNames, plain) {
		return true
	}
	if !strings.HasSuffix(plain, "key") {
		return false
	}
	for _, word := range plainKeys {
		if strings.HasSuffix(plain, word) {
			return false
		}
	}
	return true
}
