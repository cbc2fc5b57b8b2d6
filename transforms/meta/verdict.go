package meta

import "coeval/transforms/stage"

// Verdict is how a comparison ends where verdicts are enforced.
func Verdict() *stage.Verdict {
	return &stage.Verdict{Label: "Winner", Values: []string{"A", "B"}}
}
