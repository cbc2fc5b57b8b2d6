package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"coeval/datasets/labels"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/arena"
	"coeval/runners/estimate"
	"coeval/runners/loop"
	"coeval/runners/loop/steps"
	"coeval/runners/plan"
	"coeval/runners/settings"
	"coeval/schemas/sanitize"
)

// loopPlan counts the generations that a loop would request.
type loopPlan struct {
	Iterations []iterationPlan `json:"iterations"`
	All        estimate.Cost   `json:"all"`
	// MinDifference is the least distance from 50 % of a win rate that the arena's prompts show; null
	// without an evaluation to come.
	MinDifference *float64 `json:"min_difference"`

	// Refused is the reason why the loop cannot go on with this config, usually empty.
	Refused string `json:"refused,omitempty"`

	arenaPrompts int
}

// iterationPlan counts the generations that one iteration would request. The training is no part of it.
type iterationPlan struct {
	Iteration int      `json:"iteration"`
	Preset    string   `json:"preset"`
	Roles     []string `json:"roles"`
	// Prompts are those of the run, null if it is done.
	Prompts *int64 `json:"prompts"`
	// Run, Arena and People are the generations that the loop would request for pairs, for the arena and about
	// people's labels. They are 0 for finished steps.
	Run    int64 `json:"run"`
	Arena  int64 `json:"arena"`
	People int64 `json:"people"`
	// Done are the steps that are done.
	Done []steps.Step  `json:"done"`
	Cost estimate.Cost `json:"cost"`
}

// planLoop prints the plan of a loop.
func planLoop(c *cobra.Command, l *loop.Loop, cost *costFlags, asJSON bool) error {
	prices := cost.prices
	if prices.GPUHour == 0 && l.Config.Evaluate.GPUHourUSD > 0 {
		prices.GPUHour, prices.GPUs = l.Config.Evaluate.GPUHourUSD, l.Config.Evaluate.GPUs
	}
	intended, err := l.Intended()
	if err != nil {
		return err
	}
	out := &loopPlan{}
	if t, step, changed := l.Changed(); changed {
		out.Refused = l.Refusal(t, step).Error()
	}
	var generations, prompt, completion int64
	for i := range intended {
		it, calls, err := out.iteration(c.Context(), l, &intended[i])
		if err != nil {
			code := exitFailed
			if c := (*exitError)(nil); errors.As(err, &c) {
				code, err = c.code, c.err
			}
			return &exitError{code: code, err: fmt.Errorf("iteration %d: %w", intended[i].Iteration, err)}
		}
		it.Cost = estimate.CostOf(calls.Ask, calls.PromptTokens, calls.CompletionTokens, cost.rates, prices)
		generations, prompt, completion = generations+calls.Ask, prompt+calls.PromptTokens, completion+calls.CompletionTokens
		out.Iterations = append(out.Iterations, *it)
	}
	out.All = estimate.CostOf(generations, prompt, completion, cost.rates, prices)
	if asJSON {
		return printJSON(c, out)
	}
	return out.print(sanitize.Writer(c.OutOrStdout()), l)
}

// iteration plans one iteration and returns the sum of its calls.
func (p *loopPlan) iteration(ctx context.Context, l *loop.Loop, in *loop.Intended) (*iterationPlan, arena.Calls, error) {
	it := &iterationPlan{Iteration: in.Iteration, Preset: in.Preset, Done: in.Done}
	var sum arena.Calls
	add := func(c arena.Calls) int64 {
		sum.Ask += c.Ask
		sum.PromptTokens += c.PromptTokens
		sum.CompletionTokens += c.CompletionTokens
		return c.Ask
	}
	config, err := loadSettings(in.Run, config.Config.Validate)
	if err != nil {
		return nil, sum, fmt.Errorf("run: %w", err)
	}
	it.Roles = config.Roles
	if !in.Has(steps.Produce) {
		run, err := planRun(ctx, config)
		if err != nil {
			return nil, sum, fmt.Errorf("run: %w", err)
		}
		it.Prompts = &run.Prompts
		for _, s := range run.Stages {
			it.Run += add(arena.Calls{Ask: s.Ask, PromptTokens: s.PromptTokens, CompletionTokens: s.CompletionTokens})
		}
	}
	if in.Arena != nil && !in.Has(steps.Measure) {
		after, err := planArena(ctx, in.Arena)
		if err != nil {
			return nil, sum, fmt.Errorf("evaluate.arena: %w", err)
		}
		before := &arena.Plan{}
		if in.Before != nil {
			if before, err = planArena(ctx, in.Before); err != nil {
				return nil, sum, fmt.Errorf("evaluate.arena: %w", err)
			}
		}
		p.MinDifference, p.arenaPrompts = &after.MinDifference, after.Prompts
		it.Arena = add(after.Answers.Less(before.Answers)) + add(after.Games.Less(before.Games))
	}
	if in.Judge != nil && !in.Has(steps.Measure) {
		calls, err := planPeople(ctx, in.Judge, l.Config.Evaluate.People)
		if err != nil {
			return nil, sum, fmt.Errorf("evaluate.people: %w", err)
		}
		it.People = add(calls)
	}
	return it, sum, nil
}

// loadSettings returns the config of a run that a loop would make.
func loadSettings(given map[string]any, validate func(config.Config) error) (config.Config, error) {
	b, err := settings.Encode(given)
	if err != nil {
		return config.Config{}, err
	}
	config, err := settings.Load(settings.Source{File: b, Name: "its config", Validate: validate})
	if err != nil {
		return config, err
	}
	err = resolvePaths(&config)
	return config, err
}

func planRun(ctx context.Context, c config.Config) (*plan.Plan, error) {
	scanned, err := scan(ctx, &c)
	if err != nil {
		return nil, err
	}
	return plan.New(ctx, c, scanned, nil)
}

// loadArena returns the config of an arena that a loop would play.
func loadArena(given map[string]any) (arena.Config, error) {
	b, err := settings.Encode(given)
	if err != nil {
		return arena.Config{}, err
	}
	config, err := arena.ParseConfig("its config", b)
	if err != nil {
		return config, err
	}
	err = config.Validate()
	return config, err
}

func planArena(ctx context.Context, given map[string]any) (*arena.Plan, error) {
	config, err := loadArena(given)
	if err != nil {
		return nil, err
	}
	contest, err := config.Contest(ctx, givenAnswers)
	if err != nil {
		return nil, err
	}
	base := config.Base()
	read, err := readPrompts(ctx, &base)
	if err != nil {
		return nil, err
	}
	return contest.Plan(ctx, read, metareward.JournalDir(config.Output.Dir))
}

// planPeople counts the judgments of the labelled responses; nothing of them is taken from a journal.
func planPeople(ctx context.Context, given map[string]any, file string) (arena.Calls, error) {
	config, err := loadSettings(given, config.Config.ValidateJudging)
	if err != nil {
		return arena.Calls{}, err
	}
	scale, err := labels.ParseScale("0:5")
	if err != nil {
		return arena.Calls{}, err
	}
	set, err := labels.Read(ctx, file, scale)
	if err != nil {
		return arena.Calls{}, err
	}
	var calls arena.Calls
	for _, d := range set.Dossiers() {
		prompt := 0
		for _, m := range d.Prompt.Messages {
			prompt += len(m.Content)
		}
		for i := range d.Responses {
			calls.Ask += int64(config.Judge.N)
			calls.PromptTokens += int64(plan.RubricChars+prompt+len(d.Responses[i].Text)) / plan.CharsPerToken
			calls.CompletionTokens += int64(config.Judge.N) * plan.JudgmentChars / plan.CharsPerToken
		}
	}
	return calls, nil
}

func (p *loopPlan) print(w io.Writer, l *loop.Loop) error {
	if p.Refused != "" {
		fmt.Fprintf(w, "REFUSED: %s\n\n", p.Refused)
	}
	n := humanize.Comma
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "iteration\tpreset\troles\tprompts\tpairs\tarena\tpeople\tprompt tokens\tcompletion tokens\ttime\tmoney\tdone")
	var sum iterationPlan
	for i := range p.Iterations {
		it := &p.Iterations[i]
		done := make([]string, len(it.Done))
		for k, s := range it.Done {
			done[k] = string(s)
		}
		prompts := "–"
		if it.Prompts != nil {
			prompts = n(*it.Prompts)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", it.Iteration, cmp.Or(it.Preset, "–"), strings.Join(it.Roles, ", "), prompts,
			n(it.Run), n(it.Arena), n(it.People), n(it.Cost.PromptTokens), n(it.Cost.CompletionTokens), it.Cost.Time(), it.Cost.Money(), cmp.Or(strings.Join(done, ", "), "–"))
		sum.Run, sum.Arena, sum.People = sum.Run+it.Run, sum.Arena+it.Arena, sum.People+it.People
	}
	fmt.Fprintf(t, "all\t\t\t\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", n(sum.Run), n(sum.Arena), n(sum.People),
		n(p.All.PromptTokens), n(p.All.CompletionTokens), p.All.Time(), p.All.Money())
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\npairs, arena and people are upper bounds on the generations to request. Time and money exclude training. A stop rule may end the loop earlier")
	if p.All.ByTokens == nil && p.All.ByHours == nil {
		fmt.Fprintln(w, "money: not known without --prompt-price and --completion-price, or --gpu-hour-price and --gpus with --prompt-rate and --completion-rate")
	}
	if p.MinDifference != nil {
		fmt.Fprintln(w, detectableDifference(p.arenaPrompts))
	}
	fmt.Fprintf(w, "train.command: %s\n", l.Config.Train.Command)
	_, err := fmt.Fprintf(w, "swap: %s, proved by a canary and the server's own identity\n", l.Config.Swap.Kind)
	return err
}
