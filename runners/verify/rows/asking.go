package rows

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"coeval/runners/verify/problems"
	"coeval/runners/verify/reference"
	"coeval/schemas"
	"coeval/transforms/rating"
)

// checkAsking replays the rounds in which a prompt's comparisons were asked: each round must follow
// from the verdicts of those before it, and asking must have stopped for the recorded reason.
func (d *prompt) checkAsking(at problems.Location, p *schemas.PromptRow) {
	budget := d.shard.Run.Settings.MetaJudge.Budget
	if budget == nil || !d.isCompared() {
		problems.SameNullable(at, "asking_stopped", p.AskingStopped, nil)
		problems.SameNullable(at, "expected_regret", p.ExpectedRegret, nil)
		problems.SameNullable(at, "expected_spread", p.ExpectedSpread, nil)
		return
	}
	a := reference.Asking{Seed: d.ID, Share: cmp.Or(budget.Regret, rating.DefaultRegret), Most: cmp.Or(budget.MaxComparisons, rating.DefaultMaxComparisons)}
	left, asked := d.askedPairs()
	var rounds [][][2]int
	state := d.compared.prompt.Begin(&a)
	for number := int32(1); len(left) > 0; number++ {
		round := left.take(number)
		_, should := state.Explains(round)
		round = append(round, left.takeFailed(should)...)
		ok, should := state.Explains(round)
		if !slices.Contains(state.Stops, "") || !ok {
			d.reportRound(at, number, round, should, state)
			return
		}
		rounds = append(rounds, round)
		state = d.compared.prompt.Next(&a, rounds)
	}
	d.checkStop(at, p, state)
	if p.AskingStopped != nil && p.ExpectedRegret != nil && p.ExpectedSpread != nil {
		d.shard.Sums.Stats.Asking.Count(schemas.Stop(*p.AskingStopped), *p.ExpectedRegret, *p.ExpectedSpread, asked, len(d.compared.judgments))
	}
}

// pairsLeft maps pairs of judgments to their round, 0 if all their calls failed.
type pairsLeft map[[2]int]int32

// askedPairs returns the pairs with a row or a failure, and how many comparisons there are of them.
func (d *prompt) askedPairs() (pairs pairsLeft, comparisons int) {
	c := &d.compared
	pairs = pairsLeft{}
	for i := range c.seen {
		for k, seen := range c.seen[i] {
			if seen {
				comparisons++
				pair := [2]int{min(i, k), max(i, k)}
				pairs[pair] = max(pairs[pair], c.rounds[i][k])
			}
		}
	}
	return pairs, comparisons
}

// take removes and returns the pairs of a round that have a row, sorted.
func (l pairsLeft) take(number int32) [][2]int {
	var round [][2]int
	for pair, n := range l {
		if n == number {
			round = append(round, pair)
			delete(l, pair)
		}
	}
	slices.SortFunc(round, func(a, b [2]int) int { return cmp.Or(a[0]-b[0], a[1]-b[1]) })
	return round
}

// takeFailed removes and returns the pairs whose calls all failed: failures don't name
// their round.
func (l pairsLeft) takeFailed(pairs [][2]int) [][2]int {
	var failed [][2]int
	for _, pair := range pairs {
		if n, ok := l[pair]; ok && n == 0 {
			failed = append(failed, pair)
			delete(l, pair)
		}
	}
	return failed
}

func (d *prompt) reportRound(at problems.Location, number int32, got, should [][2]int, s *reference.Step) {
	if !slices.Contains(s.Stops, "") {
		at.Add("round %d of its comparisons requests %s, but the requests should have stopped before it (%s)", number, d.showPairs(got), s.Stops[0])
		return
	}
	at.Add("round %d of its comparisons requests %s, should request %s by the verdicts before it", number, d.showPairs(got), d.showPairs(should))
}

func (d *prompt) showPairs(pairs [][2]int) string {
	var shown []string
	for _, p := range pairs {
		shown = append(shown, fmt.Sprintf("judgments %s and %s", d.compared.judgments[p[0]].row.ID, d.compared.judgments[p[1]].row.ID))
	}
	return cmp.Or(strings.Join(shown, ", "), "nothing")
}

// near is how much an expected regret may differ from ours: see reference.
const near = 1e-6

func (d *prompt) checkStop(at problems.Location, p *schemas.PromptRow, s *reference.Step) {
	if stop := schemas.Stop(text(p.AskingStopped)); stop == "" || !slices.Contains(s.Stops, stop) {
		should := string(s.Stops[0])
		if should == "" {
			should = "another round: the selection was not settled"
		}
		at.Add("asking_stopped is %s, should be %s", problems.ShowNullable(p.AskingStopped), should)
	}
	for _, column := range []struct {
		name string
		got  *float64
		want []float64 // any of them
	}{{"expected_regret", p.ExpectedRegret, s.Regrets}, {"expected_spread", p.ExpectedSpread, []float64{s.Spread}}} {
		if column.got == nil || !slices.ContainsFunc(column.want, func(want float64) bool { return math.Abs(*column.got-want) <= near }) {
			at.Add("%s is %s, should be %v according to the verdicts", column.name, problems.ShowNullable(column.got), column.want[0])
		}
	}
}
