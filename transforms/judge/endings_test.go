package judge

import (
	"testing"

	"coeval/transforms/answers/answerstest"
)

func TestParseScoreReadsEndings(t *testing.T) {
	answerstest.Check(t, "judge", func(text string) (int, string) { return ParseScore(text, "stop") })
}
