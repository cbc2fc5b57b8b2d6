package metareward

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/transforms/stage"
)

// A key is sent to the URLs beside it. A role inherits the worker's key with the worker's URLs, and
// never without them.
func TestKeysBelongToTheirURLs(t *testing.T) {
	const worker, own = "https://worker.example/v1", "https://own.example/v1"
	tests := []struct {
		name string
		role Role
		want []stage.Endpoint
	}{
		{"nothing of its own", Role{}, []stage.Endpoint{{URL: worker, APIKeyEnv: "WORKER"}}},
		{"own URL", Role{URLs: []string{own}}, []stage.Endpoint{{URL: own}}},
		{"own URL that is the worker's", Role{URLs: []string{worker}}, []stage.Endpoint{{URL: worker}}},
		{"two own URLs", Role{URLs: []string{own, worker}}, []stage.Endpoint{{URL: own}, {URL: worker}}},
		{"own URL and variable", Role{URLs: []string{own}, Access: Access{APIKeyEnv: "OWN"}}, []stage.Endpoint{{URL: own, APIKeyEnv: "OWN"}}},
		{"own URL and file", Role{URLs: []string{own}, Access: Access{APIKeyFile: "own"}}, []stage.Endpoint{{URL: own, APIKeyFile: "own"}}},
		{"own header and parameter", Role{Access: Access{Headers: map[string]string{"x-ORG": "b"}, Query: map[string]string{"v": "2"}}}, []stage.Endpoint{{
			URL: worker, APIKeyEnv: "WORKER", Headers: `{"X-Team":"t","x-ORG":"b"}`, Query: `{"u":"1","v":"2"}`,
		}}},
		{"own URL and header", Role{URLs: []string{own}, Access: Access{APIKeyEnv: "OWN", APIKeyHeader: "api-key", Headers: map[string]string{"X-Org": "env:ORG"}}}, []stage.Endpoint{{
			URL: own, APIKeyEnv: "OWN", APIKeyHeader: "api-key", Headers: `{"X-Org":"env:ORG"}`,
		}}},
		{"own key", Role{Access: Access{APIKeyEnv: "OWN"}}, []stage.Endpoint{{URL: worker, APIKeyEnv: "OWN"}}},
	}
	for _, tt := range tests {
		for _, name := range []string{"actor", "judge", "meta_judge"} {
			t.Run(tt.name+" of "+name, func(t *testing.T) {
				c := valid()
				c.Worker.URLs, c.Worker.APIKeyEnv = []string{worker}, "WORKER"
				if len(tt.role.Headers) > 0 && len(tt.role.URLs) == 0 {
					c.Worker.Headers, c.Worker.Query = map[string]string{"X-Org": "a", "X-Team": "t"}, map[string]string{"u": "1", "v": "1"}
				}
				role := c.Asked()[name]
				role.URLs, role.Access = tt.role.URLs, tt.role.Access
				options, err := c.resolve()
				if err != nil {
					t.Fatal(err)
				}
				got := map[string][]stage.Endpoint{
					"actor": options.generate.Role.Endpoints, "judge": options.judge.Role.Endpoints, "meta_judge": options.meta.Role.Endpoints,
				}[name]
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// A key that crosses a public network unencrypted is worth a warning, one for each server.
func TestKeyWarnings(t *testing.T) {
	tests := []struct {
		url  string
		warn bool
	}{
		{"http://api.example.com/v1", true},
		{"http://8.8.8.8:8000/v1", true},
		{"http://[2001:db8::1]:8000/v1", true},
		{"http://172.32.0.1/v1", true}, // beside 172.16.0.0/12
		{"http://localhost.example.com/v1", true},
		{"https://api.example.com/v1", false},
		{"http://localhost:8000/v1", false},
		{"http://127.0.0.1:8000/v1", false},
		{"http://127.8.8.8/v1", false},
		{"http://[::1]:8000/v1", false},
		{"http://[::ffff:10.0.0.1]/v1", false},
		{"http://10.1.2.3/v1", false},
		{"http://172.31.0.1/v1", false},
		{"http://192.168.0.7:8000/v1", false},
		{"http://169.254.1.1/v1", false},
		{"http://[fd00::1]/v1", false},
		{"http://100.64.0.1/v1", false},
		{"http://vllm:8000/v1", false},
		{"http://vllm.serving.svc.cluster.local:8000/v1", false},
		{"http://Gateway.INTERNAL./v1", false},
	}
	for _, tt := range tests {
		c := valid()
		c.Worker.URLs = []string{tt.url}
		if got := c.KeyWarnings(); got != nil {
			t.Errorf("%s without a key: %q", tt.url, got)
		}
		c.Worker.APIKeyEnv = "KEY"
		got := c.KeyWarnings()
		if (len(got) == 1) != tt.warn || len(got) > 1 {
			t.Errorf("%s with a key of three roles: %q, want a warning: %v", tt.url, got, tt.warn)
		}
		if tt.warn && !strings.Contains(strings.Join(got, ""), tt.url) {
			t.Errorf("%q names no %s", got, tt.url)
		}
	}
}

// What would break the protocol, or show a secret, is refused in a sentence that names the key and what
// to do, and never the value.
func TestAccessIsChecked(t *testing.T) {
	header := func(name, value string) func(*Config) {
		return func(c *Config) { c.Worker.Headers = map[string]string{name: value} }
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string // in the sentence; empty is allowed
	}{
		{"a header", header("OpenAI-Organization", "org-lab"), ""},
		{"a header from a variable", header("X-Api-Key", "env:LAB_KEY"), ""},
		{"a header from a file", header("Cookie", "file:/run/secrets/cookie"), ""},
		{"a parameter", func(c *Config) { c.Worker.Query = map[string]string{"api-version": "2024-10-21"} }, ""},
		{"Azure", func(c *Config) { c.Worker.APIKeyEnv, c.Worker.APIKeyHeader = "AZURE_KEY", "api-key" }, ""},
		{"Authorization of one's own", header("authorization", "env:TOKEN"), ""},
		{"Authorization beside a key in another header", func(c *Config) {
			c.Worker.APIKeyEnv, c.Worker.APIKeyHeader, c.Worker.Headers = "KEY", "api-key", map[string]string{"Authorization": "env:TOKEN"}
		}, ""},
		{"the length", header("content-length", "3"), "worker.headers.content-length"},
		{"the host", header("Host", "other"), "break the protocol"},
		{"the coding", header("Transfer-Encoding", "chunked"), "break the protocol"},
		{"the request's number", header("X-Request-ID", "1"), "break the protocol"},
		{"Authorization beside a key", func(c *Config) { c.Worker.APIKeyEnv = "KEY"; header("Authorization", "env:TOKEN")(c) }, "beside an API key"},
		{"the key's own header twice", func(c *Config) {
			c.Worker.APIKeyEnv, c.Worker.APIKeyHeader, c.Worker.Headers = "KEY", "api-key", map[string]string{"Api-Key": "env:OTHER"}
		}, "beside an API key"},
		{"Authorization of a role beside the worker's key", func(c *Config) {
			c.Worker.APIKeyEnv, c.Judge.Headers = "KEY", map[string]string{"Authorization": "env:TOKEN"}
		}, "judge.headers.Authorization"},
		{"no name", header("", "a"), "names of headers"},
		{"a name with a space", header("X Org", "a"), "names of headers"},
		{"a name with a colon", header("X-Org:", "a"), "names of headers"},
		{"two lines", header("X-Org", "a\r\nX-Other: b"), "one line"},
		{"a name twice", func(c *Config) { c.Worker.Headers = map[string]string{"X-Org": "a", "x-org": "b"} }, "set twice"},
		{"a secret in the open", header("X-Api-Key", "swordfish"), "env:NAME or file:PATH"},
		{"a secret in the open, in the query", func(c *Config) { c.Worker.Query = map[string]string{"api_key": "swordfish"} }, "env:NAME or file:PATH"},
		{"a value that looks like a key", header("X-Org", "sk-swordfish-0123456789abcdef"), "env:NAME or file:PATH"},
		{"a key in place of the variable", header("X-Api-Key", "env:sk-swordfish-0123456789abcdef"), "name of an environment variable"},
		{"no variable", header("X-Api-Key", "env:"), "env:NAME"},
		{"no file", header("X-Api-Key", "file:"), "file:PATH"},
		{"a header for no key", func(c *Config) {
			c.Judge.URLs, c.Judge.APIKeyHeader = []string{"http://host/v1"}, "api-key"
		}, "empty without a key"},
		{"Authorization as the key's header", func(c *Config) { c.Worker.APIKeyEnv, c.Worker.APIKeyHeader = "KEY", "authorization" }, "empty sends Authorization"},
		{"a key as the key's header", func(c *Config) { c.Worker.APIKeyEnv, c.Worker.APIKeyHeader = "KEY", "sk-swordfish-0123456789abcdef" }, "name of a header"},
	}
	for _, tt := range tests {
		c := valid()
		tt.change(&c)
		err := c.Validate()
		if got := fmt.Sprint(err); (err == nil) != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if shown := fmt.Sprintf("%v %+v", err, c.WithoutSecrets()); strings.Contains(shown, "swordfish") {
			t.Errorf("%s: shows the secret: %s", tt.name, shown)
		}
	}
}

// Every secret that this machine lacks is named before anything is asked.
func TestCheckSecrets(t *testing.T) {
	t.Setenv("COEVAL_TEST_ORG", "lab")
	c := valid()
	c.Worker.Headers = map[string]string{"X-Org": "env:COEVAL_TEST_ORG", "X-Token": "env:COEVAL_TEST_MISSING"}
	c.Judge.Query = map[string]string{"token": "file:/no/such/file"}
	c.MetaJudge.APIKeyEnv = "COEVAL_TEST_MISSING"
	err := c.CheckSecrets("judge")
	for _, want := range []string{"worker.headers.X-Token names the environment variable COEVAL_TEST_MISSING, which is not set", "judge.query.token names /no/such/file, which can't be read"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "meta_judge") {
		t.Errorf("%v: names a role that is not asked", err)
	}
}
