package arena

import (
	"strings"
	"testing"

	"coeval/datasets/store"
)

// The answers of an arena are in memory together, so they are bounded.
func TestTooManyAnswers(t *testing.T) {
	dir := t.TempDir()
	for name, rows := range map[string][]AnswerRow{"texts": make([]AnswerRow, 513), "few": make([]AnswerRow, 2)} {
		for i := range rows {
			rows[i] = AnswerRow{PromptID: "p", Model: "m", Status: "complete", Text: strings.Repeat("x", 1<<20)}
		}
		if _, err := writeRows(t.Context(), dir, AnswersFile, rows); err != nil {
			t.Fatal(err)
		}
		_, err := ReadAnswers(t.Context(), dir)
		// 513 MiB are more than 512.
		if want := store.Join(dir, AnswersFile) + " has more than 1048576 rows or 512 MiB of texts"; name == "few" && err != nil ||
			name == "texts" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if checkRows("f", maxRows, maxTextBytes) != nil || checkRows("f", maxRows+1, 0) == nil {
		t.Error("the bounds are not those of the message")
	}
}
