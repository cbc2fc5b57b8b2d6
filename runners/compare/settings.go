package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coeval/pipelines/config"
	"coeval/runners/figures"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/transforms/stage"
)

// Setting is a setting that differs between runs.
type Setting struct {
	Name string `json:"name"`
	// Values are by run.
	Values []string `json:"values"`
}

// settingsOf lists the settings that differ between runs, which may explain differences of figures. Prompts
// are not among them, because iterations have different ones.
func settingsOf(opened []*runs.Run) []Setting {
	out := append(namedSettings(opened), otherSettings(opened)...)
	add := adder(opened, &out)
	add("judge.template", func(s *runs.Settings) string { return templateName(s.JudgeTemplate()) })
	add("judge.calibration", func(s *runs.Settings) string {
		if s.Calibration == nil {
			return "none"
		}
		return s.Calibration.Date
	})
	return out
}

// adder returns a function that adds a setting to a list if it differs between runs.
func adder(opened []*runs.Run, to *[]Setting) func(name string, of func(s *runs.Settings) string) {
	return func(name string, of func(s *runs.Settings) string) {
		values := make([]string, len(opened))
		for i, r := range opened {
			values[i] = of(&r.Settings)
		}
		if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
			*to = append(*to, Setting{Name: name, Values: values})
		}
	}
}

// namedSettings lists the settings that differ and whose keys alone would not explain them.
func namedSettings(opened []*runs.Run) []Setting {
	var out []Setting
	add := adder(opened, &out)
	add("roles", func(s *runs.Settings) string { return strings.Join(s.Roles, ", ") })
	add("seed", func(s *runs.Settings) string { return fmt.Sprint(s.Actor.Role.Seed) })
	add("actor.model", func(s *runs.Settings) string { return model(&s.Actor.Role) })
	add("judge.model", func(s *runs.Settings) string { return model(&s.Judge.Role) })
	add("K, responses per prompt", func(s *runs.Settings) string { return fmt.Sprint(s.Actor.N) })
	add("N, judgments per response", func(s *runs.Settings) string { return fmt.Sprint(s.Judge.N) })
	add("judge.verdict", func(s *runs.Settings) string { return verdict(s.ReadsScores()) })
	if !haveMetaJudge(opened) {
		return out
	}
	add("meta_judge.model", func(s *runs.Settings) string { return model(&s.MetaJudge.Role) })
	add("meta_judge.verdict", func(s *runs.Settings) string { return verdict(s.ReadsComparisons()) })
	add("budget.judgments", func(s *runs.Settings) string {
		if r := s.Judge.Rounds; r != nil {
			return fmt.Sprintf("%s, distance %v, at most %d", config.RoundJudgments, r.Distance, r.Max)
		}
		return config.AllJudgments
	})
	add("budget.comparisons", func(s *runs.Settings) string {
		if b := s.MetaJudge.Budget; b != nil {
			return fmt.Sprintf("%s, regret %v, at most %d", config.SettledComparisons, b.Regret, b.MaxComparisons)
		}
		return config.AllComparisons
	})
	return out
}

// shownByName are the keys and their parents whose values namedSettings and settingsOf show, and the names and
// simulators of roles. See [otherSettings] for the form.
var shownByName = []string{
	"roles", "calibration", "actor.n", "judge.n", "judge.template", "judge.rounds", "meta_judge.reads", "meta_judge.budget",
	"actor.name", "actor.model", "actor.revision", "actor.seed", "actor.simulated", "judge.name", "judge.model", "judge.revision", "judge.seed",
	"judge.simulated", "meta_judge.name", "meta_judge.model", "meta_judge.revision", "meta_judge.seed", "meta_judge.simulated",
}

// otherSettings lists all other settings that differ, by their keys in run.json. A role's own keys stand without the
// level "role", as in the config of a run.
func otherSettings(opened []*runs.Run) []Setting {
	flat := make([]map[string]string, len(opened))
	names := map[string]bool{}
	have := haveMetaJudge(opened)
	for i, r := range opened {
		flat[i] = map[string]string{}
		flatten(flat[i], "", decoded(r.Settings))
		for name := range flat[i] {
			names[name] = !isShownByName(name) && (have || !strings.HasPrefix(name, "meta_judge."))
		}
	}
	var out []Setting
	for _, name := range slices.Sorted(maps.Keys(names)) {
		values := make([]string, len(opened))
		for i := range flat {
			values[i] = cmp.Or(flat[i][name], "none")
		}
		if names[name] && slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
			out = append(out, Setting{Name: name, Values: values})
		}
	}
	return out
}

// haveMetaJudge reports whether all runs ask a meta-judge: a run without the judge's role asks none.
func haveMetaJudge(opened []*runs.Run) bool {
	return !slices.ContainsFunc(opened, func(r *runs.Run) bool { return !r.Settings.Wants(schemas.RoleJudge) })
}

func isShownByName(name string) bool {
	return slices.ContainsFunc(shownByName, func(key string) bool { return name == key || strings.HasPrefix(name, key+".") })
}

func verdict(isRead bool) string {
	if isRead {
		return config.ReadVerdict
	}
	return config.ReasonedVerdict
}

// model names a role's model with its revision.
func model(r *stage.Role) string {
	if r.Revision == "" {
		return r.Model
	}
	return r.Model + "@" + r.Revision
}

// decoded returns settings as the JSON value of run.json.
func decoded(s runs.Settings) any {
	var v any
	b, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return nil // never: the settings come from JSON
	}
	return v
}

// flatten collects the texts of a JSON value by the paths of their keys.
func flatten(to map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if key == "role" {
				flatten(to, path, value)
			} else {
				flatten(to, strings.TrimPrefix(path+"."+key, "."), value)
			}
		}
	case nil:
	case string:
		to[path] = short(v)
	default:
		if b, err := json.Marshal(v); err == nil {
			to[path] = short(string(b))
		}
	}
}

// short cuts a long value, such as an instruction, and adds a digest that identifies it.
func short(v string) string {
	const shown = 40
	if r := []rune(v); len(r) > shown {
		return string(r[:shown]) + "… (" + templateName(schemas.Digest(v)) + ")"
	}
	return v
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
