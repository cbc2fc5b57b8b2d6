package meta

import (
	"testing"

	"coeval/schemas"
	"coeval/transforms/answers/answerstest"
	"coeval/transforms/stage"
)

func TestParseVerdictReadsEndings(t *testing.T) {
	answerstest.Check(t, "meta", func(text string) (string, string) {
		text, _, cut := stage.ReadText(schemas.Generation{Text: text, FinishReason: "stop"}, true)
		reason := "stop"
		if cut {
			reason = stage.FinishLength
		}
		winner, unparsed := ParseVerdict(text, reason)
		return map[schemas.Winner]string{schemas.First: "A", schemas.Second: "B"}[winner], unparsed
	})
}
