package verify

import (
	"cmp"
	"maps"
	"slices"

	"coeval/schemas"
	"coeval/transforms/pairs"
)

// balance counts the judge pairs that the prompts' own rows lead to, by kind and by the reason
// for which the run dropped them; the reason is empty for those that it kept. The bounds of a
// balance depend on the whole run, so that they are checked after the last shard.
type balance struct {
	counts  schemas.BalanceCounts
	reasons map[balancedKind]int64
}

type balancedKind struct {
	cell   schemas.BalanceCell
	reason string
}

func (b *balance) count(k balancedKind, n int64) {
	if b.reasons == nil {
		b.reasons, b.counts.Cells = map[balancedKind]int64{}, map[schemas.BalanceCell]int64{}
	}
	b.reasons[k] += n
	b.counts.Cells[k.cell] += n
}

func (b *balance) add(o *balance) {
	for k, n := range o.reasons {
		b.count(k, n)
	}
}

// check compares the reasons with those of the run's balance. They are a function of the kind.
func (b *balance) check(o pairs.BalanceOptions, found *problems) {
	if !o.Enabled() {
		return
	}
	want := pairs.NewBalance(b.counts, o)
	kinds := slices.SortedFunc(maps.Keys(b.reasons), func(x, y balancedKind) int {
		return cmp.Or(cmp.Compare(x.cell.Score, y.cell.Score), cmp.Compare(x.cell.Direction, y.cell.Direction), cmp.Compare(x.cell.Bucket, y.cell.Bucket), cmp.Compare(x.reason, y.reason))
	})
	for _, k := range kinds {
		if reason := want.Reason(k.cell); reason != k.reason {
			found.add("judge_reason of %d prompts whose chosen judgment scores %v is %s, should be %s by the run's judge pairs",
				b.reasons[k], float64(k.cell.Score)/1000, cmp.Or(k.reason, "null"), cmp.Or(reason, "null"))
		}
	}
}

// balanced returns the judge's choice after the run's balance: a pair may be dropped for one of
// its reasons, which the check of the run confirms.
func (d *rows) balanced(p *schemas.PromptRow, c schemas.Choice) schemas.Choice {
	if c.Outcome != schemas.Paired || !d.shard.run.Settings.Method.JudgeOptions().Balance.Enabled() {
		return c
	}
	k := &d.compared
	chosen, rejected := k.judgments[k.place(c.ChosenID)].row, k.judgments[k.place(c.RejectedID)].row
	reason := text(p.JudgeReason)
	if reason != schemas.Direction && reason != schemas.ClassCap {
		reason = ""
	}
	cell := pairs.BalanceCell(p.ID, inThousandths(*chosen.Score), inThousandths(*rejected.Score))
	d.shard.balance.count(balancedKind{cell, reason}, 1)
	if reason == "" {
		return c
	}
	return schemas.Choice{Outcome: schemas.Dropped, Reason: reason, Elo: c.Elo}
}
