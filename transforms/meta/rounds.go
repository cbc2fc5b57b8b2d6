package meta

import (
	"cmp"
	"context"
	"slices"

	"coeval/schemas"
	"coeval/transforms/rating"
)

// untilSettled asks rounds of comparisons until the budget's rule stops. Both orders of a pair are
// asked in one round.
func (a *asking) untilSettled(ctx context.Context, contested *schemas.Response, shown []shownJudgment) error {
	var scores []int
	at := map[string]int{}
	for i, j := range contested.DistinctJudgments() {
		scores = append(scores, j.Score)
		at[j.ID] = i
	}
	var h rating.History
	for round := 1; ; round++ {
		plan, err := a.Budget.Next(scores, h, a.dossier.Prompt.ID)
		if err != nil {
			return err
		}
		if plan.Stop != "" {
			a.dossier.Asking = &schemas.Asking{Stopped: plan.Stop, Regret: plan.Regret, Spread: plan.Spread}
			slices.SortFunc(a.dossier.Comparisons, func(x, y schemas.Comparison) int {
				return cmp.Or(cmp.Compare(x.FirstID, y.FirstID), cmp.Compare(x.SecondID, y.SecondID))
			})
			return nil
		}
		var pairs []pair
		for _, p := range plan.Pairs {
			pairs = append(pairs, pair{shown[p[0]], shown[p[1]]}, pair{shown[p[1]], shown[p[0]]})
		}
		known := len(a.dossier.Comparisons)
		if err := a.ask(ctx, pairs, round); err != nil {
			return err
		}
		h.Asked = append(h.Asked, plan.Pairs...)
		h.Games = append(h.Games, games(a.dossier.Comparisons[known:], at)...)
	}
}

// games returns the verdicts among comparisons. At maps the IDs of judgments to their indices.
func games(comparisons []schemas.Comparison, at map[string]int) []rating.Game {
	var out []rating.Game
	for i := range comparisons {
		c := &comparisons[i]
		g := rating.Game{First: at[c.FirstID], Second: at[c.SecondID]}
		switch {
		case c.Unparsed != "":
			continue
		case c.Read != nil:
			g.Win, g.Weight = float64(c.Read.ValueMicros)/schemas.ReadUnit, rating.ReadWeight
		case c.Winner == schemas.First:
			g.Win = 1
		case c.Winner != schemas.Second:
			continue
		}
		out = append(out, g)
	}
	return out
}
