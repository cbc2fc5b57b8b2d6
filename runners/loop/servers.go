package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	pipeline "coeval/pipelines/config"
	"coeval/runners/loop/config"
	"coeval/runners/loop/process"
	"coeval/runners/loop/serving"
	"coeval/runners/loop/steps"
	"coeval/runners/loop/swap"
)

// swapped is a model that servers are proved to serve.
type swapped struct {
	Model  checkpoint             `json:"model"`
	Proofs map[string]*swap.Proof `json:"proofs"`
}

// swap makes every server serve the trained model, and proves it.
func (l *Loop) swap(ctx context.Context, t int) (any, error) {
	trained, err := steps.Output[checkpoint](l.state, t, steps.TrainModel)
	if err != nil {
		return nil, err
	}
	former := l.after(t - 1)
	next := *trained
	next.Name = former.Name
	if l.Config.Swap.Kind == swap.LoRA {
		next.Name = fmt.Sprintf("it-%d-%s", t, next.revision()[:8])
	}
	if t == 1 && !l.baselineAnswered(t) {
		first := l.servedBy(0, l.currentGroup(t), steps.SwapModel)
		if err := l.keep(ctx, []*serving.Server{first}, func() error { return l.answerBaseline(ctx, t) }); err != nil {
			return nil, err
		}
	}
	return l.swapGroup(ctx, t, l.currentGroup(t), &former, &next)
}

// A serverGroup is the servers of one model: the current model, or the future model of temporal.
type serverGroup struct {
	urls []string
	// command starts a server. The process name distinguishes the two groups.
	command, process string
	// step is the step that swaps them.
	step steps.Step
	// canaries is the folder of the canaries of the models before the swap.
	canaries string
	// base begins the names of the files with the canaries of the model without adapter.
	base string
}

// currentGroup returns the servers of the current model.
func (l *Loop) currentGroup(t int) *serverGroup {
	return &serverGroup{urls: l.Config.Servers(), command: l.Config.Swap.Command, process: "server", step: steps.SwapModel, canaries: l.Config.Folder(t), base: "canary-base"}
}

// swapGroup swaps all servers of a group.
func (l *Loop) swapGroup(ctx context.Context, t int, at *serverGroup, former, next *checkpoint) (*swapped, error) {
	if err := l.checkModel(next); err != nil {
		return nil, err
	}
	out := &swapped{Model: *next, Proofs: map[string]*swap.Proof{}}
	for i, address := range at.urls {
		proof, err := l.swapServer(ctx, t, at, i, former, next)
		if err != nil {
			return nil, err
		}
		out.Proofs[address] = proof
	}
	return out, nil
}

// swapServer swaps one server. The canaries of former models are kept on the disk: after a reload of
// the weights those models can't be asked. All canaries of a proof are of this server.
func (l *Loop) swapServer(ctx context.Context, t int, at *serverGroup, i int, former, next *checkpoint) (*swap.Proof, error) {
	server := l.server(at.urls[i])
	file := l.formerCanary(t, at, i)
	if err := l.checkFormer(ctx, t, at, i, file); err != nil {
		return nil, err
	}
	if err := l.startFormer(ctx, t, at, server, former, file); err != nil {
		return nil, err
	}
	was, err := server.RecordOnce(ctx, file, former.Name)
	if err != nil {
		return nil, err
	}
	c := swap.Checkpoint{Path: next.Path, Name: next.Name, Digest: next.Digest}
	var base *swap.Canary
	switch l.Config.Swap.Kind {
	case swap.LoRA:
		if base, err = server.RecordOnce(ctx, canaryFile(l.Config.Dir, at.base, server.URL), l.firstName()); err != nil {
			return nil, err
		}
		err = server.Load(ctx, l.Config.Swap.Dialect, c)
	case swap.Reload:
		err = server.Reload(ctx, l.Config.Swap.Dialect, c)
	case swap.Command:
		err = l.starting(l.serverCommand(t, at, next), server, next).Replace(ctx)
	case swap.Wait:
		l.say("  waiting until %s serves %s (digest %s)", server.URL, c.Path, c.Digest)
		return server.ProveLater(ctx, c, was, l.Config.Swap.Ready)
	}
	if err != nil {
		return nil, err
	}
	return server.Prove(ctx, l.Config.Swap.Kind, c, was, base)
}

// serverCommand is the command that serves a model in iteration t, and later ones.
func (l *Loop) serverCommand(t int, at *serverGroup, model *checkpoint) *process.Command {
	line := config.Expand(at.command, map[string]string{"model": model.Path, "name": model.Name, "iteration": fmt.Sprint(t)})
	return &process.Command{Dir: l.Config.Dir, Name: at.process, Line: line, Env: l.Env}
}

// current returns the command of the group's server during a step of iteration t other than a swap. The
// server serves the model of the last swap, or the first model before any swap.
func (l *Loop) current(t int, at *serverGroup, step steps.Step) (*process.Command, *checkpoint) {
	for i := t; i > 0; i-- {
		if s, err := steps.Output[swapped](l.state, i, step); err == nil {
			return l.serverCommand(i, at, &s.Model), &s.Model
		}
	}
	first := &checkpoint{Path: l.Config.Model.Path, Name: l.firstName()}
	return l.serverCommand(0, at, first), first
}

// withServers does a step. Where the loop starts servers, they run from its beginning to its end. The
// steps that swap them start them themselves.
func (l *Loop) withServers(ctx context.Context, t int, step steps.Step, do func(context.Context, int) (any, error)) (output any, err error) {
	var kept []*serving.Server
	switch step {
	case steps.Produce, steps.PhaseOne, steps.Measure:
		if err := l.checkServed(ctx, t, l.currentGroup); err != nil {
			return nil, err
		}
		kept = append(kept, l.servedBy(t, l.currentGroup(t), steps.SwapModel))
	default:
	}
	if step == steps.Produce && l.Config.Turn(t).Preset == config.Temporal {
		if err := l.checkServed(ctx, t, l.futureGroup); err != nil {
			return nil, err
		}
		kept = append(kept, l.servedBy(t, l.futureGroup(t), steps.SwapFuture))
	}
	err = l.keep(ctx, kept, func() error {
		output, err = do(ctx, t)
		return err
	})
	return output, err
}

// checkServed returns an error if a server of a group answers as before the last swap: it was restarted since, with the
// weights of its command line. A server with adapters refuses a name that it has lost, and one that the loop starts gets
// the model. If the swap proved a server that can't be checked now, the loop only warns, because runs go on without some
// of their servers. For other servers see checkMoved.
func (l *Loop) checkServed(ctx context.Context, t int, group func(int) *serverGroup) error {
	i, last := l.lastSwap(t, group(t).step)
	if last == nil {
		return nil
	}
	at := group(i)
	errs := make([]error, len(at.urls))
	var wait sync.WaitGroup // servers that don't answer share one wait
	for j := range at.urls {
		wait.Go(func() { errs[j] = l.checkServer(ctx, i, at, j, last) })
	}
	wait.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// checkServer returns an error if server j of a group answers as before the swap of iteration t.
func (l *Loop) checkServer(ctx context.Context, t int, at *serverGroup, j int, last *swapped) error {
	address := at.urls[j]
	proof, former := last.proof(address), new(swap.Canary)
	if proof == nil {
		return l.checkMoved(ctx, t, at, address, &last.Model)
	}
	if l.Config.Swap.Kind == swap.LoRA || l.Config.Swap.Kind == swap.Command {
		return nil
	}
	file := l.formerCanary(t, at, j)
	b, err := os.ReadFile(file)
	if proof.Canary == nil {
		err = fmt.Errorf("%s has no canary of it", steps.StateFile)
	} else if err == nil && json.Unmarshal(b, former) != nil {
		err = fmt.Errorf("%s is damaged", file)
	}
	var now *swap.Canary
	if err == nil {
		err = l.whenServed(ctx, l.server(address), last.Model.Name, func(ctx context.Context, server *swap.Server) (err error) {
			now, err = server.Record(ctx, last.Model.Name)
			return err
		})
	}
	if err != nil {
		if ctx.Err() == nil { // else the loop stops
			l.say("  warning: the model of %s can't be checked: %v. Make sure that it serves %s", address, err, last.Model.Path)
		}
		return nil // a run goes on without some of its servers
	}
	if swap.Reverted(former, proof.Canary, now) {
		return &swap.NotSwappedError{What: fmt.Sprintf("the server %s serves the model before the swap of iteration %d again, perhaps after a restart: load %s into it, and run the same command", address, t, last.Model.Path)}
	}
	return nil
}

// maxCheckWait bounds the wait for a server that is restarting, because the others are idle during it.
const maxCheckWait = 2 * time.Minute

// whenServed waits a while for a server that does not serve a model, and calls do.
func (l *Loop) whenServed(ctx context.Context, server *swap.Server, model string, do func(context.Context, *swap.Server) error) error {
	wait := min(l.Config.Swap.Ready, maxCheckWait)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	models, err := server.Models(ctx)
	if _, ok := models[model]; err != nil || !ok {
		l.say("  waiting up to %s until %s serves %s", wait, server.URL, model)
		if err := server.WaitReady(ctx, model, time.Second); err != nil {
			return err
		}
	}
	return do(ctx, server)
}

// keep does a piece of work. Where the loop starts servers, they run from its beginning to its end.
func (l *Loop) keep(ctx context.Context, kept []*serving.Server, do func() error) error {
	if l.Config.Swap.Kind != swap.Command {
		return do()
	}
	return serving.Keep(ctx, kept, do)
}

// servedBy returns the server that the loop starts for a group in iteration t.
func (l *Loop) servedBy(t int, at *serverGroup, step steps.Step) *serving.Server {
	command, model := l.current(t, at, step)
	return l.starting(command, l.server(at.urls[0]), model)
}

// starting returns a server that the loop starts by this command.
func (l *Loop) starting(command *process.Command, server *swap.Server, model *checkpoint) *serving.Server {
	return &serving.Server{
		Command: command, HTTP: server, Model: model.Name, Check: func() error { return l.checkModel(model) },
		Ready: l.Config.Swap.Ready, Grace: settleTime, Say: l.say,
	}
}

// keyWarnings returns one sentence for each server that the swap sends its key unencrypted over a public network.
func (l *Loop) keyWarnings() []string {
	if l.Config.Swap.APIKeyEnv == "" {
		return nil
	}
	var warnings []string
	for _, address := range slices.Concat(l.Config.Servers(), l.Config.Swap.Future.URLs) {
		if warning := pipeline.KeyWarning(address); warning != "" && !slices.Contains(warnings, warning) {
			warnings = append(warnings, warning)
		}
	}
	return warnings
}

// server returns a server by its URL.
func (l *Loop) server(address string) *swap.Server {
	s := &swap.Server{URL: address, Waiting: func(request string, since time.Duration) {
		l.say("  %s has had no answer for %s", request, since.Round(time.Second))
	}}
	if env := l.Config.Swap.APIKeyEnv; env != "" {
		s.APIKey = os.Getenv(env)
	}
	return s
}

// startFormer starts the server of the former model where the loop starts servers, none runs, and the
// canary of that model is not recorded yet.
func (l *Loop) startFormer(ctx context.Context, t int, at *serverGroup, server *swap.Server, former *checkpoint, canary string) error {
	if _, err := os.Stat(canary); err == nil || l.Config.Swap.Kind != swap.Command {
		return nil
	}
	command, _ := l.current(t-1, at, at.step)
	return l.starting(command, server, former).Ensure(ctx)
}

// StopServers ends the servers that the loop started.
func (l *Loop) StopServers() error {
	if l.Config.Swap.Kind != swap.Command {
		return nil
	}
	var errs []error
	for _, name := range []string{"server", futureServer} {
		c := &process.Command{Dir: l.Config.Dir, Name: name}
		errs = append(errs, c.Stop(settleTime))
	}
	return errors.Join(errs...)
}
