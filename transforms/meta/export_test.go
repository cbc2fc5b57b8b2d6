package meta

import "coeval/schemas"

// ParseVerdict parses a comparison as the stage does without a pattern or a constraint.
func ParseVerdict(text, finishReason string) (winner schemas.Winner, unparsed string) {
	return (&parser{}).parse(text, finishReason)
}
