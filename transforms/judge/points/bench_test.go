package points

import (
	"strings"
	"testing"
)

// A judgment of the usual length is read several times in a run, so that the parser's time counts.
func BenchmarkParseScore(b *testing.B) {
	criterion := "Coverage: it deals with the two main parts of the question, and says why the third one doesn't matter here; the example is right. "
	text := strings.Repeat("1. "+criterion+"\n", 7) + "Score: 4"
	if n := len(text); n < 900 || n > 1100 {
		b.Fatalf("the text has %d characters", n)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n, reason := ParseScore(text, "stop"); n != 4000 {
			b.Fatal(n, reason)
		}
	}
}
