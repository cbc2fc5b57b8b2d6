package access

import (
	"fmt"
	"strings"
	"testing"
)

// Settings that would break the protocol or show a secret are refused. The sentence names the key and the
// remedy, and never the value.
func TestAccessIsChecked(t *testing.T) {
	header := func(name, value string) func(a, used *Access) {
		return func(a, _ *Access) { a.Headers = map[string]string{name: value} }
	}
	tests := []struct {
		name   string
		change func(a, used *Access)
		want   string // in the sentence; empty is allowed
	}{
		{"a header", header("OpenAI-Organization", "org-lab"), ""},
		{"a header from a variable", header("X-Api-Key", "env:LAB_KEY"), ""},
		{"a header from a file", header("Cookie", "file:/run/secrets/cookie"), ""},
		{"a parameter", func(a, _ *Access) { a.Query = map[string]string{"api-version": "2024-10-21"} }, ""},
		{"Azure", func(a, _ *Access) { a.APIKeyEnv, a.APIKeyHeader = "AZURE_KEY", "api-key" }, ""},
		{"Authorization of one's own", header("authorization", "env:TOKEN"), ""},
		{"Authorization beside a key in another header", func(a, _ *Access) {
			a.APIKeyEnv, a.APIKeyHeader, a.Headers = "KEY", "api-key", map[string]string{"Authorization": "env:TOKEN"}
		}, ""},
		{"the length", header("content-length", "3"), "judge.headers.content-length"},
		{"the host", header("Host", "other"), "break the protocol"},
		{"the coding", header("Transfer-Encoding", "chunked"), "break the protocol"},
		{"the request's number", header("X-Request-ID", "1"), "break the protocol"},
		{"Authorization beside a key", func(a, _ *Access) { a.APIKeyEnv, a.Headers = "KEY", map[string]string{"Authorization": "env:TOKEN"} }, "beside an API key"},
		{"the key's own header twice", func(a, _ *Access) {
			a.APIKeyEnv, a.APIKeyHeader, a.Headers = "KEY", "api-key", map[string]string{"Api-Key": "env:OTHER"}
		}, "beside an API key"},
		{"Authorization of a role beside the worker's key", func(a, used *Access) {
			used.APIKeyEnv, a.Headers = "KEY", map[string]string{"Authorization": "env:TOKEN"}
		}, "beside an API key"},
		{"no name", header("", "a"), "names of headers"},
		{"a name with a space", header("X Org", "a"), "names of headers"},
		{"a name with a colon", header("X-Org:", "a"), "names of headers"},
		{"two lines", header("X-Org", "a\r\nX-Other: b"), "one line"},
		{"a name twice", func(a, _ *Access) { a.Headers = map[string]string{"X-Org": "a", "x-org": "b"} }, "set twice"},
		{"a secret in the open", header("X-Api-Key", "swordfish"), "env:NAME or file:PATH"},
		{"a secret in the open, in the query", func(a, _ *Access) { a.Query = map[string]string{"api_key": "swordfish"} }, "env:NAME or file:PATH"},
		{"a value that looks like a key", header("X-Org", "sk-swordfish-0123456789abcdef"), "env:NAME or file:PATH"},
		{"a key in place of the variable", header("X-Api-Key", "env:sk-swordfish-0123456789abcdef"), "name of an environment variable"},
		{"no variable", header("X-Api-Key", "env:"), "env:NAME"},
		{"no file", header("X-Api-Key", "file:"), "file:PATH"},
		{"a header for no key", func(a, _ *Access) {
			a.APIKeyHeader = "api-key"
		}, "empty without a key"},
		{"Authorization as the key's header", func(a, _ *Access) { a.APIKeyEnv, a.APIKeyHeader = "KEY", "authorization" }, "empty sends the header Authorization"},
		{"two sources of a key", func(a, _ *Access) { a.APIKeyEnv, a.APIKeyFile = "KEY", "key" }, `judge.api_key_file is "key"; allowed is empty while judge.api_key_env is given`},
		{"a key as the key's header", func(a, _ *Access) { a.APIKeyEnv, a.APIKeyHeader = "KEY", "sk-swordfish-0123456789abcdef" }, "name of a header"},
	}
	for _, tt := range tests {
		a, used := &Access{}, &Access{}
		tt.change(a, used)
		var problems []string
		a.Check("judge", used.Overridden(a), func(key, value, allowed string) {
			problems = append(problems, key+" is "+value+"; allowed is "+allowed)
		})
		if got := strings.Join(problems, "\n"); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		a.Hide()
		if shown := fmt.Sprintf("%v %+v", problems, a); strings.Contains(shown, "swordfish") {
			t.Errorf("%s: shows the secret: %s", tt.name, shown)
		}
	}
}
