package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/pipelines/access"
	"coeval/schemas/redact"
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
		{"own URL and variable", Role{URLs: []string{own}, Access: access.Access{APIKeyEnv: "OWN"}}, []stage.Endpoint{{URL: own, APIKeyEnv: "OWN"}}},
		{"own URL and file", Role{URLs: []string{own}, Access: access.Access{APIKeyFile: "own"}}, []stage.Endpoint{{URL: own, APIKeyFile: "own"}}},
		{"own header and parameter", Role{Access: access.Access{Headers: map[string]string{"x-ORG": "b"}, Query: map[string]string{"v": "2"}}}, []stage.Endpoint{{
			URL: worker, APIKeyEnv: "WORKER", Headers: `{"X-Team":"t","x-ORG":"b"}`, Query: `{"u":"1","v":"2"}`,
		}}},
		{"own URL and header", Role{URLs: []string{own}, Access: access.Access{APIKeyEnv: "OWN", APIKeyHeader: "api-key", Headers: map[string]string{"X-Org": "env:ORG"}}}, []stage.Endpoint{{
			URL: own, APIKeyEnv: "OWN", APIKeyHeader: "api-key", Headers: `{"X-Org":"env:ORG"}`,
		}}},
		{"own key", Role{Access: access.Access{APIKeyEnv: "OWN"}}, []stage.Endpoint{{URL: worker, APIKeyEnv: "OWN"}}},
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
				options, err := c.Resolve()
				if err != nil {
					t.Fatal(err)
				}
				got := map[string][]stage.Endpoint{
					"actor": options.Generate.Role.Endpoints, "judge": options.Judge.Role.Endpoints, "meta_judge": options.Meta.Role.Endpoints,
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

// A printed path can be used: a folder such as user_key=12 is no secret. A key, and the secrets of a URL, are hidden.
func TestShownPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"data/user_key=12/p.jsonl":              "data/user_key=12/p.jsonl",
		"token=a/auth=b/*.parquet":              "token=a/auth=b/*.parquet",
		"sk-abcdefgh-12345678":                  redact.Hidden,
		"https://user:swordfish@host/p.jsonl":   "https://" + redact.Hidden + "@host/p.jsonl",
		"https://host/p.jsonl?sig=swordfish&v=": "https://host/p.jsonl?sig=" + redact.Hidden + "&v=",
	} {
		c := valid()
		c.Prompts.Paths, c.Output.Dir = []string{path}, path
		shown := c.WithoutSecrets()
		if shown.Prompts.Paths[0] != want || shown.Output.Dir != want {
			t.Errorf("%s is printed as %s and %s, want %s", path, shown.Prompts.Paths[0], shown.Output.Dir, want)
		}
	}
}
