package journal_test

import (
	"fmt"
	"testing"

	"coeval/datasets/journal"
	"coeval/schemas"
)

// Of two prompts in two buckets 7 generations are counted: one that is there twice counts once, and the
// prompts' own records do not count. Each call's prompt counts once: 100 + 50 tokens a prompt.
func TestReadUsage(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		p := schemas.Prompt{ID: schemas.PromptID([]schemas.Message{{Role: "user", Content: fmt.Sprint(i)}})}
		v, err := j.Load(t.Context(), journal.Bucket(p.ID, 1+i), nil)
		if err != nil {
			t.Fatal(err)
		}
		records := []journal.Record{
			{Key: journal.PromptKey(&p), PromptID: p.ID, Prompt: &p},
			{Key: "a", Replicate: 0, PromptID: p.ID, PromptTokens: 100, CompletionTokens: 10, Text: "x"},
			{Key: "a", Replicate: 1, PromptID: p.ID, PromptTokens: 100, CompletionTokens: 20, Text: "y"},
			{Key: "b", Replicate: 0, PromptID: p.ID, PromptTokens: 50, CompletionTokens: 5, Text: "z"},
		}
		if i == 1 {
			records = append(records, journal.Record{Key: "c", PromptID: p.ID, Code: "timeout"}, records[1])
		}
		if err := v.Append(records...); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	want := journal.Usage{Generations: 7, PromptTokens: 300, CompletionTokens: 70}
	if got, err := journal.ReadUsage(t.Context(), dir); err != nil || got != want {
		t.Errorf("usage is %+v (%v), want %+v", got, err, want)
	}
}
