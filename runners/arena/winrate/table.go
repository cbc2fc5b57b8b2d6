package winrate

import (
	"cmp"
	"slices"

	"coeval/runners/glm"
)

// Standing is the strength of one model among all that played.
type Standing struct {
	Model string `json:"model"`
	// Strength is the Bradley–Terry strength in logits, 0 for the baseline: model m gets a round
	// against n with the probability σ(strength_m − strength_n).
	Strength Estimate `json:"strength"`
	// Rounds counts the rounds that the model played.
	Rounds int `json:"rounds"`
}

// Standings fits the Bradley–Terry model (Bradley and Terry, 1952) to all rounds of the matches,
// which may have different baselines, as long as games connect them. Outcomes may be fractions.
// The intervals resample prompts, all rounds of a prompt together. Baseline has the strength 0 and
// an interval without width.
func Standings(baseline string, matches []*Match, o Options) []Standing {
	o = o.withDefaults()
	t := newTable(baseline, matches, o.Outcome)
	fitted := glm.Fit(t.rows, t.y, nil, glm.Ridge, nil)
	resampled := make([][]float64, len(t.models))
	for _, weights := range resample(len(t.prompts), o.Resamples) {
		rowWeights := make([]float64, len(t.rows))
		for i, p := range t.promptOf {
			rowWeights[i] = weights[p]
		}
		for k, b := range glm.Fit(t.rows, t.y, rowWeights, glm.Ridge, fitted) {
			resampled[k] = append(resampled[k], b)
		}
	}
	standings := []Standing{{Model: baseline, Rounds: t.rounds[baseline]}}
	for k, model := range t.models {
		standings = append(standings, Standing{Model: model, Strength: interval(fitted[k], resampled[k]), Rounds: t.rounds[model]})
	}
	slices.SortStableFunc(standings, func(x, y Standing) int {
		return cmp.Or(cmp.Compare(y.Strength.Value, x.Strength.Value), cmp.Compare(x.Model, y.Model))
	})
	return standings
}

// table is the design matrix: +1 for side A, −1 for side B, no column for the baseline.
type table struct {
	models   []string
	prompts  map[string]int
	rows     [][]float64
	y        []float64
	promptOf []int
	rounds   map[string]int
}

func newTable(baseline string, matches []*Match, o Outcome) *table {
	t := &table{prompts: map[string]int{}, rounds: map[string]int{}}
	column := map[string]int{}
	for _, m := range matches {
		for _, model := range []string{m.A, m.B} {
			if _, ok := column[model]; !ok && model != baseline {
				column[model] = len(t.models)
				t.models = append(t.models, model)
			}
		}
	}
	for _, m := range matches {
		for i := range m.Rounds {
			r := &m.Rounds[i]
			row := make([]float64, len(t.models))
			if m.A != baseline {
				row[column[m.A]]++
			}
			if m.B != baseline {
				row[column[m.B]]--
			}
			if _, ok := t.prompts[r.PromptID]; !ok {
				t.prompts[r.PromptID] = len(t.prompts)
			}
			t.rows, t.y = append(t.rows, row), append(t.y, r.outcome(o))
			t.promptOf = append(t.promptOf, t.prompts[r.PromptID])
			t.rounds[m.A]++
			t.rounds[m.B]++
		}
	}
	return t
}
