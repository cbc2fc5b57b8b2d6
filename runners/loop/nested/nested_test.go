package nested

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A clone shares no section and no list with its settings, and a key sets nothing beside itself.
func TestCloneAndSet(t *testing.T) {
	settings := map[string]any{
		"method": map[string]any{"rho": 0.5, "phase": 1}, "urls": []any{map[string]any{"name": "a"}}, "n": 7,
	}
	c := Clone(settings)
	Set(c, "method.rho", 0.1)
	Set(c, "judge.sampling", map[string]any{"temperature": 1, "top_p": 0.9})
	Set(c, "n.more", true)
	Section(c["urls"].([]any)[0].(map[string]any), "tls")["verify"] = false
	Section(c, "method")["phase"] = 2
	want := map[string]any{
		"method": map[string]any{"rho": 0.1, "phase": 2},
		"judge":  map[string]any{"sampling": map[string]any{"temperature": 1, "top_p": 0.9}},
		"urls":   []any{map[string]any{"name": "a", "tls": map[string]any{"verify": false}}},
		"n":      map[string]any{"more": true},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	before := map[string]any{
		"method": map[string]any{"rho": 0.5, "phase": 1}, "urls": []any{map[string]any{"name": "a"}}, "n": 7,
	}
	if diff := cmp.Diff(before, settings); diff != "" {
		t.Errorf("the settings changed: %s", diff)
	}
}
