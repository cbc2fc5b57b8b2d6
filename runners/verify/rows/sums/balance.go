package sums

import (
	"cmp"
	"maps"
	"slices"

	"coeval/pipelines/config"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
)

// Balance counts the judge pairs that the prompts' own rows lead to, by kind and by the reason
// for which the run dropped them. The reason of a kept pair is empty. The bounds of a
// balance depend on the whole run, so that they are checked after the last shard.
type Balance struct {
	counts  map[reference.Kind]int64
	reasons map[balancedKind]int64
}

type balancedKind struct {
	kind   reference.Kind
	reason string
}

// Count counts a pair that the run kept, or dropped for this reason.
func (b *Balance) Count(kind reference.Kind, reason string) { b.count(balancedKind{kind, reason}, 1) }

func (b *Balance) count(k balancedKind, n int64) {
	if b.reasons == nil {
		b.reasons, b.counts = map[balancedKind]int64{}, map[reference.Kind]int64{}
	}
	b.reasons[k] += n
	b.counts[k.kind] += n
}

func (b *Balance) add(o *Balance) {
	for k, n := range o.reasons {
		b.count(k, n)
	}
}

// IsBalanced reports whether the settings balance the run's judge pairs.
func IsBalanced(m *config.Method) bool { return m.JudgeClassCap > 0 || m.BalanceDirections > 0 }

// Check compares the recorded reasons with the reasons that the run's balance gives for each kind of
// pair.
func (b *Balance) Check(m *config.Method, found *problems.List) {
	if !IsBalanced(m) {
		return
	}
	want := reference.Balance(b.counts, m.JudgeClassCap, m.BalanceDirections)
	kinds := slices.SortedFunc(maps.Keys(b.reasons), func(x, y balancedKind) int {
		return cmp.Or(cmp.Compare(x.kind.Score, y.kind.Score), cmp.Compare(x.kind.Direction, y.kind.Direction), cmp.Compare(x.kind.Part, y.kind.Part), cmp.Compare(x.reason, y.reason))
	})
	for _, k := range kinds {
		if reason := want[k.kind]; reason != k.reason {
			found.Add("judge_reason of %d prompts whose chosen judgment scores %v is %s, should be %s by the run's judge pairs",
				b.reasons[k], float64(k.kind.Score)/1000, cmp.Or(k.reason, "null"), cmp.Or(reason, "null"))
		}
	}
}
