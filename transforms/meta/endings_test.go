package meta

import (
	"testing"

	"coeval/schemas"
	"coeval/transforms/answers/answerstest"
)

func TestParseVerdictReadsEndings(t *testing.T) {
	answerstest.Check(t, "meta", func(text string) (string, string) {
		winner, unparsed := ParseVerdict(text, "stop")
		return map[schemas.Winner]string{schemas.First: "A", schemas.Second: "B"}[winner], unparsed
	})
}
