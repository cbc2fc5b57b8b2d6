// Package estimate reckons what a plan takes in time and money.
//
// It takes the tokens of a plan as they are, which are estimates of their own, and a fleet's
// rates as constants. Time is that of a fleet that is kept busy: prompts are read and completions
// written by the same hardware, so that both add up. Servers that keep what many calls share in a
// cache read less than that, so the time is rather too long than too short.
package estimate

import (
	"errors"
	"fmt"
	"slices"

	"coeval/pipelines/metareward"
	"coeval/schemas"
)

// Rates are tokens per second of all servers together. Zero is unknown.
type Rates struct {
	Prompt     float64 `json:"prompt_tokens_per_second"`
	Completion float64 `json:"completion_tokens_per_second"`
}

// Prices are those of the worker. What is zero is not reckoned with.
type Prices struct {
	// PromptTokens and CompletionTokens are for a million, GPUHour is for one GPU and GPUs how
	// many there are. Zero GPUs mean 1.
	PromptTokens     float64 `json:"prompt_tokens"`
	CompletionTokens float64 `json:"completion_tokens"`
	GPUHour          float64 `json:"gpu_hour"`
	GPUs             float64 `json:"gpus"`
}

const most = 1e9

// Validate returns an error for each rate that is none; the flags are those of the program.
func (r *Rates) Validate() error {
	return inRange(named{"--prompt-rate", r.Prompt}, named{"--completion-rate", r.Completion})
}

// Validate returns an error for each price that is none; the flags are those of the program.
func (p *Prices) Validate() error {
	return inRange(named{"--prompt-price", p.PromptTokens}, named{"--completion-price", p.CompletionTokens},
		named{"--gpu-hour-price", p.GPUHour}, named{"--gpus", p.GPUs})
}

type named struct {
	flag  string
	value float64
}

func inRange(values ...named) error {
	var errs []error
	for _, v := range values {
		if !(v.value >= 0 && v.value <= most) {
			errs = append(errs, fmt.Errorf("%s is %v; allowed is 0 to 1,000,000,000", v.flag, v.value))
		}
	}
	return errors.Join(errs...)
}

// Tokens returns what tokens cost, or nil without prices for them.
func (p *Prices) Tokens(prompt, completion int64) *float64 {
	if p.PromptTokens == 0 && p.CompletionTokens == 0 {
		return nil
	}
	cost := (float64(prompt)*p.PromptTokens + float64(completion)*p.CompletionTokens) / 1e6
	return &cost
}

// Hours returns what so many seconds of the GPUs cost, or nil without a price for them.
func (p *Prices) Hours(seconds float64) *float64 {
	if p.GPUHour == 0 {
		return nil
	}
	gpus := p.GPUs
	if gpus == 0 {
		gpus = 1
	}
	cost := seconds / 3600 * p.GPUHour * gpus
	return &cost
}

// Cost is what a number of calls takes. What can't be told without a rate or a price is null.
type Cost struct {
	Generations      int64    `json:"generations"`
	PromptTokens     int64    `json:"prompt_tokens"`
	CompletionTokens int64    `json:"completion_tokens"`
	Seconds          *float64 `json:"seconds"`
	// ByTokens is at the prices of tokens, ByHours at that of the GPUs for Seconds.
	ByTokens *float64 `json:"cost_by_tokens"`
	ByHours  *float64 `json:"cost_by_hours"`
}

// Stage is what a stage takes.
type Stage struct {
	Stage string `json:"stage"`
	Cost
}

// Variant is what all of it would take with another K and N, with nothing in the journal.
type Variant struct {
	K int `json:"k"`
	N int `json:"n"`
	// Comparisons are N(N−1) for each prompt; 0 where no judge pairs are asked for.
	Comparisons int  `json:"comparisons"`
	Own         bool `json:"own"`
	Cost
}

// Estimate is what a plan takes: what is left to ask, and the same run with other numbers.
type Estimate struct {
	Rates    Rates     `json:"rates"`
	Prices   Prices    `json:"prices"`
	Stages   []Stage   `json:"stages"`
	All      Cost      `json:"all"`
	Variants []Variant `json:"variants"`
}

// New estimates a plan of K responses and N judgments.
func New(p *metareward.Plan, k, n int, r Rates, prices Prices) *Estimate {
	e := &Estimate{Rates: r, Prices: prices}
	for _, s := range p.Stages {
		cost := e.cost(s.Ask, s.PromptTokens, s.CompletionTokens)
		e.Stages = append(e.Stages, Stage{s.Stage, cost})
		e.All.Generations += s.Ask
		e.All.PromptTokens += s.PromptTokens
		e.All.CompletionTokens += s.CompletionTokens
	}
	e.All = e.cost(e.All.Generations, e.All.PromptTokens, e.All.CompletionTokens)
	e.variants(p, k, n)
	return e
}

func (e *Estimate) cost(generations, prompt, completion int64) Cost {
	c := Cost{Generations: generations, PromptTokens: prompt, CompletionTokens: completion, ByTokens: e.Prices.Tokens(prompt, completion)}
	if e.Rates.Prompt > 0 && e.Rates.Completion > 0 {
		seconds := float64(prompt)/e.Rates.Prompt + float64(completion)/e.Rates.Completion
		c.Seconds, c.ByHours = &seconds, e.Prices.Hours(seconds)
	}
	return c
}

// mean is a stage's tokens for each request and for each generation.
type mean struct{ prompt, completion float64 }

// variants takes the plan's means for the calls of runs with other numbers. A stage that has nothing
// left to ask has no means, and then there are no variants.
func (e *Estimate) variants(p *metareward.Plan, k, n int) {
	means := map[string]mean{}
	compared := false
	for _, s := range p.Stages {
		if s.Generations == 0 {
			continue // comparisons, when no judge pairs are asked for
		}
		if s.Ask == 0 || s.Requests == 0 {
			return
		}
		compared = compared || s.Stage == schemas.StageMeta
		means[s.Stage] = mean{float64(s.PromptTokens) / float64(s.Requests), float64(s.CompletionTokens) / float64(s.Ask)}
	}
	ks, ns := []int{4, k}, []int{5, 7, n}
	slices.Sort(ks)
	slices.Sort(ns)
	ks, ns = slices.Compact(ks), slices.Compact(ns)
	for _, otherK := range ks {
		for _, otherN := range ns {
			v := Variant{K: otherK, N: otherN, Own: otherK == k && otherN == n}
			if compared {
				v.Comparisons = otherN * (otherN - 1)
			}
			var generations int64
			var prompt, completion float64
			for _, c := range []struct {
				stage                 string
				requests, generations int
			}{
				{schemas.StageGenerate, 1, v.K},
				{schemas.StageJudge, v.K, v.K * v.N},
				{schemas.StageMeta, v.Comparisons, v.Comparisons},
			} {
				generations += p.Prompts * int64(c.generations)
				prompt += float64(p.Prompts) * float64(c.requests) * means[c.stage].prompt
				completion += float64(p.Prompts) * float64(c.generations) * means[c.stage].completion
			}
			v.Cost = e.cost(generations, int64(prompt+0.5), int64(completion+0.5))
			e.Variants = append(e.Variants, v)
		}
	}
}
