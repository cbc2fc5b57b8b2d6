package loop

import (
	"context"
	"fmt"
	"path/filepath"

	"coeval/runners/loop/config"
	"coeval/runners/loop/nested"
	"coeval/runners/loop/steps"
	"coeval/runners/loop/swap"
	"coeval/schemas"
)

// phaseOne runs phase 1, whose pairs train the future model.
func (l *Loop) phaseOne(ctx context.Context, t int) (any, error) {
	settings, err := l.phaseSettings(t, config.PhaseOne)
	if err != nil {
		return nil, err
	}
	return l.run(ctx, t, "phase-1", "phase-1.yaml", settings)
}

// phaseSettings returns the config of the run of iteration t with this preset, with the checkpoints
// that it asks beside the current one.
func (l *Loop) phaseSettings(t int, preset string) (map[string]any, error) {
	model := l.after(t - 1)
	settings := l.currentSettings(t, preset, &model)
	if preset == config.PhaseTwo {
		swapped, err := steps.Output[swapped](l.state, t, steps.SwapFuture)
		if err != nil {
			return nil, err
		}
		l.putFuture(settings, &swapped.Model)
	}
	return settings, nil
}

// currentSettings returns the config of the run of iteration t with this preset and current model, without the
// future one.
func (l *Loop) currentSettings(t int, preset string, model *checkpoint) map[string]any {
	settings := l.runSettings(t, model, preset, l.dataFolder(t))
	if preset == config.PhaseOne || preset == config.PhaseTwo {
		l.putPast(t, settings, model)
	}
	return settings
}

// putPast names the first model as past, where the config doesn't name it.
func (l *Loop) putPast(t int, settings map[string]any, current *checkpoint) {
	past := nested.Section(settings, schemas.RolePast)
	if past["model"] == nil {
		past["model"] = l.firstName()
	}
	if t == 1 && past["model"] == current.Name {
		// The current model is the first one. It answers as the actor, with the actor's sampling.
		settings[schemas.RolePast] = map[string]any{"model": current.Name}
	}
}

// putFuture names the future model.
func (l *Loop) putFuture(settings map[string]any, model *checkpoint) {
	future := nested.Section(settings, schemas.RoleFuture)
	future["model"], future["revision"] = model.Name, model.revision()
	if urls := l.Config.Swap.Future.URLs; len(urls) > 0 {
		future["urls"] = urls
	}
}

// futureFolder has the set, the model and the logs of the future model of iteration t.
func (l *Loop) futureFolder(t int) string { return filepath.Join(l.Config.Folder(t), "future") }

// futureSet makes the set of phase 1.
func (l *Loop) futureSet(ctx context.Context, t int) (any, error) {
	p, err := steps.Output[produced](l.state, t, steps.PhaseOne)
	if err != nil {
		return nil, err
	}
	return l.setOf(ctx, t, p, l.futureFolder(t))
}

// trainFuture trains the future model: the current one, on the set of phase 1.
func (l *Loop) trainFuture(ctx context.Context, t int) (any, error) {
	s, err := steps.Output[made](l.state, t, steps.FutureSet)
	if err != nil {
		return nil, err
	}
	return l.trainIn(ctx, t, l.futureFolder(t), s)
}

// futureServer is the process name of the server of the future model.
const futureServer = "future-server"

// swapFuture makes servers serve the future model beside the current one, and proves it.
func (l *Loop) swapFuture(ctx context.Context, t int) (any, error) {
	trained, err := steps.Output[checkpoint](l.state, t, steps.TrainFuture)
	if err != nil {
		return nil, err
	}
	at := l.futureGroup(t)
	former, next := l.after(t-1), *trained
	if len(l.Config.Swap.Future.URLs) > 0 {
		former = l.formerFuture(t)
	}
	next.Name = former.Name
	if l.Config.Swap.Kind == swap.LoRA {
		next.Name = fmt.Sprintf("it-%d-future-%s", t, next.revision()[:8])
	}
	return l.swapGroup(ctx, t, at, &former, &next)
}

// futureGroup returns the servers of the future model: its own, or those of the current model.
func (l *Loop) futureGroup(t int) *serverGroup {
	at := &serverGroup{
		urls: l.Config.Servers(), command: l.Config.Swap.Future.Command, process: futureServer, step: steps.SwapFuture,
		canaries: l.futureFolder(t), base: "canary-base",
	}
	if len(l.Config.Swap.Future.URLs) > 0 {
		at.urls, at.base = l.Config.Swap.Future.URLs, "canary-future-base"
	}
	return at
}

// formerFuture returns the model that the servers of the future model serve before iteration t: that of
// the last iteration with a future, or the first model.
func (l *Loop) formerFuture(t int) checkpoint {
	for i := t - 1; i > 0; i-- {
		if s, err := steps.Output[swapped](l.state, i, steps.SwapFuture); err == nil {
			return s.Model
		}
	}
	return checkpoint{Path: l.Config.Model.Path, Name: l.firstName()}
}
