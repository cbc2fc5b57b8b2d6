// Package journaltest writes journals for the tests of their readers.
package journaltest

import (
	"testing"

	"coeval/datasets/journal"
)

// Put appends records to the journal in dir, each to its prompt's bucket with this many bits.
func Put(t *testing.T, dir string, bits int, records []journal.Record) {
	t.Helper()
	j, err := journal.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		v, err := j.Load(t.Context(), journal.Bucket(r.PromptID, bits), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
