package upkeep

import (
	"path"
	"slices"
	"testing"

	"coeval/datasets/journal"
	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/journaltest"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// A segment that grew after it was read stays, under another name.
func TestRetireOfASegmentThatGrew(t *testing.T) {
	dir := t.TempDir()
	journaltest.Put(t, dir, 0, []journal.Record{{Key: "k", PromptID: "p", Text: "text"}})
	files, err := store.Names(t.Context(), store.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	name := path.Join("b", files[slices.IndexFunc(files, segment.IsName)])
	is, err := store.Stat(t.Context(), store.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	retired, grew, err := renameAway(t.Context(), dir, buckets.Segment{Name: name, Length: is.Size - 1})
	if err != nil || !grew || retired == store.Join(dir, name) {
		t.Errorf("%s is now %s, grew is %t, %v", name, retired, grew, err)
	}
	contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
	if r, ok := contents["p"].Get("k", 0); err != nil || !ok || r.Text != "text" {
		t.Errorf("the record is gone: %v", err)
	}
}
