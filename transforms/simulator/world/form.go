package world

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"coeval/schemas"
)

// A Form is the shape that a request prescribes for its texts: reasoning of bounded length, then a
// line of a label and one of the values, or both as a JSON object.
type Form struct {
	// Reasoning is the largest length of the reasoning in bytes. Zero means no reasoning.
	Reasoning int
	// Label is the word before the value, as in "Score: 4". In an object it is the name of the value's field,
	// beside the field reasoning.
	Label string
	// Values are the allowed values, at least one.
	Values []string
	// JSON makes the text an object.
	JSON bool
}

// verdict ends a text in the form, with the value nearest to the world's own verdict.
func (f *Form) verdict(q *Question, before, said string) string {
	value := f.nearest(q, said)
	if f.Reasoning < len(before) {
		before = cut(before, f.Reasoning)
	}
	if !f.JSON {
		return before + "\n" + f.Label + ": " + value
	}
	object := map[string]string{f.Label: value}
	if f.Reasoning > 0 {
		object["reasoning"] = before
	}
	b, err := json.Marshal(object)
	if err != nil { // strings always encode
		panic(err)
	}
	return string(b)
}

func (f *Form) nearest(q *Question, said string) string {
	if q.Role != schemas.RoleJudge {
		if slices.Contains(f.Values, said) {
			return said
		}
		return f.Values[q.Hash%uint64(len(f.Values))]
	}
	best, distance := f.Values[0], math.Inf(1)
	score, _ := strconv.ParseFloat(said, 64)
	for _, v := range f.Values {
		if x, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(x-score) < distance {
			best, distance = v, math.Abs(x-score)
		}
	}
	return best
}
