package loop

import (
	"fmt"
	"slices"

	"coeval/runners/loop/config"
	"coeval/runners/loop/inputs"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// Intended is one iteration of a plan. Configs name models that are not trained yet by
// placeholders, so that nothing in a journal is taken for theirs.
type Intended struct {
	Iteration int
	// Preset and Roles are taken from the schedule; Roles are empty where the preset has its own.
	Preset string
	Roles  []string
	// Done are the steps that are done.
	Done []steps.Step
	// Run is the config of the run. Where an iteration has both phases of temporal it is the config of phase 2,
	// which requests all that phase 1 requests.
	Run map[string]any
	// Arena is the config of the arena after the iteration, nil without one. Before is that after the
	// iteration before, which the same folder has; nil if there is none or its evaluation is done.
	Arena, Before map[string]any
	// Judge is the config of the calibration, nil without labels.
	Judge map[string]any
}

// Intended returns the plans of the iterations that the stop rules allow.
func (l *Loop) Intended() ([]Intended, error) {
	var err error
	if l.state, err = steps.Read(l.Config.Dir); err != nil {
		return nil, err
	}
	var all []Intended
	var before map[string]any
	for t := 1; t <= l.Config.Decide.Iterations; t++ {
		turn := l.Config.Turn(t)
		it := Intended{Iteration: t, Preset: turn.Preset, Roles: turn.Roles, Before: before}
		for _, r := range l.state.Records() {
			if r.Iteration == t {
				it.Done = append(it.Done, r.Step)
			}
		}
		it.Run = l.plannedRun(t)
		if len(l.Config.Evaluate.Arena) > 0 {
			var models []checkpoint
			for i := 1; i <= t; i++ {
				models = append(models, l.plannedModel(i))
			}
			it.Arena = l.arenaSettings(models)
			before = nil
			if !it.Has(steps.Measure) {
				before = it.Arena
			}
		}
		if l.Config.Evaluate.People != "" {
			it.Judge = l.plannedJudge(t)
		}
		all = append(all, it)
	}
	return all, nil
}

// plannedModel returns the model after iteration t, or a placeholder.
func (l *Loop) plannedModel(t int) checkpoint {
	if t == 0 || l.state.Find(t, steps.SwapModel) != nil {
		return l.after(t)
	}
	return checkpoint{Name: l.firstName(), Digest: fmt.Sprintf("not-trained-%d", t)}
}

// plannedRun returns the config of the run of iteration t.
func (l *Loop) plannedRun(t int) map[string]any {
	model, preset := l.plannedModel(t-1), l.Config.Turn(t).Preset
	if preset == config.Temporal {
		preset = config.PhaseTwo
	}
	settings := l.currentSettings(t, preset, &model)
	if preset == config.PhaseTwo {
		future := checkpoint{Name: l.firstName(), Digest: fmt.Sprintf("untrained-%d", t)}
		if done, err := steps.Output[swapped](l.state, t, steps.SwapFuture); err == nil {
			future = done.Model
		}
		l.putFuture(settings, &future)
	}
	return settings
}

// plannedJudge returns the config of the calibration after iteration t.
func (l *Loop) plannedJudge(t int) map[string]any {
	model := l.plannedModel(t)
	return l.judgeSettings(t, &model)
}

// Changed returns the first step that was done with other settings, if there is one. The loop refuses to
// go on then. It is called after [Loop.Intended].
func (l *Loop) Changed() (iteration int, step steps.Step, changed bool) {
	for t := 1; t <= l.state.Last(); t++ {
		input := l.inputOf(t)
		for _, step := range l.Config.Steps(t) {
			if l.refuses(t, step, inputs.Of(&l.Config, t, step, input)) {
				return t, step, true
			}
			done := l.state.Find(t, step)
			if done == nil {
				break
			}
			input = schemas.Digest(done.Input, string(done.Output))
		}
	}
	return 0, "", false
}

// Has reports whether a step of the iteration is done.
func (i *Intended) Has(s steps.Step) bool { return slices.Contains(i.Done, s) }
