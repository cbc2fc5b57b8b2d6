package points

import (
	"testing"

	"coeval/transforms/answers/patterns"
)

// All patterns are valid, including patterns that no other test uses.
func TestPatterns(t *testing.T) {
	if n, err := patterns.Check(); err != nil || n < 100 {
		t.Errorf("%d patterns, %v", n, err)
	} else {
		t.Logf("%d patterns", n)
	}
}
