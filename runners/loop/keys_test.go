package loop

import (
	"slices"
	"strings"
	"testing"

	"coeval/runners/loop/config"
)

// A key of the swap that crosses a public network unencrypted is worth a warning, one for each server.
func TestKeyWarnings(t *testing.T) {
	for name, tt := range map[string]struct {
		swap config.Swap
		want []string
	}{
		"no key":       {config.Swap{URLs: []string{"http://8.8.8.8/v1"}}, nil},
		"private":      {config.Swap{APIKeyEnv: "KEY", URLs: []string{"http://10.0.0.1/v1", "http://localhost:8000/v1", "http://gpu-1:8000/v1"}}, nil},
		"encrypted":    {config.Swap{APIKeyEnv: "KEY", URLs: []string{"https://api.example.com/v1"}}, nil},
		"public":       {config.Swap{APIKeyEnv: "KEY", URLs: []string{"http://api.example.com/v1", "http://10.0.0.1/v1", "http://8.8.8.8/v1"}}, []string{"http://api.example.com/v1", "http://8.8.8.8/v1"}},
		"the future's": {config.Swap{APIKeyEnv: "KEY", URLs: []string{"http://10.0.0.1/v1"}, Future: config.FutureSwap{URLs: []string{"http://8.8.8.8/v1"}}}, []string{"http://8.8.8.8/v1"}},
		"twice":        {config.Swap{APIKeyEnv: "KEY", URLs: []string{"http://8.8.8.8/v1"}, Future: config.FutureSwap{URLs: []string{"http://8.8.8.8/v1"}}}, []string{"http://8.8.8.8/v1"}},
	} {
		l := &Loop{Config: config.Config{Swap: tt.swap}}
		got := l.keyWarnings()
		if !slices.EqualFunc(got, tt.want, func(got, address string) bool { return strings.Contains(got, address+" is sent unencrypted") }) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
