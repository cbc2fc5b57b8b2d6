package pairwise_test

import (
	"testing"

	"coeval/transforms/answers/answerstest"
	"coeval/transforms/pairwise"
)

func TestParseVerdictReadsEndings(t *testing.T) {
	answerstest.Check(t, "pair", func(text string) (string, string) {
		verdict, unparsed := pairwise.ParseVerdict(text, "stop", pairwise.Five)
		return string(verdict), unparsed
	})
}
