package loop

import (
	"fmt"
	"slices"

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
	model, preset := l.plannedModel(t-1), l.Config.turn(t).Preset
	if preset == Temporal {
		preset = phaseTwo
	}
	settings, err := l.currentSettings(t, preset, &model)
	if err != nil {
		return nil, err
	}
	if preset == phaseTwo {
		l.putFuture(settings, &checkpoint{Name: l.firstName(), Digest: fmt.Sprintf("untrained-%d", t)})
	}
	return settings, nil
}

// plannedJudge returns the config of the calibration after iteration t.
func (l *Loop) plannedJudge(t int) (map[string]any, error) {
	model := l.plannedModel(t)
	return l.judgeSettings(t, &model)
}

// Changed returns the first step that was done with other settings, if there is one. The loop refuses to
// go on then. It is called after [Loop.Intended].
func (l *Loop) Changed() (iteration int, step Step, changed bool) {
	for t := 1; t <= l.state.Last(); t++ {
		input := l.inputOf(t)
		for _, step := range l.Config.steps(t) {
			own := schemas.Digest(input, string(step), l.settingsOf(t, step))
			done := l.state.Find(t, step)
			if done == nil || step == Decide { // a decision is made again by other rules
				break
			}
			if done.Input != own {
				return t, step, true
			}
			input = schemas.Digest(own, string(done.Output))
		}
	}
	return 0, "", false
}

// Has reports whether a step of the iteration is done.
func (i *Intended) Has(s Step) bool { return slices.Contains(i.Done, s) }
