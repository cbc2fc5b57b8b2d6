package sums

import (
	"slices"
	"strings"
	"testing"

	"coeval/pipelines/config"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
	"coeval/schemas"
)

// Check finds a pair that the balance should have dropped, and misses a pair that it should have kept,
// although each row agrees with the others of its prompt.
func TestBalanceIsProved(t *testing.T) {
	kind := func(part, direction int) reference.Kind {
		return reference.Kind{Score: 4000, Direction: direction, Part: part}
	}
	m := config.Method{BalanceDirections: 0.1}
	// Three higher ones and one lower: one of the higher ones is kept, that of the lowest part.
	kinds := []balancedKind{
		{kind(1, 1), ""}, {kind(2, 1), schemas.Direction}, {kind(3, 1), schemas.Direction}, {kind(9, -1), ""},
	}
	check := func(kinds []balancedKind) []string {
		var shards [2]Balance
		for i, k := range kinds {
			shards[i%2].count(k, 1)
		}
		var all Balance
		all.add(&shards[0])
		all.add(&shards[1])
		var found problems.List
		all.Check(&m, &found)
		return found.Listed
	}
	if found := check(kinds); len(found) > 0 {
		t.Errorf("a correct balance has problems: %q", found)
	}
	for i := range kinds {
		wrong := slices.Clone(kinds)
		if wrong[i].reason == "" {
			wrong[i].reason = schemas.Direction
		} else {
			wrong[i].reason = ""
		}
		if found := check(wrong); len(found) != 1 || !strings.Contains(found[0], "judge_reason") {
			t.Errorf("another reason of pair %d: found %q", i, found)
		}
	}
}
