package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"coeval/runners/attempt"
	"coeval/runners/engine"
	"coeval/runners/estimate"
	"coeval/transforms/infer/spending"
)

// boundFlags limit the requests of a run.
type boundFlags struct {
	generations int64
	cost        float64
	gpuHours    float64
	prices      estimate.Prices
}

func (f *boundFlags) register(flags *pflag.FlagSet) {
	flags.Int64Var(&f.generations, "max-generations", 0, "stop requests once --out has this many generations; 0 is no limit")
	flags.Float64Var(&f.cost, "max-cost", 0, "send no more requests once the answers in --out have cost this much at the prices; 0 is no limit")
	flags.Float64Var(&f.gpuHours, "max-gpu-hours", 0, "send no more requests once --gpus GPUs have worked for --out this many GPU hours; 0 is no limit")
	registerPrices(flags, &f.prices)
}

// check returns all problems of the flags.
func (f *boundFlags) check() error {
	errs := []error{f.prices.Validate()}
	if f.generations < 0 {
		errs = append(errs, fmt.Errorf("--max-generations is %d; allowed is 0 (no limit) or more", f.generations))
	}
	for _, flag := range []struct {
		name  string
		value float64
	}{{"--max-cost", f.cost}, {"--max-gpu-hours", f.gpuHours}} {
		if !(flag.value >= 0 && flag.value <= 1e12) {
			errs = append(errs, fmt.Errorf("%s is %v; allowed is 0 (no limit) to 1e12", flag.name, flag.value))
		}
	}
	if p := &f.prices; f.cost > 0 && p.PromptTokens == 0 && p.CompletionTokens == 0 && p.GPUHour == 0 {
		errs = append(errs, errors.New("--max-cost needs prices: add --prompt-price and --completion-price, or --gpu-hour-price and --gpus"))
	}
	if (f.gpuHours > 0 || f.cost > 0 && f.prices.GPUHour > 0) && f.prices.GPUs == 0 {
		errs = append(errs, errors.New("--gpus is 0; give the number of GPUs that serve the run"))
	}
	return errors.Join(errs...)
}

func (f *boundFlags) enabled() bool { return f.generations > 0 || f.cost > 0 || f.gpuHours > 0 }

// checkRunner refuses bounds where several processes ask, none of which knows the costs of the others.
func (f *boundFlags) checkRunner() error {
	if !f.enabled() || !engine.OnCluster() {
		return nil
	}
	return errors.New("--max-generations, --max-cost and --max-gpu-hours work with the direct runner and prism only: the workers of a cluster don't share a count. Remove them, or bound the run with --limit")
}

// bounds returns the bounds of the run, less the spending of earlier attempts in the folder.
func (r *run) bounds(ctx context.Context) (spending.Bounds, error) {
	f := &r.flags.bounds
	if !f.enabled() {
		return spending.Bounds{}, nil
	}
	b := spending.Bounds{
		Generations: f.generations, Cost: f.cost, GPUHours: f.gpuHours,
		PromptPrice: f.prices.PromptTokens, CompletionPrice: f.prices.CompletionTokens, HourPrice: f.prices.GPUHour, GPUs: f.prices.GPUs,
	}
	var err error
	b.Spent, err = attempt.SpentIn(ctx, r.Config.Output.Dir)
	return b, err
}
