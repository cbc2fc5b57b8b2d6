package access

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"coeval/schemas/redact"
	"coeval/transforms/stage"
)

// Report receives an invalid setting: its key, its value as messages show it, and the allowed values.
type Report func(key, value, allowed string)

// check reports a text unless ok.
func (report Report) check(ok bool, key, value, allowed string) {
	if !ok {
		report(key, Quote(value), allowed)
	}
}

// envName matches the possible names of environment variables.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// longWord matches a text that is more likely a key than a name: 20 letters and digits without a break.
var longWord = regexp.MustCompile(`[A-Za-z0-9]{20,}`)

// keys checks the source of a key, and that the setting is not the key itself.
func (report Report) keys(key, env, file string) {
	report.check(env == "" || file == "", key+".api_key_file", file, "empty while "+key+".api_key_env is given")
	report.secretName(key+".api_key_env", env, envName.MatchString(env))
	report.secretName(key+".api_key_file", file, true)
}

// ownHeaders are the headers of the protocol and of the connection, which the client sets.
var ownHeaders = []string{
	"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
	"Upgrade", "Expect", "Accept-Encoding", "X-Request-Id", "Http2-Settings", "Range",
}

// Check checks the keys, headers and query of a section of the config. Used has those that its servers
// are sent.
func (a *Access) Check(key string, used *Access, report Report) {
	report.keys(key, a.APIKeyEnv, a.APIKeyFile)
	hasKey := used.APIKeyEnv != "" || used.APIKeyFile != ""
	if h := a.APIKeyHeader; h != "" {
		report.check(httpguts.ValidHeaderFieldName(h) && !mayBeSecret(h) && !isOwn(h) && !strings.EqualFold(h, "Authorization"), key+".api_key_header", h,
			"the name of a header, as api-key; empty sends the header Authorization with Bearer KEY")
		report.check(hasKey || key == "worker", key+".api_key_header", h, "empty without a key; give api_key_env or api_key_file, too")
	}
	carrier := cmp.Or(used.APIKeyHeader, "Authorization")
	lower := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		at, value := key+".headers."+redact.Hide(name), a.Headers[name]
		report.check(httpguts.ValidHeaderFieldName(name), key+".headers", name, "names of headers, as X-Org: letters, digits and hyphens")
		report.check(!isOwn(name), at, "set", "nothing: the client sets this header, and another value would break the protocol")
		report.check(!hasKey || !strings.EqualFold(name, carrier), at, "set", "nothing beside an API key, which is sent in this header; remove one of them")
		report.check(!lower[strings.ToLower(name)], at, "set twice", "one value; the case of a header's name does not count")
		lower[strings.ToLower(name)] = true
		report.field(at, name, value)
		report.check(stage.IsReference(value) || httpguts.ValidHeaderFieldValue(value), at, value, "one line of text")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Query)) {
		report.check(name != "" && !mayBeSecret(name), key+".query", name, "names of parameters, as api-version")
		report.field(key+".query."+redact.Hide(name), name, a.Query[name])
	}
}

func isOwn(header string) bool {
	return slices.ContainsFunc(ownHeaders, func(own string) bool { return strings.EqualFold(own, header) })
}

// field checks the value of a header or parameter: a secret has to come from a variable or file.
func (report Report) field(at, name, value string) {
	if env, ok := strings.CutPrefix(value, "env:"); ok {
		report.secretName(at, env, envName.MatchString(env))
		report.check(env != "", at, value, "env:NAME with the name of an environment variable")
		return
	}
	if file, ok := strings.CutPrefix(value, "file:"); ok {
		report.secretName(at+" file", file, true)
		report.check(file != "", at, value, "file:PATH with the path of a file")
		return
	}
	if value != "" && redact.Name(name) || mayBeSecret(value) {
		report(at, redact.Hidden, "env:NAME or file:PATH: put the secret into an environment variable or a file and name it here")
	}
}

// secretName checks the name of a variable or file with a secret. Users often enter the secret itself.
func (report Report) secretName(key, name string, valid bool) {
	if name == "" || valid && !mayBeSecret(name) {
		return
	}
	allowed := "the name of an environment variable, as OPENAI_API_KEY; put the key itself into that variable"
	if strings.HasSuffix(key, "file") {
		allowed = "the path of a file; put the key itself into that file"
	}
	report(key, redact.Hidden, allowed)
}

// mayBeSecret reports whether the name of a variable or file looks like a key.
func mayBeSecret(name string) bool {
	return redact.Value(name) || longWord.MatchString(name) && !strings.ContainsAny(name, "/._")
}

// Hide replaces secrets in wrong places.
func (a *Access) Hide() {
	hide := func(name *string, valid bool) {
		Report(func(string, string, string) { *name = redact.Hidden }).secretName("", *name, valid)
	}
	fields := func(values map[string]string) map[string]string {
		shown := maps.Clone(values)
		for name, value := range values {
			Report(func(string, string, string) { shown[name] = redact.Hidden }).field("", name, value)
		}
		return shown
	}
	hide(&a.APIKeyHeader, true)
	hide(&a.APIKeyEnv, envName.MatchString(a.APIKeyEnv))
	hide(&a.APIKeyFile, true)
	a.Headers, a.Query = fields(a.Headers), fields(a.Query)
}

// HideBody returns the fields of an extra_body for display: none of them if one looks like a secret.
func HideBody(fields map[string]any) map[string]any {
	shown := fields
	CheckBody("", fields, func(string, string, string) { shown = map[string]any{"extra_body": redact.Hidden} })
	return shown
}

// Quote returns a text as messages show it, quoted, with secrets hidden.
func Quote(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%q", redact.Hide(text))
}

// CheckBody checks that no field at any depth of an extra_body looks like a secret, because run.json
// publishes extra_body.
func CheckBody(key string, fields map[string]any, report Report) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		at := key + "." + redact.Hide(name)
		if redact.Name(name) {
			report(at, redact.Hidden, "nothing: run.json publishes extra_body; a key goes into api_key_env, another secret into headers")
			continue
		}
		report.secretValue(at, fields[name])
	}
}

func (report Report) secretValue(at string, value any) {
	switch x := value.(type) {
	case map[string]any:
		CheckBody(at, x, report)
	case []any:
		for i, item := range x {
			report.secretValue(fmt.Sprintf("%s[%d]", at, i), item)
		}
	case string:
		if redact.Value(x) {
			report(at, redact.Hidden, "no secret, since run.json publishes extra_body")
		}
	}
}

// CheckURL checks the base of a server.
func CheckURL(key, value string, report Report) {
	u, err := url.Parse(value)
	ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && !redact.Value(value)
	report.check(ok, key, ShowURL(value), "http:// or https://, a host and a path such as /v1; a key goes into api_key_env, a parameter such as api-version into query")
}

// ShowURL returns a URL for display: without user, password, query and fragment.
func ShowURL(value string) string {
	shown, rest := value, ""
	if i := strings.IndexAny(shown, "?#"); i >= 0 {
		shown, rest = shown[:i], shown[i:i+1]+redact.Hidden
	}
	if at := strings.LastIndexByte(shown, '@'); at >= 0 {
		scheme, _, found := strings.Cut(shown, "://")
		if found {
			scheme += "://"
		} else {
			scheme = ""
		}
		shown = scheme + redact.Hidden + shown[at:]
	}
	return redact.Hide(shown) + rest
}
