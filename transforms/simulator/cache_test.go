package simulator

import (
	"strings"
	"testing"

	"coeval/schemas"
)

// Blocks have 64 bytes, of which the role takes the first 4.
func TestPrefixCache(t *testing.T) {
	ask := func(parts ...string) []schemas.Message {
		return []schemas.Message{{Role: "user", Content: strings.Join(parts, "")}}
	}
	first, second, third := strings.Repeat("a", 60), strings.Repeat("b", 64), strings.Repeat("c", 64)
	c := newPrefixCache(4 * blockTokens)
	for i, tt := range []struct {
		messages []schemas.Message
		cached   int
	}{
		{ask(first, second), 0},
		{ask(first, second), 32},
		{ask(first, second, "rest that fills no block"), 32},
		{ask(first, third), 16},
		{ask(second, first), 0},  // the same texts elsewhere are others
		{ask(first, second), 16}, // of 5 blocks the least recently used was gone: the second of these two
	} {
		if got := c.serve(tt.messages); got != tt.cached {
			t.Errorf("ask %d: %d tokens are cached, want %d", i, got, tt.cached)
		}
	}
	if len(c.blocks) != 4 || c.recent.Len() != 4 {
		t.Errorf("the cache has %d and %d blocks, want 4", len(c.blocks), c.recent.Len())
	}
}
