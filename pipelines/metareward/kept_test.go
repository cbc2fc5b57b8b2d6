package metareward

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/datasets/journal"
	"coeval/datasets/journal/journaltest"
	"coeval/schemas"
	"coeval/transforms/sink"
)

// A finished run whose journal has lost all answers is an error: the next run would pay for them again.
func TestCheckKept(t *testing.T) {
	const run = `{"format":1,"config":{},"ledger":{"roles":{},"findings":160},"stats":{"responses":{"replicates":%d}}}`
	prompt := journal.Record{PromptID: "p", Prompt: &schemas.Prompt{ID: "p"}}
	put := func(t *testing.T, out string) { journaltest.Put(t, JournalDir(out), 0, []journal.Record{prompt}) }
	buckets := func(names ...string) func(t *testing.T, out string) {
		return func(t *testing.T, out string) {
			for _, name := range names {
				write(t, filepath.Join(JournalDir(out), name, "s-01a22b33-3b4a-72c5-9744-739c928feaf8.jsonl.zst"), "")
			}
		}
	}
	listed := func(list string, names ...string) func(t *testing.T, out string) {
		return func(t *testing.T, out string) {
			buckets(names...)(t, out)
			write(t, filepath.Join(JournalDir(out), sink.BucketsFile), list)
		}
	}
	for _, tt := range []struct {
		name      string
		responses int // in run.json, -1 for no file
		journal   func(t *testing.T, out string)
		lost      bool
	}{
		{"a new folder", -1, func(*testing.T, string) {}, false},
		{"a run that was interrupted", -1, put, false},
		{"a finished run", 18, put, false},
		{"a run without answers", 0, func(*testing.T, string) {}, false},
		{"no journal", 18, func(*testing.T, string) {}, true},
		{"no buckets", 18, func(t *testing.T, out string) { write(t, JournalDir(out)+"/answered-by.json", `{"kind":"real"}`) }, true},
		{"an empty bucket", 18, func(t *testing.T, out string) {
			put(t, out)
			files, err := filepath.Glob(JournalDir(out) + "/b*/*")
			if err != nil || len(files) == 0 {
				t.Fatalf("%v: no files in buckets", err)
			}
			for _, f := range files {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		}, true},
		{"a lost bucket", 18, buckets("b00", "b01", "b11"), true},
		{"all buckets", 18, buckets("b00", "b01", "b10", "b11"), false},
		{"a bucket of a shorter prefix", 18, buckets("b00", "b01", "b1"), false},
		{"buckets that may be empty", 18, buckets("b000"), false}, // 160/8 prompts in the mean
		{"a lost bucket of few prompts", 18, listed("b001\nb100\nb111\n", "b001", "b100"), true},
		{"an empty bucket of several", 18, func(t *testing.T, out string) {
			listed("b001\nb100\n", "b001")(t, out)
			if err := os.Mkdir(filepath.Join(JournalDir(out), "b100"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"listed buckets", 18, listed("b001\nb100\n", "b001", "b100", "b110"), false},
		{"listed buckets of other prefixes", 18, listed("b001\nb100\n", "b00", "b1001"), false},
		{"a lost bucket, salvaged", 18, buckets("b00", "damaged"), false},
		{"salvaged", 18, func(t *testing.T, out string) { write(t, JournalDir(out)+"/damaged/s.jsonl.zst", "") }, false},
	} {
		out := t.TempDir()
		if tt.responses >= 0 {
			write(t, filepath.Join(out, "run.json"), fmt.Sprintf(run, tt.responses))
		}
		tt.journal(t, out)
		err := CheckKept(t.Context(), out)
		if (err != nil) != tt.lost || err != nil && !strings.Contains(err.Error(), "counts 1") {
			t.Errorf("%s: %v, want an error: %v", tt.name, err, tt.lost)
		}
	}
}
