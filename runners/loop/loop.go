// Package loop runs iterations of Meta-Rewarding one after another: produce pairs, make a training
// set, train, swap the model in the servers, evaluate, decide.
//
//	iteration t:  produce ─► set ─► train ─► swap ─► evaluate ─► decide ─► t+1, or the end
//
// An iteration of the preset temporal (arXiv 2508.06026, see docs/method.md) has two phases. Phase 1 trains
// the model whose responses phase 2 uses, so four steps come before the others:
//
//	phase-1 ─► future-set ─► future-train ─► future-swap ─► produce (phase 2) ─► …
//
// Phase 2 runs in the folder of phase 1, so that it takes all calls of phase 1 from their journal.
//
// All files of a loop are in one folder. state.jsonl has a line for each finished step, with the digest of its
// inputs. Every step can be repeated. Runs and arenas use their journals, and a training set depends only on
// the pairs and the settings. Package process finds a training or a server that a killed loop left running. So
// the same command continues after a kill at any moment. It repeats no finished step and requests no saved
// answer again. A training that was killed together with the loop starts from its beginning.
//
// The loop executes each run, arena and calibration as a separate process of the same program. So each
// behaves exactly like its command. One loop at a time uses a folder.
package loop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"coeval/runners/arena"
	"coeval/runners/arena/winrate"
	"coeval/runners/loop/config"
	"coeval/runners/loop/decide"
	"coeval/runners/loop/filetree"
	"coeval/runners/loop/inputs"
	"coeval/runners/loop/nested"
	"coeval/runners/loop/process"
	"coeval/runners/loop/steps"
	"coeval/runners/loop/trainset"
	"coeval/runners/settings"
	"coeval/schemas"
	"coeval/transforms/stage"
)

// A Loop is one execution of the program for a loop's folder.
type Loop struct {
	Config config.Config
	// Binary is the program itself.
	Binary string
	// Out gets a line for each step.
	Out io.Writer
	// Env are additional environment variables of all commands.
	Env []string

	state *steps.State
	// saying guards Out.
	saying sync.Mutex
}

// checkpoint is a model with its measurements.
type checkpoint struct {
	// Path is its name for the trainer and the servers, Name its name in requests.
	Path string `json:"path"`
	Name string `json:"name"`
	// Digest is the digest of the model's files, empty for the first model.
	Digest string `json:"digest"`
}

// revision is the label of the journal, so that it never mixes checkpoints.
func (c *checkpoint) revision() string {
	const shown = 16
	return c.Digest[:min(shown, len(c.Digest))]
}

// Run continues after the last finished step, until a decision ends the loop. If a step fails, the error
// names the iteration and the step, and another call of Run repeats that step.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.Config.Validate(); err != nil {
		return err
	}
	if _, err := (stage.Endpoint{APIKeyEnv: l.Config.Swap.APIKeyEnv}).Credentials(); err != nil {
		return fmt.Errorf("swap.%w", err)
	}
	for _, name := range l.Config.KeysInCommands() {
		l.say("warning: %s contains a key or a password, and files of the loop show it: replace it at its provider, and write $NAME in the next loop", name)
	}
	for _, warning := range l.keyWarnings() {
		l.say("warning: swap: %s", warning)
	}
	if err := os.MkdirAll(l.Config.Dir, 0o777); err != nil {
		return err
	}
	var err error
	if l.state, err = steps.Open(l.Config.Dir); err != nil {
		return err
	}
	stopping := context.AfterFunc(ctx, func() {
		l.say("stopping (%v): the running step ends within %s; a training with on_stop: finish keeps running. Run the same command to continue", context.Cause(ctx), settleTime)
	})
	defer stopping()
	for t := 1; ; t++ {
		decision, err := l.iterate(ctx, t)
		if err != nil {
			return err
		}
		if err := l.writePage(); err != nil {
			return err
		}
		if decision.Stop {
			l.say("the loop ends after iteration %d: %s", t, strings.Join(decision.Reasons, "; "))
			if decision.Best > 0 {
				best := l.after(decision.Best)
				l.say("the best model is the model of iteration %d: %s", decision.Best, best.Path)
			}
			return nil
		}
	}
}

func (l *Loop) say(format string, args ...any) {
	l.saying.Lock()
	defer l.saying.Unlock()
	fmt.Fprintf(l.Out, format+"\n", args...)
}

// iterate does all steps of an iteration that aren't done.
func (l *Loop) iterate(ctx context.Context, t int) (*decide.Decision, error) {
	works := map[steps.Step]func(context.Context, int) (any, error){
		steps.PhaseOne: l.phaseOne, steps.FutureSet: l.futureSet, steps.TrainFuture: l.trainFuture, steps.SwapFuture: l.swapFuture,
		steps.Produce: l.produce, steps.MakeSet: l.makeSet, steps.TrainModel: l.train, steps.SwapModel: l.swap, steps.Measure: l.evaluate, steps.Decide: l.decide,
	}
	input := l.inputOf(t)
	for _, step := range l.Config.Steps(t) {
		own := inputs.Of(&l.Config, t, step, input)
		done := l.state.Find(t, step)
		if done != nil && !slices.Contains(own, done.Input) && step == steps.Decide {
			if t < l.state.Last() {
				continue // the loop went on
			}
			done = nil
		}
		if l.refuses(t, step, own) {
			return nil, l.Refusal(t, step)
		}
		if done == nil {
			began := time.Now()
			l.say("iteration %d: %s", t, step)
			output, err := l.withServers(ctx, t, step, works[step])
			if err != nil {
				return nil, fmt.Errorf("iteration %d, %s: %w", t, step, err)
			}
			b, err := json.Marshal(output)
			if err != nil {
				return nil, fmt.Errorf("loop: %w", err)
			}
			record := steps.Record{Iteration: t, Step: step, Input: own[0], Output: b, Ended: time.Now().UTC(), Seconds: time.Since(began).Seconds()}
			if err := l.state.Append(record); err != nil {
				return nil, err
			}
			done = l.state.Find(t, step)
		}
		input = schemas.Digest(done.Input, string(done.Output))
	}
	return steps.Output[decide.Decision](l.state, t, steps.Decide)
}

// refuses reports whether the loop refuses to go on at a step: it was done with other settings, or a later step of
// the iteration was done without it, under a schedule with another preset. Own are the digests of [inputs.Of].
func (l *Loop) refuses(t int, step steps.Step, own []string) bool {
	if step == steps.Decide {
		return false // a decision is made again by other rules
	}
	if done := l.state.Find(t, step); done != nil {
		return !slices.Contains(own, done.Input) || step == steps.Measure && l.measuredOtherwise(t)
	}
	all := l.Config.Steps(t)
	return slices.ContainsFunc(all[slices.Index(all, step)+1:], func(s steps.Step) bool { return l.state.Find(t, s) != nil })
}

// Refusal returns the error of a step for which the loop refuses to go on.
func (l *Loop) Refusal(t int, step steps.Step) error {
	if step == steps.Measure && l.measuredOtherwise(t) {
		return fmt.Errorf("iteration %d, %s: this step was done with another evaluate.figure, evaluate.arena or evaluate.people, and figures of two kinds can't be compared. "+
			"Restore these settings; or begin another loop, in another dir, with the last model as model.path", t, step)
	}
	return fmt.Errorf("iteration %d, %s: this step was done with other settings. Restore those settings; or, to repeat the step, remove %s and the lines of iteration %d and later from %s",
		t, step, l.Config.Folder(t), t, steps.StateFile)
}

// inputOf is the digest of all that came before an iteration.
func (l *Loop) inputOf(t int) string {
	if r := l.state.Find(t-1, steps.SwapModel); r != nil {
		return schemas.Digest(r.Input, string(r.Output))
	}
	return schemas.Digest(l.Config.Model.Path)
}

func (l *Loop) figureKind() inputs.Kind {
	if len(l.Config.Evaluate.Arena) == 0 {
		return inputs.KindOf(&l.Config, nil)
	}
	return inputs.KindOf(&l.Config, l.arenaSettings(nil))
}

// measuredOtherwise reports whether an iteration has a figure of another kind than a next one would have.
func (l *Loop) measuredOtherwise(t int) bool {
	m, err := steps.Output[measured](l.state, t, steps.Measure)
	if err != nil {
		return false // the step that reads it reports the error
	}
	return m.Kind.Differs(l.figureKind())
}

// after returns the model after this number of iterations.
func (l *Loop) after(t int) checkpoint {
	if swapped, err := steps.Output[swapped](l.state, t, steps.SwapModel); err == nil {
		return swapped.Model
	}
	return checkpoint{Path: l.Config.Model.Path, Name: l.firstName()}
}

// firstName is the name under which the servers serve the first model.
func (l *Loop) firstName() string {
	if worker, ok := l.Config.Run["worker"].(map[string]any); ok {
		if name, ok := worker["model"].(string); ok && name != "" {
			return name
		}
	}
	return l.Config.Model.Path
}

// produced is the outcome of a run.
type produced struct {
	Run    string `json:"run"`
	SHA256 string `json:"sha256"`
	// Pairs is the digest of the pairs of both roles. Empty in states of earlier versions.
	Pairs string `json:"pairs,omitempty"`
}

// produce runs the pipeline with the model that the last iteration trained.
func (l *Loop) produce(ctx context.Context, t int) (any, error) {
	turn := l.Config.Turn(t)
	preset := turn.Preset
	if preset == config.Temporal {
		preset = config.PhaseTwo
	}
	settings, err := l.phaseSettings(t, preset)
	if err != nil {
		return nil, err
	}
	return l.run(ctx, t, "produce", "run.yaml", settings)
}

// dataFolder is the folder of an iteration's run.
func (l *Loop) dataFolder(t int) string { return filepath.Join(l.Config.Folder(t), "data") }

// run is one run of the pipeline as a process of this name.
func (l *Loop) run(ctx context.Context, t int, name, file string, settings map[string]any) (*produced, error) {
	path, err := l.writeYAML(t, file, settings)
	if err != nil {
		return nil, err
	}
	args := []string{"run", path}
	if len(l.Config.Beam) > 0 {
		args = append(append(args, "--"), l.Config.Beam...)
	}
	run := l.dataFolder(t)
	if err := l.program(ctx, t, name, filepath.Join(run, "run.json"), args...); err != nil {
		return nil, err
	}
	return producedIn(run)
}

// runSettings returns the config of a run of iteration t with this model and preset.
func (l *Loop) runSettings(t int, model *checkpoint, preset, out string) map[string]any {
	settings := nested.Clone(l.Config.Run)
	turn := l.Config.Turn(t)
	if preset != "" {
		settings["preset"] = preset
	}
	if len(turn.Roles) > 0 {
		settings["roles"] = turn.Roles
	}
	nested.Set(settings, "output.dir", out)
	nested.Set(settings, "worker.model", model.Name)
	if model.Digest != "" {
		nested.Set(settings, "worker.revision", model.revision())
	}
	if l.Config.Slices == config.DisjointSlices {
		nested.Set(settings, "prompts.slice", l.Config.Slice(t))
	}
	if n := l.Config.PromptsPerIteration; n > 0 {
		nested.Set(settings, "prompts.sample", n)
	}
	for _, key := range slices.Sorted(maps.Keys(turn.Set)) {
		nested.Set(settings, key, turn.Set[key])
	}
	return settings
}

func (l *Loop) writeYAML(t int, name string, values map[string]any) (string, error) {
	b, err := settings.Encode(values)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(l.Config.Folder(t), 0o777); err != nil {
		return "", err
	}
	file := filepath.Join(l.Config.Folder(t), name)
	return file, os.WriteFile(file, b, 0o666)
}

// program runs this program with these arguments, or joins the process that a killed loop left.
// A program that ended well runs again if its output, a file or a folder, is gone.
func (l *Loop) program(ctx context.Context, t int, name, output string, args ...string) error {
	words := []string{"exec", quote(l.Binary)}
	var comment strings.Builder
	for _, a := range args {
		words = append(words, quote(a))
		if b, err := os.ReadFile(a); err == nil && strings.HasSuffix(a, ".yaml") {
			comment.WriteString(" # " + schemas.Digest(string(b))) // another config is another command, which is not done yet
		}
	}
	c := &process.Command{
		Dir: l.Config.Folder(t), Name: name, Line: strings.Join(words, " ") + comment.String(), Env: l.Env, OnStop: process.Kill, Grace: settleTime, Output: output,
	}
	return c.Run(ctx)
}

// settleTime is how long a stopped run may wait for answers in flight.
const settleTime = 40 * time.Second

// quote returns a word as sh reads it.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// made is a training set with its digest.
type made struct {
	trainset.Set

	Digest string `json:"digest"`
}

// makeSet makes the set of an iteration's run.
func (l *Loop) makeSet(ctx context.Context, t int) (any, error) {
	p, err := steps.Output[produced](l.state, t, steps.Produce)
	if err != nil {
		return nil, err
	}
	return l.setOf(ctx, t, p, l.Config.Folder(t))
}

// setOf makes the set of a run below a folder.
func (l *Loop) setOf(ctx context.Context, t int, p *produced, folder string) (*made, error) {
	options := l.Config.Set
	if roles := l.Config.Turn(t).Roles; len(roles) > 0 {
		options.Roles = roles
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	s, err := trainset.Make(ctx, p.Run, filepath.Join(folder, "set"), options)
	if err != nil {
		return nil, err
	}
	l.say("  %d actor pairs, %d judge pairs, %d held out", s.Actor, s.Judge, s.HeldOut)
	return &made{Set: *s, Digest: s.Digest()}, nil
}

// train trains the model of an iteration on its set.
func (l *Loop) train(ctx context.Context, t int) (any, error) {
	s, err := steps.Output[made](l.state, t, steps.MakeSet)
	if err != nil {
		return nil, err
	}
	return l.trainIn(ctx, t, l.Config.Folder(t), s)
}

// trainIn runs the user's command on the set of a folder and takes the digest of the model that it
// wrote there.
func (l *Loop) trainIn(ctx context.Context, t int, dir string, from *made) (*checkpoint, error) {
	folder, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := from.Check(filepath.Join(folder, "set")); err != nil {
		return nil, err
	}
	model := l.after(t - 1)
	if err := l.checkModel(&model); err != nil {
		l.say("  warning: this training does not begin with the model of iteration %d as it was trained: %v", t-1, err)
	}
	reference := model.Path
	if l.Config.Model.Reference == config.FirstReference {
		reference = l.Config.Model.Path
	}
	out := filepath.Join(folder, "model")
	set := filepath.Join(folder, "set")
	line := config.Expand(l.Config.Train.Command, map[string]string{
		"actor": filepath.Join(set, trainset.ActorFolder), "judge": filepath.Join(set, trainset.JudgeFolder),
		"train": filepath.Join(set, trainset.MixedFolder), "model": model.Path, "reference": reference, "out": out,
		"iteration": fmt.Sprint(t),
	})
	c := &process.Command{Dir: folder, Name: "train", Line: line, Env: l.Env, OnStop: l.Config.Train.OnStop, Grace: settleTime, Output: out}
	if err := c.Run(ctx); err != nil {
		return nil, err
	}
	digest, err := filetree.Digest(out)
	if err != nil {
		return nil, fmt.Errorf("train.command ended with exit code 0 and left no model at %s ({out}): %w", out, err)
	}
	return &checkpoint{Path: out, Digest: digest}, nil
}

// arenaFolder is the folder of the loop's one arena: the baseline's answers serve every iteration.
func (l *Loop) arenaFolder() string { return filepath.Join(l.Config.Dir, "arena") }

// arenaSettings returns the config of the arena with these models. All models answer with the sampling
// and the bounds of evaluate.arena.b.
func (l *Loop) arenaSettings(models []checkpoint) map[string]any {
	settings := nested.Clone(l.Config.Evaluate.Arena)
	answering, _ := settings["b"].(map[string]any)
	side := func(c *checkpoint) map[string]any {
		s := map[string]any{}
		maps.Copy(s, answering)
		s["model"] = c.Name
		if c.Digest != "" {
			s["revision"] = c.revision()
		}
		return s
	}
	var all []any
	for i := range models {
		all = append(all, side(&models[i]))
	}
	first := checkpoint{Path: l.Config.Model.Path, Name: l.firstName()}
	settings["a"], settings["b"], settings["chain"] = all, side(&first), true
	nested.Set(settings, "output.dir", l.arenaFolder())
	if _, ok := settings["worker"]; !ok && l.Config.Run["worker"] != nil {
		settings["worker"] = l.Config.Run["worker"]
	}
	return settings
}

// baselineAnswered reports whether answerBaseline has done its work.
func (l *Loop) baselineAnswered(t int) bool {
	c := &process.Command{Dir: l.Config.Folder(t), Name: "arena-baseline"}
	return len(l.Config.Evaluate.Arena) == 0 || c.Done()
}

// answerBaseline has the first model answer the arena's prompts while it is still served.
func (l *Loop) answerBaseline(ctx context.Context, t int) error {
	if len(l.Config.Evaluate.Arena) == 0 {
		return nil
	}
	file, err := l.writeYAML(t, "arena-baseline.yaml", l.arenaSettings(nil))
	if err != nil {
		return err
	}
	return l.program(ctx, t, "arena-baseline", l.arenaFolder(), "arena", file, "--answers-only")
}

// measured is the outcome of an evaluation.
type measured struct {
	decide.Iteration

	BaselineChars float64 `json:"baseline_chars"`
	// Kind is empty in states of earlier versions.
	Kind inputs.Kind `json:"kind,omitzero"`
}

// evaluate plays the arena, asks the judge about people's labels, and compares the runs.
func (l *Loop) evaluate(ctx context.Context, t int) (any, error) {
	out := measured{Kind: l.figureKind()}
	if err := l.playArena(ctx, t, &out); err != nil {
		return nil, err
	}
	if err := l.calibrate(ctx, t, &out); err != nil {
		return nil, err
	}
	if err := l.compareRuns(ctx, t, &out); err != nil {
		return nil, err
	}
	if err := l.program(ctx, t, "report", filepath.Join(l.dataFolder(t), "report.html"), "report", l.dataFolder(t)); err != nil {
		return nil, err
	}
	hours := l.hours(t) * l.Config.Evaluate.GPUs
	out.GPUHours, out.USD = hours, hours*l.Config.Evaluate.GPUHourUSD
	return &out, nil
}

// hours is how long the steps of an iteration took that use GPUs.
func (l *Loop) hours(t int) float64 {
	seconds := 0.0
	for _, step := range []steps.Step{steps.PhaseOne, steps.TrainFuture, steps.SwapFuture, steps.Produce, steps.TrainModel, steps.SwapModel} {
		if r := l.state.Find(t, step); r != nil {
			seconds += r.Seconds
		}
	}
	return seconds / 3600
}

func (l *Loop) playArena(ctx context.Context, t int, out *measured) error {
	if len(l.Config.Evaluate.Arena) == 0 {
		return nil
	}
	var models []checkpoint
	for i := 1; i <= t; i++ {
		models = append(models, l.after(i))
	}
	file, err := l.writeYAML(t, "arena.yaml", l.arenaSettings(models))
	if err != nil {
		return err
	}
	if err := l.program(ctx, t, "arena", filepath.Join(l.arenaFolder(), "arena.json"), "arena", file); err != nil {
		return err
	}
	report, err := arena.ReadReport(ctx, l.arenaFolder())
	if err != nil {
		return err
	}
	for _, m := range report.Matches {
		if m.B != report.Baseline || m.A != identity(&models[t-1]) {
			continue
		}
		out.Gain = estimate(m.WinRate)
		if l.Config.Evaluate.Figure == config.ControlledFigure && m.LengthControlled != nil {
			out.Gain = estimate(&m.LengthControlled.Estimate)
		}
		out.Chars = m.CharsA
		if m.CharsB != nil {
			out.BaselineChars = *m.CharsB
		}
	}
	return nil
}

func identity(c *checkpoint) string {
	if c.Digest == "" {
		return c.Name
	}
	return c.Name + "@" + c.revision()
}

func estimate(e *winrate.Estimate) *decide.Estimate {
	if e == nil {
		return nil
	}
	return &decide.Estimate{Value: e.Value, Low: e.Low, High: e.High}
}

// judgeSettings returns the config of the calibration of a model as the judge of iteration t.
func (l *Loop) judgeSettings(t int, model *checkpoint) map[string]any {
	turn := l.Config.Turn(t)
	preset := turn.Preset
	if turn.IsTemporal() {
		preset = config.SelfRewarding // the numbers of the judge are the same, and nothing is asked of other checkpoints
	}
	return l.runSettings(t, model, preset, filepath.Join(l.Config.Folder(t), "judge"))
}

// calibrate asks the trained model, as a judge, about people's labels.
func (l *Loop) calibrate(ctx context.Context, t int, out *measured) error {
	if l.Config.Evaluate.People == "" {
		return nil
	}
	model := l.after(t)
	file, err := l.writeYAML(t, "judge.yaml", l.judgeSettings(t, &model))
	if err != nil {
		return err
	}
	calibration := filepath.Join(l.Config.Folder(t), "judge", "calibration.json")
	if err := l.program(ctx, t, "calibrate", calibration, "calibrate", file, "--people", l.Config.Evaluate.People); err != nil {
		return err
	}
	var figures struct {
		Agreement *struct {
			Pairs    int `json:"pairs"`
			WithTies *struct {
				Value float64 `json:"value"`
			} `json:"with_ties"`
		} `json:"agreement"`
	}
	b, err := os.ReadFile(calibration)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &figures); err != nil {
		return fmt.Errorf("calibration.json: %w", err)
	}
	if a := figures.Agreement; a != nil && a.WithTies != nil {
		out.Agreement = &decide.Agreement{Share: a.WithTies.Value, Pairs: a.Pairs}
	}
	return nil
}

// compareRuns looks for signs of saturation from the first run to this one.
func (l *Loop) compareRuns(ctx context.Context, t int, out *measured) error {
	if t == 1 {
		return nil
	}
	args := []string{"compare", "--json"}
	if l.Config.Slices == config.DisjointSlices {
		args = append(args, "--unshared")
	}
	for i := 1; i <= t; i++ {
		args = append(args, filepath.Join(l.Config.Folder(i), "data"))
	}
	if err := l.program(ctx, t, "compare", "", args...); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(l.Config.Folder(t), "compare.log"))
	if err != nil {
		return err
	}
	var comparison struct {
		Signs []struct {
			Name  string `json:"name"`
			Seen  bool   `json:"seen"`
			Known bool   `json:"known"`
		} `json:"signs"`
	}
	at := strings.IndexByte(string(b), '{')
	if at < 0 {
		return fmt.Errorf("coeval compare printed no figures: %q", b)
	}
	if err := json.NewDecoder(strings.NewReader(string(b[at:]))).Decode(&comparison); err != nil {
		return fmt.Errorf("coeval compare: %w", err)
	}
	for _, s := range comparison.Signs {
		if s.Seen {
			out.Signs = append(out.Signs, s.Name)
		}
	}
	return nil
}

// decide applies the rules to all iterations so far.
func (l *Loop) decide(_ context.Context, t int) (any, error) {
	var iterations []decide.Iteration
	baseline := 0.0
	for i := 1; i <= t; i++ {
		m, err := steps.Output[measured](l.state, i, steps.Measure)
		if err != nil {
			return nil, err
		}
		iterations = append(iterations, m.Iteration)
		baseline = max(baseline, m.BaselineChars)
	}
	d := decide.Of(iterations, baseline, l.Config.Decide)
	return &d, nil
}
