// Package methods compares methods of self-improvement in loops against the simulated worker. The comparison
// shows which methods keep an accurate judge, and which ones stall.
//
// Each variant runs once for each seed of the simulated hidden truth, the true quality of its texts (see
// package world), as a full loop of the program with the simulated trainer. All variants train on at most
// the same number of pairs of each role per iteration. [Run] returns the figures of each loop, [Claims]
// checks statements about the methods, [Table] and [Picture] show the figures.
//
// The figures follow from our own rule of learning (package world). They show the behaviour of each loop
// if models learn by that rule. They are no evidence about a real model.
package methods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"coeval/datasets/shards"
	"coeval/runners/loop/config"
	"coeval/runners/loop/decide"
	"coeval/runners/loop/steps"
	"coeval/runners/settings"
	"coeval/schemas"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// A Variant is one way to run the loop.
type Variant struct {
	// Name is short, as a folder's; Title is for people.
	Name, Title string
	// Turn is the plan of each iteration.
	Turn config.Turn
	// Roles are the roles of the training set where the turn names none.
	Roles []string
	// Shuffled judge pairs have chosen and rejected in a random order.
	Shuffled bool
}

// The names of the variants.
const (
	Meta         = "meta"
	Static       = "static"
	SelfReward   = "self-rewarding"
	Temporal     = "temporal"
	TemporalMeta = "temporal-meta"
	NoControl    = "no-length-control"
	ShuffledName = "shuffled"
)

var both = []string{schemas.RoleActor, schemas.RoleJudge}

// Variants are all of them. In each, every model that answers writes the same number of responses to a prompt.
// The judge writes the same number of judgments of each response. With the static judge the comparisons are made
// as with the meta-judge, and their pairs are not trained on.
func Variants() []Variant {
	return []Variant{
		{Name: Meta, Title: "Meta-Rewarding", Roles: both},
		{Name: Static, Title: "static judge (actor pairs only)", Roles: []string{schemas.RoleActor}},
		{Name: SelfReward, Title: "self-rewarding", Turn: config.Turn{Preset: "self-rewarding"}, Roles: []string{schemas.RoleActor}},
		{Name: Temporal, Title: "temporal", Turn: config.Turn{Preset: config.Temporal}, Roles: []string{schemas.RoleActor}},
		{Name: TemporalMeta, Title: "temporal and Meta-Rewarding", Turn: config.Turn{Preset: config.Temporal, Roles: both}},
		{Name: NoControl, Title: "Meta-Rewarding without length control", Turn: config.Turn{Set: map[string]any{"method.rho": 0}}, Roles: both},
		{Name: ShuffledName, Title: "Meta-Rewarding, judge labels shuffled", Roles: both, Shuffled: true},
	}
}

// Options are the size of a comparison.
type Options struct {
	// Program is the path of coeval. Dir is the folder of all loops: a second comparison in it, of the
	// same size, takes the outcomes that are there.
	Program, Dir string
	Variants     []Variant
	// Seeds is their number, from 1.
	Seeds int
	// Compared is the iteration at which variants are compared: every loop does so many. Longest is how
	// many it may do.
	Compared, Longest int
	// Prompts is the number of prompts of an iteration, Pairs the largest number of pairs of each role
	// that it trains on.
	Prompts, Pairs int
	// Evaluated are the prompts of the arena, Labels the pairs of responses whose order is known.
	Evaluated, Labels int
	// Parallel is how many loops run at a time.
	Parallel int
	// Say gets a line for each loop.
	Say func(format string, args ...any)
}

// A Point is a model after some iterations, 0 being the first one.
type Point struct {
	Iteration int         `json:"iteration"`
	Skill     world.Skill `json:"skill"`
	// Agreement is the share of labelled pairs that the model, as a judge, orders as the truth does.
	Agreement float64 `json:"agreement"`
	// Own is the same on the responses of the run that trained the model, judged by the previous model.
	Own float64 `json:"own"`
	// WinRate is the length-controlled one against the first model.
	WinRate float64 `json:"win_rate"`
}

// Growth returns the mean length of the model's answers over the first model's, less 1. Lengths are
// lognormal, so that a shift of their logarithm multiplies their mean.
func (p *Point) Growth() float64 {
	return math.Expm1(world.Default().ResponseSigma * p.Skill.Length)
}

// An Outcome is one loop.
type Outcome struct {
	Variant string `json:"variant"`
	Seed    int    `json:"seed"`
	// Points are those from iteration 1.
	Points []Point `json:"points"`
	// Stopped is the iteration after which the loop stopped by itself, Rules the rules that stopped it.
	Stopped int      `json:"stopped"`
	Rules   []string `json:"rules"`
	// ActorPairs and JudgePairs are the numbers of pairs that the compared iterations trained on.
	ActorPairs int `json:"actor_pairs"`
	JudgePairs int `json:"judge_pairs"`
}

// Run runs all loops, at most o.Parallel at a time.
func Run(ctx context.Context, o Options) ([]Outcome, error) {
	var all []Outcome
	for seed := 1; seed <= o.Seeds; seed++ {
		e, err := newExperiment(o, seed)
		if err != nil {
			return nil, err
		}
		outcomes, err := e.runAll(ctx)
		if err := errors.Join(err, e.server.Close()); err != nil {
			return nil, err
		}
		all = append(all, outcomes...)
	}
	return all, nil
}

// experiment runs all variants on the hidden truth of one seed, with one server.
type experiment struct {
	o      Options
	seed   int
	truth  world.World
	server *simulator.Running
	dir    string
}

// Texts are short, which changes no figure but the cost.
const (
	responseChars = 240
	judgmentChars = 120
)

func newExperiment(o Options, seed int) (*experiment, error) {
	truth := world.Default()
	truth.Seed = uint64(seed)
	truth.ResponseChars, truth.JudgmentChars, truth.ComparisonChars = responseChars, judgmentChars, judgmentChars
	e := &experiment{o: o, seed: seed, truth: truth, dir: filepath.Join(o.Dir, fmt.Sprintf("seed-%d", seed))}
	if err := os.MkdirAll(e.dir, 0o777); err != nil {
		return nil, err
	}
	// A hash assigns prompts to slices, so their sizes vary. With 1.5 times the prompts every slice is
	// large enough.
	if err := errors.Join(
		e.writePrompts("train", o.Prompts*(o.Longest*3/2+1)), e.writePrompts("eval", o.Evaluated), e.writeLabels(o.Labels),
	); err != nil {
		return nil, err
	}
	var err error
	e.server, err = simulator.Start(simulator.Options{World: &truth, Adapters: true, Models: []string{"base", arenaJudge}})
	return e, err
}

// arenaJudge is a judge with a quarter of the errors of the first model.
const arenaJudge = "sim:quality=+0.0000,length=+0.0000,noise=-1.3863"

func (e *experiment) file(name string) string { return filepath.Join(e.dir, name+".jsonl") }

func question(purpose string, i int) string { return fmt.Sprintf("%s question %d", purpose, i) }

func (e *experiment) writePrompts(purpose string, n int) error {
	return writeLines(e.file(purpose), n, func(i int) any { return map[string]string{"prompt": question(purpose, i)} })
}

// writeLabels writes pairs of the first model's responses with their true order.
func (e *experiment) writeLabels(n int) error {
	return writeLines(e.file("labels"), n, func(i int) any {
		prompt := question("label", i)
		messages := []schemas.Message{{Role: "user", Content: prompt}}
		var texts [2]string
		var quality [2]float64
		for seed, k := int64(0), 0; k < len(texts); seed++ {
			c := e.truth.Answer(messages, "base", seed, 0)
			if strings.TrimSpace(c.Text) == "" || c.FinishReason != "stop" || k == 1 && c.Text == texts[0] {
				continue
			}
			texts[k], quality[k] = c.Text, e.truth.Truth(c.Text).Quality
			k++
		}
		label := 1
		if quality[1] > quality[0] {
			label = 2
		}
		return map[string]any{"prompt": prompt, "response_1": texts[0], "response_2": texts[1], "label": label}
	})
}

func writeLines(name string, n int, line func(i int) any) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(f)
	for i := range n {
		err = errors.Join(err, encoder.Encode(line(i)))
	}
	return errors.Join(err, f.Close())
}

// runAll runs the loops of a seed.
func (e *experiment) runAll(ctx context.Context) ([]Outcome, error) {
	outcomes := make([]Outcome, len(e.o.Variants))
	errs := make([]error, len(e.o.Variants))
	free := make(chan struct{}, e.o.Parallel)
	var wait sync.WaitGroup
	for i, v := range e.o.Variants {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			outcomes[i], errs[i] = e.run(ctx, v)
		})
	}
	wait.Wait()
	return outcomes, errors.Join(errs...)
}

// run returns the outcome of a variant, from its file or from its loop.
func (e *experiment) run(ctx context.Context, v Variant) (Outcome, error) {
	var out Outcome
	file := e.folder(v) + ".json"
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &out)
		return out, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	// A partial loop refers to a server that no longer runs: start over.
	if err := os.RemoveAll(e.folder(v)); err != nil {
		return out, err
	}
	if out, err = e.runLoop(ctx, v); err != nil {
		return out, err
	}
	if b, err = json.Marshal(out); err != nil {
		return out, fmt.Errorf("methods: %w", err)
	}
	return out, os.WriteFile(file, b, 0o666)
}

// runLoop runs the loop of a variant until it stops, and then on until the compared iteration.
func (e *experiment) runLoop(ctx context.Context, v Variant) (Outcome, error) {
	rules := decide.DefaultRules()
	// An arena of a hundred prompts cannot show the gain of an iteration, so that patience would stop every loop.
	rules.Iterations, rules.Patience = e.o.Longest, 0
	l, err := e.start(ctx, v, rules)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Variant: v.Name, Seed: e.seed}
	decision, err := steps.Output[decide.Decision](l, l.Last(), steps.Decide)
	if err != nil {
		return Outcome{}, err
	}
	out.Stopped, out.Rules = l.Last(), decision.Rules
	if out.Stopped < e.o.Compared {
		if l, err = e.start(ctx, v, decide.Rules{Iterations: e.o.Compared}); err != nil {
			return Outcome{}, err
		}
	}
	if err := e.read(ctx, v, l, &out); err != nil {
		return Outcome{}, err
	}
	e.o.Say("%s, seed %d: stopped after iteration %d by %v; %s", v.Name, e.seed, out.Stopped, out.Rules, out.Points[e.o.Compared-1].Skill.Model())
	return out, nil
}

func (e *experiment) folder(v Variant) string { return filepath.Join(e.dir, v.Name) }

// start runs the program until the loop ends under these rules.
func (e *experiment) start(ctx context.Context, v Variant, rules decide.Rules) (*steps.State, error) {
	file := e.folder(v) + ".yaml"
	b, err := settings.Encode(e.config(v, rules))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, b, 0o666); err != nil {
		return nil, err
	}
	if said, err := exec.CommandContext(ctx, e.o.Program, "loop", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("coeval loop %s: %w\n%s", file, err, said)
	}
	return steps.Open(e.folder(v))
}

// config returns the loop's config.
func (e *experiment) config(v Variant, rules decide.Rules) map[string]any {
	train := fmt.Sprintf("%s simulate train --seed %d --actor {actor} --judge {judge} --model {model} --out {out}", e.o.Program, e.seed)
	if v.Shuffled {
		train += " --shuffle-judge"
	}
	const responses, judgments = 5, 5
	worker := map[string]any{"urls": []string{e.server.URL()}, "model": "base"}
	set := map[string]any{"max_actor_pairs": e.o.Pairs, "max_judge_pairs": e.o.Pairs}
	if len(v.Roles) > 0 {
		set["roles"] = v.Roles
	}
	run := map[string]any{
		"worker": worker, "prompts": map[string]any{"paths": []string{e.file("train")}},
		"actor": map[string]any{"n": responses}, "judge": map[string]any{"n": judgments},
	}
	return map[string]any{
		"dir": e.folder(v), "run": run, "schedule": []config.Turn{v.Turn},
		"prompts_per_iteration": e.o.Prompts, "slice_count": e.o.Longest,
		"model": map[string]any{"path": "base"}, "set": set,
		"train": map[string]any{"command": train}, "swap": map[string]any{"kind": "lora"},
		"evaluate": map[string]any{
			"arena": map[string]any{
				"judge":   map[string]any{"model": arenaJudge},
				"prompts": map[string]any{"paths": []string{e.file("eval")}}, "resamples": 100,
			},
			"people": e.file("labels"),
		},
		"decide": rules,
	}
}

// read reads the points of a loop from its folder.
func (e *experiment) read(ctx context.Context, v Variant, s *steps.State, out *Outcome) error {
	for t := 1; t <= s.Last(); t++ {
		m, err := steps.Output[decide.Iteration](s, t, steps.Measure)
		if err != nil {
			return err
		}
		if m.Gain == nil || m.Agreement == nil {
			return fmt.Errorf("methods: iteration %d of %s lacks a figure", t, e.folder(v))
		}
		p := Point{Iteration: t, Agreement: m.Agreement.Share, WinRate: m.Gain.Value}
		folder := filepath.Join(e.folder(v), fmt.Sprintf("it-%d", t))
		if p.Skill, err = simulator.ReadAdapter(filepath.Join(folder, "model")); err != nil {
			return err
		}
		if p.Own, err = e.ownAgreement(ctx, filepath.Join(folder, "data")); err != nil {
			return err
		}
		out.Points = append(out.Points, p)
		set, err := steps.Output[struct{ Actor, Judge int }](s, t, steps.MakeSet)
		if err != nil {
			return err
		}
		if t <= e.o.Compared {
			out.ActorPairs, out.JudgePairs = out.ActorPairs+set.Actor, out.JudgePairs+set.Judge
		}
	}
	return nil
}

// ownAgreement is the share of pairs of a prompt's scored responses that the scores order as the
// truth does. Equal scores count half. Responses of other checkpoints than the actor count too.
func (e *experiment) ownAgreement(ctx context.Context, data string) (float64, error) {
	files, err := filepath.Glob(filepath.Join(data, "raw", "responses", "*.parquet"))
	if err != nil {
		return 0, err
	}
	type scored struct{ quality, score float64 }
	prompts := map[string][]scored{}
	for _, name := range files {
		err := shards.ReadTable(ctx, name, func(r *schemas.ResponseRow) error {
			if quality, ok := e.truth.Quality(r.Text); ok && r.ScoreMean != nil {
				prompts[r.PromptID] = append(prompts[r.PromptID], scored{quality, *r.ScoreMean})
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	halves, pairs := 0, 0
	for _, all := range prompts {
		for i, a := range all {
			for _, b := range all[:i] {
				pairs++
				switch x := (a.score - b.score) * (a.quality - b.quality); {
				case x > 0:
					halves += 2
				case x == 0:
					halves++
				}
			}
		}
	}
	return float64(halves) / float64(max(2*pairs, 1)), nil
}

// of returns the outcomes of a variant, by seed.
func of(all []Outcome, variant string) []Outcome {
	return slices.DeleteFunc(slices.Clone(all), func(o Outcome) bool { return o.Variant != variant })
}
