package world

import (
	"strings"
	"testing"

	"coeval/schemas"
)

// requests returns the request to each role in a default world, about 10 kB for the judges.
func requests(tb testing.TB, w *World) map[string][]schemas.Message {
	tb.Helper()
	rubric := strings.Repeat("The rubric adds a point for each thing that holds. ", 40)
	question := strings.Repeat("What is the use of a long question? ", 20)
	response := w.Answer(user(question), "m", 1, 0).Text
	judge := user(rubric + question + strings.Repeat(" ", 5000) + response)
	meta := user(rubric + question + response + w.Answer(judge, "m", 1, 0).Text + w.Answer(judge, "m", 2, 0).Text)
	return map[string][]schemas.Message{
		schemas.RoleActor: user(question), schemas.RoleJudge: judge, schemas.RoleMetaJudge: meta,
	}
}

func BenchmarkAnswer(b *testing.B) {
	w := Default()
	for role, messages := range requests(b, &w) {
		b.Run(role, func(b *testing.B) {
			b.ReportAllocs()
			seed := int64(0)
			for b.Loop() {
				seed++
				w.Answer(messages, "m", seed, 0)
			}
		})
	}
}
