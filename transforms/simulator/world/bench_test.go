package world

import (
	"testing"

	"coeval/schemas"
	"coeval/transforms/simulator/world/worldtest"
)

// requests returns the request to each role in a world.
func requests(w *World) map[string][]schemas.Message {
	return worldtest.Requests(func(messages []schemas.Message, seed int64) string { return w.Answer(messages, "m", seed, 0).Text })
}

func BenchmarkAnswer(b *testing.B) {
	w := Default()
	for role, messages := range requests(&w) {
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
