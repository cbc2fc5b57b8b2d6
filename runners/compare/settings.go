package compare

import (
	"fmt"
	"slices"

	"coeval/runners/figures"
	"coeval/runners/runs"
)

// Setting is a setting that differs between runs.
type Setting struct {
	Name string `json:"name"`
	// Values are by run.
	Values []string `json:"values"`
}

// settingsOf lists the settings that differ between runs, which may explain differences of figures.
func settingsOf(opened []*runs.Run) []Setting {
	var out []Setting
	add := func(name string, of func(s *runs.Settings) string) {
		values := make([]string, len(opened))
		for i, r := range opened {
			values[i] = of(&r.Settings)
		}
		if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
			out = append(out, Setting{Name: name, Values: values})
		}
	}
	add("K, responses per prompt", func(s *runs.Settings) string { return fmt.Sprint(s.Actor.N) })
	add("N, judgments per response", func(s *runs.Settings) string { return fmt.Sprint(s.Judge.N) })
	add("method.rho", func(s *runs.Settings) string { return fmt.Sprint(s.Method.Rho) })
	add("method.min_margin", func(s *runs.Settings) string { return fmt.Sprint(s.Method.MinMargin) })
	add("method.max_chosen_chars", func(s *runs.Settings) string { return fmt.Sprint(s.Method.MaxChosenChars) })
	add("method.max_judgment_chars", func(s *runs.Settings) string { return fmt.Sprint(s.Method.MaxJudgmentChars) })
	add("method.min_judgments", func(s *runs.Settings) string { return fmt.Sprint(s.Method.MinJudgments) })
	add("method.min_meta_judgments", func(s *runs.Settings) string { return fmt.Sprint(s.Method.MinMetaJudgments) })
	add("method.position_weights", func(s *runs.Settings) string { return string(s.Method.PositionWeights) })
	add("method.hide_scores", func(s *runs.Settings) string { return fmt.Sprint(s.Method.HideScores) })
	add("actor.temperature", func(s *runs.Settings) string { return fmt.Sprint(s.Actor.Role.Temperature) })
	add("actor.max_tokens", func(s *runs.Settings) string { return fmt.Sprint(s.Actor.Role.MaxTokens) })
	add("judge.temperature", func(s *runs.Settings) string { return fmt.Sprint(s.Judge.Role.Temperature) })
	add("judge.max_tokens", func(s *runs.Settings) string { return fmt.Sprint(s.Judge.Role.MaxTokens) })
	add("judge.template", func(s *runs.Settings) string { return templateName(s.JudgeTemplate()) })
	add("judge.calibration", func(s *runs.Settings) string {
		if s.Calibration == nil {
			return "none"
		}
		return s.Calibration.Date
	})
	add("meta_judge.temperature", func(s *runs.Settings) string { return fmt.Sprint(s.MetaJudge.Role.Temperature) })
	add("meta_judge.max_tokens", func(s *runs.Settings) string { return fmt.Sprint(s.MetaJudge.Role.MaxTokens) })
	return out
}

// templateName shortens the digest of a template.
func templateName(digest string) string {
	const shown = 8
	return digest[:min(len(digest), shown)]
}

// commonRho returns the ρ for comparing lengths: the runs' own if they agree, otherwise the swept ρ nearest
// to the last run's own. Every report sweeps the same ρ.
func commonRho(all []*figures.Figures) float64 {
	own := func(f *figures.Figures) float64 {
		for _, r := range f.Length.Rho {
			if r.Own {
				return r.Rho
			}
		}
		return 0
	}
	last := own(all[len(all)-1])
	if !slices.ContainsFunc(all, func(f *figures.Figures) bool { return own(f) != last }) {
		return last
	}
	return figures.NearestSweptRho(last)
}

// chosenChars returns the mean length of the responses chosen at a ρ, and the number of pairs there.
func chosenChars(f *figures.Figures, rho float64) (chars float64, pairs int64) {
	for _, r := range f.Length.Rho {
		if r.Rho == rho {
			return r.Chosen, r.Pairs
		}
	}
	return 0, 0
}
