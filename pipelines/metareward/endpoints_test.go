package metareward

import (
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
		{"own URL and variable", Role{URLs: []string{own}, APIKeyEnv: "OWN"}, []stage.Endpoint{{URL: own, APIKeyEnv: "OWN"}}},
		{"own URL and file", Role{URLs: []string{own}, APIKeyFile: "own"}, []stage.Endpoint{{URL: own, APIKeyFile: "own"}}},
		{"own key", Role{APIKeyEnv: "OWN"}, []stage.Endpoint{{URL: worker, APIKeyEnv: "OWN"}}},
	}
	for _, tt := range tests {
		for _, name := range []string{"actor", "judge", "meta_judge"} {
			t.Run(tt.name+" of "+name, func(t *testing.T) {
				c := valid()
				c.Worker.URLs, c.Worker.APIKeyEnv = []string{worker}, "WORKER"
				role := c.Asked()[name]
				role.URLs, role.APIKeyEnv, role.APIKeyFile = tt.role.URLs, tt.role.APIKeyEnv, tt.role.APIKeyFile
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
