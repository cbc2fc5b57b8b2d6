package points

import (
	"testing"

	"coeval/schemas"
	"coeval/transforms/answers/answerstest"
	"coeval/transforms/stage"
)

func TestParseScoreReadsEndings(t *testing.T) {
	answerstest.Check(t, "judge", func(text string) (int, string) {
		text, _, cut := stage.ReadText(schemas.Generation{Text: text, FinishReason: "stop"}, true)
		if cut {
			return ParseScore(text, stage.FinishLength)
		}
		return ParseScore(text, "stop")
	})
}
