package meta

import "coeval/transforms/infer"

// Verdict is how a comparison ends where verdicts are enforced.
func Verdict() *infer.Verdict {
	return &infer.Verdict{Label: "Winner", Values: []string{"A", "B"}}
}
