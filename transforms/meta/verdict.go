package meta

import "coeval/transforms/stage"

// readValues are the values of a read's labels in thousandths: its value is the probability that the
// judgment shown first is better.
var readValues = []int{1000, 0}

// Read describes the read of a comparison in one token.
func Read() *stage.Read { return &stage.Read{Labels: []string{"A", "B"}} }

// Verdict is how a comparison ends where verdicts are enforced.
func Verdict() *stage.Verdict {
	return &stage.Verdict{Label: "Winner", Values: []string{"A", "B"}}
}
