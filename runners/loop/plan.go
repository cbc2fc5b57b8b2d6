package loop

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"coeval/schemas"
)

// Intended is what an iteration does, for a plan. Configs name models that are not trained yet by
// placeholders, so that nothing in a journal is taken for theirs.
type Intended struct {
	Iteration int
	// Preset and Roles are those of the schedule; Roles are empty where the preset has its own.
	Preset string
	Roles  []string
	// Done are the steps that are done.
	Done []Step
	// Run is the config of the run. Where an iteration has both phases of temporal it is that of phase 2,
	// which asks all that phase 1 asks.
	Run map[string]any
	// Arena is the config of the arena after the iteration, nil without one. Before is that after the
	// iteration before, which the same folder has; nil in the first iteration.
	Arena, Before map[string]any
	// Judge is the config of the calibration, nil without labels.
	Judge map[string]any
}

// Intended returns what the iterations do that the stop rules allow.
func (l *Loop) Intended() ([]Intended, error) {
	var err error
	if l.state, err = ReadState(l.Config.Dir); err != nil {
		return nil, err
	}
	var all []Intended
	var before map[string]any
	for t := 1; t <= l.Config.Decide.Iterations; t++ {
		turn := l.Config.turn(t)
		it := Intended{Iteration: t, Preset: turn.Preset, Roles: turn.Roles, Before: before}
		for _, r := range l.state.Records() {
			if r.Iteration == t {
				it.Done = append(it.Done, r.Step)
			}
		}
		if it.Run, err = l.plannedRun(t); err != nil {
			return nil, err
		}
		if len(l.Config.Evaluate.Arena) > 0 {
			var models []checkpoint
			for i := 1; i <= t; i++ {
				models = append(models, l.plannedModel(i))
			}
			if it.Arena, err = l.arenaSettings(models); err != nil {
				return nil, err
			}
			before = it.Arena
		}
		if l.Config.Evaluate.People != "" {
			if it.Judge, err = l.plannedJudge(t); err != nil {
				return nil, err
			}
		}
		all = append(all, it)
	}
	return all, nil
}

// plannedModel returns the model after iteration t, or a placeholder.
func (l *Loop) plannedModel(t int) checkpoint {
	if t == 0 || l.state.Find(t, SwapModel) != nil {
		return l.after(t)
	}
	return checkpoint{Name: l.firstName(), Digest: fmt.Sprintf("not-trained-%d", t)}
}

// plannedRun returns the config of the run of iteration t.
func (l *Loop) plannedRun(t int) (map[string]any, error) {
	model := l.plannedModel(t - 1)
	settings, err := l.runSettings(t, &model, filepath.Join(l.Config.folder(t), "data"))
	if err != nil {
		return nil, err
	}
	preset := l.Config.turn(t).Preset
	if !strings.HasPrefix(preset, temporalPrefix) {
		return settings, nil
	}
	past := map[string]any{"model": l.firstName()}
	if own, ok := settings[schemas.RolePast].(map[string]any); ok {
		past = own
		if past["model"] == nil {
			past["model"] = l.firstName()
		}
	}
	settings[schemas.RolePast] = past
	if preset == bothPhases {
		settings["preset"] = bothPhases + "-2"
		put(settings, "future.model", l.firstName())
		put(settings, "future.revision", fmt.Sprintf("not-trained-%d-future", t))
	}
	return settings, nil
}

// The presets with other checkpoints, and the one with both phases in one iteration.
const (
	temporalPrefix = "temporal"
	bothPhases     = "temporal"
)

// plannedJudge returns the config of the calibration after iteration t.
func (l *Loop) plannedJudge(t int) (map[string]any, error) {
	model := l.plannedModel(t)
	settings, err := l.runSettings(t, &model, filepath.Join(l.Config.folder(t), "judge"))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(l.Config.turn(t).Preset, temporalPrefix) {
		settings["preset"] = "self-rewarding" // as the calibration of the loop: the judge is the same, and nothing is asked of others
	}
	return settings, nil
}

// Has reports whether a step of the iteration is done.
func (i *Intended) Has(s Step) bool { return slices.Contains(i.Done, s) }
