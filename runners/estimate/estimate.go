// Package estimate computes the time and the cost of a plan.
//
// It takes the plan's tokens, which are estimates themselves, and constant rates of a fleet. It assumes a
// busy fleet: the same hardware processes prompts and writes completions, so the two times are added.
// Servers with a prefix cache process fewer prompt tokens, so the estimate tends to be too long.
package estimate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"coeval/runners/plan"
	"coeval/schemas"
)

// Rates are tokens per second of all servers together. Zero means unknown.
type Rates struct {
	Prompt     float64 `json:"prompt_tokens_per_second"`
	Completion float64 `json:"completion_tokens_per_second"`
}

// Prices are the prices of the servers. A zero price is omitted.
type Prices struct {
	// PromptTokens and CompletionTokens are per million, GPUHour is per GPU, and GPUs is the number of
	// GPUs. Zero GPUs mean 1.
	PromptTokens     float64 `json:"prompt_tokens"`
	CompletionTokens float64 `json:"completion_tokens"`
	GPUHour          float64 `json:"gpu_hour"`
	GPUs             float64 `json:"gpus"`
}

const most = 1e9

// Validate returns an error for each invalid rate, under the name of the program's flag.
func (r *Rates) Validate() error {
	return inRange(named{"--prompt-rate", r.Prompt}, named{"--completion-rate", r.Completion})
}

// Validate returns an error for each invalid price, under the name of the program's flag.
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

// Tokens returns the cost of tokens, nil without prices for them.
func (p *Prices) Tokens(prompt, completion int64) *float64 {
	if p.PromptTokens == 0 && p.CompletionTokens == 0 {
		return nil
	}
	cost := (float64(prompt)*p.PromptTokens + float64(completion)*p.CompletionTokens) / 1e6
	return &cost
}

// Hours returns the cost of the GPUs for a number of seconds, nil without a price for them.
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

// Amount formats money: with cents, and below 1 with three significant digits.
func Amount(x float64) string {
	const cents, digits = 2, 3
	if x <= 0 || x >= 1 {
		return humanize.FormatFloat("#,###.##", x)
	}
	decimals := min(digits-1-int(math.Floor(math.Log10(x))), 12)
	text := strconv.FormatFloat(x, 'f', decimals, 64)
	for strings.HasSuffix(text, "0") && len(text) > len("0.")+cents {
		text = text[:len(text)-1]
	}
	return text
}

// Cost is the cost of a number of calls. Figures without a rate or a price are null.
type Cost struct {
	Generations      int64    `json:"generations"`
	PromptTokens     int64    `json:"prompt_tokens"`
	CompletionTokens int64    `json:"completion_tokens"`
	Seconds          *float64 `json:"seconds"`
	// ByTokens follows from the prices of tokens, ByHours from the price of the GPUs for Seconds.
	ByTokens *float64 `json:"cost_by_tokens"`
	ByHours  *float64 `json:"cost_by_hours"`
}

// Stage is the cost of a stage.
type Stage struct {
	Stage string `json:"stage"`
	Cost
}

// Variant is the cost of the whole run with another K and N and an empty journal.
type Variant struct {
	K int `json:"k"`
	N int `json:"n"`
	// Comparisons are N(N−1) for each prompt; 0 without judge pairs.
	Comparisons int  `json:"comparisons"`
	Own         bool `json:"own"`
	// JournalBytes and OutputBytes are the approximate sizes on storage.
	JournalBytes int64 `json:"journal_bytes"`
	OutputBytes  int64 `json:"output_bytes"`
	Cost
}

// Estimate is the cost of a plan: of the missing calls, and of the same run with other numbers.
type Estimate struct {
	Rates    Rates     `json:"rates"`
	Prices   Prices    `json:"prices"`
	Stages   []Stage   `json:"stages"`
	All      Cost      `json:"all"`
	Variants []Variant `json:"variants"`
	// Budgets are empty unless judge pairs of 11 judgments are requested: others were not measured.
	Budgets []Budget `json:"budgets,omitempty"`
}

// Others are further K and N to estimate, besides the plan's own and the usual ones.
type Others struct{ K, N []int }

// New estimates a plan of K responses and N judgments.
func New(p *plan.Plan, k, n int, others Others, r Rates, prices Prices) *Estimate {
	e := &Estimate{Rates: r, Prices: prices}
	for _, s := range p.Stages {
		cost := e.cost(s.Ask, s.PromptTokens, s.CompletionTokens)
		e.Stages = append(e.Stages, Stage{s.Stage, cost})
		e.All.Generations += s.Ask
		e.All.PromptTokens += s.PromptTokens
		e.All.CompletionTokens += s.CompletionTokens
	}
	e.All = e.cost(e.All.Generations, e.All.PromptTokens, e.All.CompletionTokens)
	e.variants(p, k, n, others)
	e.budgets(p, k, n)
	return e
}

func (e *Estimate) cost(generations, prompt, completion int64) Cost {
	return CostOf(generations, prompt, completion, e.Rates, e.Prices)
}

// CostOf returns the cost of generations with these tokens to read and to write.
func CostOf(generations, prompt, completion int64, r Rates, prices Prices) Cost {
	c := Cost{Generations: generations, PromptTokens: prompt, CompletionTokens: completion, ByTokens: prices.Tokens(prompt, completion)}
	if r.Prompt > 0 && r.Completion > 0 {
		seconds := float64(prompt)/r.Prompt + float64(completion)/r.Completion
		c.Seconds, c.ByHours = &seconds, prices.Hours(seconds)
	}
	return c
}

// usual are numbers that every estimate includes: smaller ones cost less.
var usual = Others{K: []int{4}, N: []int{5, 7}}

// variants uses the plan's lengths for runs with other numbers.
func (e *Estimate) variants(p *plan.Plan, k, n int, others Others) {
	if p.Prompts == 0 {
		return
	}
	compared := slices.ContainsFunc(p.Stages, func(s plan.Stage) bool { return s.Stage == schemas.StageMeta && s.Generations > 0 })
	ns := distinct(usual.N, others.N, []int{n})
	for _, otherK := range distinct(usual.K, others.K, []int{k}) {
		for _, otherN := range ns {
			v := Variant{K: otherK, N: otherN, Own: otherK == k && otherN == n}
			if compared {
				v.Comparisons = otherN * (otherN - 1)
			}
			e.computeCost(p, &v)
			e.Variants = append(e.Variants, v)
		}
	}
}

func distinct(numbers ...[]int) []int {
	all := slices.Concat(numbers...)
	slices.Sort(all)
	return slices.Compact(all)
}

// computeCost sets the cost of a variant.
func (e *Estimate) computeCost(p *plan.Plan, v *Variant) {
	var chars int64
	v.Cost, chars = e.whole(p, v.K, judged{float64(v.N), 1}, p.Prompts*int64(v.Comparisons), slices.Contains(p.Reads, schemas.StageReads), slices.Contains(p.Reads, schemas.StageMeta))
	v.JournalBytes, v.OutputBytes = p.Storage(v.Generations, chars)
}

// judged is the mean number of judgments of a response that is judged, and of the requests for them.
type judged struct{ judgments, requests float64 }

// whole returns the cost of all prompts of a plan with an empty journal, and the characters of their
// texts. Comparisons are the comparisons of all prompts. With readScores the responses are read once
// each, and only the contested one is judged; with readComparisons a comparison is one token.
func (e *Estimate) whole(p *plan.Plan, k int, each judged, comparisons int64, readScores, readComparisons bool) (cost Cost, chars int64) {
	type need struct {
		stage                 string
		requests, generations int64
		// isRead reports whether each is one token.
		isRead bool
	}
	needs := []need{{schemas.StageGenerate, p.Prompts, p.Prompts * int64(k), false}}
	responses := int64(k)
	for _, pool := range p.Pools {
		n := int64(pool.N)
		if pool.AsActor {
			n = int64(k)
		}
		needs = append(needs, need{pool.Stage, p.Prompts, p.Prompts * n, false})
		responses += n
	}
	judged := float64(p.Prompts * responses)
	if readScores {
		needs = append(needs, need{schemas.StageJudge, p.Prompts * responses, p.Prompts * responses, true})
		if judged = float64(p.Prompts); comparisons == 0 {
			judged = 0
		}
	}
	needs = append(needs,
		need{schemas.StageJudge, int64(math.Round(judged * each.requests)), int64(math.Round(judged * each.judgments)), false},
		need{schemas.StageMeta, comparisons, comparisons, readComparisons})
	var generations, prompt, completion int64
	for _, c := range needs {
		length := p.Assumed[c.stage]
		if c.isRead {
			length.Chars = plan.CharsPerToken
		}
		generations += c.generations
		prompt += c.requests * length.PromptChars / plan.CharsPerToken
		completion += c.generations * length.Chars / plan.CharsPerToken
		chars += c.generations * length.Chars
	}
	return e.cost(generations, prompt, completion), chars
}
