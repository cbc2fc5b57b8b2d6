package infer

import (
	"testing"
	"testing/synctest"

	"coeval/datasets/journal"
	"coeval/schemas"
)

// An answer that was read before the run was given up is kept: the journal takes it until then.
func TestCloseKeepsWhatWasRead(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, err := processOf(t.Context(), Options{Attempt: "closed", Journal: dir}.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.journal.Load(t.Context(), "b", nil)
		if err != nil {
			t.Fatal(err)
		}
		p.watch.start(schemas.StageJudge, 1)
		ended := make(chan error, 1)
		go func() { ended <- Close("closed") }()
		synctest.Wait() // it has done all that it does without the answer
		if err := v.Append(journal.Record{Key: "k", PromptID: "p", Text: "paid for"}); err != nil {
			t.Errorf("the answer is lost: %v", err)
		}
		p.watch.kept()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		// One whose answer never comes holds nothing up for long.
		if p, err = processOf(t.Context(), Options{Attempt: "closed", Journal: dir}.withDefaults()); err != nil {
			t.Fatal(err)
		}
		p.watch.start(schemas.StageJudge, 1)
		if err := Close("closed"); err != nil {
			t.Error(err)
		}
	})
	contents, err := journal.Read(t.Context(), dir, nil, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := contents["p"].Get("k", 0); !ok || r.Text != "paid for" {
		t.Errorf("the journal holds %+v", contents)
	}
}
