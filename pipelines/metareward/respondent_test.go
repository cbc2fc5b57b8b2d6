package metareward

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/datasets/journal"
	"coeval/datasets/journal/journaltest"
	"coeval/pipelines/config"
	"coeval/schemas"
)

// A journal gets answers of one kind of servers, whichever came first; so do journals that older
// versions wrote, which have no record of the kind.
func TestRespondentsDoNotMix(t *testing.T) {
	genuine, simulated := valid(), valid()
	simulated.Worker.URLs, simulated.Simulate.Enabled = nil, true
	other := simulated
	other.Simulate.World = "bad"
	id := schemas.PromptID([]schemas.Message{{Role: "user", Content: "x"}})
	prompt := journal.Record{Key: "k", PromptID: id, Prompt: &schemas.Prompt{ID: id}}
	call := journal.Record{Key: "c", PromptID: id, Role: schemas.RoleActor, Text: "said"}
	failed := journal.Record{Key: "c", PromptID: id, Role: schemas.RoleActor, Code: "bad_request"}
	tests := []struct {
		name            string
		before          func(t *testing.T, dir string)
		real, simulated bool
	}{
		{"nothing", func(*testing.T, string) {}, true, true},
		{"a prompt", func(t *testing.T, dir string) { journaltest.Put(t, dir, 0, []journal.Record{prompt}) }, true, true},
		{"a call", func(t *testing.T, dir string) { journaltest.Put(t, dir, 0, []journal.Record{prompt, call}) }, true, false},
		{"a failure", func(t *testing.T, dir string) { journaltest.Put(t, dir, 1, []journal.Record{prompt, failed}) }, true, false},
		{"a real run", func(t *testing.T, dir string) { respond(t, dir, journal.Respondent{Kind: journal.Real}) }, true, false},
		{"a run that asked a simulated server", func(t *testing.T, dir string) { respond(t, dir, journal.Respondent{Kind: journal.Simulated}) }, true, true},
		{"a simulated run", func(t *testing.T, dir string) {
			respond(t, dir, journal.Respondent{Kind: journal.Simulated, Worker: "w"})
		}, false, true},
		{"an older simulated run", func(t *testing.T, dir string) {
			journaltest.Put(t, dir, 0, []journal.Record{prompt, call})
			write(t, dir+"/models/0123.json", `{"id":"m","owned_by":"coeval-simulator","root":""}`)
		}, true, true},
		{"an older real run", func(t *testing.T, dir string) {
			journaltest.Put(t, dir, 0, []journal.Record{prompt, call})
			write(t, dir+"/models/0123.json", `{"id":"m","owned_by":"vllm","root":"m"}`)
		}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			tt.before(t, JournalDir(out))
			for _, c := range []struct {
				config config.Config
				want   bool
			}{{genuine, tt.real}, {simulated, tt.simulated}, {other, tt.simulated}} {
				c.config.Output.Dir = out
				err := CheckRespondent(t.Context(), &c.config)
				if (err == nil) != c.want {
					t.Errorf("simulate.enabled is %v: %v, want it allowed: %v", c.config.Simulate.Enabled, err, c.want)
				}
				if err != nil && (!strings.Contains(err.Error(), out) || !strings.Contains(err.Error(), "--out")) {
					t.Errorf("%q names no folder or no way out", err)
				}
			}
		})
	}
	// What claims a journal for the simulated worker keeps real runs out.
	simulated.Output.Dir = t.TempDir()
	genuine.Output.Dir = simulated.Output.Dir
	if err := ClaimRespondent(t.Context(), &simulated); err != nil {
		t.Fatal(err)
	}
	if err := ClaimRespondent(t.Context(), &genuine); err == nil {
		t.Error("a real run may use a journal of the simulated worker")
	}
	if err := ClaimRespondent(t.Context(), &simulated); err != nil {
		t.Errorf("a second simulated run may not: %v", err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func respond(t *testing.T, dir string, r journal.Respondent) {
	t.Helper()
	if err := journal.WriteRespondent(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
}
