// Package loop runs iterations of Meta-Rewarding one after another: produce pairs, make a training
// set, train, swap the model in the servers, evaluate, decide.
//
//	iteration t:  produce ─► set ─► train ─► swap ─► evaluate ─► decide ─► t+1, or the end
//
// An iteration of the preset temporal has both phases of that method. Four steps come before the others:
//
//	phase-1 ─► future-set ─► future-train ─► future-swap ─► produce (phase 2) ─► …
//
// Phase 2 runs in the folder of phase 1, so that it takes all calls of phase 1 from their journal.
//
// All files of a loop are in one folder. state.jsonl has a line for each finished step, with the digest of
// its inputs. Every step can be repeated: runs and arenas use their journals, a training set depends only
// on the pairs, and package process finds a training or a server that a killed loop left running. So the
// same command continues after a kill at any moment. It repeats no finished step and pays for no saved call
// again; a training that was itself killed starts again.
//
// The program starts itself for runs, arenas and calibrations, each as a separate process, so each
// behaves like its command. One loop at a time uses a folder.
package loop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"coeval/runners/arena"
	"coeval/runners/arena/winrate"
	"coeval/runners/loop/decide"
	"coeval/runners/loop/process"
	"coeval/runners/loop/trainset"
	"coeval/schemas"
)

// A Loop is one execution of the program for a loop's folder.
type Loop struct {
	Config Config
	// Binary is the program itself.
	Binary string
	// Out gets a line for each step.
	Out io.Writer
	// Env are additional environment variables of all commands.
	Env []string

	state *State
	// saying guards Out.
	saying sync.Mutex
}

// checkpoint is a model with its measurements.
type checkpoint struct {
	// Path is its name for the trainer and the servers, Name its name in requests.
	Path string `json:"path"`
	Name string `json:"name"`
	// Digest is that of the files, empty for the first model.
	Digest string `json:"digest"`
}

// revision is the label of the journal, so that it never mixes checkpoints.
func (c *checkpoint) revision() string {
	const shown = 16
	return c.Digest[:min(shown, len(c.Digest))]
}

// Run goes on where the state ends, until a decision ends the loop. It returns an error that names
// the iteration and the step if one fails; the same call goes on there.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.Config.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Config.Dir, 0o777); err != nil {
		return err
	}
	var err error
	if l.state, err = OpenState(l.Config.Dir); err != nil {
		return err
	}
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
				l.say("the best model is that of iteration %d: %s", decision.Best, best.Path)
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
	steps := map[Step]func(context.Context, int) (any, error){
		PhaseOne: l.phaseOne, FutureSet: l.futureSet, TrainFuture: l.trainFuture, SwapFuture: l.swapFuture,
		Produce: l.produce, MakeSet: l.makeSet, TrainModel: l.train, SwapModel: l.swap, Measure: l.evaluate, Decide: l.decide,
	}
	input := l.inputOf(t)
	for _, step := range l.Config.steps(t) {
		own := schemas.Digest(input, string(step), l.settingsOf(t, step))
		done := l.state.Find(t, step)
		if done != nil && done.Input != own && step == Decide {
			if t < l.state.Last() {
				continue // the loop went on
			}
			done = nil
		}
		if done != nil && done.Input != own {
			return nil, fmt.Errorf("iteration %d, %s: it was done with other settings; give the former ones, or remove %s and the lines of iteration %d and later from %s to do it again",
				t, step, l.Config.folder(t), t, StateFile)
		}
		if done == nil {
			began := time.Now()
			l.say("iteration %d: %s", t, step)
			output, err := l.withServers(ctx, t, step, steps[step])
			if err != nil {
				return nil, fmt.Errorf("iteration %d, %s: %w", t, step, err)
			}
			b, err := json.Marshal(output)
			if err != nil {
				return nil, fmt.Errorf("loop: %w", err)
			}
			record := Record{Iteration: t, Step: step, Input: own, Output: b, Ended: time.Now().UTC(), Seconds: time.Since(began).Seconds()}
			if err := l.state.Append(record); err != nil {
				return nil, err
			}
			done = l.state.Find(t, step)
		}
		input = schemas.Digest(own, string(done.Output))
	}
	return read[decide.Decision](l.state, t, Decide)
}

// inputOf is the digest of all that came before an iteration.
func (l *Loop) inputOf(t int) string {
	if r := l.state.Find(t-1, SwapModel); r != nil {
		return schemas.Digest(r.Input, string(r.Output))
	}
	return schemas.Digest(l.Config.Model.Path)
}

// settingsOf are the settings that a step depends on, as text. Prices, thresholds and bounds may
// change between two starts: evaluate depends on no settings but those of the figures, and the last
// decision is made again by other rules.
func (l *Loop) settingsOf(t int, step Step) string {
	var settings any
	switch step {
	case PhaseOne, Produce:
		settings = []any{l.Config.Run, l.Config.turn(t), l.Config.PromptsPerIteration, l.Config.Slices, l.Config.sliceCount()}
	case FutureSet, MakeSet:
		settings = []any{l.Config.Set, l.Config.turn(t).Roles}
	case TrainFuture, TrainModel:
		settings = []any{l.Config.Train.Command, l.Config.Model}
	case SwapFuture:
		settings = []any{l.Config.Swap.Kind, l.Config.Swap.Future}
	case SwapModel:
		settings = []any{l.Config.Swap.Kind, l.Config.Swap.Command}
	case Decide:
		settings = l.Config.Decide
	default:
		return ""
	}
	b, err := json.Marshal(settings)
	if err != nil {
		return fmt.Sprint(settings) // YAML allows keys that JSON has not
	}
	return string(b)
}

// read returns the output of a step that is done.
func read[T any](s *State, t int, step Step) (*T, error) {
	r := s.Find(t, step)
	if r == nil {
		return nil, fmt.Errorf("iteration %d has no %s", t, step)
	}
	out := new(T)
	if err := json.Unmarshal(r.Output, out); err != nil {
		return nil, fmt.Errorf("iteration %d, %s: %w", t, step, err)
	}
	return out, nil
}

// after returns the model after this number of iterations.
func (l *Loop) after(t int) checkpoint {
	if swapped, err := read[swapped](l.state, t, SwapModel); err == nil {
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

// produced is what a run gave.
type produced struct {
	Run    string `json:"run"`
	SHA256 string `json:"sha256"`
}

// produce runs the pipeline with the model that the last iteration trained.
func (l *Loop) produce(ctx context.Context, t int) (any, error) {
	turn := l.Config.turn(t)
	preset := turn.Preset
	if preset == Temporal {
		preset = phaseTwo
	}
	settings, err := l.phaseSettings(t, preset)
	if err != nil {
		return nil, err
	}
	return l.run(ctx, t, "produce", "run.yaml", settings)
}

// dataFolder is the folder of an iteration's run.
func (l *Loop) dataFolder(t int) string { return filepath.Join(l.Config.folder(t), "data") }

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
	if err := l.program(ctx, t, name, args...); err != nil {
		return nil, err
	}
	run := l.dataFolder(t)
	b, err := os.ReadFile(filepath.Join(run, "run.json"))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &produced{Run: run, SHA256: hex.EncodeToString(sum[:])}, nil
}

// runSettings returns the config of a run of iteration t with this model and preset.
func (l *Loop) runSettings(t int, model *checkpoint, preset, out string) (map[string]any, error) {
	settings, err := clone(l.Config.Run)
	if err != nil {
		return nil, err
	}
	turn := l.Config.turn(t)
	if preset != "" {
		settings["preset"] = preset
	}
	if len(turn.Roles) > 0 {
		settings["roles"] = turn.Roles
	}
	put(settings, "output.dir", out)
	put(settings, "worker.model", model.Name)
	if model.Digest != "" {
		put(settings, "worker.revision", model.revision())
	}
	if l.Config.Slices == DisjointSlices {
		put(settings, "prompts.slice", l.Config.slice(t))
	}
	if n := l.Config.PromptsPerIteration; n > 0 {
		put(settings, "prompts.sample", n)
	}
	for _, key := range slices.Sorted(maps.Keys(turn.Set)) {
		put(settings, key, turn.Set[key])
	}
	return settings, nil
}

// clone copies settings by way of YAML.
func clone(settings map[string]any) (map[string]any, error) {
	b, err := yaml.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	out := map[string]any{}
	if err := yaml.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	return out, nil
}

// put sets a key of nested settings, as method.rho.
func put(settings map[string]any, key string, value any) {
	section, rest, nested := strings.Cut(key, ".")
	if !nested {
		settings[key] = value
		return
	}
	inner, ok := settings[section].(map[string]any)
	if !ok {
		inner = map[string]any{}
		settings[section] = inner
	}
	put(inner, rest, value)
}

func (l *Loop) writeYAML(t int, name string, settings map[string]any) (string, error) {
	b, err := yaml.Marshal(settings)
	if err != nil {
		return "", fmt.Errorf("loop: %w", err)
	}
	if err := os.MkdirAll(l.Config.folder(t), 0o777); err != nil {
		return "", err
	}
	file := filepath.Join(l.Config.folder(t), name)
	return file, os.WriteFile(file, b, 0o666)
}

// program runs this program with these arguments, or joins the process that a killed loop left.
func (l *Loop) program(ctx context.Context, t int, name string, args ...string) error {
	words := []string{"exec", quote(l.Binary)}
	var comment strings.Builder
	for _, a := range args {
		words = append(words, quote(a))
		if b, err := os.ReadFile(a); err == nil && strings.HasSuffix(a, ".yaml") {
			comment.WriteString(" # " + schemas.Digest(string(b))) // another config is another command, which is not done yet
		}
	}
	c := &process.Command{
		Dir: l.Config.folder(t), Name: name, Line: strings.Join(words, " ") + comment.String(), Env: l.Env, OnStop: process.Kill, Grace: settleTime,
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
	p, err := read[produced](l.state, t, Produce)
	if err != nil {
		return nil, err
	}
	return l.setOf(ctx, t, p, l.Config.folder(t))
}

// setOf makes the set of a run below a folder.
func (l *Loop) setOf(ctx context.Context, t int, p *produced, folder string) (*made, error) {
	options := l.Config.Set
	if roles := l.Config.turn(t).Roles; len(roles) > 0 {
		options.Roles = roles
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
	return l.trainIn(ctx, t, l.Config.folder(t))
}

// trainIn runs the user's command on the set of a folder and takes the digest of the model that it
// wrote there.
func (l *Loop) trainIn(ctx context.Context, t int, dir string) (*checkpoint, error) {
	folder, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	model := l.after(t - 1)
	reference := model.Path
	if l.Config.Model.Reference == FirstReference {
		reference = l.Config.Model.Path
	}
	out := filepath.Join(folder, "model")
	set := filepath.Join(folder, "set")
	line := expand(l.Config.Train.Command, map[string]string{
		"actor": filepath.Join(set, trainset.ActorFolder), "judge": filepath.Join(set, trainset.JudgeFolder),
		"train": filepath.Join(set, trainset.MixedFolder), "model": model.Path, "reference": reference, "out": out,
		"iteration": fmt.Sprint(t),
	})
	c := &process.Command{Dir: folder, Name: "train", Line: line, Env: l.Env, OnStop: l.Config.Train.OnStop, Grace: settleTime}
	if err := c.Run(ctx); err != nil {
		return nil, err
	}
	digest, err := digestOf(out)
	if err != nil {
		return nil, fmt.Errorf("train.command ended with exit code 0 and left no model at %s ({out}): %w", out, err)
	}
	return &checkpoint{Path: out, Digest: digest}, nil
}

// digestOf returns that of all files of a folder, by their paths.
func digestOf(dir string) (string, error) {
	h := sha256.New()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s\x00", name)
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(h, f)
		return errors.Join(err, f.Close())
	})
	if err == nil && files == 0 {
		err = errors.New("the folder has no files")
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// arenaFolder is the folder of the loop's one arena: the baseline's answers serve every iteration.
func (l *Loop) arenaFolder() string { return filepath.Join(l.Config.Dir, "arena") }

// arenaSettings returns the config of the arena with these models.
func (l *Loop) arenaSettings(models []checkpoint) (map[string]any, error) {
	settings, err := clone(l.Config.Evaluate.Arena)
	if err != nil {
		return nil, err
	}
	side := func(c *checkpoint) map[string]any {
		s := map[string]any{"model": c.Name}
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
	put(settings, "output.dir", l.arenaFolder())
	if _, ok := settings["worker"]; !ok && l.Config.Run["worker"] != nil {
		settings["worker"] = l.Config.Run["worker"]
	}
	return settings, nil
}

// baselineAnswered reports whether answerBaseline has done its work.
func (l *Loop) baselineAnswered(t int) bool {
	c := &process.Command{Dir: l.Config.folder(t), Name: "arena-baseline"}
	return len(l.Config.Evaluate.Arena) == 0 || c.Done()
}

// answerBaseline has the first model answer the arena's prompts while it is still served.
func (l *Loop) answerBaseline(ctx context.Context, t int) error {
	if len(l.Config.Evaluate.Arena) == 0 {
		return nil
	}
	settings, err := l.arenaSettings(nil)
	if err != nil {
		return err
	}
	file, err := l.writeYAML(t, "arena-baseline.yaml", settings)
	if err != nil {
		return err
	}
	return l.program(ctx, t, "arena-baseline", "arena", file, "--answers-only")
}

// measured is what an evaluation gave.
type measured struct {
	decide.Iteration

	BaselineChars float64 `json:"baseline_chars"`
}

// evaluate plays the arena, asks the judge about people's labels, and compares the runs.
func (l *Loop) evaluate(ctx context.Context, t int) (any, error) {
	var out measured
	if err := l.playArena(ctx, t, &out); err != nil {
		return nil, err
	}
	if err := l.calibrate(ctx, t, &out); err != nil {
		return nil, err
	}
	if err := l.compareRuns(ctx, t, &out); err != nil {
		return nil, err
	}
	if err := l.program(ctx, t, "report", "report", filepath.Join(l.Config.folder(t), "data")); err != nil {
		return nil, err
	}
	hours := l.hours(t) * l.Config.Evaluate.GPUs
	out.GPUHours, out.USD = hours, hours*l.Config.Evaluate.GPUHourUSD
	return &out, nil
}

// hours is how long the steps of an iteration took that use GPUs.
func (l *Loop) hours(t int) float64 {
	seconds := 0.0
	for _, step := range []Step{PhaseOne, TrainFuture, SwapFuture, Produce, TrainModel, SwapModel} {
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
	settings, err := l.arenaSettings(models)
	if err != nil {
		return err
	}
	file, err := l.writeYAML(t, "arena.yaml", settings)
	if err != nil {
		return err
	}
	if err := l.program(ctx, t, "arena", "arena", file); err != nil {
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
		if l.Config.Evaluate.Figure == ControlledFigure && m.LengthControlled != nil {
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
func (l *Loop) judgeSettings(t int, model *checkpoint) (map[string]any, error) {
	turn := l.Config.turn(t)
	preset := turn.Preset
	if turn.isTemporal() {
		preset = selfRewarding // the numbers of the judge are the same, and nothing is asked of other checkpoints
	}
	return l.runSettings(t, model, preset, filepath.Join(l.Config.folder(t), "judge"))
}

// calibrate asks the trained model, as a judge, about people's labels.
func (l *Loop) calibrate(ctx context.Context, t int, out *measured) error {
	if l.Config.Evaluate.People == "" {
		return nil
	}
	model := l.after(t)
	settings, err := l.judgeSettings(t, &model)
	if err != nil {
		return err
	}
	file, err := l.writeYAML(t, "judge.yaml", settings)
	if err != nil {
		return err
	}
	if err := l.program(ctx, t, "calibrate", "calibrate", file, "--people", l.Config.Evaluate.People); err != nil {
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
	b, err := os.ReadFile(filepath.Join(l.Config.folder(t), "judge", "calibration.json"))
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
	if l.Config.Slices == DisjointSlices {
		args = append(args, "--unshared")
	}
	for i := 1; i <= t; i++ {
		args = append(args, filepath.Join(l.Config.folder(i), "data"))
	}
	if err := l.program(ctx, t, "compare", args...); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(l.Config.folder(t), "compare.log"))
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
		m, err := read[measured](l.state, i, Measure)
		if err != nil {
			return nil, err
		}
		iterations = append(iterations, m.Iteration)
		baseline = max(baseline, m.BaselineChars)
	}
	d := decide.Of(iterations, baseline, l.Config.Decide)
	return &d, nil
}
