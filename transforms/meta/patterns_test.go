package meta

import (
	"testing"

	"coeval/transforms/answers/patterns"
)

// All patterns are valid, also those that no other test reaches.
func TestPatterns(t *testing.T) {
	if n, err := patterns.Check(); err != nil || n < 100 {
		t.Errorf("%d patterns, %v", n, err)
	} else {
		t.Logf("%d patterns", n)
	}
}
