package judge

import "coeval/transforms/stage"

// Verdict is how a judgment ends where verdicts are enforced: the rubric gives half points.
func Verdict() *stage.Verdict {
	return &stage.Verdict{Label: "Score", Values: []string{"0", "0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4", "4.5", "5"}}
}
